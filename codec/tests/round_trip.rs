//! Law: what is decoded is what was encoded, exactly or within the bound of its pipeline; and a
//! spec means the same as text, in memory and on the wire.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    DType, DecodeOptions, EncodeOptions, ErrorKind, PRESETS, Spec, Tensor, TensorDesc, TensorView,
    effective_spec,
};
use proptest::prelude::*;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

// ---------------------------------------------------------------------------------------------
// Strategies

fn zstd_stage() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        2 => Just("|zstd".to_owned()),
        1 => (-7i8..=12).prop_map(|level| format!("|zstd={level}")),
    ]
}

fn lossless_spec() -> impl Strategy<Value = String> {
    let shuffle = prop_oneof![Just("none"), Just("shuffle")];
    (shuffle, zstd_stage()).prop_map(|(shuffle, zstd)| match (shuffle, zstd.as_str()) {
        ("none", "") => "none".to_owned(),
        ("none", zstd) => zstd.trim_start_matches('|').to_owned(),
        (shuffle, zstd) => format!("{shuffle}{zstd}"),
    })
}

fn transform() -> impl Strategy<Value = String> {
    let block = |range: std::ops::RangeInclusive<u32>| {
        prop_oneof![
            2 => Just(String::new()),
            1 => range.prop_map(|log2| format!(",block={}", 1u64 << log2)),
        ]
    };
    let lambda = prop_oneof![
        Just(String::new()),
        Just(",lambda=1".to_owned()),
        Just(",lambda=2".to_owned()),
        (1.0f32..=2.0).prop_map(|lambda| format!(",lambda={lambda}")),
    ];
    let rest = prop_oneof![
        2 => Just(String::new()),
        1 => (1u8..=8, 0.01f32..=1.0, 0.01f32..=16.0).prop_map(|(iterations, eta, delta)| {
            format!(",iterations={iterations},eta={eta},delta={delta}")
        }),
    ];
    let clip = prop_oneof![3 => Just(""), 1 => Just(",clip")];
    prop_oneof![
        1 => Just("identity".to_owned()),
        2 => block(8..=15).prop_map(|block| format!("hadamard{block}")),
        2 => (lambda, rest, block(8..=15), clip)
            .prop_map(|(lambda, rest, block, clip)| format!("kashin{lambda}{rest}{block}{clip}")),
    ]
}

fn quantizer() -> impl Strategy<Value = String> {
    let nearest = prop_oneof![2 => Just(""), 1 => Just(",nearest")];
    let block = prop_oneof![
        2 => Just(String::new()),
        1 => (8u32..=21).prop_map(|log2| format!(",block={}", 1u64 << log2)),
    ];
    (1u8..=16, nearest, block).prop_map(|(q, nearest, block)| format!("|q={q}{nearest}{block}"))
}

fn lossy_spec() -> impl Strategy<Value = String> {
    let subsample = prop_oneof![
        2 => Just(String::new()),
        1 => (0.001f32..=1.0).prop_map(|fraction| format!("|subsample={fraction}")),
        1 => Just("|subsample=1".to_owned()),
    ];
    let quantizer = prop_oneof![1 => Just(String::new()), 3 => quantizer()];
    (transform(), subsample, quantizer, zstd_stage())
        .prop_map(|(transform, subsample, q, zstd)| format!("{transform}{subsample}{q}{zstd}"))
        .prop_filter("lossy", |text| spec(text).is_lossy())
}

fn any_spec() -> impl Strategy<Value = String> {
    prop_oneof![1 => lossless_spec(), 3 => lossy_spec()]
}

/// Finite values with awkward magnitudes.
fn values(kind: u8, n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng(seed);
    (0..n)
        .map(|i| {
            let (unit, gauss) = (rng.unit() * 2.0 - 1.0, rng.gauss());
            match kind {
                0 => gauss as f32,
                1 => (1e38 * unit) as f32,
                2 => (1e-40 * gauss) as f32,
                3 => 0.0,
                4 => 0.125,
                5 => [0.0, -0.0][rng.below(2)],
                6 => (gauss * 10f64.powi(rng.below(70) as i32 - 35)) as f32,
                7 if i == n / 2 => 1.0,
                7 => 0.0,
                8 => [f32::MAX, f32::MIN][rng.below(2)],
                9 => (1000.0 + 1e-3 * gauss) as f32,
                10 => f32::from_bits(1 + rng.below(5) as u32),
                _ => [f32::MIN_POSITIVE, f32::MAX, -1.0, 0.0][rng.below(4)],
            }
        })
        .collect()
}

/// Elements of any type; finite if the type can be lossy.
fn data(dtype: DType, kind: u8, n: usize, seed: u64) -> Vec<u8> {
    let finite = |mask: u16, bits: u64| {
        let bits = bits as u16;
        (if bits & mask == mask { bits & !(mask & mask.wrapping_neg()) } else { bits })
            .to_le_bytes()
    };
    let mut rng = Rng(seed);
    match dtype {
        DType::F32 => le_bytes(&values(kind, n, seed)),
        DType::F16 => (0..n).flat_map(|_| finite(0x7c00, rng.next())).collect(),
        DType::BF16 => (0..n).flat_map(|_| finite(0x7f80, rng.next())).collect(),
        _ => rng.bytes(dtype.byte_len(n)),
    }
}

fn shape() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        3 => prop::collection::vec(0u64..6, 0..5),
        3 => (1u64..10_000).prop_map(|n| vec![n]),
        2 => (1u64..90, 1u64..90).prop_map(|(a, b)| vec![a, b]),
        1 => prop::sample::select(vec![4095u64, 4096, 4097, 8192, 255, 256, 511]).prop_map(|n| vec![1, n]),
    ]
}

fn round_trip(
    view: &TensorView<'_>,
    spec: &Spec,
    options: &EncodeOptions,
) -> (Tensor, fedpress::Spec) {
    let bytes = fedpress::encode(&[*view], spec, options).unwrap();
    let mut reader = fedpress::Reader::new(&bytes[..], fedpress::DecodeOptions::default());
    let tensor = reader.next_tensor().unwrap().unwrap();
    let sent = tensor.meta().spec().clone();
    (tensor.read().unwrap(), sent)
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_tensor_comes_back_whatever_it_is_and_went_through(
        text in any_spec(),
        dtype in prop_oneof![2 => Just(DType::F32), 3 => prop::sample::select(&DType::ALL[..])],
        shape in shape(),
        kind in 0u8..12,
        seed: u64,
        min_values in prop_oneof![Just(0u64), Just(1), Just(1024)],
        group_log2 in 12u8..=20,
        open: bool,
    ) {
        let n = shape.iter().product::<u64>() as usize;
        let data = data(dtype, kind, n, seed);
        let mut options = options();
        options.min_values = min_values;
        options.group_log2 = group_log2;
        let spec = spec(&text);
        let whole_rows = shape.iter().skip(1).product::<u64>() * dtype.bits() as u64 % 8 == 0;
        let (tensor, sent) = if open && shape.len() > 1 && n > 0 && whole_rows {
            let desc = TensorDesc::open("w", dtype, &shape[1..]);
            let mut writer = fedpress::Writer::new(Vec::new(), options.clone()).unwrap();
            writer.begin(&desc, &spec).unwrap();
            writer.push(&data).unwrap();
            writer.end().unwrap();
            let bytes = writer.finish().unwrap();
            (decode(&bytes).unwrap().remove(0), effective_spec(&desc, &spec, &options))
        } else {
            let sizes: Vec<_> = shape.iter().map(|n| *n as usize).collect();
            let view = TensorView { name: "w", dtype, shape: &sizes, data: &data };
            let (tensor, sent) = round_trip(&view, &spec, &options);
            let desc = view.desc();
            let expected = effective_spec(&desc, &spec, &options);
            prop_assert_eq!(sent.is_lossy(), expected.is_lossy());
            prop_assert_eq!(sent.is_unbiased(), expected.is_unbiased());
            if !text.contains("kashin") {
                prop_assert_eq!(&sent, &expected);
            }
            let small = (n as u64) < min_values;
            prop_assert_eq!(sent.is_lossy(), spec.is_lossy() && dtype.is_lossy_capable() && !small);
            (tensor, sent)
        };
        prop_assert_eq!(&tensor.name, "w");
        prop_assert_eq!(tensor.dtype, dtype);
        prop_assert_eq!(&tensor.view().desc().shape, &shape);
        prop_assert_eq!(tensor.data.len(), data.len());
        if sent.is_lossy() {
            prop_assert_eq!(fedpress::first_non_finite(dtype, &tensor.data), None);
        } else {
            prop_assert!(tensor.data == data);
        }
    }
}

#[test]
fn lossless_returns_every_bit_pattern_even_of_nan() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let mut rng = Rng(1);
    for dtype in DType::ALL {
        let data = match dtype.bits() {
            ..=16 => all.clone(),
            _ => (0..5000).flat_map(|_| (rng.next() | 0x7f80_0000).to_le_bytes()).collect(),
        };
        let n = 8 * data.len() / dtype.bits();
        for text in ["none", "lossless", "shuffle", "zstd=-7"] {
            let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
            assert!(round_trip(&view, &spec(text), &options()).0.data == data, "{dtype}, {text}");
        }
    }
}

#[test]
fn small_tensors_and_other_element_types_travel_losslessly() {
    let defaults = EncodeOptions::new(SEEDS);
    for preset in PRESETS {
        for dtype in DType::ALL {
            for n in [0, 1, 1023, 1024] {
                let data = elements(dtype, n, 1);
                let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
                let (tensor, sent) = round_trip(&view, &spec(preset.name), &defaults);
                let lossy = n >= 1024 && dtype.is_lossy_capable() && preset.name != "lossless";
                assert_eq!(sent.is_lossy(), lossy, "{} {dtype} {n}", preset.name);
                assert_eq!(tensor.data == data, !lossy, "{} {dtype} {n}", preset.name);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Bounds

/// Groups with a largest magnitude outside 2^-64..2^64 are scaled by this power of two.
fn exponent(group: &[f32]) -> i32 {
    let peak = group.iter().fold(0f32, |peak, v| peak.max(v.abs()));
    let e = (peak.to_bits() >> 23) as i32 - 127;
    if peak == 0.0 || (-64..64).contains(&e) { 0 } else { e.max(-126) }
}

/// Checks `identity|q` block by block. `steps` is how far a value may move, in steps of a grid from
/// the smallest to the largest; `nearest` makes them up to half as long again, so that zero is one of
/// them. On top come:
/// the rounding of f32 arithmetic on the grid (four roundings of positions up to 2^q - 1, two of
/// levels), ranges under 2^-100 of the scaled group, which count as constant, and the rounding to
/// the element type: relative, and absolute where it is subnormal.
fn check_bound(
    (original, decoded): (&[f32], &[f32]),
    q: u32,
    block: usize,
    steps: f64,
    (relative, absolute): (f64, f64),
) {
    let top = f64::from((1u32 << q) - 1);
    for group in (0..original.len()).step_by(4096).map(|at| at..original.len().min(at + 4096)) {
        let (x, y) = (&original[group.clone()], &decoded[group]);
        let floor = 2f64.powi(exponent(x) - 99).max(absolute);
        for block in blocks(x.len(), block) {
            let (x, y) = (&x[block.clone()], &y[block]);
            let fold = |f: fn(f64, f64) -> f64| x.iter().map(|v| f64::from(*v)).reduce(f).unwrap();
            let (lo, hi) = (fold(f64::min), fold(f64::max));
            let step = (hi - lo) / top;
            let largest = lo.abs().max(hi.abs());
            let bound = step * (steps + top * 2f64.powi(-21)) + largest * 2f64.powi(-22) + floor;
            for (x, y) in x.iter().zip(y) {
                let (x, y) = (f64::from(*x), f64::from(*y));
                let bound = bound + relative * x.abs().max(y.abs());
                assert!((x - y).abs() <= bound, "{x} came back as {y}, bound {bound}, step {step}");
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn nearest_moves_a_value_by_three_quarters_of_a_step_and_stochastic_by_less_than_one(
        q in 1u8..=16,
        block_log2 in 8u32..=21,
        nearest: bool,
        kind in 0u8..12,
        n in 1usize..10_000,
        seed: u64,
    ) {
        let x = values(kind, n, seed);
        let flag = if nearest { ",nearest" } else { "" };
        let text = format!("identity|q={q}{flag},block={}", 1u64 << block_log2);
        let y = decode_f32(&encode_f32(&x, &spec(&text), &small_groups()));
        let steps = if nearest { 0.75 } else { 1.0 };
        check_bound((&x, &y), q.into(), 1 << block_log2, steps, (0.0, 2f64.powi(-148)));
    }

    #[test]
    fn the_bounds_hold_for_f16_and_bf16_up_to_their_own_rounding(
        q in 1u8..=16,
        bf16: bool,
        nearest: bool,
        n in 1usize..10_000,
        seed: u64,
    ) {
        let dtype = if bf16 { DType::BF16 } else { DType::F16 };
        let data = data(dtype, 0, n, seed);
        let flag = if nearest { ",nearest" } else { "" };
        let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
        let original = Tensor {
            name: String::new(), dtype, shape: vec![n], data: data.clone(),
        };
        let (tensor, _) = round_trip(&view, &spec(&format!("identity|q={q}{flag}")), &small_groups());
        // Half a unit in the last place of 11 or 8 bits of significand.
        let rounding = match bf16 {
            true => (2f64.powi(-8), 2f64.powi(-134)),
            false => (2f64.powi(-11), 2f64.powi(-25)),
        };
        let steps = if nearest { 0.75 } else { 1.0 };
        let (x, y) = (original.to_f32().unwrap(), tensor.to_f32().unwrap());
        check_bound((&x, &y), q.into(), 4096, steps, rounding);
    }

    #[test]
    fn transforms_alone_return_values_within_1e_5_of_the_norm(
        text in prop_oneof![
            (8u32..=15).prop_map(|log2| format!("hadamard,block={}", 1u64 << log2)),
            (1.0f32..=2.0).prop_map(|lambda| format!("kashin,lambda={lambda}")),
            Just("hadamard|subsample=1".to_owned()),
            Just("kashin|subsample=1|zstd".to_owned()),
            Just("identity|subsample=1".to_owned()),
        ],
        kind in 0u8..12,
        n in 1usize..20_000,
        group_log2 in prop::sample::select(vec![12u8, 20]),
        seed: u64,
    ) {
        let x = values(kind, n, seed);
        let mut options = options();
        options.group_log2 = group_log2;
        let y = decode_f32(&encode_f32(&x, &spec(&text), &options));
        // In f64 and scaled, as the squares leave the range of f32. Where values are subnormal,
        // each rounds to a multiple of 2^-149. The largest finite value saturates.
        let peak = x.iter().fold(0f64, |peak, v| peak.max(f64::from(v.abs())));
        let norm = |f: &dyn Fn(usize) -> f64| (0..n).map(|i| (f(i) / peak).powi(2)).sum::<f64>().sqrt();
        if peak == 0.0 {
            prop_assert!(y.iter().all(|v| *v == 0.0));
        } else {
            let error = norm(&|i| f64::from(x[i]) - f64::from(y[i]));
            let bound = 1e-5 * norm(&|i| f64::from(x[i])) + (n as f64).sqrt() * 2f64.powi(-149) / peak;
            prop_assert!(error <= bound, "{} of {}", error, bound);
        }
    }

    #[test]
    fn sixteen_bits_behind_hadamard_lose_less_than_4e_6_of_the_energy(
        kind in 0u8..12,
        n in 1usize..20_000,
        seed: u64,
        nearest: bool,
    ) {
        // A block of n < 8192 coefficients c spans at most sqrt(2) |c|, and each moves by less
        // than a step: n 2 |c|^2 / 65535^2 < 3.82e-6 |c|^2, and the rounding of f32 on top.
        let x = values(kind, n, seed);
        let peak = x.iter().fold(0f32, |peak, v| peak.max(v.abs()));
        prop_assume!(peak == 0.0 || peak > 1e-30);
        let text = if nearest { "hadamard|q=16,nearest" } else { "hadamard|q=16" };
        let y = decode_f32(&encode_f32(&x, &spec(text), &options()));
        if peak == 0.0 {
            prop_assert!(y.iter().all(|v| *v == 0.0));
        } else {
            prop_assert!(nmse(&x, &y) < 4e-6);
        }
    }
}

#[test]
fn sixteen_bits_behind_hadamard_lose_less_than_1e_8_of_gaussian_energy() {
    // The range of 4096 Gaussian values is about 7.1, surely under 12: a step is under 12/65535,
    // and the mean of f (1 - f) is 1/6: 5.6e-9, plus f32 rounding of about 1e-13.
    let x = gaussian(40_000, 1);
    let error = nmse(&x, &decode_f32(&encode_f32(&x, &spec("hadamard|q=16"), &options())));
    assert!(error < 1e-8, "{error}");
}

#[test]
fn the_smallest_and_largest_of_a_block_return_almost_exactly() {
    for q in [1, 4, 16] {
        let mut x = gaussian(4096, 1);
        (x[7], x[4000]) = (-10.0, 20.0);
        let y = decode_f32(&encode_f32(&x, &spec(&format!("identity|q={q}")), &options()));
        assert_eq!(y[7], -10.0);
        assert!((y[4000] - 20.0).abs() <= 4e-6, "{}", y[4000]);
    }
}

#[test]
fn constants_return_exactly_through_identity_q() {
    for constant in [0.0f32, 1.0, -3.75, 1e38, 1e-40, f32::MAX, f32::MIN_POSITIVE] {
        for text in ["identity|q=1", "identity|q=7,nearest", "identity|q=16|zstd"] {
            let x = vec![constant; 1500];
            assert_eq!(decode_f32(&encode_f32(&x, &spec(text), &options())), x, "{text}");
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Non-finite values

#[test]
fn a_lossy_pipeline_names_tensor_and_index_of_what_is_not_finite() {
    for (dtype, nan) in [
        (DType::F32, f32::NAN.to_le_bytes().to_vec()),
        (DType::F32, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        (DType::F16, 0x7c00u16.to_le_bytes().to_vec()),
        (DType::BF16, 0xffc1u16.to_le_bytes().to_vec()),
    ] {
        for text in
            ["hadamard|q=4", "identity|q=4,nearest", "kashin", "hadamard|subsample=0.01|q=1|zstd"]
        {
            for at in [0, 4095, 4096, 9999] {
                let mut data = elements(dtype, 10_000, 1);
                data[dtype.byte_len(at)..][..dtype.byte_len(1)].copy_from_slice(&nan);
                let view = TensorView { name: "bad one", dtype, shape: &[10_000], data: &data };
                for threads in [1, 3] {
                    let mut options = small_groups();
                    options.threads = threads;
                    let error = fedpress::encode(&[view], &spec(text), &options).unwrap_err();
                    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
                    assert_eq!(error.tensor(), Some("bad one"));
                    let words = format!("index {at};");
                    assert!(error.to_string().contains(&words), "{text}: {error}");
                }
                let mut options = small_groups();
                options.non_finite = fedpress::NonFinite::Lossless;
                let (tensor, sent) = round_trip(&view, &spec(text), &options);
                assert!(sent.is_lossy());
                // The group with it is exact, the others are what they were.
                let exact = at / 4096 * 4096..10_000.min((at / 4096 + 1) * 4096);
                let exact = dtype.byte_len(exact.start)..dtype.byte_len(exact.end);
                assert!(tensor.data[exact.clone()] == data[exact.clone()], "{text}, {at}");
                assert!(text == "kashin" || tensor.data != data, "{text}, {at}");
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Specs

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_printed_spec_parses_to_itself(text in any_spec()) {
        let parsed = spec(&text);
        let printed = parsed.to_string();
        prop_assert_eq!(&spec(&printed), &parsed, "{} printed as {}", text, printed);
        prop_assert_eq!(spec(&printed).to_string(), printed.clone());
        prop_assert!(printed.len() <= text.len().max(4), "{} printed as {}", text, printed);
        let spaced = format!("  {}  ", printed.replace('|', " | ").replace(',', " , ").replace('=', " = "));
        prop_assert_eq!(spec(&spaced), parsed);
    }

    #[test]
    fn text_that_is_not_a_spec_is_an_error_and_not_a_panic(text in ".{0,40}") {
        if let Err(error) = text.parse::<Spec>() {
            prop_assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn a_spec_with_a_change_is_an_error_or_another_spec(
        text in any_spec(),
        at in any::<prop::sample::Index>(),
        with in "[a-z=,|0-9. -]{0,3}",
    ) {
        let at = at.index(text.len() + 1);
        let changed = format!("{}{with}{}", &text[..at], &text[(at + 1).min(text.len())..]);
        match changed.parse::<Spec>() {
            Ok(parsed) => prop_assert_eq!(spec(&parsed.to_string()), parsed),
            Err(error) => prop_assert_eq!(error.kind(), &ErrorKind::InvalidArgument),
        }
    }
}

#[test]
fn defaults_and_other_names_print_canonically() {
    for (text, printed) in [
        ("none", "none"),
        ("identity", "none"),
        ("lossless", "shuffle|zstd"),
        ("shuffle|lossless", "shuffle|zstd"),
        ("identity|zstd=1", "zstd"),
        ("zstd=0", "zstd=0"),
        ("q=4", "identity|q=4"),
        ("subsample=0.50", "identity|subsample=0.5"),
        ("hadamard , block = 4096 | q = 04", "hadamard|q=4"),
        ("kashin,clip,block=4096,lambda=1.250,eta=0.9,delta=1.0,iterations=3", "kashin,clip"),
        ("q=4,block=4096,nearest", "identity|q=4,nearest"),
        ("q=4,block=256,nearest", "identity|q=4,nearest,block=256"),
        ("balanced", "rotation|lm=4"),
    ] {
        assert_eq!(spec(text).to_string(), printed);
    }
    for preset in PRESETS {
        assert_eq!(spec(preset.spec).to_string(), preset.spec);
        assert_eq!(spec(preset.name), spec(preset.spec));
    }
}

#[test]
fn building_a_spec_is_the_same_as_parsing_it() {
    let pairs = [
        (Spec::none(), "none"),
        (Spec::identity(), "identity"),
        (Spec::lossless(), "lossless"),
        (Spec::hadamard(), "hadamard"),
        (Spec::hadamard().quantized(4).unwrap().zstd(3).unwrap(), "hadamard|q=4|zstd=3"),
        (Spec::kashin(1.5).unwrap().subsampled(0.25).unwrap(), "kashin,lambda=1.5|subsample=0.25"),
        (Spec::identity().quantized_nearest(16).unwrap(), "q=16,nearest"),
    ];
    for (built, text) in pairs {
        assert_eq!(built, spec(text));
    }
    assert!(Spec::hadamard().quantized(0).is_err() && Spec::hadamard().quantized(17).is_err());
    assert!(Spec::none().subsampled(0.0).is_err() && Spec::none().subsampled(1.5).is_err());
    assert!(Spec::kashin(0.9).is_err() && Spec::kashin(2.1).is_err());
    assert!(Spec::none().zstd(23).is_err() && Spec::none().zstd(-8).is_err());
    assert!(Spec::lossless().quantized(4).is_err());
}

#[test]
fn what_a_spec_says_of_itself_is_so() {
    for (text, lossy, unbiased) in [
        ("none", false, true),
        ("lossless", false, true),
        ("hadamard", true, true),
        ("hadamard|subsample=0.1|q=1|zstd", true, true),
        ("kashin|q=2", true, true),
        ("kashin,clip|q=2", true, false),
        ("identity|q=8,nearest", true, false),
    ] {
        assert_eq!((spec(text).is_lossy(), spec(text).is_unbiased()), (lossy, unbiased), "{text}");
    }
}

#[test]
fn a_header_says_what_the_sender_said() {
    let name_hash = fedpress::derive_key(&[1, u64::from(b'w')]);
    let shared = Some((SEEDS.shared, SEEDS.round));
    for (text, seed_and_round) in [
        ("lossless", None),
        ("identity|q=4", None),
        ("kashin|q=2", shared),
        ("hadamard", shared),
        ("identity|subsample=0.5", shared),
    ] {
        for (desc, key) in [
            (TensorDesc::new("w", DType::BF16, &[5, 1000]), None),
            (TensorDesc::open("w", DType::F32, &[1000]), Some(42)),
        ] {
            let mut writer = fedpress::Writer::new(Vec::new(), small_groups()).unwrap();
            writer.begin_keyed(&desc, &spec(text), key).unwrap();
            writer.push(&elements(desc.dtype, 5000, 1)).unwrap();
            writer.end().unwrap();
            let bytes = writer.finish().unwrap();
            let mut reader = fedpress::Reader::new(&bytes[..], Default::default());
            let tensor = reader.next_tensor().unwrap().unwrap();
            let meta = tensor.meta();
            assert_eq!((meta.desc(), meta.name(), meta.dtype()), (&desc, "w", desc.dtype));
            assert_eq!((meta.spec(), meta.group_values()), (&spec(text), 1 << 12), "{text}");
            assert_eq!(meta.n_values(), if desc.open { None } else { Some(5000) });
            assert_eq!(meta.seed_and_round(), seed_and_round, "{text}");
            assert_eq!(meta.key(), key.unwrap_or(name_hash));
        }
    }
}

#[test]
fn a_malformed_spec_is_an_invalid_argument_that_says_what_is_wrong() {
    for (text, words) in [
        ("", "unknown stage \"\""),
        ("|", "unknown stage \"\""),
        ("hadamard|", "unknown stage \"\""),
        ("hadamrd|q=4", "unknown stage \"hadamrd\"; the stages are identity, hadamard"),
        ("Hadamard", "unknown stage \"Hadamard\""),
        ("none|zstd", "\"none\""),
        ("balanced|zstd", "\"balanced\""),
        ("q", "q needs a number of bits, as in q=4"),
        ("q=0", "expected 1 to 16 bits, found 0"),
        ("q=17", "expected 1 to 16 bits, found 17"),
        ("q=256", "\"256\" is not a valid number"),
        ("q=-1", "\"-1\" is not a valid number"),
        ("q=4.5", "\"4.5\" is not a valid number"),
        ("q=", "\"\" is not a valid number"),
        ("q=4,nearest=1", "takes no value"),
        ("q=4,nearest,nearest", "twice"),
        ("q=4,block", "needs a value"),
        ("q=4,block=1000", "power of two from 256 to 2097152, found 1000"),
        ("q=4,block=128", "power of two from 256 to 2097152, found 128"),
        ("q=4,block=4194304", "found 4194304"),
        ("q=4,bits=3", "has no option \"bits\""),
        ("q=4|q=4", "too late or twice"),
        ("q=4|hadamard", "too late or twice"),
        ("q=4|subsample=0.5", "too late or twice"),
        ("zstd|shuffle", "too late or twice"),
        ("hadamard|kashin", "too late or twice"),
        ("hadamard=5", "takes no value"),
        ("hadamard,block=65536", "power of two from 256 to 32768, found 65536"),
        ("hadamard,block=0", "found 0"),
        ("hadamard,", "has no option \"\""),
        ("kashin,lambda=0.5", "lambda in 1..=2"),
        ("kashin,lambda=NaN", "lambda=NaN"),
        ("kashin,eta=0", "eta in (0, 1]"),
        ("kashin,delta=inf", "delta in (0, 16]"),
        ("kashin,iterations=0", "iterations in 1..=64"),
        ("kashin,clip=yes", "takes no value"),
        ("subsample", "as in subsample=0.5"),
        ("subsample=0", "above 0 and up to 1, found 0"),
        ("subsample=1.01", "found 1.01"),
        ("subsample=nan", "found NaN"),
        ("subsample=50%", "\"50%\" is not a valid number"),
        ("zstd=23", "from -7 to 22, found 23"),
        ("zstd=high", "\"high\" is not a valid number"),
        ("shuffle=1", "takes no value"),
        ("hadamard|shuffle", "lossless pipelines"),
        ("q=4|lossless", "lossless pipelines"),
    ] {
        let error = text.parse::<Spec>().expect_err(text);
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{text}");
        assert!(error.to_string().contains(words), "{text:?}: expected {words:?}, found {error}");
    }
}

// ---------------------------------------------------------------------------------------------
// What the encoder accepts, the decoder accepts

#[test]
fn metadata_that_is_written_can_be_read() {
    for n in [0, 100, 1 << 20, (1 << 20) + 1] {
        let map = [("key".to_owned(), "v".repeat(n))].into();
        let mut writer = fedpress::Writer::new(Vec::new(), options()).unwrap();
        if let Err(error) = writer.metadata(&map) {
            assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
            assert!(n > 1 << 20, "a value of {n} bytes: {error}");
            continue;
        }
        let bytes = writer.finish().unwrap();
        if let Err(error) = decode(&bytes) {
            panic!("a value of {n} bytes was written: {error}");
        }
    }
}

#[test]
fn subnormal_values_that_a_rotation_rounds_to_zero_are_scaled_up_first() {
    for text in ["hadamard|q=8", "kashin|q=8", "rotation|lm=8", "identity|q=8"] {
        let mut x = vec![0.0f32; 8192];
        (x[3], x[77]) = (f32::from_bits(1000), f32::from_bits(3));
        let mut options = options();
        options.smaller = false;
        let y = decode_f32(&encode_f32(&x, &spec(text), &options));
        assert!((y[3] / x[3] - 1.0).abs() < 0.1, "{text}: {}", y[3].to_bits());
    }
}

#[cfg(feature = "zstd")]
#[test]
fn a_zstd_frame_that_is_a_little_shorter_is_kept() {
    // 60 bytes of which zstd makes 52: fewer by less than what the library works with.
    for n_zeros in 0..60 {
        let data: Vec<u8> =
            (0..60).map(|i| if i < n_zeros { 0 } else { (i * 37 + 11) as u8 }).collect();
        let view = TensorView { name: "b", dtype: DType::U8, shape: &[60], data: &data };
        let coded = fedpress::encode(&[view], &spec("zstd"), &options()).unwrap().len();
        let raw = fedpress::encode(&[view], &spec("none"), &options()).unwrap().len();
        let frame = zstd::bulk::compress(&data, 1).unwrap().len();
        // The record of the tensor names the stage in three bytes.
        assert_eq!(coded, raw + 3 - (60 - frame.min(60)), "{n_zeros} zeros");
    }
}

#[test]
fn a_refused_head_leaves_a_valid_stream_or_a_poisoned_encoder() {
    // 17 texts of 8 MiB make a record that is too long.
    let map = (0..17).map(|i| (i.to_string(), "v".repeat(8 << 20))).collect();
    let long = "n".repeat(1 << 16);
    let tensors: Vec<_> = (0..2_100)
        .map(|i| TensorDesc::new(format!("{i}{}", &long[3..]), DType::F32, &[0]))
        .collect();
    for which in ["metadata", "manifest"] {
        let mut encoder = fedpress::Encoder::new(options()).unwrap();
        let refused = match which {
            "metadata" => encoder.metadata(&map),
            _ => encoder.manifest(&tensors),
        };
        assert_eq!(*refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
        match encoder.finish() {
            Err(error) => assert_eq!(*error.kind(), ErrorKind::Poisoned, "{which}: {error}"),
            Ok(()) => {
                if let Err(error) = decode(encoder.output()) {
                    panic!("{which} refused, then finished: {error}");
                }
            }
        }
    }
}

#[test]
fn tensors_that_are_refused_leave_an_encoder_that_goes_on() {
    let x = [1.0f32, 2.0];
    let fine = |name| TensorView::f32(name, &[2], &x);
    let mut encoder = fedpress::Encoder::new(options()).unwrap();
    encoder.tensor(&fine("a"), &Spec::none()).unwrap();
    let long = "a".repeat((1 << 16) + 1);
    for bad in [fine("a"), fine(&long), TensorView { shape: &[usize::MAX, 2], ..fine("c") }] {
        let error = encoder.tensor(&bad, &Spec::none()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    }
    encoder.tensor(&fine("d"), &Spec::none()).unwrap();
    encoder.finish().unwrap();
    assert_eq!(decode(encoder.output()).unwrap().len(), 2);
}

#[test]
fn elements_that_do_not_fit_the_shape_are_refused() {
    let data = [0; 64];
    for (shape, n) in [(&[4][..], 15), (&[4], 17), (&[4], 0), (&[], 3), (&[0], 1), (&[2, 2], 20)] {
        let view = TensorView { name: "w", dtype: DType::F32, shape, data: &data[..n] };
        let error = fedpress::encode(&[view], &Spec::none(), &options()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.tensor(), Some("w"));
    }
    let mut writer = fedpress::Writer::new(Vec::new(), options()).unwrap();
    writer.begin(&TensorDesc::open("w", DType::F32, &[3]), &Spec::none()).unwrap();
    writer.push(&data[..16]).unwrap();
    assert_eq!(*writer.end().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(*writer.finish().unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn a_manifest_has_to_be_kept() {
    let x = [1.0f32, 2.0];
    let descs = ["a", "b"].map(|name| TensorDesc::new(name, DType::F32, &[2]));
    let mut encoder = fedpress::Encoder::new(options()).unwrap();
    encoder.manifest(&descs).unwrap();
    assert!(encoder.tensor(&TensorView::f32("b", &[2], &x), &Spec::none()).is_err());
    assert!(encoder.tensor(&TensorView::f32("a", &[1, 2], &x), &Spec::none()).is_err());
    encoder.tensor(&TensorView::f32("a", &[2], &x), &Spec::none()).unwrap();
    assert!(encoder.finish().is_err());
    encoder.tensor(&TensorView::f32("b", &[2], &x), &Spec::none()).unwrap();
    assert!(encoder.tensor(&TensorView::f32("c", &[2], &x), &Spec::none()).is_err());
    encoder.finish().unwrap();
    assert_eq!(decode(encoder.output()).unwrap().len(), 2);
}

#[test]
fn a_run_of_which_nothing_is_kept_is_zeros() {
    // One of 65,536 is kept, anywhere, by a decoder that has decoded nothing before.
    let x = vec![1.0; 1 << 16];
    for (text, round) in [
        ("identity|subsample=0.00001", 1),
        ("identity|subsample=0.00001", 2),
        ("hadamard|subsample=0.00001|q=1", 1),
        ("hadamard|subsample=0.00001|q=1", 2),
    ] {
        for simd in [fedpress::Simd::Scalar, fedpress::Simd::Avx2, fedpress::Simd::Auto] {
            let mut options = options().with_simd(simd);
            options.seeds = options.seeds.in_round(round);
            let bytes = encode_f32(&x, &spec(text), &options);
            let mut options = DecodeOptions::default();
            options.simd = simd;
            let decoded = fedpress::decode(&bytes, &options).unwrap();
            assert_eq!(decoded[0].to_f32().unwrap().len(), x.len(), "{text}, {simd:?}");
        }
    }
}

#[test]
fn a_spec_of_as_many_pipelines_as_fit_is_an_invalid_argument() {
    let text = ["q=1"; 585].join(" or ");
    assert_eq!(*text.parse::<Spec>().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// Values of any size lose as much as their multiples of another size do.
#[test]
fn the_error_of_coders_that_are_asked_for_a_rate_does_not_depend_on_how_large_values_are() {
    let x = gaussian(3000, 8);
    let few = &x[..37];
    for text in
        ["trellis=0.25", "trellis=1", "trellis=4,biased", "step=0.05", "step=1", "step=4,biased"]
    {
        for values in [&x[..], few] {
            let error = |exponent: i32| {
                let scaled: Vec<_> = values.iter().map(|v| v * 2f32.powi(exponent)).collect();
                let spec = spec(&format!("rotation|{text}"));
                nmse(&scaled, &decode_f32(&encode_f32(&scaled, &spec, &options())))
            };
            let expected = error(0);
            for exponent in [-120, -70, -60, -30, 20, 31, 40, 50, 55, 61, 62, 63, 70, 100] {
                let found = error(exponent);
                assert!(
                    (found / expected - 1.0).abs() < 0.01,
                    "{text}, 2^{exponent}: {found}, {expected}"
                );
            }
        }
    }
}
