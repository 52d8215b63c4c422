//! Clients that say how many they are share out their dither (FORMAT.md, section 8.5): of what they have in common
//! the errors cancel, and nothing else becomes worse.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use common::gaussian;
use fedpress::{EncodeOptions, Rotation, Seeds, TensorView};

const N: usize = 1 << 14;
const SPEC: &str = "identity|step=2";

/// What a client's values come back as.
fn sent(values: &[f32], spec: &str, seeds: Seeds) -> Vec<f32> {
    let mut options = EncodeOptions::new(seeds);
    options.smaller = false;
    let shape = [values.len()];
    let view = TensorView::f32("w", &shape, values);
    let stream = fedpress::encode(&[view], &spec.parse().unwrap(), &options).unwrap();
    fedpress::decode(&stream, &Default::default()).unwrap()[0].to_f32().unwrap()
}

/// K times the squared error of the mean of K clients over the mean of their energies.
fn error_of_the_mean(clients: &[Vec<f32>], spec: &str, seeds: impl Fn(u64) -> Seeds) -> f64 {
    let n = clients[0].len();
    let (mut error, mut energy) = (vec![0.0; n], 0.0);
    for (client, values) in clients.iter().enumerate() {
        for ((error, x), y) in
            error.iter_mut().zip(values).zip(sent(values, spec, seeds(client as u64)))
        {
            *error += f64::from(y) - f64::from(*x);
            energy += f64::from(*x) * f64::from(*x);
        }
    }
    error.iter().map(|e| e * e).sum::<f64>() / energy
}

fn alone(client: u64) -> Seeds {
    Seeds::new(7, client).of_client(client, 0)
}

fn among(clients: usize) -> impl Fn(u64) -> Seeds {
    move |client| Seeds::new(7, client).of_client(client, clients as u64)
}

/// Equal vectors: independent dither leaves K times the error of the mean as it is, shared out it is K times
/// smaller. A mean of squares of 2^14 errors is within 5 % of its expectation (five deviations), and so is the other.
#[test]
fn errors_of_equal_vectors_cancel() {
    for k in [2, 3, 10] {
        let clients = vec![gaussian(N, 1); k];
        let one = error_of_the_mean(&clients[..1], SPEC, alone);
        let independent = error_of_the_mean(&clients, SPEC, alone);
        let shared = error_of_the_mean(&clients, SPEC, among(k));
        assert!((independent / one - 1.0).abs() < 0.1, "{k}: {independent} for {one}");
        assert!((shared * k as f64 / one - 1.0).abs() < 0.1, "{k}: {shared} for {one}");
    }
}

/// More clients than there are parts: lots of 256 that cancel, and average out over each other.
#[test]
fn hundreds_of_clients_share_dither_in_lots() {
    let clients = vec![gaussian(1 << 12, 1); 300];
    let one = error_of_the_mean(&clients[..1], SPEC, alone);
    let shared = error_of_the_mean(&clients, SPEC, among(300));
    // Not 150 times less: each finds the step that meets its rate with its own dither, and steps that are not quite
    // alike part what lies a 256th of one apart.
    assert!(shared < one / 10.0, "{shared} for {one}");
}

/// Clients that have nothing in common are as with dither of their own.
#[test]
fn errors_of_different_vectors_are_what_they_were() {
    let clients: Vec<Vec<f32>> = (0..10).map(|client| gaussian(N, client)).collect();
    let one = error_of_the_mean(&clients[..1], SPEC, alone);
    let shared = error_of_the_mean(&clients, SPEC, among(10));
    assert!((shared / one - 1.0).abs() < 0.1, "{shared} for {one}");
}

/// Clients that lie as far apart as their dither does would all round alike if each had the same part of the
/// step everywhere: K times the error. Orders that change keep that to chance.
#[test]
fn no_way_of_differing_lines_up_with_the_parts() {
    let (values, spec) = (gaussian(N, 1), "identity|step=4");
    let one = error_of_the_mean(std::slice::from_ref(&values), spec, alone);
    // The step is about .27, a tenth of it .027.
    for thousandths in (15..45).step_by(2) {
        for direction in [1.0, -1.0] {
            let away =
                |client: usize| direction * (client as f32 - 4.5) * thousandths as f32 / 1000.0;
            let of = |client| values.iter().map(|x| x + away(client)).collect();
            let clients: Vec<Vec<f32>> = (0..10).map(of).collect();
            let shared = error_of_the_mean(&clients, spec, among(10));
            assert!(shared < 3.0 * one, "{thousandths}: {shared} for {one}");
        }
    }
}

/// Each client's error is what it was, and averages out over rounds.
#[test]
fn a_client_alone_is_unbiased() {
    let values = gaussian(1 << 12, 1);
    let rounds = vec![values; 24];
    let one = error_of_the_mean(&rounds[..1], SPEC, among(10));
    let in_rounds = |round| Seeds::new(7, 3).in_round(round).of_client(3, 10);
    let mean = error_of_the_mean(&rounds, SPEC, in_rounds);
    assert!((mean / one - 1.0).abs() < 0.2, "{mean} for {one}");
}

/// Rotated alike or each for itself, streams of clients that know how many they are decode.
#[test]
fn rotations_and_dither_go_together() {
    let clients = vec![gaussian(N, 1); 10];
    let spec = "rotation|step=2";
    let one = error_of_the_mean(&clients[..1], spec, alone);
    let shared = |client| among(10)(client).with_rotation(Rotation::Shared);
    let alike = error_of_the_mean(&clients, spec, shared);
    let own = error_of_the_mean(&clients, spec, among(10));
    assert!((alike * 10.0 / one - 1.0).abs() < 0.1, "{alike} for {one}");
    assert!((own / one - 1.0).abs() < 0.1, "{own} for {one}");
}

#[test]
fn a_client_beyond_their_number_is_refused() {
    let options = EncodeOptions::new(Seeds::new(7, 1).of_client(10, 10));
    let values = [1.0; 64];
    let view = TensorView::f32("w", &[64], &values);
    let error = fedpress::encode(&[view], &SPEC.parse().unwrap(), &options).unwrap_err();
    assert!(error.to_string().contains("client 10 of 10"), "{error}");
}
