//! What downlinks as deltas cost and how far the clients' model is from the server's, over the options: a
//! model that walks at random, by .012 or .03 of its norm each round, the changes Gaussian or heavy-tailed
//! (Student's t with five degrees of freedom, kurtosis 9), or the same in every round. Its four tensors differ
//! in scale by a quarter of an octave each, so that quanta, which are powers of two, stand in every relation
//! to the changes.
//!
//! `cargo run --release -p fedpress-fl --example downlink`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use fedpress_fl::message::{Header, decode};
use fedpress_fl::{
    Coordinator, DeltaOptions, Layout, Parameter, PrivateSeed, Replica, Result, RoundOptions,
    RoundingSeed,
};
use std::collections::HashMap;

const TENSORS: usize = 4;
const VALUES: usize = 1 << 16;
const WEIGHTS: f64 = 0.05;
/// Rounds before anything is measured, and those that are.
const ROUNDS: [u64; 2] = [12, 12];
/// How many rounds the client of device mode is away.
const AWAY: u64 = 10;
const SILO: u64 = 1;
const DEVICE: u64 = 2;
const NEW: u64 = 3;

fn main() -> Result<()> {
    println!(
        "{TENSORS} tensors of {VALUES} values; bits a value with every byte of the message counted"
    );
    println!(
        "| change | kind | step | dead zone | silo bits | entropy | zeros | NMSE of the model | of the change | after {AWAY} rounds | new |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for change in [0.012, 0.03] {
        for kind in [Kind::Gaussian, Kind::Heavy, Kind::Same] {
            for step in [1.0, 2.0, 3.5, 5.0, 8.0, 16.0, 32.0] {
                let is_coarse = step > 5.0 || kind == Kind::Same;
                let dead_zones = if is_coarse { &[0.75][..] } else { &[0.5, 0.6, 0.75, 0.9] };
                for dead_zone in dead_zones {
                    walk(change, kind, step, *dead_zone)?;
                }
            }
        }
    }
    Ok(())
}

/// How a round's change is made.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Gaussian,
    /// Student's t.
    Heavy,
    /// Gaussian, and the same in every round.
    Same,
}

/// One row of the table.
fn walk(change: f64, kind: Kind, step: f64, dead_zone: f64) -> Result<()> {
    let mut draws = Draws(fedpress::derive_key(&[7, kind as u64]));
    let layout = layout()?;
    let mut options = RoundOptions::new(1, 7, PrivateSeed::from_number(3));
    (options.n_updates, options.min_updates) = (1, 1);
    let versions = AWAY + 2;
    options.deltas = Some(DeltaOptions { step, dead_zone, versions });
    let mut server = Coordinator::new(layout.clone(), model(&mut draws), options)?;
    let mut replicas = HashMap::from([SILO, DEVICE].map(|id| (id, Replica::new(layout.clone()))));
    let (mut silo, mut entropies, mut zeros) = (Vec::new(), Vec::new(), Vec::new());
    let (mut errors, mut device) = (Vec::new(), 0.0);
    let last = ROUNDS[0] + ROUNDS[1] - 1;
    for round in 0..=last {
        let client = if [last - AWAY, last].contains(&round) { DEVICE } else { SILO };
        server.begin(&[client], round)?;
        let message = server.send(client)?;
        let replica = replicas.entry(client).or_insert_with(|| Replica::new(layout.clone()));
        let download = replica.decode(&message, &Default::default())?;
        if round >= ROUNDS[0] && client == SILO && round != last - AWAY + 1 {
            silo.push(bits(&message));
            let (entropy, zero) = entropy(&message)?;
            entropies.push(entropy);
            zeros.push(zero);
            errors.push(nmse(server.model(), &download.base));
        }
        if round == last {
            device = bits(&message);
        }
        if kind == Kind::Same {
            draws.0 = fedpress::derive_key(&[7]);
        }
        let mut trained = download.base.clone();
        for (tensor, parameter) in trained.iter_mut().enumerate() {
            let size = change * scale(tensor);
            parameter.values.iter_mut().for_each(|v| *v += (size * draws.next(kind)) as f32);
        }
        server.receive(
            client,
            &download.update(client, &trained, 1, RoundingSeed(round))?,
            round,
        )?;
    }
    server.begin(&[NEW], last + 1)?;
    let new = bits(&server.send(NEW)?);
    let [silo, entropy, zeros, error] = [silo, entropies, zeros, errors].map(|v| mean(&v));
    println!(
        "| {change} | {kind:?} | {step} | {dead_zone} | {silo:.3} | {entropy:.3} | {zeros:.2} | {error:.2e} | {:.3} | {device:.2} | {new:.2} |",
        error / (change * change)
    );
    Ok(())
}

fn layout() -> Result<Layout> {
    let tensor = |i| format!("[[parameters]]\nname = \"w{i}\"\naxes = [\"256\", \"256\"]\n");
    Layout::from_toml(&format!("[groups]\n{}", (0..TENSORS).map(tensor).collect::<String>()))
}

fn scale(tensor: usize) -> f64 {
    WEIGHTS * 2f64.powf(tensor as f64 / TENSORS as f64)
}

fn model(draws: &mut Draws) -> Vec<Parameter> {
    let tensor = |tensor| {
        let mut values = Parameter::zeros(format!("w{tensor}"), &[256, 256]);
        values
            .values
            .iter_mut()
            .for_each(|v| *v = (scale(tensor) * draws.next(Kind::Gaussian)) as f32);
        values
    };
    (0..TENSORS).map(tensor).collect()
}

fn bits(message: &[u8]) -> f64 {
    8.0 * message.len() as f64 / (TENSORS * VALUES) as f64
}

/// Bits a value of the multiples in a delta, by how often each occurs in its tensor, and the part of zeros.
fn entropy(message: &[u8]) -> Result<(f64, f64)> {
    let (header, tensors) = decode(message, &Default::default())?;
    assert!(matches!(header, Header::Delta(_)), "a delta is expected");
    let (mut bits, mut zeros) = (0.0, 0);
    for tensor in &tensors {
        let mut counts = HashMap::new();
        for multiple in &tensor.values {
            *counts.entry(multiple.round() as i32).or_insert(0u32) += 1;
        }
        zeros += counts.get(&0).copied().unwrap_or(0);
        let n = tensor.values.len() as f64;
        bits += counts.values().map(|c| -f64::from(*c) * (f64::from(*c) / n).log2()).sum::<f64>();
    }
    let n = (TENSORS * VALUES) as f64;
    Ok((bits / n, f64::from(zeros) / n))
}

/// The squared error of each tensor over its energy, on average.
fn nmse(model: &[Parameter], version: &[Parameter]) -> f64 {
    let of = |(model, version): (&Parameter, &Parameter)| {
        let pairs = model.values.iter().zip(&version.values);
        let error: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
        error / model.values.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>()
    };
    mean(&model.iter().zip(version).map(of).collect::<Vec<_>>())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Random numbers of variance 1.
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = fedpress::derive_key(&[self.0]);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn next(&mut self, kind: Kind) -> f64 {
        let gaussian = self.gaussian();
        if kind != Kind::Heavy {
            return gaussian;
        }
        // Student's t, whose variance is 5/3.
        let squares: f64 = (0..5).map(|_| self.gaussian().powi(2)).sum();
        gaussian / (squares / 5.0).sqrt() / (5f64 / 3.0).sqrt()
    }
}
