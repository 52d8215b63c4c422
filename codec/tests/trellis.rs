//! Laws of the trellis-coded quantizer behind a rotation, on whole streams: it is unbiased however a vector
//! is made, and it is near Shannon's bound, every byte counted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;

const CLIENTS: u64 = 24;

fn through(x: &[f32], text: &str, client: u64, round: u64) -> Vec<f32> {
    let mut options = options();
    options.seeds = options.seeds.in_round(round).of_client(client, CLIENTS);
    decode_f32(&encode_f32(x, &spec(text), &options))
}

/// Background with a thousandth of its values far away, and one further still.
fn spiky(n: usize) -> Vec<f32> {
    let mut x: Vec<f32> = gaussian(n, 3).iter().map(|v| v * 1e-3).collect();
    x.iter_mut().step_by(1000).zip(gaussian(n, 4)).for_each(|(x, v)| *x = v);
    x[n / 3] = 5.0;
    x
}

/// Eight values and zeros.
fn eight(n: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    for (i, v) in [8.0, 5.0, 3.0, 2.0, 1.0, 1.0, 0.5, 0.25].into_iter().enumerate() {
        x[i * (n / 8)] = v;
    }
    x
}

/// `K * NMSE of the mean / mean NMSE of one` over K clients, in the mean over as many rounds as make its
/// standard error small. It is 1 where errors are unbiased and independent, K where they are all alike.
///
/// The mean of K errors has the squared norm e^2 / K, and cross terms of relative deviation
/// sqrt(2 / n): errors point anywhere in n dimensions.
fn bias_ratio(x: &[f32], text: &str) -> (f64, f64) {
    let rounds = (100_000 / x.len()).clamp(1, 60) as u64;
    let (mut mean, mut alone) = (0.0, 0.0);
    for round in 0..rounds {
        let mut sum = vec![0.0f64; x.len()];
        for client in 0..CLIENTS {
            let y = through(x, text, client, round);
            alone += nmse(x, &y);
            sum.iter_mut().zip(&y).for_each(|(sum, y)| *sum += f64::from(*y));
        }
        let average: Vec<f32> = sum.iter().map(|v| (v / CLIENTS as f64) as f32).collect();
        mean += nmse(x, &average);
    }
    let k = CLIENTS as f64;
    (k * mean / (alone / k), (2.0 / (x.len() as f64 * rounds as f64)).sqrt())
}

#[track_caller]
fn assert_averages_out(n: usize) {
    for rate in ["0.25", "0.5", "1", "2", "4", "6"] {
        let text = format!("rotation|trellis={rate}");
        for (name, x) in [("gaussian", gaussian(n, 1)), ("spiky", spiky(n)), ("eight", eight(n))] {
            let (ratio, deviation) = bias_ratio(&x, &text);
            assert!((ratio - 1.0).abs() < 0.05 + 4.0 * deviation, "{text} on {name}, {n}: {ratio}");
        }
    }
}

#[test]
fn errors_average_out_over_clients() {
    for n in [40, 300, 5000, 51_200] {
        assert_averages_out(n);
    }
}

#[test]
#[ignore = "minutes"]
fn errors_of_large_vectors_average_out_over_clients() {
    for n in [65_553, 1 << 20, (1 << 20) - 3] {
        assert_averages_out(n);
    }
}

/// Bits a value and NMSE at the best scale: the gap to R = -1/2 log2 D.
fn gap(n: usize, text: &str) -> f64 {
    let x = gaussian(n, 9);
    let bytes = encode_f32(&x, &spec(text), &options());
    let y = decode_f32(&bytes);
    let sum = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let distortion = 1.0 - sum(&x, &y).powi(2) / sum(&x, &x) / sum(&y, &y);
    bytes.len() as f64 * 8.0 / n as f64 + 0.5 * distortion.log2()
}

/// The standard error of log2 D over draws of n values is about sqrt(2 / n) / ln 2, .001 at 2^20.
#[test]
fn gaussian_values_lie_near_shannons_bound_in_whole_streams() {
    for (rate, most) in
        [("0.5", 0.09), ("1", 0.085), ("2", 0.085), ("3", 0.085), ("4", 0.085), ("6", 0.09)]
    {
        let found = gap(1 << 20, &format!("rotation|trellis={rate}"));
        assert!(found < most, "{rate} bits: a gap of {found}");
    }
}
