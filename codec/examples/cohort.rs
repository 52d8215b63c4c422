//! Prints K times the NMSE of the mean of K clients at two bits a value, of vectors that have all in common but
//! a private part: EDEN (`rotation|lm`), `step` and `trellis` by each client alone, and `step` by clients that
//! say how many they are, whose dither is shared out: `cargo run --release -p fedpress --example cohort`.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use fedpress::{EncodeOptions, Seeds, TensorView};

const N: usize = 1 << 14;

/// Box-Muller on keys of the format.
fn gaussian(seed: u64) -> Vec<f32> {
    let uniform = |i| (fedpress::derive_key(&[seed, i]) >> 11) as f64 / (1u64 << 53) as f64;
    let normal = |i: u64| {
        let (radius, angle) = (uniform(2 * i), uniform(2 * i + 1));
        ((-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
    };
    (0..N as u64).map(normal).collect()
}

/// A client's values: of their energy so much is private.
fn client(common: &[f32], private: f64, client: u64) -> Vec<f32> {
    let (shared, own) = ((1.0 - private).sqrt() as f32, private.sqrt() as f32);
    common.iter().zip(gaussian(100 + client)).map(|(x, noise)| shared * x + own * noise).collect()
}

/// K times the error of the mean over the energy of a client, and bits a value.
fn measure(clients: &[Vec<f32>], spec: &str, together: bool) -> fedpress::Result<(f64, f64)> {
    let spec = spec.parse()?;
    let (mut error, mut energy, mut bytes) = (vec![0.0; N], 0.0, 0);
    for (client, x) in (0..).zip(clients) {
        let number = if together { clients.len() as u64 } else { 0 };
        let mut options = EncodeOptions::new(Seeds::new(7, client).of_client(client, number));
        options.smaller = false;
        let stream = fedpress::encode(&[TensorView::f32("x", &[N], x)], &spec, &options)?;
        let decoded = fedpress::decode(&stream, &Default::default())?;
        let y = decoded.first().and_then(fedpress::Tensor::to_f32).unwrap_or_default();
        bytes += stream.len();
        for ((error, x), y) in error.iter_mut().zip(x).zip(y) {
            *error += f64::from(y) - f64::from(*x);
            energy += f64::from(*x).powi(2);
        }
    }
    let nmse = error.iter().map(|e| e * e).sum::<f64>() / energy;
    Ok((nmse, bytes as f64 * 8.0 / (N * clients.len()) as f64))
}

fn main() -> fedpress::Result<()> {
    let rows = [
        ("EDEN (rotation|lm=2)", "rotation|lm=2", false),
        ("rotation|trellis=2", "rotation|trellis=2", false),
        ("identity|step=2", "identity|step=2", false),
        ("the same, K known", "identity|step=2", true),
    ];
    let common = gaussian(1);
    println!("{N} Gaussian values, K times the NMSE of the mean of K clients (bits a value)");
    for k in [10, 100] {
        println!("\nK = {k}, private part of the energy");
        print!("{:<24}", "");
        let parts = [0.0, 0.01, 0.1, 1.0];
        parts.iter().for_each(|part| print!("{:>18}", format!("{} %", part * 100.0)));
        println!();
        for (name, spec, together) in rows {
            print!("{name:<24}");
            for part in parts {
                let clients: Vec<_> = (0..k).map(|c| client(&common, part, c)).collect();
                let (nmse, bits) = measure(&clients, spec, together)?;
                print!("{:>18}", format!("{nmse:.4} ({bits:.3})"));
            }
            println!();
        }
    }
    Ok(())
}
