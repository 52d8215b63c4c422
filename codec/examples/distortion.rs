//! Prints what the stages of the pipeline buy: error against bits for each transform, and what the
//! parameters of the Kashin stage do. `cargo run --release -p fedpress --example distortion`
//!
//! NMSE is |x - x'|^2 / |x|^2, averaged over a few encodings with fresh seeds.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use fedpress::{DecodeOptions, EncodeOptions, Result, Seeds, Spec, TensorView};

const N: usize = 1 << 16;
const REPEATS: u64 = 5;

/// SplitMix64, one state for all draws.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Box-Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

fn vectors() -> Vec<(&'static str, Vec<f32>)> {
    let mut random = Random(1);
    let gauss = (0..N).map(|_| random.normal() as f32).collect();
    let lognorm = (0..N)
        .map(|_| {
            let sign = if random.uniform() < 0.5 { -1.0 } else { 1.0 };
            (sign * (1.5 * random.normal()).exp()) as f32
        })
        .collect();
    let mut spiky: Vec<f32> = (0..N)
        .map(|_| {
            let spike = random.uniform() < 1e-3;
            (random.normal() * if spike { 1.0 } else { 1e-3 }) as f32
        })
        .collect();
    spiky[N / 3] = 5.0;
    vec![("gauss", gauss), ("lognorm", lognorm), ("spiky", spiky)]
}

/// Bits per value of the whole stream, and NMSE.
fn measure(spec: &str, x: &[f32]) -> Result<(f64, f64)> {
    let spec: Spec = spec.parse()?;
    let shape = [x.len()];
    let (mut bits, mut nmse) = (0.0, 0.0);
    for repeat in 0..REPEATS {
        let seeds = Seeds::new(7, 99).in_round(repeat);
        let view = TensorView::f32("x", &shape, x);
        let bytes = fedpress::encode(&[view], &spec, &EncodeOptions::new(seeds))?;
        let tensor = fedpress::decode(&bytes, &DecodeOptions::default())?.remove(0);
        let mut comparison = fedpress::Comparison::default();
        comparison.update(tensor.dtype, view.data, &tensor.data)?;
        bits += bytes.len() as f64 * 8.0 / x.len() as f64 / REPEATS as f64;
        nmse += comparison.nmse() / REPEATS as f64;
    }
    Ok((bits, nmse))
}

/// Largest magnitude over RMS of the coefficients, from a stream without a quantizer: its one
/// chunk is a 7-byte header, a head of 5 bytes (group 0, flags, three bytes of 2^16), an exponent, and
/// f32 coefficients (FORMAT.md, sections 3, 6 and 7).
fn peak_to_rms(transform: &str, x: &[f32]) -> Result<f64> {
    let shape = [x.len()];
    let seeds = Seeds::new(7, 99);
    let view = TensorView::f32("x", &shape, x);
    let mut options = EncodeOptions::new(seeds);
    options.smaller = false; // coefficients even where the values take less room
    let bytes = fedpress::encode(&[view], &transform.parse()?, &options)?;
    let mut at = 10;
    loop {
        let length = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap_or_default());
        let body = &bytes[at + 7..at + 7 + length as usize];
        if bytes[at] == 0x02 {
            let coefficients = || {
                let coded = body[6..].chunks_exact(4);
                coded.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap_or_default())))
            };
            // Per block of 4096, as the quantizer sees them.
            let all: Vec<f64> = coefficients().collect();
            let mean = |f: &dyn Fn(&[f64]) -> f64| {
                let blocks = all.chunks_exact(4096);
                blocks.clone().map(f).sum::<f64>() / blocks.len() as f64
            };
            return Ok(mean(&|block| {
                let peak = block.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                peak / (block.iter().map(|v| v * v).sum::<f64>() / 4096.0).sqrt()
            }));
        }
        at += 7 + length as usize + 4;
    }
}

fn by_transform() -> Result<()> {
    println!("NMSE by transform and bits q (and bits per value on the wire), n = 65536");
    println!(
        "{:8} {:44} {:>20} {:>20} {:>20} {:>20} {:>20}",
        "", "", "q=1", "q=2", "q=3", "q=4", "q=8"
    );
    // Scales for the whole vector, as in the literature, and for blocks of 4096, our default.
    let transforms = [
        ("identity", 65536),
        ("hadamard,block=32768", 65536),
        ("kashin,lambda=1.3333334,block=32768", 131072),
        ("identity", 4096),
        ("hadamard", 4096),
        ("kashin", 4096),
        ("kashin,lambda=2", 4096),
    ];
    for (name, x) in vectors() {
        for (transform, block) in transforms {
            print!("{name:8} {:44}", format!("{transform}|q=Q,block={block}"));
            for q in [1, 2, 3, 4, 8] {
                let (bits, nmse) = measure(&format!("{transform}|q={q},block={block}"), &x)?;
                print!(" {nmse:>11.3e} ({bits:.3})");
            }
            println!();
        }
    }
    println!("published, whole vector, gauss, n = 65536: identity 16.9 1.39 .244 .0530 1.84e-4;");
    println!(
        "  hadamard 18.5 1.54 .267 .0580 2.01e-4; kashin lambda = 4/3 9.75 .782 .143 .0312 1.08e-4"
    );
    Ok(())
}

fn by_quantizer() -> Result<()> {
    println!(
        "\nUniform quantizer, stochastic, and Lloyd-Max, at (nearly) the same bits on the wire"
    );
    println!("{:8} {:24} {:>18} {:>18} {:>18} {:>18}", "", "", "1", "2", "3", "4");
    for (name, x) in vectors() {
        for pipeline in [
            "hadamard|q=",
            "rotation|q=",
            "hadamard|lm=",
            "rotation,levels=2|lm=",
            "rotation|lm=",
            "rotation|trellis=",
        ] {
            print!("{name:8} {pipeline:24}");
            for q in [1, 2, 3, 4] {
                let (bits, nmse) = measure(&format!("{pipeline}{q}"), &x)?;
                print!(" {nmse:>10.4} ({bits:.3})");
            }
            println!();
        }
    }
    Ok(())
}

fn kashin_defaults() -> Result<()> {
    println!(
        "\nKashin: peak over RMS in blocks of 4096, and NMSE at q = 2, beside hadamard at the same wire bits"
    );
    let (_, x) = vectors().remove(0);
    println!("{:52} {:>8} {:>10} {:>7}", "spec", "peak/RMS", "NMSE", "bits");
    let variants = [
        "hadamard",
        "kashin,lambda=1",
        "kashin",
        "kashin,lambda=1.5",
        "kashin,lambda=2",
        "kashin,iterations=1",
        "kashin,iterations=2",
        "kashin,iterations=5",
        "kashin,iterations=10",
        "kashin,eta=0.7",
        "kashin,eta=0.8",
        "kashin,delta=0.5",
        "kashin,delta=2",
        "kashin,clip",
        "kashin,lambda=2,clip",
        "kashin,lambda=2,iterations=2,eta=0.6,delta=2,clip",
    ];
    for transform in variants {
        let (bits, nmse) = measure(&format!("{transform}|q=2"), &x)?;
        println!(
            "{:52} {:>8.2} {nmse:>10.4} {bits:>7.3}",
            format!("{transform}|q=2"),
            peak_to_rms(transform, &x)?
        );
    }
    println!("\npairs with (nearly) the same bits on the wire");
    let pairs = [
        ("hadamard|q=2", "kashin,lambda=2|q=1"),
        ("hadamard|q=4", "kashin,lambda=2|q=2"),
        ("hadamard|q=4", "kashin,lambda=1.3333334|q=3"),
        ("hadamard|q=5", "kashin|q=4"),
        ("hadamard|q=6", "kashin,lambda=1.5|q=4"),
        ("hadamard|q=6", "kashin,lambda=2|q=3"),
    ];
    for (hadamard, kashin) in pairs {
        let ((hb, hn), (kb, kn)) = (measure(hadamard, &x)?, measure(kashin, &x)?);
        println!(
            "{hadamard:14} {hn:>10.4} at {hb:.3}   {kashin:28} {kn:>10.4} at {kb:.3}   kashin/hadamard {:.2}",
            kn / hn
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    by_transform()?;
    by_quantizer()?;
    kashin_defaults()
}
