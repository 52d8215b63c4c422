//! Law: every stage that there is keeps every law, and stands in every list that has to know it.
//! The stages come from the registry ([`fedpress::stages`]), so that a new one is in here at once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    ChunkDecoder, DType, DecodeOptions, EncodeOptions, Event, NonFinite, Simd, Spec, StageEntry,
    TensorView,
};
use std::ops::Range;

fn stages_in(numbers: Range<u8>) -> Vec<StageEntry> {
    fedpress::stages().filter(|stage| numbers.contains(&stage.id)).collect()
}

/// The examples of the stages of a slot, and none.
fn examples(numbers: Range<u8>) -> Vec<Option<&'static str>> {
    let stages = stages_in(numbers);
    let examples = stages.iter().flat_map(|stage| stage.examples.iter().copied().map(Some));
    std::iter::once(None).chain(examples).collect()
}

/// Every combination of transform, subsampling and quantizer that there may be.
fn pipelines() -> Vec<String> {
    let mut all = Vec::new();
    for transform in examples(0x01..0x10) {
        for subsample in examples(0x10..0x20) {
            for quantizer in examples(0x20..0x30) {
                let parts: Vec<_> =
                    [transform, subsample, quantizer].into_iter().flatten().collect();
                all.push(if parts.is_empty() { "none".to_owned() } else { parts.join("|") });
            }
        }
    }
    // A rotation keeps all its coefficients.
    all.retain(|text| !(text.starts_with("rotation") && text.contains("subsample")));
    // A bound is one of values as they are.
    all.retain(|text| !text.contains("max-error") || text.starts_with("max-error"));
    assert!(all.iter().all(|text| text.parse::<Spec>().is_ok()), "{all:?}");
    all
}

fn with_simd(simd: Simd) -> EncodeOptions {
    let mut options = small_groups();
    options.simd = simd;
    options
}

#[test]
fn a_stage_is_what_its_name_and_number_say() {
    let mut ids = Vec::new();
    for stage in fedpress::stages().filter(|stage| stage.id != 0) {
        assert!(!ids.contains(&stage.id), "two stages of number {:#04x}", stage.id);
        ids.push(stage.id);
        assert!(!stage.examples.is_empty(), "{} has no example", stage.name);
        for example in stage.examples {
            assert!(example.starts_with(stage.name), "{example} is not of {}", stage.name);
            let parsed: Spec = example.parse().unwrap();
            assert_eq!(parsed.to_string().parse::<Spec>().unwrap(), parsed);
            // Its number stands in the tensor record, with a length that leads to what follows.
            let bytes = encode_f32(&gaussian(5000, 1), &parsed, &small_groups());
            assert_eq!(decode(&bytes).unwrap()[0].shape, [5000], "{example}");
        }
    }
    assert!(ids.is_sorted(), "{ids:02x?}");
}

#[test]
fn every_pipeline_gives_the_same_bytes_and_values_at_every_level_and_with_threads() {
    let n = 2 * 4096 + 321;
    let x = gaussian(n, 1);
    for text in pipelines() {
        let spec = spec(&text);
        let expected = encode_f32(&x, &spec, &with_simd(Simd::Scalar));
        let decoded = decode_f32(&expected);
        for simd in [Simd::Auto, Simd::Avx2] {
            assert!(encode_f32(&x, &spec, &with_simd(simd)) == expected, "{text}, {simd:?}");
            let mut options = DecodeOptions::default();
            options.simd = simd;
            let found = fedpress::decode(&expected, &options).unwrap()[0].to_f32().unwrap();
            assert!(found.iter().map(|v| v.to_bits()).eq(decoded.iter().map(|v| v.to_bits())));
        }
        let threaded = small_groups().with_threads(3);
        assert!(encode_f32(&x, &spec, &threaded) == expected, "{text} on three threads");
    }
}

#[test]
fn every_pipeline_decodes_alike_into_elements_into_f32_and_into_sums() {
    let n = 4096 + 77;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let data = elements(dtype, n, 3);
        let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
        for text in pipelines() {
            let bytes = fedpress::encode(&[view], &spec(&text), &small_groups()).unwrap();
            let expected = decode(&bytes).unwrap()[0].to_f32().unwrap();
            let (mut floats, mut sums) = (vec![f32::NAN; n], vec![0.0; n]);
            let mut chunks = ChunkDecoder::new(&DecodeOptions::default());
            let mut decoder = fedpress::Decoder::new(DecodeOptions::default());
            let mut input = &bytes[..];
            while let Some(event) = decoder.next(&mut input).unwrap() {
                let Event::Chunk(chunk) = event else { continue };
                let place = chunk.first_value() as usize..;
                let place = place.start..place.start + chunk.n_values();
                chunk.decode_f32(&mut chunks, &mut floats[place.clone()]).unwrap();
                chunk.add_into(&mut chunks, &mut sums[place], 1.0).unwrap();
            }
            assert!(floats == expected, "{dtype}, {text}");
            assert!(sums == expected, "{dtype}, {text}");
        }
    }
}

#[test]
fn no_stream_is_longer_than_was_said() {
    for text in pipelines().iter().flat_map(|text| [text.clone(), format!("{text}|zstd")]) {
        let Ok(spec) = text.replace("none|", "").parse::<Spec>() else { panic!("{text}") };
        for (dtype, n) in
            [(DType::F32, 0), (DType::F32, 1), (DType::BF16, 4096), (DType::F16, 9001)]
        {
            for (kind, non_finite) in [(0, NonFinite::Refuse), (1, NonFinite::Lossless)] {
                let mut data = elements(dtype, n, 3);
                if kind == 1 && n > 0 {
                    // In every group, and no two elements alike.
                    data = Rng(5).bytes(data.len());
                    let size = dtype.byte_len(1);
                    data.chunks_mut(4096 * size).for_each(|group| group[..size].fill(0xff));
                }
                let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
                let options = small_groups().with_non_finite(non_finite).with_index(kind == 1);
                let most = fedpress::max_encoded_len(&[view], &spec, &options).unwrap();
                let found = fedpress::encode(&[view], &spec, &options).unwrap().len() as u64;
                assert!(found <= most, "{text}, {n} of {dtype}: {found} and {most}");
                // Nor much shorter, where nothing is compressed: a few bytes of each record.
                let compressed = ["zstd", "trellis", "step", "max-error"]
                    .iter()
                    .any(|stage| text.contains(stage));
                let compressed = compressed || kind == 1;
                assert!(
                    compressed || most - found < 80 + 16 * (n as u64 / 4096 + 1),
                    "{text}: {most}"
                );
            }
        }
    }
    let open = fedpress::TensorDesc::open("w", DType::F32, &[2]);
    assert!(fedpress::max_tensor_len(&open, &Spec::none(), &options()).is_err());
}

#[test]
fn the_second_reader_and_the_format_know_every_stage() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(reader) = std::fs::read_to_string(root.join("reference-reader/reader.py")) else {
        println!("skipped: the packaged crate has no second reader");
        return;
    };
    let format = include_str!("../FORMAT.md");
    for stage in fedpress::stages().filter(|stage| stage.id != 0) {
        let number = format!("0x{:02x}", stage.id);
        assert!(reader.contains(&number), "reader.py does not know {} ({number})", stage.name);
        assert!(format.contains(&format!("| {number} |")), "FORMAT.md has no row for {number}");
    }
}

/// Every operation but one scales with a power of two exactly; the exception are ranges below 2^-96, and what
/// the format cuts off is far from here.
#[test]
fn values_of_any_ordinary_size_err_alike() {
    let n = 4096 + 100;
    let x = gaussian(n, 5);
    let largest = x.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    // A bound is one of values, whatever their size is.
    for text in pipelines().into_iter().filter(|text| spec(text).max_error().is_none()) {
        let through = |factor: f32| {
            let scaled: Vec<f32> = x.iter().map(|v| v * factor).collect();
            decode_f32(&encode_f32(&scaled, &spec(&text), &small_groups()))
        };
        let expected = through(1.0);
        for exponent in [-61, -30, 30, 52, 61] {
            let factor = 2f32.powi(exponent);
            assert!(factor * largest < 2f32.powi(64));
            let found: Vec<f32> = through(factor).iter().map(|v| v / factor).collect();
            let error = nmse(&expected, &found);
            assert!(error < 1e-9, "{text} at 2^{exponent}: {error}");
        }
    }
}

/// A group of a few values behind full ones, at a rate that leaves them hardly a bit.
#[test]
fn a_short_last_group_errs_like_the_others() {
    for example in stages_in(0x20..0x30).iter().flat_map(|stage| stage.examples) {
        for transform in ["identity", "rotation"] {
            let text = format!("{transform}|{example}");
            if example.parse::<Spec>().unwrap().max_error().is_some() && transform != "identity" {
                continue;
            }
            let x = gaussian(4096 + 40, 6);
            let (mut whole, mut short, rounds) = (0.0, 0.0, 40);
            for round in 0..rounds {
                let mut options = small_groups();
                options.seeds = options.seeds.in_round(round);
                let y = decode_f32(&encode_f32(&x, &spec(&text), &options));
                whole += nmse(&x[..4096], &y[..4096]) / rounds as f64;
                short += nmse(&x[4096..], &y[4096..]) / rounds as f64;
            }
            assert!(short < 4.0 * whole, "{text}: {short}, of a full group {whole}");
        }
    }
}
