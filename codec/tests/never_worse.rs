//! Law: by default no tensor comes out worse than it must. What is shorter without loss travels
//! without loss, group by group; zeros that a grid can hold stay zeros; and values with a meaning that
//! noise destroys are spared.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    DType, EncodeOptions, Reader, SPARED, Spare, Tensor, TensorDesc, TensorView, spared,
};

fn defaults() -> EncodeOptions {
    EncodeOptions::new(SEEDS)
}

fn view<'a>(name: &'a str, shape: &'a [usize], data: &'a [u8]) -> TensorView<'a> {
    TensorView { name, dtype: DType::F32, shape, data }
}

/// One tensor through a spec and back, and the bytes it took.
fn one(values: &[f32], text: &str) -> (Vec<f32>, usize) {
    let bytes = encode_f32(values, &spec(text), &defaults());
    (decode_f32(&bytes), bytes.len())
}

const SPECS: [&str; 5] =
    ["hadamard|q=8|zstd", "hadamard|q=4|zstd", "hadamard|q=2", "identity|q=4", "kashin|q=2|zstd"];

#[test]
fn what_is_not_longer_without_loss_comes_back_exactly() {
    let n = 1 << 17;
    let mut rng = Rng(3);
    let mask: Vec<f32> = (0..n).map(|_| f32::from(u8::from(rng.below(10) == 0))).collect();
    let noise = gaussian(n, 4);
    // Rows of 256 of which one in fifty is not zero, as of an embedding.
    let rows: Vec<f32> =
        noise.iter().enumerate().map(|(i, v)| if i / 256 % 50 == 7 { *v } else { 0.0 }).collect();
    let pruned: Vec<f32> = noise.iter().map(|v| if v.abs() > 2.5 { *v } else { 0.0 }).collect();
    let constant = vec![0.125f32; n];
    for (what, values) in
        [("mask", &mask), ("rows", &rows), ("pruned", &pruned), ("constant", &constant)]
    {
        for text in SPECS {
            let (decoded, bytes) = one(values, text);
            let lossless = one(values, "lossless").1;
            let asked = encode_f32(values, &spec(text), &options()).len();
            // The record of the tensor says what the group falls back on.
            assert!(
                bytes <= lossless.min(asked) + 30,
                "{what}, {text}: {bytes}, {lossless}, {asked}"
            );
            if lossless <= asked {
                assert!(decoded == *values, "{what}, {text}");
            }
        }
    }
}

/// Where redundancy lies in places that a sample at equal distances would miss, and where no value occurs
/// twice.
#[cfg(feature = "zstd")]
#[test]
fn a_sample_finds_redundancy_wherever_it_lies() {
    let columns: Vec<f32> = gaussian(1 << 17, 5)
        .iter()
        .enumerate()
        .map(|(i, v)| if i % 512 == 0 { *v } else { 0.0 })
        .collect();
    let counted: Vec<f32> = (0..1 << 17).map(|i| i as f32).collect();
    let mut half = gaussian(2047, 6);
    half[1023..].fill(0.0);
    for (what, values, text) in [
        ("a column of a matrix", &columns, "hadamard|q=4"),
        ("positions", &counted, "hadamard|q=8|zstd"),
        ("the second half", &half, "kashin,lambda=2|q=12"),
    ] {
        let (decoded, bytes) = one(values, text);
        assert!(decoded == *values, "{what}");
        assert!(bytes <= one(values, "lossless").1 + 30, "{what}: {bytes}");
    }
}

#[test]
fn ordinary_values_go_through_what_is_asked_for() {
    let x = gaussian(1 << 17, 1);
    for text in SPECS {
        let (decoded, bytes) = one(&x, text);
        assert!(decoded != x);
        let asked = encode_f32(&x, &spec(text), &options()).len();
        assert!(bytes <= asked + 10, "{text}: {bytes}, {asked}");
    }
}

#[test]
fn groups_decide_for_themselves() {
    let mut x = gaussian(3 * 4096, 1);
    x[4096..8192].fill(0.0);
    let mut options = defaults();
    options.group_log2 = 12;
    let y = decode_f32(&encode_f32(&x, &spec("hadamard|q=4"), &options));
    assert!(y[4096..8192].iter().all(|v| *v == 0.0));
    assert!(y[..4096] != x[..4096] && y[8192..] != x[8192..]);
}

#[test]
fn sixteen_bit_values_fall_back_where_their_own_bits_are_fewer() {
    let n = 1 << 16;
    for dtype in [DType::F16, DType::BF16] {
        let data = elements(dtype, n, 1);
        let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
        // Raw coefficients take 32 bits a value.
        for (text, exact) in [("hadamard", true), ("hadamard|q=16", true), ("hadamard|q=4", false)]
        {
            let bytes = fedpress::encode(&[view], &spec(text), &defaults()).unwrap();
            assert_eq!(decode(&bytes).unwrap()[0].data == data, exact, "{dtype}, {text}");
        }
    }
}

#[test]
fn nearest_keeps_zeros_and_loses_no_more_than_it_did() {
    let mut rng = Rng(9);
    let n = 1 << 16;
    let sparse: Vec<f32> =
        (0..n).map(|_| if rng.below(8) == 0 { rng.gauss() as f32 } else { 0.0 }).collect();
    for q in 1..=8 {
        let text = format!("identity|q={q},nearest");
        let y = decode_f32(&encode_f32(&sparse, &spec(&text), &options()));
        for (x, y) in sparse.iter().zip(&y) {
            assert!(*x != 0.0 || *y == 0.0, "{text}: a zero came back as {y}");
        }
        // Of a grid without zero each of the zeros, seven eighths, moves by half a step.
        let error = nmse(&sparse, &y);
        let stochastic = decode_f32(&encode_f32(&sparse, &spec(&format!("q={q}")), &options()));
        assert!(error < 0.5 * nmse(&sparse, &stochastic), "{text}: {error}");
    }
    // Where the range does not hold zero, the grid is what it was.
    let above: Vec<f32> = gaussian(n, 2).iter().map(|v| v.abs() + 1.0).collect();
    let y = decode_f32(&encode_f32(&above, &spec("identity|q=4,nearest"), &options()));
    for (x, y) in blocks(n, 4096).into_iter().flat_map(|b| above[b.clone()].iter().zip(&y[b])) {
        assert!((x - y).abs() < 0.2, "{x}, {y}");
    }
}

#[test]
fn what_a_model_must_not_lose_is_spared() {
    let n = 2048;
    let positive: Vec<u8> = le_bytes(&gaussian(n, 1).iter().map(|v| v.abs()).collect::<Vec<_>>());
    let square: Vec<u8> = le_bytes(&gaussian(n, 2));
    let tensors = [
        ("bn.running_var", vec![2048usize], true),
        ("bn1.running_mean", vec![32, 64], true),
        ("state.3.exp_avg_sq", vec![32, 64], true),
        ("layer.weight_mask", vec![32, 64], true),
        ("fc.weight_scale", vec![32, 64], true),
        ("fc.bias", vec![2048], true),
        ("fc.weight", vec![32, 64], false),
        ("upscale.weight", vec![32, 64], false),
    ];
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, shape, spared)| view(name, shape, if *spared { &positive } else { &square }))
        .collect();
    let exact = |decoded: &[Tensor]| -> Vec<bool> {
        decoded.iter().zip(&views).map(|(tensor, view)| tensor.data == view.data).collect()
    };
    let bytes = fedpress::encode(&views, &spec("hadamard|q=4"), &defaults()).unwrap();
    assert!(exact(&decode(&bytes).unwrap()).into_iter().eq(tensors.iter().map(|t| t.2)));
    // Every line of the table is at work here, and switching it off spares nothing.
    let options = defaults().with_several(true);
    let rules: Vec<_> = tensors
        .iter()
        .filter_map(|(name, shape, _)| spared(&view(name, shape, &[]).desc(), &options))
        .collect();
    assert!(SPARED.iter().all(|rule| rules.contains(&rule)));
    let nothing = defaults().with_spare(Spare::Nothing);
    let bytes = fedpress::encode(&views, &spec("hadamard|q=4"), &nothing).unwrap();
    assert!(exact(&decode(&bytes).unwrap()).into_iter().all(|exact| !exact));
}

#[test]
fn a_vector_that_stands_alone_is_not_spared() {
    let x = gaussian(5000, 1);
    let bytes = encode_f32(&x, &spec("hadamard|q=4"), &defaults());
    let mut reader = Reader::new(&bytes[..], Default::default());
    assert!(reader.next_tensor().unwrap().unwrap().meta().spec().is_lossy());
    // In a list of several it is, whether the list is a slice, a manifest or the caller's word.
    let descs = ["a", "b"].map(|name| TensorDesc::new(name, DType::F32, &[5000]));
    let mut encoder = fedpress::Encoder::new(defaults()).unwrap();
    encoder.manifest(&descs).unwrap();
    for desc in &descs {
        encoder.begin(desc, &spec("hadamard|q=4")).unwrap();
        encoder.push(&le_bytes(&x)).unwrap();
        encoder.end().unwrap();
    }
    encoder.finish().unwrap();
    assert!(decode(encoder.output()).unwrap().iter().all(|t| t.data == le_bytes(&x)));
}
