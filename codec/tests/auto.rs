//! Law: a group that may choose between two pipelines takes the one with the smaller error.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{Event, Spec};

/// Number of the pipeline of each chunk.
fn taken(bytes: &[u8]) -> Vec<String> {
    let mut decoder = fedpress::Decoder::new(Default::default());
    let (mut input, mut found) = (bytes, Vec::new());
    while let Some(event) = decoder.next(&mut input).unwrap() {
        if let Event::Chunk(chunk) = event {
            found.push(chunk.spec().to_string());
        }
    }
    found
}

/// Mostly zeros, like the gradient of an embedding.
fn sparse(n: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    x.iter_mut().step_by(50).zip(gaussian(n, 8)).for_each(|(x, v)| *x = v);
    x
}

fn error(x: &[f32], text: &str) -> (f64, usize) {
    let mut options = options();
    options.smaller = false;
    let bytes = encode_f32(x, &spec(text), &options);
    (nmse(x, &decode_f32(&bytes)), bytes.len())
}

#[test]
fn no_fixed_pipeline_is_better_by_more_than_two_percent() {
    let n = 1 << 16;
    let vectors =
        [("gaussian", gaussian(n, 1)), ("lognormal", lognormal(n, 2)), ("sparse", sparse(n))];
    for biased in ["", "|biased"] {
        for rate in ["0.5", "1", "2", "4"] {
            let auto = format!("auto|rate={rate}{biased}");
            let either = spec(&auto).to_string();
            for (name, x) in &vectors {
                let (found, len) = error(x, &auto);
                for fixed in either.split(" or ") {
                    let (alone, _) = error(x, fixed);
                    assert!(found < 1.02 * alone, "{auto} of {name}: {found}, {fixed}: {alone}");
                }
                let bits = len as f64 * 8.0 / n as f64;
                let asked: f64 = rate.parse().unwrap();
                assert!(bits < 1.06 * asked + 0.02, "{auto} of {name}: {bits} bits");
            }
        }
    }
}

#[test]
fn each_group_chooses_for_itself() {
    let mut x = gaussian(3 << 12, 1);
    x[1 << 12..2 << 12].copy_from_slice(&sparse(1 << 12));
    let bytes = encode_f32(&x, &spec("auto|rate=2"), &small_groups());
    assert_eq!(taken(&bytes), ["rotation|trellis=2", "identity|step=2", "rotation|trellis=2"]);
}

/// Also where a group begins again because its values leave the ordinary range.
#[test]
fn a_group_that_chose_comes_out_as_if_there_was_nothing_to_choose() {
    let scales = [1.0, 3e24, 1.0, 2e-30, 7.0];
    let groups = scales.iter().zip(1..).flat_map(|(scale, i)| {
        sparse(1 << 12).into_iter().map(move |v| v * scale * (v * i as f32).abs())
    });
    let x: Vec<f32> = groups.collect();
    for (auto, alone) in
        [("auto|rate=2", "identity|step=2"), ("auto|rate=2|biased", "identity|step=2,biased")]
    {
        let bytes = encode_f32(&x, &spec(auto), &small_groups());
        assert_eq!(taken(&bytes), [alone; 5]);
        let expected = decode_f32(&encode_f32(&x, &spec(alone), &small_groups()));
        assert!(decode_f32(&bytes) == expected, "{auto}");
    }
}

#[test]
fn what_is_unbiased_of_two_pipelines_is_what_both_are() {
    assert!(spec("auto").is_unbiased());
    assert!(!spec("auto|rate=1|biased").is_unbiased());
    assert!(!spec("rotation|trellis=1 or identity|step=1,biased").is_unbiased());
    assert_eq!(spec("small|rate=0.5|biased").to_string(), "rotation|trellis=0.5,biased");
}

#[test]
fn words_that_are_no_rate_and_pipelines_that_are_no_pair_are_refused() {
    for text in [
        "auto|2",
        "auto|rate",
        "auto|rate=x",
        "auto|rate=99",
        "auto|rate=1|exact",
        "small|biased",
        "none or identity|step=1",
        "identity|step=1 or lossless",
        "auto or auto",
        "identity|step=1 or rotation|lm=1 or rotation|lm=2",
    ] {
        assert!(text.parse::<Spec>().is_err(), "{text}");
    }
}

#[test]
fn groups_with_nan_and_redundant_groups_fall_back_behind_both() {
    let mut x = gaussian(3 << 12, 1);
    x[100] = f32::NAN;
    let repeated = |i: usize| [0.3f32, 0.77, -0.123][i % 3];
    (1 << 12..2 << 12).for_each(|i| x[i] = repeated(i));
    let options = small_groups().with_smaller(true).with_non_finite(fedpress::NonFinite::Lossless);
    let bytes = encode_f32(&x, &spec("auto|rate=2"), &options);
    assert_eq!(taken(&bytes), ["shuffle|zstd", "shuffle|zstd", "rotation|trellis=2"]);
    let y = decode_f32(&bytes);
    assert!(y[100].is_nan() && (1 << 12..2 << 12).all(|i| y[i] == repeated(i)));
}
