//! Law: what a pipeline costs in accuracy is what the theory says.
//!
//! Figures are the normalized mean squared error on Gaussian values. Stochastic rounding costs a
//! value step^2 f (1 - f), on average step^2 / 6 where steps are fine; the step is the range of a
//! block over 2^q - 1.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use std::sync::LazyLock;

/// 14 * 65536: whole blocks for every block size.
const N: usize = 917_504;

static GAUSSIAN: LazyLock<Vec<f32>> = LazyLock::new(|| gaussian(N, 2024));

fn measure(text: &str) -> f64 {
    nmse(&GAUSSIAN, &decode_f32(&encode_f32(&GAUSSIAN, &spec(text), &options())))
}

#[track_caller]
fn assert_nmse(text: &str, expected: f64, tolerance: f64) {
    let found = measure(text);
    assert!(
        (found / expected - 1.0).abs() <= tolerance,
        "{text}: expected {expected} within {tolerance}, found {found}"
    );
}

#[test]
fn hadamard_costs_what_quantization_costs() {
    assert_nmse("hadamard|q=2", 1.00, 0.1);
    assert_nmse("hadamard|q=3", 0.181, 0.1);
    assert_nmse("hadamard|q=4", 0.0395, 0.1);
    assert_nmse("hadamard|q=5", 0.0093, 0.1);
}

#[test]
fn larger_scale_blocks_cost_more() {
    assert_nmse("hadamard|q=4,block=65536", 0.0538, 0.1);
}

#[test]
fn identity_costs_the_same_on_gaussian_values() {
    assert_nmse("identity|q=4", 0.0395, 0.1);
}

#[test]
fn nearest_costs_half_of_stochastic_at_fine_steps() {
    // step^2 / 12 instead of step^2 / 6.
    let (stochastic, nearest) = (measure("hadamard|q=8"), measure("hadamard|q=8,nearest"));
    assert!((stochastic / nearest - 2.0).abs() < 0.02, "{stochastic}, {nearest}");
}

#[test]
fn a_bit_more_costs_a_quarter_at_fine_steps() {
    let (seven, eight) = (measure("hadamard|q=7"), measure("hadamard|q=8"));
    let expected = (255.0f64 / 127.0).powi(2);
    assert!((seven / eight / expected - 1.0).abs() < 0.02, "{seven}, {eight}");
}

#[test]
fn keeping_a_fraction_s_costs_1_over_s_minus_1() {
    // Energy is spread over N coefficients, so which are kept hardly matters: 1%.
    assert_nmse("hadamard|subsample=0.25", 3.0, 0.01);
    assert_nmse("hadamard|subsample=0.5", 1.0, 0.01);
    assert_nmse("identity|subsample=0.5", 1.0, 0.01);
}

#[test]
fn subsampling_and_quantizing_cost_what_each_costs_times_the_other() {
    // E |x/s * (1 + e)|: 1/s - 1 from selection, and 1/s of the quantizer's.
    let q = measure("hadamard|q=4");
    assert_nmse("hadamard|subsample=0.5|q=4", 1.0 + q / 0.5, 0.02);
}

#[test]
fn kashin_without_redundancy_is_hadamard() {
    let hadamard = measure("hadamard|q=4");
    assert_nmse("kashin,lambda=1|q=4", hadamard, 0.05);
}

#[test]
fn kashin_costs_what_the_crate_documentation_says() {
    assert_nmse("kashin|q=2", 0.576, 0.1);
    assert_nmse("kashin|q=4", 0.0231, 0.1);
}

#[test]
fn a_rotation_makes_heavy_tails_cost_as_little_as_gaussian_values() {
    let x = lognormal(1 << 17, 3);
    let through = |text| nmse(&x, &decode_f32(&encode_f32(&x, &spec(text), &options())));
    let (rotated, plain) = (through("hadamard|q=4"), through("identity|q=4"));
    assert!(rotated < 0.06 && plain > 10.0 * rotated, "{rotated}, {plain}");
}

#[test]
fn a_comparison_finds_the_same() {
    let bytes = encode_f32(&GAUSSIAN, &spec("hadamard|q=4"), &options());
    let decoded = decode(&bytes).unwrap().remove(0);
    let mut comparison = fedpress::Comparison::default();
    comparison.update(decoded.dtype, &le_bytes(&GAUSSIAN), &decoded.data).unwrap();
    let expected = nmse(&GAUSSIAN, &decoded.to_f32().unwrap());
    assert!((comparison.nmse() / expected - 1.0).abs() < 1e-12);
    assert_eq!(comparison.n_values(), N as u64);
}

/// The error of EDEN, D / (1 - D) where D is that of the best quantizer of 2^q levels: .5708, .1331,
/// .0358, .0096 (Vargaftik et al. 2022), by the definition of the levels.
#[test]
fn lloyd_max_behind_a_rotation_costs_what_eden_costs() {
    for levels in ["", ",levels=2"] {
        for (q, expected) in [(1, 0.5708), (2, 0.1331), (3, 0.03578), (4, 0.009592), (8, 4.1e-5)] {
            assert_nmse(&format!("rotation{levels}|lm={q}"), expected, 0.01);
        }
    }
}
