//! Prints how fast pipelines encode and decode on one thread, for each instruction set, in GB of f32 a
//! second, the best of many: `cargo run --release -p fedpress --example speed -- 20 30 'rotation|trellis=2'`
//! (2^20 values, 30 times, and any number of pipelines).
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use fedpress::{DecodeOptions, EncodeOptions, Encoder, Reader, Seeds, Simd, TensorView};
use std::time::Instant;

/// Sums of twelve uniform draws: close enough to Gaussian.
fn values(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

/// Seconds of the fastest of `repeats` runs.
fn best(repeats: u32, mut run: impl FnMut() -> fedpress::Result<()>) -> fedpress::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..repeats {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let log2: u32 = arguments.next().unwrap_or("20".into()).parse()?;
    let repeats: u32 = arguments.next().unwrap_or("20".into()).parse()?;
    let mut texts: Vec<String> = arguments.collect();
    if texts.is_empty() {
        texts = ["hadamard|q=4", "rotation|lm=2", "rotation|trellis=2"].map(String::from).into();
    }
    let x = values(1 << log2);
    let bytes = 4.0 * x.len() as f64 / 1e9;
    let mut copy = vec![0.0; x.len()];
    let memcpy = best(repeats, || {
        copy.copy_from_slice(std::hint::black_box(&x));
        Ok(())
    })?;
    println!("copy of 2^{log2} values: {:.2} GB/s", bytes / memcpy);
    println!("{:<32}{:>8}{:>10}{:>10}{:>8}", "pipeline", "", "encode", "decode", "bits");
    for text in &texts {
        for simd in [Simd::Auto, Simd::Avx2, Simd::Scalar] {
            let (mut stream, shape, spec) = (Vec::new(), [x.len()], text.parse()?);
            let mut options = EncodeOptions::new(Seeds::new(7, 99));
            (options.simd, options.smaller) = (simd, false);
            let encode = best(repeats, || {
                let mut encoder = Encoder::new(options.clone())?;
                encoder.tensor(&TensorView::f32("x", &shape, &x), &spec)?;
                encoder.finish()?;
                stream.clear();
                stream.extend_from_slice(encoder.output());
                Ok(())
            })?;
            let mut options = DecodeOptions::default();
            options.simd = simd;
            let mut y = vec![0.0f32; x.len()];
            let decode = best(repeats, || {
                let mut reader = Reader::new(&stream[..], options.clone());
                if let Some(tensor) = reader.next_tensor()? {
                    tensor.read_f32_into(&mut y)?;
                }
                Ok(())
            })?;
            println!(
                "{text:<32}{:>8}{:>10.3}{:>10.3}{:>8.3}",
                format!("{simd:?}"),
                bytes / encode,
                bytes / decode,
                stream.len() as f64 * 8.0 / x.len() as f64
            );
        }
    }
    Ok(())
}
