//! Prints bits a value, error and speed (one thread, GB of f32 a second, the best of many) of pipelines on a file
//! of little-endian f32 of a given shape:
//! `cargo run --release -p fedpress --example fields -- FILE 256x16x32x32 10 step=1,biased max-error=0.01`.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use fedpress::{DecodeOptions, EncodeOptions, Reader, Seeds, Spare, Spec, TensorView};
use std::time::Instant;

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

fn measure(x: &[f32], shape: &[usize], repeats: u32, text: &str) -> fedpress::Result<()> {
    let spec: Spec = text.parse()?;
    let options = EncodeOptions::new(Seeds::new(7, 99)).with_spare(Spare::Nothing);
    let (mut stream, mut y) = (Vec::new(), vec![0.0f32; x.len()]);
    let encode = best(repeats, || {
        stream.clear();
        let view = TensorView::f32("x", shape, x);
        fedpress::encode_into(&[view], &spec, &options, &mut stream)
    })?;
    let decode = best(repeats, || {
        let mut reader = Reader::new(&stream[..], DecodeOptions::default());
        match reader.next_tensor()? {
            Some(tensor) => tensor.read_f32_into(&mut y).map(drop),
            None => Ok(()),
        }
    })?;
    let (mut error, mut energy, mut most) = (0.0, 0.0, 0.0f64);
    for (x, y) in x.iter().zip(&y) {
        let difference = (f64::from(*x) - f64::from(*y)).abs();
        error += difference.powi(2);
        energy += f64::from(*x).powi(2);
        most = most.max(difference);
    }
    let bits = stream.len() as f64 * 8.0 / x.len() as f64;
    let gigabytes = 4.0 * x.len() as f64 / 1e9;
    println!(
        "{text:<28}{bits:>9.4}{:>12.3e}{most:>12.3e}{:>9.3}{:>9.3}",
        error / energy,
        gigabytes / encode,
        gigabytes / decode
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "FILE SHAPE REPEATS SPEC...";
    let (file, shape) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let repeats = arguments.next().ok_or(usage)?.parse()?;
    let shape: Vec<usize> = shape.split('x').map(str::parse).collect::<Result<_, _>>()?;
    let bytes = std::fs::read(file)?;
    let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let x: Vec<f32> = values.collect();
    println!(
        "{:<28}{:>9}{:>12}{:>12}{:>9}{:>9}",
        "pipeline", "bits", "NMSE", "largest", "encode", "decode"
    );
    arguments.try_for_each(|text| measure(&x, &shape, repeats, &text))?;
    Ok(())
}
