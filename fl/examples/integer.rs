//! What integer updates cost beside others: bits a value, every byte of the message counted, and the squared
//! error of the mean of K clients over the squared norm of the mean (NMSE).
//!
//! Clients have a change in common and as much of their own, Gaussian, of norm 1 in all; `spiky` is the same with a
//! hundredth of the values ten times as large. Rows: integers that a secure aggregation can sum; the preset
//! `uplink`, which it cannot; and the quantizer of Flower's SecAgg+ with its defaults (values clipped to
//! 8, 2^22 levels, sums modulo 2^32), as its documents have it, at the 22 bits of a value before
//! masking and the 32 that travel.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example")]

use fedpress::Spec;
use fedpress_fl::{
    Broadcast, Choice, Download, IntegerOptions, IntegerSpec, IntegerSum, Parameter, RoundingSeed,
    message,
};

const N: usize = 1 << 18;

/// Two draws of a standard normal distribution (Box & Muller 1958).
fn gaussian(key: &[u64]) -> f64 {
    let uniform = |part| {
        let key: Vec<u64> = key.iter().copied().chain([part]).collect();
        (fedpress::derive_key(&key) >> 11) as f64 / 2f64.powi(53)
    };
    (-2.0 * (1.0 - uniform(0)).ln()).sqrt() * (std::f64::consts::TAU * uniform(1)).cos()
}

/// The update of a client, of norm 1.
fn update(client: u64, spiky: bool) -> Vec<f32> {
    let value = |i: u64| {
        let size = if spiky && i.is_multiple_of(100) { 10.0 } else { 1.0 };
        size * (gaussian(&[0, i]) + gaussian(&[client, i]))
    };
    let values: Vec<f64> = (0..N as u64).map(value).collect();
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    values.iter().map(|v| (v / norm) as f32).collect()
}

fn model(values: Vec<f32>) -> Vec<Parameter> {
    vec![Parameter { name: "w".into(), shape: vec![512, N / 512], values }]
}

fn download(up: Spec, integers: Option<IntegerSpec>) -> Download {
    let broadcast = Broadcast {
        run: 1,
        round: 0,
        client: None,
        seed: 7,
        choice: Choice::full(),
        gains: Vec::new(),
        up: up.into(),
        task: String::new(),
        integers,
    };
    let sent =
        broadcast.encode(&model(vec![0.0; N]), &Spec::lossless().into(), RoundingSeed(5)).unwrap();
    Download::decode(&sent, &Default::default()).unwrap()
}

/// Bits a value, and what is decoded.
type Result = (f64, Vec<f64>);

fn bits(message: &[u8]) -> f64 {
    8.0 * message.len() as f64 / N as f64
}

fn integer(b: u8, updates: &[Vec<f32>]) -> Result {
    let clients = updates.len() as u32;
    let spec = IntegerOptions::new(b, clients, 1.0).spec(N, None, 0).unwrap();
    let download = download(Spec::none(), Some(spec));
    let mut sum = IntegerSum::new(spec, 7, 0, N).unwrap();
    let mut sent = 0.0;
    for (client, update) in (1..).zip(updates) {
        let trained = model(update.clone());
        let secret = fedpress_fl::PrivateSeed::from_number(client);
        let privacy = fedpress_fl::ClientPrivacy::new(secret);
        sum.add(&download.codes(client, &trained, &privacy).unwrap()).unwrap();
        sent = bits(&download.private_update(client, &trained, 1, &privacy).unwrap());
    }
    let mean = sum.mean(f64::from(clients), || 0).unwrap();
    (sent, mean.into_iter().map(f64::from).collect())
}

fn uplink(up: &str, updates: &[Vec<f32>]) -> Result {
    let download = download(up.parse().unwrap(), None);
    let (mut sent, mut mean) = (0.0, vec![0.0; N]);
    for (client, update) in (1..).zip(updates) {
        let message =
            download.update(client, &model(update.clone()), 1, RoundingSeed(client)).unwrap();
        let (_, decoded) = message::decode(&message, &Default::default()).unwrap();
        let share = |v: &f32| f64::from(*v) / updates.len() as f64;
        mean.iter_mut().zip(&decoded[0].values).for_each(|(m, v)| *m += share(v));
        sent = bits(&message);
    }
    (sent, mean)
}

/// Each value to one of 2^22 levels between -8 and 8, at random to one of the two beside it.
fn secaggplus(updates: &[Vec<f32>]) -> Vec<f64> {
    let (clip, levels) = (8.0, f64::from(1 << 22));
    let step = 2.0 * clip / levels;
    let mut mean = vec![0.0; N];
    for (client, update) in (1u64..).zip(updates) {
        for (i, (mean, value)) in mean.iter_mut().zip(update).enumerate() {
            let draw = fedpress::derive_key(&[9, client, i as u64]) as f64 / 2f64.powi(64);
            let level = ((f64::from(*value).clamp(-clip, clip) + clip) / step + draw).floor();
            *mean += (level * step - clip) / updates.len() as f64;
        }
    }
    mean
}

fn nmse(found: &[f64], exact: &[f64]) -> f64 {
    let error: f64 = found.iter().zip(exact).map(|(a, b)| (a - b).powi(2)).sum();
    error / exact.iter().map(|v| v * v).sum::<f64>()
}

fn main() {
    for spiky in [false, true] {
        let values = if spiky { "spiky" } else { "Gaussian" };
        for clients in [10, 100] {
            let updates: Vec<_> = (1..=clients).map(|client| update(client, spiky)).collect();
            let mut exact = vec![0.0; N];
            for update in &updates {
                let share = |v: &f32| f64::from(*v) / clients as f64;
                exact.iter_mut().zip(update).for_each(|(m, v)| *m += share(v));
            }
            let row = |name: &str, bits: String, mean: &[f64]| {
                println!("| {values} | {clients} | {name} | {bits} | {:.1e} |", nmse(mean, &exact));
            };
            println!(
                "\n| values | clients | update | bits a value | NMSE of the mean |\n|---|---|---|---|---|"
            );
            for b in [8, 10, 12, 16, 22] {
                let (sent, mean) = integer(b, &updates);
                row(&format!("integers, b = {b}"), format!("{sent:.3}"), &mean);
            }
            let (sent, mean) = uplink("uplink", &updates);
            row("`uplink`", format!("{sent:.3}"), &mean);
            row("SecAgg+ quantizer", "22 (32)".into(), &secaggplus(&updates));
        }
    }
}
