//! Bytes and time of downlinks as deltas on the convolutional network of McMahan et al. 2017 (1,663,370
//! parameters), whose tensors walk at random by .012 of their norm each round: every client in every round
//! (silos), ten of a hundred clients a round (devices), and these with three quarters of the units each.
//!
//! `cargo run --release -p fedpress-fl --example delta_traffic`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod mnist_cnn;

use fedpress_fl::{
    Coordinator, DeltaOptions, Keep, Layout, Parameter, Policy, PrivateSeed, Result, RoundOptions,
    RoundingSeed, Scope, Strategy,
};
use mnist_cnn::layout;
use std::time::Instant;

const CHANGE: f32 = 0.012;
const PER_ROUND: usize = 10;
/// Rounds before anything is measured, and those that are.
const ROUNDS: [u64; 2] = [25, 5];

fn main() -> Result<()> {
    let noise = noise(1 << 22);
    println!(
        "| mode | step | MB a client | bits a value | less than f32 | ms to encode | to decode |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (mode, clients, keep) in
        [("silos", 10, 1.0), ("devices", 100, 1.0), ("devices, three quarters", 100, 0.75)]
    {
        for step in [DeltaOptions::default().step, 16.0] {
            measure(mode, clients, keep, step, &noise)?;
        }
    }
    Ok(())
}

/// One row of the table.
fn measure(mode: &str, clients: u64, keep: f64, step: f64, noise: &[f32]) -> Result<()> {
    let layout = layout()?;
    let full = layout.n_values();
    let model = (0..layout.params().len()).map(|i| filled(&layout, i, noise)).collect();
    let mut options = RoundOptions::new(1, 7, PrivateSeed::from_number(3));
    (options.n_updates, options.min_updates) = (PER_ROUND, PER_ROUND);
    options.deltas = Some(DeltaOptions { step, ..DeltaOptions::default() });
    if keep < 1.0 {
        let (strategy, scope, keep) = (Strategy::Random, Scope::Client, Keep::from(keep));
        options.policy = Policy { strategy, scope, keep, ..Policy::full() };
    }
    let mut server = Coordinator::new(layout, model, options)?;
    let everyone: Vec<u64> = (0..clients).collect();
    let (mut n, mut bytes, mut values, mut encoding, mut decoding) = (0, 0, 0, 0.0, 0.0);
    for round in 0..ROUNDS[0] + ROUNDS[1] {
        for client in server.begin(&everyone, round)? {
            let (message, encoded) = timed(|| server.send(client));
            let (message, mut replica) = (message?, server.replica(client)?);
            let (download, decoded) = timed(|| replica.decode(&message, &Default::default()));
            let download = download?;
            if round >= ROUNDS[0] {
                n += 1;
                bytes += message.len();
                values += download.base.iter().map(|p| p.values.len()).sum::<usize>();
                (encoding, decoding) = (encoding + encoded, decoding + decoded);
            }
            // The mean of ten independent changes is as large as one.
            let trained: Vec<Parameter> =
                download.base.iter().map(|p| moved(p, round, client, noise)).collect();
            server.receive(
                client,
                &download.update(client, &trained, 1, RoundingSeed(0))?,
                round,
            )?;
        }
    }
    println!(
        "| {mode} | {step} | {:.3} | {:.2} | {:.1}x | {:.0} | {:.0} |",
        bytes as f64 / 1e6 / f64::from(n),
        8.0 * bytes as f64 / values as f64,
        4.0 * full as f64 * f64::from(n) / bytes as f64,
        1e3 * encoding / f64::from(n),
        1e3 * decoding / f64::from(n)
    );
    Ok(())
}

/// A tensor whose root mean square is .05.
fn filled(layout: &Layout, i: usize, noise: &[f32]) -> Parameter {
    let mut parameter = Parameter::zeros(layout.params()[i].name.clone(), &layout.shape(i));
    parameter.values.iter_mut().zip(&noise[i..]).for_each(|(v, noise)| *v = 0.05 * noise);
    parameter
}

/// What training makes of it.
fn moved(parameter: &Parameter, round: u64, client: u64, noise: &[f32]) -> Parameter {
    let n = parameter.values.len();
    let key = fedpress::derive_key(&[round, client, n as u64]);
    let from = (key % (noise.len() - n) as u64) as usize;
    let size = 0.05 * CHANGE * (PER_ROUND as f32).sqrt();
    let values = parameter.values.iter().zip(&noise[from..]).map(|(v, noise)| v + size * noise);
    Parameter { values: values.collect(), ..parameter.clone() }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    (work(), start.elapsed().as_secs_f64())
}

/// Gaussian numbers of variance 1.
fn noise(n: u64) -> Vec<f32> {
    let uniform = |key: u64| (fedpress::derive_key(&[key]) >> 11) as f64 / (1u64 << 53) as f64;
    let gaussian = |i| {
        let radius = (-2.0 * (1.0 - uniform(2 * i)).ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform(2 * i + 1)).cos()) as f32
    };
    (0..n).map(gaussian).collect()
}
