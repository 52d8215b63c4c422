//! Streams of the current format version, kept: what was written once must decode to the same
//! bits for ever, and be written the same way for as long as the version stands.
//!
//! Each case is three files in `codec/assets/v0.2/`: `NAME.fp` (the stream), `NAME.expected` (the
//! decoded elements of all tensors, one after the other) and `NAME.txt` (what made it). They are
//! written by this test when all three are absent, and never again: to add a case, add it here and
//! run the test once; a case that exists is renewed only together with the format version, or where an encoder
//! chooses otherwise, which the changelog then says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use fedpress::{
    DType, DecodeOptions, EncodeOptions, NonFinite, Rotation, Seeds, Simd, Spare, Spec, TensorDesc,
    TensorView, Writer,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

const SEEDS: Seeds =
    Seeds::new(0xfedc_ba98_7654_3210, 0x0123_4567_89ab_cdef).in_round(70_000).of_client(12, 0);

/// SplitMix64 by counter, written again here so that the input does not depend on the crate.
fn word(key: u64, i: u64) -> u64 {
    let mut z = key.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// About normal: the sum of four uniform numbers, exact in f32.
fn values(key: u64, n: usize) -> Vec<f32> {
    let uniform = |i: u64| (word(key, i) >> 42) as f32 / (1 << 22) as f32 - 0.5;
    (0..n as u64).map(|i| (0..4).map(|j| uniform(4 * i + j)).sum()).collect()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

struct Case {
    name: &'static str,
    tensors: Vec<(TensorDesc, &'static str, Vec<u8>)>,
    group_log2: u8,
    extras: bool,
    /// A tensor key for every tensor.
    key: Option<u64>,
    /// Two streams, one behind the other.
    twice: bool,
    /// Whether groups may fall back on a lossless pipeline.
    falls_back: bool,
    seeds: Seeds,
    /// Numbers of tensors and of those that they are tied to.
    ties: Vec<(usize, usize)>,
}

impl Case {
    /// One stream of these tensors, in groups of 4,096 values and without anything else.
    fn new(name: &'static str, tensors: Vec<(TensorDesc, &'static str, Vec<u8>)>) -> Self {
        Self {
            name,
            tensors,
            group_log2: 12,
            extras: false,
            key: None,
            twice: false,
            falls_back: false,
            seeds: SEEDS,
            ties: Vec::new(),
        }
    }
}

fn f32_case(name: &'static str, spec: &'static str, n: usize) -> Case {
    let desc = TensorDesc::new("w", DType::F32, &[n as u64]);
    let tensors = vec![(desc, spec, f32_bytes(&values(1, n)))];
    Case::new(name, tensors)
}

/// Rows of 16 neighbours and less than a block of them in a stride, and a group of 2^16 values.
fn large_group(name: &'static str, spec: &'static str, n: usize) -> Case {
    Case { group_log2: 16, ..f32_case(name, spec, n) }
}

/// As many values as fill 64 lanes, and some more; of two bytes, for the size of the file.
fn many_lanes(name: &'static str, spec: &'static str) -> Case {
    let x = values(6, (1 << 18) + 100).into_iter();
    let data = x.flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect();
    let desc = TensorDesc::new("half", DType::BF16, &[(1 << 18) + 100]);
    Case { group_log2: 20, tensors: vec![(desc, spec, data)], ..f32_case(name, spec, 0) }
}

/// A few values far from all others.
fn heavy_tail(name: &'static str, spec: &'static str) -> Case {
    let mut case = f32_case(name, spec, 5000);
    let mut x = values(7, 5000);
    x.iter_mut().step_by(97).for_each(|v| *v *= 1e4);
    case.tensors[0].2 = f32_bytes(&x);
    case
}

/// Triangular waves across a grid, cut off below zero, and a little noise: neighbours tell of each other. The
/// last two dimensions are the sides.
fn grid(name: &'static str, dtype: DType, shape: &[u64], spec: &'static str) -> Case {
    let n = shape.iter().product::<u64>();
    let noise = values(8, n as usize);
    let (width, height) = (shape[shape.len() - 1], shape[shape.len() - 2]);
    let value = |i: u64| {
        let (x, y, plane) = (i % width, i / width % height, i / width / height);
        let wave = |at: u64, period: u64| (at % period).abs_diff(period / 2) as f32;
        let sum = wave(3 * x + 2 * y + 11 * plane, 64) - wave(5 * y + x + plane, 90) + 4.0;
        (sum / 8.0 + 0.25 * noise[i as usize]).max(0.0)
    };
    let x: Vec<f32> = (0..n).map(value).collect();
    let data = match dtype {
        DType::BF16 => x.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect(),
        _ => f32_bytes(&x),
    };
    let tensors = vec![(TensorDesc::new("grid", dtype, shape), spec, data)];
    Case { group_log2: 17, ..Case::new(name, tensors) }
}

/// Groups that are met, that hold NaN, and whose floats are further apart than the bound.
fn bounded() -> Case {
    let mut case = f32_case("max_error_fallback", "max-error=0.03125", 3 * 4096 + 50);
    let mut x = values(9, 3 * 4096 + 50);
    x[4096 + 77] = f32::NAN;
    x[2 * 4096 + 5] = 3e9;
    case.tensors[0].2 = f32_bytes(&x);
    case
}

/// Values whose magnitude or range leaves what f32 sums can hold.
fn extreme_case(name: &'static str, spec: &'static str, scale: f32) -> Case {
    let mut case = f32_case(name, spec, 1500);
    let scaled: Vec<f32> = values(1, 1500).iter().map(|v| v * scale).collect();
    case.tensors[0].2 = f32_bytes(&scaled);
    case
}

/// Halves from their bits: all exponents from subnormal to the largest finite, both signs.
fn halves(name: &'static str, dtype: DType, spec: &'static str) -> Case {
    let infinity = if dtype == DType::BF16 { 0x7f80 } else { 0x7c00 };
    let half = |i: u64| {
        let bits = (word(2, i) as u16 & 0x7fff) % infinity;
        bits | (word(2, i) >> 48) as u16 & 0x8000
    };
    let data = (0..1500).flat_map(|i| half(i).to_le_bytes()).collect();
    let tensors = vec![(TensorDesc::new("half", dtype, &[30, 50]), spec, data)];
    Case::new(name, tensors)
}

fn equal_halves(name: &'static str, bits: u16, spec: &'static str) -> Case {
    let mut case = halves(name, DType::BF16, spec);
    case.tensors[0].2 = bits.to_le_bytes().repeat(1500);
    case
}

/// Numbers in 1..2 times a gain of 1.5: every other one lies half-way between two bf16.
fn bf16_ties() -> Case {
    let data = (0..1536).flat_map(|i| (0x3f80u16 + i % 128).to_le_bytes()).collect();
    let desc = TensorDesc::new("half", DType::BF16, &[1536]);
    let tensors = vec![(desc, "identity|subsample=0.6666667", data)];
    Case::new("bf16_ties", tensors)
}

fn every_dtype() -> Case {
    let tensors = DType::ALL
        .into_iter()
        .map(|dtype| {
            let data = (0..dtype.byte_len(7) as u64)
                .map(|i| word(dtype.number().into(), i) as u8 & 1)
                .collect();
            (TensorDesc::new(dtype.name(), dtype, &[7]), "hadamard|q=4", data)
        })
        .chain([
            (TensorDesc::new("scalar", DType::I64, &[]), "lossless", 391i64.to_le_bytes().to_vec()),
            (TensorDesc::new("empty", DType::F32, &[3, 0, 2]), "lossless", vec![]),
            (TensorDesc::new("größe, with space/slash", DType::U8, &[2]), "none", vec![1, 2]),
        ])
        .collect();
    Case { group_log2: 20, extras: true, ..Case::new("every_dtype", tensors) }
}

/// Groups of zeros, of numbers, of NaN and of few numbers through one pipeline.
fn fallback() -> Case {
    let mut case = f32_case("fallback", "hadamard|q=4|zstd", 4 * 4096 + 100);
    let mut x = values(5, 4 * 4096 + 100);
    x[..4096].fill(0.0);
    x[9000] = f32::NAN;
    x[3 * 4096..].iter_mut().for_each(|v| *v = if *v > 0.5 { 1.0 } else { -0.0 });
    case.tensors[0].2 = f32_bytes(&x);
    case.falls_back = true;
    case
}

/// One rotated tensor and one that is not, under three names each and other shapes, with others between.
fn tied() -> Case {
    let (large, small) = (f32_bytes(&values(6, 9000)), f32_bytes(&values(7, 30)));
    let f32 = |name, shape: &[u64]| TensorDesc::new(name, DType::F32, shape);
    let lossy = "hadamard|subsample=0.5|q=4|zstd";
    let tensors = vec![
        (f32("embed", &[90, 100]), lossy, large.clone()),
        (f32("norm", &[30]), "lossless", small.clone()),
        (f32("head", &[90, 100]), lossy, large.clone()),
        (f32("between", &[30]), "none", f32_bytes(&values(8, 30))),
        (f32("norm, again", &[5, 6]), "lossless", small.clone()),
        (f32("head, flat", &[9000]), lossy, large),
        (f32("norm, at the end", &[30]), "lossless", small),
    ];
    let ties = vec![(2, 0), (4, 1), (5, 0), (6, 1)];
    Case { extras: true, twice: true, ties, ..Case::new("tied", tensors) }
}

fn open_dimensions() -> Case {
    let tensors = vec![
        (TensorDesc::open("rows", DType::F32, &[5]), "hadamard|q=3", f32_bytes(&values(3, 9000))),
        (TensorDesc::open("no rows", DType::F32, &[5]), "hadamard|q=3", vec![]),
        (TensorDesc::open("full groups", DType::F32, &[]), "lossless", f32_bytes(&values(4, 8192))),
        (TensorDesc::open("no rows, zstd", DType::F32, &[5]), "hadamard|q=3|zstd", vec![]),
    ];
    Case { extras: true, twice: true, ..Case::new("open_dimensions", tensors) }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        f32_case("none", "none", 1100),
        f32_case("lossless", "lossless", 5000),
        f32_case("identity_raw_half", "identity|subsample=0.5", 1100),
        f32_case("hadamard_raw", "hadamard", 1100),
        f32_case("hadamard_zstd", "hadamard|q=4|zstd=3", 1024),
        f32_case("identity_nearest_zstd", "identity|q=2,nearest|zstd", 5000),
        f32_case("hadamard_block_256", "hadamard,block=256|q=4,block=256", 4999),
        f32_case("hadamard_block_32768", "hadamard,block=32768|q=4,block=65536", 4095),
        f32_case("hadamard_groups", "hadamard|q=4", 3 * 4096 + 1),
        f32_case("hadamard_subsampled", "hadamard|subsample=0.3|q=4", 9000),
        f32_case("kashin", "kashin|q=2", 5000),
        f32_case("kashin_subsampled", "kashin,lambda=2,block=512|subsample=0.7|q=3", 1777),
        f32_case("kashin_clipped", "kashin,lambda=1.5,iterations=5,eta=0.7,delta=2,clip|q=1", 4097),
        extreme_case("huge", "hadamard|q=4", 1.7e38),
        extreme_case("huge_clamped", "hadamard|q=1", 1.7e38),
        extreme_case("huge_kashin_subsampled", "kashin|subsample=0.5|q=3", 1e30),
        extreme_case("kashin_raw", "kashin,lambda=1.75", 1.0),
        f32_case("kept_in_f64", "identity|subsample=0.7|q=4", 1035),
        f32_case("kept_half_way", "identity|subsample=0.00146484375|q=4", 1025),
        f32_case("kept_at_least_one", "identity|subsample=0.000001|q=4", 1025),
        f32_case("kept_without_a_block", "identity|subsample=0.5|q=4", 4096 + 63),
        f32_case("kashin_half_way", "kashin|q=4", 1026),
        f32_case("kashin_below_half", "kashin|q=4", 1025),
        f32_case("kashin_count_in_f64", "kashin,lambda=1.3|q=4", 1005),
        f32_case("kashin_positions", "kashin,lambda=1.4|q=4", 1025),
        f32_case("keyed", "hadamard|subsample=0.9|q=4", 1500),
        extreme_case("subnormal", "hadamard|q=4", 1e-42),
        extreme_case("zeros", "hadamard|q=4|zstd", 0.0),
        halves("f16", DType::F16, "hadamard|q=5"),
        halves("f16_ties", DType::F16, "identity|q=16"),
        halves("f16_clamped", DType::F16, "hadamard|q=1"),
        halves("bf16", DType::BF16, "identity|q=6"),
        equal_halves("bf16_clamped", 0x7f7f, "hadamard|q=1"),
        bf16_ties(),
        every_dtype(),
        open_dimensions(),
    ];
    cases.extend([
        f32_case("rotation_lm", "rotation|lm=2", 3 * 4096 + 1),
        f32_case("rotation_lm_windows", "rotation|lm=1|zstd", 5000),
        f32_case("rotation_two_levels", "rotation,levels=2|lm=3", 6000),
        f32_case("rotation_small", "rotation|lm=4", 37),
        f32_case("rotation_uniform", "rotation|q=5", 4099),
        f32_case("rotation_raw", "rotation,levels=2", 1100),
        large_group("rotation_large_group", "rotation|lm=1", 70_001),
        extreme_case("rotation_huge", "rotation|lm=1", 1.7e38),
        extreme_case("rotation_zeros", "rotation|lm=2", 0.0),
        halves("rotation_bf16", DType::BF16, "rotation|lm=6"),
        f32_case("hadamard_lm", "hadamard|lm=5", 5000),
        f32_case("identity_lm_subsampled", "identity|subsample=0.5|lm=7", 2000),
        f32_case("kashin_lm", "kashin|lm=8", 1300),
        f32_case("either", "auto|rate=1.5", 6000),
        f32_case("step_dithered", "identity|step=2", 5000),
        Case {
            seeds: SEEDS.of_client(300, 307),
            ..f32_case("step_shared_out", "identity|step=2", 5000)
        },
        f32_case("step_nearest", "identity|step=1.5,biased", 4 * 4096 + 7),
        f32_case("step_small", "identity|step=4", 37),
        f32_case("step_rotated", "rotation|step=1|zstd", 3000),
        f32_case("step_kashin", "kashin|subsample=0.5|step=3", 3000),
        large_group("step_many_classes", "identity|step=3", 66_000),
        heavy_tail("step_large_multiples", "identity|step=8"),
        heavy_tail("step_large_multiples_nearest", "identity|step=5,biased"),
        extreme_case("step_zeros", "identity|step=2", 0.0),
        grid("step_neighbours", DType::F32, &[5, 40, 48], "identity|step=1,biased"),
        grid("step_neighbours_dithered", DType::F32, &[2, 31, 37], "identity|step=2"),
        grid("step_neighbours_lanes", DType::BF16, &[9, 80, 96], "identity|step=0.5,biased"),
        grid("max_error", DType::F32, &[2, 40, 48], "max-error=0.01"),
        grid("max_error_bf16", DType::BF16, &[60, 32], "max-error=0.125"),
        f32_case("max_error_plain", "max-error=0.001", 2000),
        extreme_case("max_error_zeros", "max-error=0.001", 1e-6),
        bounded(),
        extreme_case("step_huge", "identity|step=2", 1.7e38),
        halves("step_f16", DType::F16, "identity|step=3"),
        f32_case("trellis_one_lane", "rotation|trellis=2", 5000),
        large_group("trellis_restarts", "identity|trellis=0.5", 16 * 1024 + 103),
        f32_case("trellis_small", "rotation|trellis=3,biased", 37),
        f32_case("trellis_low_bits", "hadamard|trellis=7|zstd", 6000),
        large_group("trellis_sixteen_lanes", "rotation|trellis=0.25", 70_001),
        many_lanes("trellis_many_lanes", "rotation|trellis=1"),
        extreme_case("trellis_zeros", "rotation|trellis=2", 0.0),
        extreme_case("trellis_huge", "rotation|trellis=1", 1.7e38),
        halves("trellis_bf16", DType::BF16, "rotation|trellis=4"),
        heavy_tail("trellis_escapes", "identity|trellis=5"),
    ]);
    const WIDTHS: [(&str, &str); 16] = [
        ("q01", "hadamard|q=1"),
        ("q02", "hadamard|q=2"),
        ("q03", "hadamard|q=3"),
        ("q04", "hadamard|q=4"),
        ("q05", "hadamard|q=5"),
        ("q06", "hadamard|q=6"),
        ("q07", "hadamard|q=7"),
        ("q08", "hadamard|q=8"),
        ("q09", "identity|q=9"),
        ("q10", "identity|q=10"),
        ("q11", "identity|q=11"),
        ("q12", "identity|q=12"),
        ("q13", "identity|q=13"),
        ("q14", "identity|q=14"),
        ("q15", "identity|q=15"),
        ("q16", "identity|q=16"),
    ];
    for case in cases.iter_mut().filter(|c| c.name == "keyed") {
        case.key = Some(0xfeed_f00d);
    }
    let mut shared = f32_case("shared_rotation", "kashin|subsample=0.4|q=4", 5000);
    shared.seeds = SEEDS.of_client(12, 300).with_rotation(Rotation::Shared);
    cases.extend([shared, fallback(), tied()]);
    cases.extend(WIDTHS.map(|(name, spec)| f32_case(name, spec, 1037)));
    cases
}

fn encode(case: &Case, threads: usize, simd: Simd) -> Vec<u8> {
    let once = encode_once(case, threads, simd);
    once.repeat(if case.twice { 2 } else { 1 })
}

fn encode_once(case: &Case, threads: usize, simd: Simd) -> Vec<u8> {
    let mut options = EncodeOptions::new(case.seeds).with_min_values(1).with_spare(Spare::Nothing);
    options.smaller = case.falls_back;
    if case.falls_back {
        options.non_finite = NonFinite::Lossless;
    }
    options.group_log2 = case.group_log2;
    options.index = case.extras;
    options.threads = threads;
    options.simd = simd;
    let mut writer = Writer::new(Vec::new(), options).unwrap();
    if case.extras {
        let metadata = [("format", "pt"), ("made by", "golden.rs")];
        let metadata: BTreeMap<_, _> =
            metadata.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        writer.metadata(&metadata).unwrap();
        let descs: Vec<_> = case.tensors.iter().map(|t| t.0.clone()).collect();
        writer.manifest(&descs).unwrap();
    }
    for (i, (desc, spec, data)) in case.tensors.iter().enumerate() {
        let spec: Spec = spec.parse().unwrap();
        if let Some((_, original)) = case.ties.iter().find(|(tied, _)| *tied == i) {
            writer.tie(desc, &case.tensors[*original].0.name).unwrap();
        } else if case.ties.iter().any(|(_, original)| *original == i) {
            writer.begin_kept(desc, &spec).unwrap();
            writer.push(data).unwrap();
            writer.end().unwrap();
        } else if desc.open || case.key.is_some() {
            writer.begin_keyed(desc, &spec, case.key).unwrap();
            writer.push(data).unwrap();
            writer.end().unwrap();
        } else {
            let shape: Vec<_> = desc.shape.iter().map(|n| *n as usize).collect();
            let view = TensorView { name: &desc.name, dtype: desc.dtype, shape: &shape, data };
            writer.tensor(&view, &spec).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn describe(case: &Case) -> String {
    let mut text = format!(
        "{:x?}\nfalls back: {}\ngroup: 2^{}\nmetadata, manifest, index: {}\ntensor key: {:?}\ntwice: {}\n",
        case.seeds, case.falls_back, case.group_log2, case.extras, case.key, case.twice
    );
    for (desc, spec, data) in &case.tensors {
        let TensorDesc { name, dtype, shape, open, .. } = desc;
        let n = data.len();
        writeln!(text, "{name:?} {dtype} {shape:?} open={open} bytes={n} spec={spec}").unwrap();
    }
    text
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/v0.2")
}

#[test]
fn golden_streams_decode_to_the_bits_they_did() {
    let options = DecodeOptions::default();
    for case in cases() {
        let path = |ending: &str| folder().join(format!("{}.{ending}", case.name));
        let (stream, expected, text) = (path("fp"), path("expected"), path("txt"));
        if !stream.exists() && !expected.exists() && !text.exists() {
            let bytes = encode(&case, 1, Simd::Auto);
            let decoded = fedpress::decode(&bytes, &options).unwrap();
            let elements: Vec<u8> = decoded.iter().flat_map(|t| t.data.clone()).collect();
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&stream, bytes).unwrap();
            std::fs::write(&expected, elements).unwrap();
            std::fs::write(&text, describe(&case)).unwrap();
        }
        let bytes = std::fs::read(&stream).unwrap();
        assert_eq!(std::fs::read_to_string(&text).unwrap(), describe(&case), "{}", case.name);
        for simd in [Simd::Auto, Simd::Avx2, Simd::Scalar] {
            let mut options = options.clone();
            options.simd = simd;
            let decoded = fedpress::decode(&bytes, &options).unwrap();
            let elements: Vec<u8> = decoded.iter().flat_map(|t| t.data.clone()).collect();
            assert!(elements == std::fs::read(&expected).unwrap(), "{} at {simd:?}", case.name);
            let times = if case.twice { 2 } else { 1 };
            let names = std::iter::repeat_n(&case.tensors, times).flatten().map(|t| &t.0.name);
            assert!(decoded.iter().map(|t| &t.name).eq(names), "{}", case.name);
        }
    }
}

#[cfg(feature = "zstd")]
#[test]
fn golden_streams_are_still_written_bit_for_bit() {
    for case in cases() {
        let Ok(bytes) = std::fs::read(folder().join(format!("{}.fp", case.name))) else { continue };
        for (threads, simd) in [(1, Simd::Auto), (2, Simd::Avx2), (7, Simd::Scalar)] {
            assert!(encode(&case, threads, simd) == bytes, "{} at {simd:?}", case.name);
        }
    }
}
