//! Every pipeline, block size, element type and kind of values.

use crate::device;
use crate::law::Case;
use crate::numbers::{KINDS, Kind};
use fedpress::{DType, Device};
use proptest::prelude::*;
use std::sync::Arc;

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

fn check_all(cases: impl IntoIterator<Item = Case>) {
    let Some(device) = device() else { return };
    let device: Arc<dyn Device> = device;
    cases.into_iter().for_each(|case| case.check(&device));
}

/// Rotation and quantizer that cut the same blocks: the fused kernels, with a unit left over.
fn fused(k: u32, q: u32, rounding: &str, n: usize) -> Case {
    let block = 1 << k;
    Case::new(format!("hadamard,block={block}|q={q}{rounding},block={block}"), n)
}

#[test]
fn small_blocks_of_every_size() {
    check_all((8..=12).flat_map(|k| {
        let n = 1usize << k;
        [fused(k, 4, "", 3 * n + 5), fused(k, 4, ",nearest", 2 * n), fused(k, 8, "", n)]
    }));
}

#[test]
fn large_blocks_of_every_size() {
    check_all((13..=15).flat_map(|k| {
        let n = 1usize << k;
        [fused(k, 4, "", 3 * n), fused(k, 8, ",nearest", 2 * n + 77), fused(k, 3, "", n)]
    }));
}

#[test]
fn every_number_of_bits() {
    check_all((1..=16).flat_map(|q| {
        [fused(8, q, "", 2000), fused(10, q, ",nearest", 4 * 1024), fused(12, q, "", 9000)]
    }));
}

#[test]
fn small_grids_through_zero() {
    check_all([1, 2, 3, 4, 8, 16].map(|q| {
        let spec = format!("q={q},nearest,block=256");
        Case { kind: Kind::Skewed, ..Case::new(spec, 16 * 256 + 3) }
    }));
}

#[test]
fn every_element_type() {
    check_all(TYPES.into_iter().flat_map(|dtype| {
        let specs = ["hadamard|q=4", "hadamard,block=256|q=5,block=256", "kashin|q=3", "q=6"];
        specs.map(|spec| Case { dtype, ..Case::new(spec, 4096 * 2 + 33) })
    }));
}

#[test]
fn every_kind_of_values() {
    check_all(KINDS.into_iter().flat_map(|kind| {
        let of = move |dtype, spec| Case { dtype, kind, seed: 5, ..Case::new(spec, 9001) };
        let wide = ["hadamard|q=4", "kashin|q=4", "hadamard", "q=8", "hadamard|subsample=0.3|q=4"];
        let narrow = TYPES.map(|dtype| of(dtype, "hadamard,block=1024|q=2,block=1024"));
        wide.map(|spec| of(DType::F32, spec)).into_iter().chain(narrow)
    }));
}

#[test]
fn small_stages_apart() {
    let specs = [
        "hadamard",
        "identity|q=4",
        "identity|q=16,nearest",
        "hadamard,block=256|q=4,block=4096",
        "hadamard,block=8192|q=4,block=256",
        "hadamard|q=4,block=2097152",
        "subsample=0.1",
        "subsample=0.5|q=7",
        "hadamard|subsample=0.25",
        "hadamard|subsample=1|q=3",
        "hadamard|subsample=0.001|q=3",
        "hadamard|subsample=0.5|q=4|zstd",
    ];
    check_all(specs.map(|spec| Case::new(spec, 10_000)));
}

#[test]
fn kashin_as_it_may_be_asked_for() {
    let specs = [
        "kashin|q=4",
        "kashin,lambda=1|q=4",
        "kashin,lambda=2,clip|q=2",
        "kashin,iterations=1",
        "kashin,iterations=7,eta=0.5,delta=2|q=1",
        "kashin,block=256,lambda=1.7|q=4",
        "kashin,block=32768,lambda=1.1,clip|q=4,nearest",
        "kashin|subsample=0.4|q=4",
    ];
    check_all(specs.into_iter().flat_map(|spec| [10_001, 8192].map(|n| Case::new(spec, n))));
}

#[test]
fn small_frames_of_every_size() {
    check_all((8..=14).flat_map(|k| {
        let block = 1usize << k;
        let spec =
            |options: &str, q: &str| format!("kashin,block={block}{options}|q={q},block={block}");
        [
            Case::new(spec(",lambda=1.3", "4"), 2 * block + 11),
            Case::new(spec(",lambda=2,clip,iterations=2", "5,nearest"), block),
        ]
    }));
    // Coefficients of a group are no multiple of four.
    let odd = Case { group_log2: 12, ..Case::new("kashin,block=256,lambda=1.2345|q=4", 3 * 4096) };
    check_all([odd.clone(), Case { dtype: DType::BF16, kind: Kind::Sparse, ..odd }]);
}

#[test]
fn small_tensors_of_any_length() {
    let lengths = (1..40).chain([63, 64, 65, 127, 255, 256, 257, 300, 511, 513]);
    check_all(lengths.flat_map(|n| {
        ["hadamard|q=3", "hadamard,block=256|q=4,block=256", "kashin|q=2", "subsample=0.5|q=5"]
            .map(|spec| Case { seed: n as u64, ..Case::new(spec, n) })
    }));
}

#[test]
fn many_groups() {
    let specs = ["hadamard|q=4", "hadamard,block=32768|q=4", "kashin|q=3", "subsample=0.2|q=4"];
    check_all(specs.map(|spec| Case { group_log2: 12, ..Case::new(spec, 5 * 4096 + 100) }));
    // The first and the third group have exponents, the second has none.
    let Some(device) = device() else { return };
    let device: Arc<dyn Device> = device;
    let case = Case { group_log2: 12, kind: Kind::Wide, ..Case::new("hadamard|q=8", 3 * 4096) };
    (0..4).for_each(|seed| Case { seed, ..case.clone() }.check(&device));
}

#[test]
fn groups_that_fall_back() {
    // Sparse groups go losslessly here, of the wide ones some.
    check_all([Kind::Sparse, Kind::Constant, Kind::Wide].into_iter().flat_map(|kind| {
        ["hadamard|q=4", "q=4,nearest", "hadamard|q=16|zstd"].map(|spec| Case {
            kind,
            smaller: true,
            group_log2: 12,
            ..Case::new(spec, 3 * 4096 + 100)
        })
    }));
}

#[test]
fn one_large() {
    check_all([Case::new("hadamard|q=4", (1 << 20) + 4096)]);
}

fn spec() -> impl Strategy<Value = String> {
    let basis = prop_oneof![
        Just("identity".to_owned()),
        (8u32..=13).prop_map(|k| format!("hadamard,block={}", 1 << k)),
        (8u32..=12, 1.0f32..2.0, 1u32..5, any::<bool>()).prop_map(|(k, lambda, passes, clip)| {
            let clip = if clip { ",clip" } else { "" };
            format!("kashin,block={},lambda={lambda},iterations={passes}{clip}", 1 << k)
        }),
    ];
    let subsample =
        prop_oneof![Just(String::new()), (0.01f32..1.0).prop_map(|s| format!("|subsample={s}"))];
    let quantizer = prop_oneof![
        Just(String::new()),
        (1u32..=16, any::<bool>(), 8u32..=14).prop_map(|(q, nearest, b)| {
            format!("|q={q}{},block={}", if nearest { ",nearest" } else { "" }, 1 << b)
        }),
    ];
    (basis, subsample, quantizer)
        .prop_map(|(basis, subsample, quantizer)| basis + &subsample + &quantizer)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pipeline_gives_equal_streams(
        spec in spec(),
        n in 1usize..9000,
        dtype in prop::sample::select(TYPES.to_vec()),
        kind in prop::sample::select(KINDS.to_vec()),
        group_log2 in 12u8..=14,
        seed in any::<u64>(),
    ) {
        check_all([Case { spec, dtype, kind, n, group_log2, seed: seed >> 1, smaller: false }]);
    }
}
