//! Law: beyond codes and scales a stream costs next to nothing. Byte budgets of the format.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{EncodeOptions, PRESETS, Spare, TensorView};

/// Codes and scales of `n` f32 through a spec of default parameters, before zstd.
fn codes_and_scales(text: &str, n: usize, options: &EncodeOptions) -> usize {
    let canonical = spec(text).to_string();
    if n == 0 || (n as u64) < options.min_values || !spec(text).is_lossy() {
        return 4 * n;
    }
    let group = 1usize << options.group_log2;
    let one = |n: usize| {
        let mut n = n as f64;
        let mut bits = 32.0;
        let mut scales = 0.0;
        for stage in canonical.split('|') {
            let (name, value) = stage.split_once('=').unwrap_or((stage, ""));
            let number: f64 = value.split(',').next().unwrap().parse().unwrap_or(0.0);
            match name {
                "kashin" => n = (1.25 * n + 0.5).floor(),
                "subsample" => {
                    let whole = (n / 64.0).floor() * 64.0;
                    n += (number * whole + 0.5).floor().max(1.0).min(whole) - whole;
                }
                "q" => {
                    bits = number;
                    scales = 8.0 * (n / 4096.0).floor().max(1.0);
                }
                // Head, state and table; `tests/trellis.rs` holds the codes to their rate.
                "step" | "trellis" => scales = 48.0,
                _ => {}
            }
        }
        (n * bits / 8.0).ceil() as usize + scales as usize
    };
    (0..n).step_by(group).map(|at| one(group.min(n - at))).sum()
}

fn all_options() -> Vec<EncodeOptions> {
    let defaults = EncodeOptions::new(SEEDS).with_spare(Spare::Nothing);
    let mut seeds = SEEDS;
    (seeds.shared, seeds.round) = (u64::MAX, 1 << 40);
    let mut large_seeds = EncodeOptions::new(seeds).with_spare(Spare::Nothing);
    large_seeds.min_values = 1;
    vec![defaults, options(), large_seeds]
}

fn specs() -> Vec<&'static str> {
    PRESETS
        .iter()
        .map(|p| p.name)
        .chain(["none", "kashin", "hadamard|q=16", "identity|q=1"])
        .collect()
}

#[test]
fn a_stream_of_one_value_costs_96_bytes_and_its_name() {
    for options in all_options() {
        for text in specs() {
            let found = encode_f32(&[0.3], &spec(text), &options).len();
            let budget = 96 + "w".len() + codes_and_scales(text, 1, &options);
            assert!(found <= budget, "{text}: {found} bytes, budget {budget}");
        }
    }
}

#[test]
fn an_empty_stream_costs_32_bytes() {
    let bytes = fedpress::encode::<TensorView<'_>>(&[], &spec("none"), &options()).unwrap();
    assert!(bytes.len() <= 32, "{}", bytes.len());
}

#[test]
fn each_further_tensor_costs_72_bytes_and_its_name() {
    let x = gaussian(100, 1);
    for options in all_options() {
        for text in specs() {
            for n in [0, 1, 2, 100] {
                let names: Vec<String> = (0..50).map(|i| format!("layer.{i}.weight")).collect();
                let shape = [n];
                let views: Vec<_> =
                    names.iter().map(|name| TensorView::f32(name, &shape, &x[..n])).collect();
                let sizes = [10, 50].map(|count| {
                    fedpress::encode(&views[..count], &spec(text), &options).unwrap().len()
                });
                let found = sizes[1] - sizes[0];
                let name_bytes: usize = names[10..].iter().map(String::len).sum();
                let budget = 40 * (72 + codes_and_scales(text, n, &options)) + name_bytes;
                assert!(found <= budget, "{text}, {n}: {found} bytes, budget {budget}");
            }
        }
    }
}

#[test]
fn a_million_values_cost_a_500th_of_a_bit_each() {
    let n = 1 << 20;
    let x = gaussian(n, 1);
    for text in specs() {
        let options = EncodeOptions::new(SEEDS);
        let found = encode_f32(&x, &spec(text), &options).len();
        let budget = codes_and_scales(text, n, &options) as f64 + 0.002 * n as f64 / 8.0;
        assert!(found as f64 <= budget, "{text}: {found} bytes, budget {budget}");
    }
}

#[test]
fn what_zstd_cannot_shrink_is_stored_as_it_is() {
    let noise = Rng(1).bytes(50_000);
    let view = TensorView { name: "w", dtype: fedpress::DType::U8, shape: &[50_000], data: &noise };
    let sizes = ["none", "zstd", "zstd=19", "lossless"]
        .map(|text| fedpress::encode(&[view], &spec(text), &options()).unwrap().len());
    assert!(sizes.iter().all(|size| *size <= sizes[0] + 5), "{sizes:?}");
}

#[test]
fn an_index_costs_20_bytes_a_tensor() {
    let x = [1.0f32];
    let names: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let views: Vec<_> = names.iter().map(|name| TensorView::f32(name, &[1], &x)).collect();
    let sizes = [false, true].map(|index| {
        let mut options = options();
        options.index = index;
        fedpress::encode(&views, &spec("none"), &options).unwrap().len()
    });
    assert!(sizes[1] - sizes[0] <= 20 * 1000 + 32, "{sizes:?}");
}

#[test]
fn the_budget_of_this_test_is_that_of_the_codec() {
    // Where nothing is compressed, what is left beside codes and scales is under a hundred bytes.
    for text in ["hadamard|q=3", "hadamard|subsample=0.25|q=1", "kashin|q=2", "kashin", "none"] {
        for n in [1, 5, 4095, 8192, 100_001] {
            let x = gaussian(n, 1);
            let found = encode_f32(&x, &spec(text), &options()).len();
            let expected = codes_and_scales(text, n, &options());
            assert!(
                (expected..expected + 100).contains(&found),
                "{text}, {n}: {found}, {expected}"
            );
        }
    }
}
