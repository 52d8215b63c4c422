//! Law: no value decoded from `max-error=E` is further than E from the original, whatever it is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{DType, EncodeOptions, Event, NonFinite, Spec, TensorView};

/// The bound that must hold for every value that is not NaN or infinite; those come back as they are.
#[track_caller]
fn assert_within(bound: f64, dtype: DType, data: &[u8], options: &EncodeOptions) -> Vec<String> {
    let n = data.len() / dtype.byte_len(1);
    let view = TensorView { name: "w", dtype, shape: &[n], data };
    let spec: Spec = format!("max-error={bound}").parse().unwrap();
    let bytes = fedpress::encode(&[view], &spec, options).unwrap();
    let decoded = decode(&bytes).unwrap().remove(0);
    let original =
        fedpress::Tensor { name: "w".into(), dtype, shape: vec![n], data: data.to_vec() };
    let (x, y) = (original.to_f32().unwrap(), decoded.to_f32().unwrap());
    for (i, (x, y)) in x.iter().zip(&y).enumerate() {
        let within = (f64::from(*x) - f64::from(*y)).abs() <= bound;
        assert!(
            within || x.to_bits() == y.to_bits(),
            "{i}: {x} became {y}, bound {bound} of {dtype}"
        );
    }
    let mut decoder = fedpress::Decoder::new(Default::default());
    let (mut input, mut taken) = (&bytes[..], Vec::new());
    while let Some(event) = decoder.next(&mut input).unwrap() {
        if let Event::Chunk(chunk) = event {
            taken.push(chunk.spec().to_string());
        }
    }
    taken
}

#[test]
fn every_value_of_every_type_is_within_every_bound() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for bound in [1e-9, 1e-4, 1e-3, 0.01, 0.1, 1.0, 3.0, 1e6, 1e30] {
            let data = elements(dtype, 2 * 4096 + 99, 3);
            assert_within(bound, dtype, &data, &small_groups());
            // Any bits there are: subnormals, the largest, NaN and infinity.
            let wild = Rng(8).bytes(data.len());
            assert_within(bound, dtype, &wild, &small_groups());
        }
    }
    for (scale, bound) in [(1e-30, 1e-33), (1e25, 1e20), (3e38, 1e33), (1e-40, 1e-43)] {
        let x: Vec<f32> = lognormal(5000, 2).iter().map(|v| v * scale).collect();
        assert_within(bound, DType::F32, &le_bytes(&x), &small_groups());
    }
}

#[test]
fn what_can_be_met_is_and_what_cannot_goes_without_loss() {
    let mut x = gaussian(5 * 4096, 1);
    x[4096 + 1] = f32::NAN;
    x[2 * 4096 + 1] = f32::INFINITY;
    // Floats of this size are 512 apart.
    x[3 * 4096 + 1] = 6e9;
    for non_finite in [NonFinite::Refuse, NonFinite::Lossless] {
        let options = small_groups().with_non_finite(non_finite);
        let taken = assert_within(0.01, DType::F32, &le_bytes(&x), &options);
        let (kept, lossless) = ("identity|max-error=0.01", "shuffle|zstd");
        assert_eq!(taken, [kept, lossless, lossless, lossless, kept]);
    }
}

#[test]
fn it_takes_the_bits_that_its_step_takes() {
    // Uniform noise of 2 E at each value: log2 of how many steps the values reach across, and little more.
    let x: Vec<f32> = gaussian(1 << 16, 1);
    for bound in [0.1f64, 0.01, 0.001] {
        let bytes = encode_f32(&x, &spec(&format!("max-error={bound}")), &options());
        let bits = bytes.len() as f64 * 8.0 / x.len() as f64;
        let entropy = (std::f64::consts::TAU * std::f64::consts::E).sqrt().log2();
        let expected = entropy - (2.0 * bound).log2();
        assert!((bits - expected).abs() < 0.15, "{bound}: {bits} bits, expected {expected}");
    }
}

#[test]
fn bounds_that_are_none_and_pipelines_that_keep_none_are_refused() {
    for text in [
        "max-error",
        "max-error=0",
        "max-error=-1",
        "max-error=nan",
        "max-error=inf",
        "max-error=x",
        "max-error=0.1,biased",
        "hadamard|max-error=0.1",
        "subsample=0.5|max-error=0.1",
        "max-error=0.1|shuffle",
        "max-error=0.1 or identity|step=1",
    ] {
        assert!(text.parse::<Spec>().is_err(), "{text}");
    }
    let spec = spec("max-error=1e-3|zstd");
    assert_eq!(spec.to_string(), "identity|max-error=0.001|zstd");
    assert!(spec.max_error() == Some(0.001) && !spec.is_unbiased());
}
