//! Prints bits a value, every byte of the stream counted, and the NMSE of pipelines at several rates, beside
//! EDEN by its formula (Vargaftik et al. 2022) and Shannon's bound for Gaussian values:
//! `cargo run --release -p fedpress --example rates -- FILE...`, files of little-endian f32; without any,
//! of Gaussian values.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use fedpress::{EncodeOptions, Seeds, TensorView};

const RATES: [&str; 4] = ["0.5", "1", "2", "4"];
const PIPELINES: [&str; 7] = [
    "rotation|trellis=R",
    "identity|step=R",
    "auto|rate=R",
    "rotation|trellis=R,biased",
    "identity|step=R,biased",
    "auto|rate=R|biased",
    "hadamard|q=R|zstd",
];

/// Box-Muller on SplitMix64.
fn gaussian(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut normal =
        || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..n).map(|_| normal() as f32).collect()
}

/// Bits a value and NMSE.
fn measure(x: &[f32], text: &str) -> fedpress::Result<(f64, f64)> {
    let mut options = EncodeOptions::new(Seeds::new(7, 99));
    options.smaller = false;
    let shape = [x.len()];
    let view = TensorView::f32("x", &shape, x);
    let bytes = fedpress::encode(&[view], &text.parse()?, &options)?;
    let decoded = fedpress::decode(&bytes, &Default::default())?;
    let y = decoded.first().and_then(fedpress::Tensor::to_f32).unwrap_or_default();
    let (mut error, mut energy) = (0.0, 0.0);
    for (x, y) in x.iter().zip(&y) {
        error += (f64::from(*x) - f64::from(*y)).powi(2);
        energy += f64::from(*x).powi(2);
    }
    Ok((bytes.len() as f64 * 8.0 / x.len() as f64, error / energy))
}

fn table(name: &str, x: &[f32]) -> fedpress::Result<()> {
    println!("\n{name}, {} values: NMSE at bits a value", x.len());
    print!("{:<28}", "");
    RATES.iter().for_each(|rate| print!("{:>20}", format!("{rate} bits")));
    println!();
    for pipeline in PIPELINES {
        print!("{pipeline:<28}");
        for rate in RATES {
            let text = pipeline.replace('R', rate);
            match text.parse::<fedpress::Spec>() {
                Ok(_) => {
                    let (bits, nmse) = measure(x, &text)?;
                    print!("{:>20}", format!("{nmse:.3e} at {bits:.3}"));
                }
                Err(_) => print!("{:>20}", "-"),
            }
        }
        println!();
    }
    println!(
        "{:<28}{:>20}{:>20}{:>20}{:>20}",
        "EDEN (unbiased)", "2.142", "0.571", "0.133", "0.0096"
    );
    print!("{:<28}", "Gaussian bound, unbiased");
    for rate in [0.5f64, 1.0, 2.0, 4.0] {
        print!("{:>20}", format!("{:.3e}", 1.0 / (4f64.powf(rate) - 1.0)));
    }
    println!();
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    for file in &files {
        let bytes = std::fs::read(file)?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        table(file, &values.collect::<Vec<_>>())?;
    }
    if files.is_empty() {
        for log2 in [20, 16, 12] {
            table("gaussian", &gaussian(1 << log2))?;
        }
    }
    Ok(())
}
