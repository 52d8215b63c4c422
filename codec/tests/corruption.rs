//! Law: bytes that contradict the format are refused; no damage ever changes a value silently.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{DType, DecodeOptions, ErrorKind, Reader, Tensor};
use std::io::Cursor;

// Stages on the wire.
const SUBSAMPLE_ONE: [u8; 6] = [0x10, 4, 0, 0, 0x80, 0x3f];
const HADAMARD: [u8; 3] = [0x01, 1, 12];
const KASHIN: [u8; 8] = [0x02, 6, 12, 0, 0, 0, 0xa0, 0x3f];
const Q1: [u8; 5] = [0x20, 3, 1, 0, 12];
const SHUFFLE: [u8; 2] = [0x30, 0];
const ZSTD: [u8; 3] = [0x31, 1, 1];

fn stages(list: &[&[u8]]) -> Vec<u8> {
    [vec![list.len() as u8], list.concat()].concat()
}

/// Four f32, no stages.
fn plain() -> RawTensor {
    RawTensor::new("w", DType::F32, &[4])
}

fn payload() -> Vec<u8> {
    le_bytes(&[1.0, 2.0, 3.0, 4.0])
}

/// Four f32 through `identity|q=1`.
fn coded() -> RawTensor {
    plain().stages(&stages(&[&Q1]))
}

/// Exponent, scale, codes 0101.
fn coded_payload(lo: f32, step: f32, exponent: i8) -> Vec<u8> {
    [vec![exponent as u8], le_bytes(&[lo, step]), vec![0b0101]].concat()
}

fn with_tensor(tensor: &RawTensor) -> Vec<u8> {
    Raw::new().tensor(tensor).chunk(0, LAST, 4, &payload()).end()
}

fn with_payload(tensor: &RawTensor, flags: u8, payload: &[u8]) -> Vec<u8> {
    Raw::new().tensor(tensor).chunk(0, LAST | flags, 4, payload).end()
}

#[test]
fn the_records_of_this_test_are_those_of_the_crate() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    let stream = with_tensor(&plain());
    assert_eq!(decode(&stream).unwrap()[0].data, payload());
    let values = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(stream, encode_f32(&values, &spec("none"), &small_groups()));
    let stream = with_payload(&coded(), 0, &coded_payload(-1.0, 3.0, 0));
    assert_eq!(decode_f32(&stream), [2.0, -1.0, 2.0, -1.0]);
    let seeded = plain().stages(&stages(&[&KASHIN, &SUBSAMPLE_ONE, &Q1, &ZSTD])).seeded();
    let ours = Raw::new().tensor(&seeded).bytes;
    let theirs = encode_f32(&values, &spec("kashin|subsample=1|q=1|zstd"), &small_groups());
    assert_eq!(ours, theirs[..ours.len()]);
}

#[test]
fn no_flipped_bit_changes_a_value() {
    for sample in zoo() {
        let before = decode(&sample.bytes).unwrap();
        let mut bytes = sample.bytes.clone();
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(after) = decode(&bytes) {
                assert_eq!(before, after, "{}: bit {bit}", sample.name);
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    // Stronger than the law needs: no byte of the format is without meaning.
    for sample in zoo() {
        let mut bytes = sample.bytes.clone();
        for bit in (0..8 * bytes.len()).step_by(3) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "{}: bit {bit}", sample.name);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn no_lost_or_doubled_byte_changes_a_value() {
    for sample in zoo() {
        let before = decode(&sample.bytes).unwrap();
        for at in 0..sample.bytes.len() {
            let (head, tail) = sample.bytes.split_at(at);
            let lost = [head, &tail[1..]].concat();
            let doubled = [head, &tail[..1], tail].concat();
            for damaged in [lost, doubled] {
                if let Ok(after) = decode(&damaged) {
                    assert_eq!(before, after, "{}: byte {at}", sample.name);
                }
            }
        }
    }
}

#[test]
fn bodies_with_random_changes_and_right_checksums_do_not_panic() {
    let mut rng = Rng(11);
    for sample in zoo() {
        let places = records(&sample.bytes);
        for _ in 0..400 {
            let (_, place) = &places[rng.below(places.len())];
            let changed = rewrite(&sample.bytes, place, |_, body| {
                if body.is_empty() {
                    return;
                }
                for _ in 0..1 + rng.below(3) {
                    let at = rng.below(body.len());
                    match rng.below(4) {
                        0 => body[at] = rng.next() as u8,
                        1 => body[at] ^= 1 << rng.below(8),
                        2 => body.insert(at, rng.next() as u8),
                        _ => body.truncate(at.max(1)),
                    }
                }
            });
            let options = DecodeOptions::default();
            if let Ok(tensors) = decode(&changed) {
                for tensor in
                    tensors.iter().filter(|t| sample.name.contains("lossy") && t.data.len() > 99)
                {
                    assert_eq!(fedpress::first_non_finite(tensor.dtype, &tensor.data), None);
                }
            }
            let _ = fedpress::summarize_stream(&mut &changed[..], &options);
            let _ = fedpress::read_tensor(&mut Cursor::new(&changed), "log", &options);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// One rule each: the tensor record

#[test]
fn a_second_tensor_of_the_same_name_is_corrupt() {
    let stream = Raw::new()
        .tensor(&plain())
        .chunk(0, LAST, 4, &payload())
        .tensor(&plain())
        .chunk(0, LAST, 4, &payload())
        .end();
    let error = assert_corrupt(&stream, "second tensor of that name");
    assert_eq!(error.tensor(), Some("w"));
    let first = with_tensor(&plain());
    assert_eq!(decode(&[&first[..], &first].concat()).unwrap().len(), 2, "another stream");
}

#[test]
fn nul_is_a_code_point_of_a_name_as_any_other() {
    let stream = with_tensor(&RawTensor { name: b"a\0b".to_vec(), ..plain() });
    assert_eq!(decode(&stream).unwrap()[0].name, "a\0b");
}

#[test]
fn a_name_that_is_not_utf8_is_corrupt() {
    assert_corrupt(&with_tensor(&RawTensor { name: vec![0xff], ..plain() }), "UTF-8");
}

#[test]
fn a_name_of_more_than_65536_bytes_is_corrupt() {
    let named = |n| with_tensor(&RawTensor { name: vec![b'a'; n], ..plain() });
    assert_eq!(decode(&named(1 << 16)).unwrap()[0].name.len(), 1 << 16);
    assert_corrupt(&named((1 << 16) + 1), "65536");
}

#[test]
fn a_shape_of_more_than_2_to_the_63_elements_is_corrupt() {
    for shape in [&[1 << 32, 1 << 32][..], &[u64::MAX], &[1 << 63, 2], &[3, 1 << 62]] {
        assert_corrupt(&with_tensor(&RawTensor { shape: shape.to_vec(), ..plain() }), "2^63");
    }
    let open = RawTensor { shape: vec![0, 1 << 62, 8], ..plain().flags(12 | OPEN) };
    assert_corrupt(&with_tensor(&open), "2^63");
}

#[test]
fn more_than_64_dimensions_are_corrupt() {
    let with_dims =
        |n: usize| with_tensor(&RawTensor { shape: [vec![1; n - 1], vec![4]].concat(), ..plain() });
    assert_eq!(decode(&with_dims(64)).unwrap()[0].shape.len(), 64);
    assert_corrupt(&with_dims(65), "64");
}

#[test]
fn an_open_tensor_needs_a_first_dimension_of_zero_and_rows_that_are_not_empty() {
    for shape in [vec![], vec![1], vec![4, 1], vec![0, 0], vec![0, 3, 0]] {
        let open = RawTensor { shape, ..plain().flags(12 | OPEN) };
        assert_corrupt(&with_tensor(&open), "open");
    }
}

#[test]
fn reserved_tensor_flags_are_corrupt() {
    for flags in [11, 21, 0, 31] {
        assert_corrupt(&with_tensor(&plain().flags(flags)), "reserved");
    }
}

#[test]
fn an_explicit_key_that_is_not_there_is_corrupt() {
    assert_corrupt(&with_tensor(&plain().flags(12 | 1 << 6)), "tensor key");
    let keyed = RawTensor { tail: vec![9; 8], ..plain().flags(12 | 1 << 6) };
    assert!(decode(&with_tensor(&keyed)).is_ok());
}

#[test]
fn an_unknown_element_type_is_unsupported() {
    for dtype in (0..=255).filter(|n| matches!(DType::from_number(*n), DType::Unknown(_))) {
        assert_unsupported(&with_tensor(&RawTensor { dtype, ..plain() }), "element type");
    }
}

#[test]
fn an_unknown_stage_is_unsupported() {
    let known: Vec<u8> = fedpress::stages().map(|stage| stage.id).collect();
    for stage in (1..=255).filter(|id| !known.contains(id)) {
        assert_unsupported(&with_tensor(&plain().stages(&[1, stage, 0])), "stage");
    }
}

#[test]
fn an_unknown_version_is_unsupported() {
    for (at, byte) in [(8, 1), (9, 0), (9, 1), (9, 255)] {
        let mut stream = with_tensor(&plain());
        stream[at] = byte;
        assert_unsupported(&stream, "version");
        let whole = with_tensor(&plain());
        assert_unsupported(&[whole, stream].concat(), "version");
    }
}

#[test]
fn seeds_that_are_needed_and_not_there_are_corrupt() {
    for stage in [&HADAMARD[..], &KASHIN, &SUBSAMPLE_ONE] {
        let tensor = plain().stages(&stages(&[stage]));
        assert_corrupt(&with_tensor(&tensor), "a shared seed that is missing");
    }
    assert_corrupt(&with_tensor(&plain().flags(12 | SEEDED)), "shared seed");
    assert!(decode(&with_tensor(&plain().seeded())).is_ok(), "seeds that nobody needs");
}

#[test]
fn a_tensor_has_one_to_fifteen_pipelines() {
    let with_pipelines = |n: u8| {
        let body = [plain().desc(12), vec![n], vec![0; n.into()]].concat();
        Raw::new().record(TENSOR, &body).chunk(0, LAST | 14 << 4, 4, &payload()).end()
    };
    assert_eq!(decode(&with_pipelines(15)).unwrap()[0].data, payload());
    for n in [0, 16, 255] {
        assert_corrupt(&with_pipelines(n), "expected 1 to 15");
    }
}

/// A tensor of a later version between two of this one.
fn with_one_unknown(tensor: &RawTensor, payload_of_it: &[u8]) -> Vec<u8> {
    let named = |name: &str| RawTensor { name: name.as_bytes().to_vec(), ..plain() };
    Raw::new()
        .tensor(&named("before"))
        .chunk(0, LAST, 4, &payload())
        .tensor(tensor)
        .chunk(0, LAST, 4, payload_of_it)
        .tensor(&named("behind"))
        .chunk(0, LAST, 4, &payload())
        .end()
}

#[test]
fn a_tensor_that_is_not_supported_leaves_the_others_readable() {
    let later = [
        RawTensor { dtype: 0x7f, ..plain() },
        plain().stages(&[1, 0x2f, 3, 1, 2, 3]),
        plain().stages(&[3, 0x0f, 0, 0x2f, 0, 0x3f, 200]).seeded(),
    ];
    for (i, mut tensor) in later.into_iter().enumerate() {
        if i == 2 {
            tensor.stages.extend([0; 200]);
        }
        let stream = with_one_unknown(&tensor, &[1; 100]);
        assert_unsupported(&stream, if i == 0 { "element type 0x7f" } else { "stage 0x" });
        let mut reader = Reader::new(&stream[..], DecodeOptions::default());
        let mut names = Vec::new();
        while let Some(tensor) = reader.next_tensor().unwrap() {
            let meta = tensor.meta().clone();
            match (tensor.read(), meta.supported()) {
                (Ok(tensor), Ok(())) => {
                    assert_eq!(tensor.data, payload());
                    names.push(tensor.name);
                }
                (Err(error), Err(_)) => {
                    assert!(matches!(error.kind(), ErrorKind::Unsupported { .. }), "{error}");
                    assert_eq!(error.tensor(), Some("w"));
                }
                (read, supported) => panic!("{read:?}, {supported:?}"),
            }
        }
        assert_eq!(names, ["before", "behind"]);
        // It is listed, and verified as the others are.
        let summary = fedpress::summarize(&mut Cursor::new(&stream), &DecodeOptions::default());
        let summary = summary.unwrap();
        assert_eq!((summary.tensors.len(), summary.tensors[1].n_values), (3, 4));
        let place = records(&stream).into_iter().filter(|r| r.0 == CHUNK).nth(1).unwrap().1;
        let mut damaged = stream.clone();
        damaged[place.end - 5] ^= 1;
        let mut reader = Reader::new(&damaged[..], DecodeOptions::default());
        let walked = std::iter::from_fn(|| reader.next_tensor().map(|t| t.map(drop)).transpose());
        let error = walked.collect::<Result<Vec<()>, _>>().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn stages_out_of_order_twice_or_side_by_side_are_corrupt() {
    let lists: [&[&[u8]]; 8] = [
        &[&Q1, &HADAMARD],
        &[&Q1, &SUBSAMPLE_ONE],
        &[&HADAMARD, &HADAMARD],
        &[&Q1, &Q1],
        &[&HADAMARD, &KASHIN],
        &[&ZSTD, &SHUFFLE],
        &[&ZSTD, &ZSTD],
        &[&ZSTD, &Q1],
    ];
    for list in lists {
        assert_corrupt(&with_tensor(&plain().stages(&stages(list)).seeded()), "stage");
    }
    assert_corrupt(&with_tensor(&plain().stages(&[1, 0, 0])), "stage");
}

#[test]
fn shuffle_in_a_lossy_pipeline_is_corrupt() {
    assert_corrupt(&with_tensor(&plain().stages(&stages(&[&Q1, &SHUFFLE]))), "shuffle");
}

#[test]
fn a_rotation_that_is_subsampled_is_corrupt() {
    let rotated = plain().stages(&stages(&[&[0x03, 1, 3], &SUBSAMPLE_ONE, &Q1])).seeded();
    assert_corrupt(&with_tensor(&rotated), "no subsampling");
    // With a stage of a later version beside them nothing is known about it.
    let unknown = stages(&[&[0x03, 1, 3], &SUBSAMPLE_ONE, &[0x2f, 0]]);
    assert_unsupported(&with_tensor(&plain().stages(&unknown).seeded()), "stage");
}

#[test]
fn stage_parameters_out_of_range_are_corrupt() {
    let kashin =
        |flag: u8, lambda: f32| [vec![0x02, 6, 12, flag], lambda.to_le_bytes().to_vec()].concat();
    let subsample = |fraction: f32| [vec![0x10, 4], fraction.to_le_bytes().to_vec()].concat();
    let bad: [(Vec<u8>, &str); 33] = [
        (vec![0x01, 1, 7], "hadamard block"),
        (vec![0x01, 1, 16], "hadamard block"),
        (vec![0x01, 0], "hadamard block"),
        (vec![0x01, 2, 12, 0], "left over"),
        (vec![0x30, 1, 0], "left over"),
        (vec![0x31, 3, 1, 0], "left over"),
        (vec![0x02, 6, 16, 0, 0, 0, 0xa0, 0x3f], "kashin block"),
        (kashin(2, 1.25), "reserved"),
        (kashin(0, 0.99), "kashin lambda"),
        (kashin(0, 2.01), "kashin lambda"),
        (kashin(0, f32::NAN), "kashin lambda"),
        (subsample(0.0), "fraction"),
        (subsample(-0.5), "fraction"),
        (subsample(1.001), "fraction"),
        (subsample(f32::NAN), "fraction"),
        (vec![0x20, 3, 0, 0, 12], "q:"),
        (vec![0x20, 3, 17, 0, 12], "q:"),
        (vec![0x20, 3, 4, 2, 12], "rounding"),
        (vec![0x20, 3, 4, 0, 7], "quantizer block"),
        (vec![0x20, 3, 4, 0, 22], "quantizer block"),
        (vec![0x03, 1, 1], "levels of a rotation"),
        (vec![0x03, 1, 4], "levels of a rotation"),
        (vec![0x03, 0], "levels of a rotation"),
        (vec![0x21, 1, 0], "bits of lm"),
        (vec![0x21, 1, 9], "bits of lm"),
        (vec![0x22, 3, 49, 0, 0], "rate"),
        (vec![0x22, 3, 0, 0x30, 0], "rate"),
        (vec![0x22, 3, 0, 1, 2], "flags of step"),
        (vec![0x23, 3, 99, 0, 0], "rate"),
        (vec![0x23, 3, 0, 0x30, 0], "rate"),
        (vec![0x23, 3, 0, 1, 2], "flags of trellis"),
        (vec![0x31, 1, 23], "zstd level"),
        (vec![0x31, 1, 0x80], "zstd level"),
    ];
    for (stage, words) in bad {
        assert_corrupt(&with_tensor(&plain().stages(&stages(&[&stage])).seeded()), words);
    }
}

#[test]
fn a_lossy_pipeline_on_other_than_f32_f16_bf16_is_corrupt() {
    for dtype in DType::ALL.into_iter().filter(|d| !d.is_lossy_capable()) {
        let stream = Raw::new()
            .tensor(&RawTensor { dtype: dtype.number(), ..coded() })
            .chunk(0, LAST, 4, &coded_payload(0.0, 1.0, 0))
            .end();
        assert_corrupt(&stream, "lossy");
    }
}

#[test]
fn bytes_left_over_in_a_record_are_corrupt() {
    let more = RawTensor { tail: vec![0], ..plain() };
    assert_corrupt(&with_tensor(&more), "left over");
    let end = [end_body(0, 0, 0, 10), vec![0]].concat();
    assert_corrupt(&Raw::new().record(END, &end).bytes, "left over");
    for kind in [METADATA, MANIFEST, INDEX] {
        assert_corrupt(&Raw::new().record(kind, &[0, 0]).end(), "left over");
    }
}

#[test]
fn records_that_end_too_soon_are_corrupt() {
    let body = plain().body();
    for n in 0..body.len() {
        assert_corrupt(&Raw::new().record(TENSOR, &body[..n]).end(), "");
    }
    for kind in [METADATA, MANIFEST, INDEX, END, TENSOR] {
        assert_corrupt(&Raw::new().record(kind, &[]).end(), "");
    }
    assert_corrupt(&Raw::new().tensor(&plain()).record(CHUNK, &[]).end(), "");
}

#[test]
fn varints_that_are_overlong_or_over_64_bits_are_corrupt() {
    let body = plain().body();
    assert_eq!(body[body.len() - 3..], [4, 1, 0], "dimension, one pipeline, no stages");
    let head = &body[..body.len() - 3];
    for varint in [&[0x84, 0x00][..], &[0x84, 0x80, 0x00], &[0xff; 10], &[0x80; 12]] {
        let body = [head, varint, &[1, 0]].concat();
        let stream = Raw::new().record(TENSOR, &body).chunk(0, LAST, 4, &payload()).end();
        assert_corrupt(&stream, "varint");
    }
}

// ---------------------------------------------------------------------------------------------
// Chunks

/// Two full groups and a ragged one, no stages.
fn three_groups() -> (RawTensor, Vec<u8>) {
    let n = 2 * 4096 + 9;
    (RawTensor::new("w", DType::U8, &[n]), Rng(1).bytes(n as usize))
}

#[test]
fn a_missing_chunk_is_corrupt() {
    let (tensor, data) = three_groups();
    let head = || Raw::new().tensor(&tensor);
    let missing_first =
        head().chunk(1, 0, 4096, &data[4096..8192]).chunk(2, LAST, 9, &data[8192..]);
    assert_corrupt(&missing_first.end(), "chunk 1 where chunk 0 is due");
    let missing_second = head().chunk(0, 0, 4096, &data[..4096]).chunk(2, LAST, 9, &data[8192..]);
    assert_corrupt(&missing_second.end(), "chunk 2 where chunk 1 is due");
    let missing_last = head().chunk(0, 0, 4096, &data[..4096]).chunk(1, 0, 4096, &data[4096..8192]);
    assert_corrupt(&missing_last.end(), "before the last chunk");
    assert_corrupt(&head().end(), "before the last chunk");
}

#[test]
fn an_overlapping_chunk_is_corrupt() {
    let (tensor, data) = three_groups();
    let head = Raw::new().tensor(&tensor).chunk(0, 0, 4096, &data[..4096]);
    assert_corrupt(&head.chunk(0, 0, 4096, &data[..4096]).end(), "chunk 0 where chunk 1 is due");
}

#[test]
fn a_chunk_with_too_many_or_too_few_values_is_corrupt() {
    let (tensor, data) = three_groups();
    for n in [0, 1, 4095, 4097] {
        let stream = Raw::new().tensor(&tensor).chunk(0, 0, n, &data[..n as usize]).end();
        assert_corrupt(&stream, "expected 4096");
    }
    for n in [0, 3, 5, 1 << 20] {
        let stream = Raw::new().tensor(&plain()).chunk(0, LAST, n, &payload()).end();
        assert_corrupt(&stream, "expected 4, marked last");
    }
    let stream = Raw::new().tensor(&plain()).chunk(0, LAST, (1 << 20) + 1, &payload()).end();
    assert_corrupt(&stream, "at most 1048576");
}

#[test]
fn a_last_mark_that_is_missing_or_too_early_is_corrupt() {
    let (tensor, data) = three_groups();
    assert_corrupt(
        &Raw::new().tensor(&tensor).chunk(0, LAST, 4096, &data[..4096]).end(),
        "marked last",
    );
    assert_corrupt(&Raw::new().tensor(&plain()).chunk(0, 0, 4, &payload()).end(), "marked last");
}

#[test]
fn a_chunk_of_an_open_tensor_is_full_or_the_last_and_ends_at_a_row() {
    let open = || RawTensor { shape: vec![0, 2], ..plain().flags(12 | OPEN) };
    let full = le_bytes(&gaussian(4096, 1));
    let head = || Raw::new().tensor(&open());
    assert_corrupt(&head().chunk(0, 0, 4, &payload()).end(), "groups of 4096");
    assert_corrupt(&head().chunk(0, 0, 0, &[]).end(), "groups of 4096");
    assert_corrupt(&head().chunk(0, LAST, 3, &payload()[..12]).end(), "whole number of rows");
    let empty_last = head().chunk(0, 0, 4096, &full).chunk(1, LAST, 0, &[]).end();
    assert_corrupt(&empty_last, "chunk of 0 values");
    let over = [&full[..], &payload()].concat();
    assert_corrupt(&head().chunk(0, LAST, 4100, &over).end(), "");
    assert_eq!(decode(&head().chunk(0, LAST, 4, &payload()).end()).unwrap()[0].shape, [2, 2]);
    assert_eq!(decode(&head().chunk(0, LAST, 0, &[]).end()).unwrap()[0].shape, [0, 2]);
}

#[test]
fn a_chunk_of_an_empty_tensor_is_corrupt() {
    let empty = RawTensor::new("w", DType::F32, &[0]);
    assert_eq!(decode(&Raw::new().tensor(&empty).end()).unwrap().len(), 1);
    assert_corrupt(&Raw::new().tensor(&empty).chunk(0, LAST, 0, &[]).end(), "outside a tensor");
}

#[test]
fn a_chunk_outside_a_tensor_is_corrupt() {
    assert_corrupt(&Raw::new().chunk(0, LAST, 4, &payload()).end(), "outside a tensor");
    let twice = Raw::new().tensor(&plain()).chunk(0, LAST, 4, &payload());
    assert_corrupt(&twice.chunk(1, LAST, 4, &payload()).end(), "outside a tensor");
}

#[test]
fn a_chunk_that_is_longer_than_possible_is_corrupt_before_it_is_read() {
    let mut stream = Raw::new().tensor(&plain()).bytes;
    let head = stream.len();
    for len in [16 + 15, 5 * 4096, u32::MAX] {
        stream.truncate(head);
        stream.extend(record_header(CHUNK, len));
        assert_corrupt(&stream, "are possible");
    }
    // Its payload, and the longest head of any chunk.
    stream.truncate(head);
    stream.extend(record_header(CHUNK, 16 + 14));
    assert_truncated(decode(&stream), "as long as possible");
}

#[test]
fn reserved_chunk_flags_are_corrupt() {
    let with_flags =
        |flags| Raw::new().tensor(&plain()).chunk(0, LAST | flags, 4, &payload()).end();
    for flags in [4, 8, 12] {
        assert_corrupt(&with_flags(flags), "reserved");
    }
    for pipeline in 1..16 {
        let words = format!("chunk of pipeline {pipeline}, the tensor has 1");
        assert_corrupt(&with_flags(pipeline << 4), &words);
    }
}

#[test]
fn a_payload_of_the_wrong_length_is_corrupt() {
    for n in [0, 1, 15, 17, 27] {
        let bytes = vec![0; n];
        assert_corrupt(&with_payload(&plain(), 0, &bytes), "expected 16 bytes");
    }
    assert_corrupt(&with_payload(&coded(), 0, &[]), "an empty payload");
    for n in [1, 8, 9, 11] {
        let bytes = vec![0; n];
        assert_corrupt(&with_payload(&coded(), 0, &bytes), "expected 9 bytes");
    }
}

#[test]
fn stored_without_a_stage_that_could_be_skipped_is_corrupt() {
    assert_corrupt(&with_payload(&plain(), STORED, &payload()), "stored");
    assert_corrupt(&with_payload(&coded(), STORED, &coded_payload(-1.0, 3.0, 0)), "stored");
    let zstd = plain().stages(&stages(&[&ZSTD]));
    assert_eq!(decode(&with_payload(&zstd, STORED, &payload())).unwrap()[0].data, payload());
}

#[test]
fn scales_that_are_nan_infinite_negative_or_too_large_are_corrupt() {
    let (huge, nan, inf) = (2f32.powi(81), f32::NAN, f32::INFINITY);
    let bad = [(nan, 1.0), (1.0, nan), (inf, 1.0), (-inf, 0.0), (0.0, inf), (0.0, -1.0)];
    for (lo, step) in bad.into_iter().chain([(huge, 0.0), (-huge, 1.0), (0.0, huge), (nan, nan)]) {
        let error = assert_corrupt(
            &with_payload(&coded(), 0, &coded_payload(lo, step, 0)),
            "scale of block 0",
        );
        assert_eq!(error.tensor(), Some("w"));
    }
}

#[test]
fn coefficients_that_are_not_finite_or_too_large_are_corrupt() {
    let tensor = plain().stages(&stages(&[&SUBSAMPLE_ONE])).seeded();
    let fine = [vec![0], le_bytes(&[1.0, -2.0, 3.0, 4.0])].concat();
    assert_eq!(decode_f32(&with_payload(&tensor, 0, &fine)), [1.0, -2.0, 3.0, 4.0]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2f32.powi(81)] {
        let bytes = [vec![0], le_bytes(&[1.0, 2.0, bad, 4.0])].concat();
        assert_corrupt(&with_payload(&tensor, 0, &bytes), "out of range");
    }
}

#[test]
fn a_scale_of_levels_that_is_nan_infinite_negative_or_too_large_is_corrupt() {
    let tensor = plain().stages(&stages(&[&[0x21, 1, 1]]));
    let payload = |scale: f32| [vec![0], le_bytes(&[scale]), vec![0b0101]].concat();
    let level = 52290.0 / 65536.0;
    let decoded = decode_f32(&with_payload(&tensor, 0, &payload(2.0)));
    assert_eq!(decoded, [2.0 * level, -2.0 * level, 2.0 * level, -2.0 * level]);
    for fine in [0.0, -0.0, 2f32.powi(77)] {
        assert!(decode(&with_payload(&tensor, 0, &payload(fine))).is_ok());
    }
    for bad in [f32::NAN, f32::INFINITY, -1.0, 2f32.powi(77).next_up()] {
        assert_corrupt(&with_payload(&tensor, 0, &payload(bad)), "scale of a group");
    }
}

#[test]
fn coefficients_too_large_for_three_levels_are_corrupt() {
    let tensor = plain().stages(&stages(&[&[0x03, 1, 3], &[0x20, 3, 1, 0, 12]])).seeded();
    let at_most = 2f32.powi(79);
    assert!(decode(&with_payload(&tensor, 0, &coded_payload(at_most, at_most, 0))).is_ok());
    let (low, step) = (2f32.powi(80), 2f32.powi(79));
    assert_corrupt(&with_payload(&tensor, 0, &coded_payload(low, step, 0)), "out of range");
}

#[test]
fn reserved_exponents_are_corrupt() {
    for exponent in i8::MIN..=i8::MAX {
        let stream = with_payload(&coded(), 0, &coded_payload(-1.0, 1.5, exponent));
        if exponent == 0 || (exponent >= -126 && !(-64..64).contains(&exponent)) {
            assert!(decode_f32(&stream).iter().all(|v| v.is_finite()), "{exponent}");
        } else {
            assert_corrupt(&stream, "exponent");
        }
    }
}

/// One zstd frame, one run of `n` bytes, content size not told: RFC 8878.
fn zstd_run(byte: u8, mut n: usize) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00]; // 1 KiB window
    while n > 0 {
        let size = n.min(1 << 17);
        n -= size;
        let block = u32::from(n == 0) | 1 << 1 | (size as u32) << 3;
        out.extend(&block.to_le_bytes()[..3]);
        out.push(byte);
    }
    out
}

#[test]
fn a_zstd_frame_of_the_wrong_size_is_corrupt() {
    let tensor = || RawTensor::new("w", DType::U8, &[1000]).stages(&stages(&[&ZSTD]));
    let stream = |frame: &[u8]| Raw::new().tensor(&tensor()).chunk(0, LAST, 1000, frame).end();
    assert_eq!(decode(&stream(&zstd_run(7, 1000))).unwrap()[0].data, vec![7; 1000]);
    for (n, words) in [
        (1, "such chunks are stored"),
        (999, "payload: expected 1000 bytes, found 999"),
        (1001, "zstd frame"),
        (100_000, "zstd frame"),
    ] {
        let error = assert_corrupt(&stream(&zstd_run(7, n)), words);
        assert_eq!(error.tensor(), Some("w"));
    }
    let frame = zstd_run(7, 1000);
    for n in 0..frame.len() {
        assert_corrupt(&stream(&frame[..n]), "zstd frame");
    }
    assert_corrupt(&stream(&[&frame[..], b"more"].concat()), "zstd frame");
    assert_corrupt(&stream(&[7; 1000]), "are stored");
    assert_corrupt(&stream(&[7; 999]), "zstd frame");
}

#[test]
fn a_zstd_chunk_is_one_frame() {
    let tensor = RawTensor::new("w", DType::U8, &[1000]).stages(&stages(&[&ZSTD]));
    let stream = |payload: &[u8]| Raw::new().tensor(&tensor).chunk(0, LAST, 1000, payload).end();
    let two = [zstd_run(7, 500), zstd_run(7, 500)].concat();
    assert_corrupt(&stream(&two), "zstd frame");
    let skippable =
        [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd_run(7, 1000)].concat();
    assert_corrupt(&stream(&skippable), "zstd frame");
}

#[test]
fn padding_bits_behind_the_codes_do_not_change_values() {
    let payload = [vec![0], le_bytes(&[-1.0, 3.0]), vec![0b1111_0101]].concat();
    if let Ok(tensors) = decode(&with_payload(&coded(), 0, &payload)) {
        assert_eq!(tensors[0].to_f32().unwrap(), [2.0, -1.0, 2.0, -1.0]);
    }
}

// ---------------------------------------------------------------------------------------------
// The stream

#[test]
fn an_unknown_critical_record_is_unsupported() {
    for kind in [0x00, 0x05, 0x40, 0x7f] {
        assert_unsupported(&Raw::new().record(kind, b"?").end(), "record kind");
        let inside = Raw::new().tensor(&plain()).record(kind, b"?").end();
        assert_unsupported(&inside, "record kind");
    }
}

#[test]
fn an_unknown_skippable_record_is_skipped_wherever_it_stands() {
    let (tensor, data) = three_groups();
    let skip = |raw: Raw| {
        raw.record(UNKNOWN_SKIPPABLE, b"from the future").record(0x84, &[]).record(0xff, &[0; 300])
    };
    let raw = skip(Raw::new()).record(METADATA, &[0]);
    let raw = skip(raw).tensor(&tensor);
    let raw = skip(raw).chunk(0, 0, 4096, &data[..4096]);
    let raw = skip(raw).chunk(1, 0, 4096, &data[4096..8192]).chunk(2, LAST, 9, &data[8192..]);
    let stream = skip(raw).end();
    assert_eq!(decode(&stream).unwrap()[0].data, data);
    let slow = read_all(Slow::new(&stream, 1, true), &DecodeOptions::default()).unwrap();
    assert_eq!(slow[0].data, data);
    let summary = fedpress::summarize(&mut Cursor::new(&stream), &DecodeOptions::default());
    assert_eq!(summary.unwrap().tensors[0].n_values, data.len() as u64);
    let flipped = stream.iter().position(|b| *b == b'f').unwrap();
    let mut damaged = stream.clone();
    damaged[flipped] ^= 1;
    assert_corrupt(&damaged, "checksum");
}

#[test]
fn garbage_behind_the_end_record_is_corrupt() {
    let stream = with_tensor(&plain());
    for garbage in [&b"\0"[..], b"garbage", b"\x88", &[0; 4096], &stream[1..]] {
        let error = assert_corrupt(&[&stream[..], garbage].concat(), "magic");
        assert_eq!(error.offset(), Some(stream.len() as u64));
    }
}

#[test]
fn what_is_not_a_stream_is_corrupt_at_once() {
    for bytes in [&b"PK\x03\x04"[..], b"\x93NUMPY", b"{", &[0; 100]] {
        assert_corrupt(bytes, "magic");
    }
    assert_corrupt(b"\x89FDP\n\x1a\n\0\x02", "text-mode");
}

#[test]
fn wrong_totals_are_corrupt() {
    let head = Raw::new().tensor(&plain()).chunk(0, LAST, 4, &payload());
    let at = head.bytes.len();
    let stream = |end: &[u8]| [&head.bytes[..], &record(END, end)].concat();
    assert!(decode(&stream(&end_body(1, 1, 0, at))).is_ok());
    for (tensors, chunks, distance, at) in [
        (0, 1, 0, at),
        (2, 1, 0, at),
        (1, 0, 0, at),
        (1, 2, 0, at),
        (1, 1, 1, at),
        (1, 1, 0, at - 1),
        (1, 1, 0, 0),
        (u64::MAX, u64::MAX, u64::MAX, usize::MAX),
    ] {
        assert_corrupt(&stream(&end_body(tensors, chunks, distance, at)), "totals");
    }
    let mut body = end_body(1, 1, 0, at);
    *body.last_mut().unwrap() += 1;
    assert_corrupt(&stream(&body), "end record");
    // The place counts from the start of its own stream.
    let whole = stream(&end_body(1, 1, 0, at));
    assert_eq!(decode(&whole.repeat(2)).unwrap().len(), 2);
    let second = [&whole[..at], &record(END, &end_body(1, 1, 0, whole.len() + at))].concat();
    assert_corrupt(&[whole, second].concat(), "totals");
}

fn indexed() -> Vec<u8> {
    let mut options = small_groups();
    options.index = true;
    let (a, b) = (gaussian(10, 1), gaussian(20, 2));
    let views = [("a", &a), ("b", &b)].map(|(name, v)| fedpress::TensorView {
        name,
        dtype: DType::F32,
        shape: if name == "a" { &[10] } else { &[20] },
        data: bytemuck::cast_slice(v),
    });
    fedpress::encode(&views, &spec("none"), &options).unwrap()
}

#[test]
fn an_index_that_lies_is_corrupt() {
    let stream = indexed();
    assert!(decode(&stream).is_ok());
    let place = records(&stream).into_iter().find(|r| r.0 == INDEX).unwrap().1;
    type Lie = fn(&mut Vec<u8>);
    let lies: [Lie; 7] = [
        |body| body[1] ^= 1,                              // a name hash
        |body| body[9] += 1,                              // an offset
        |body| *body = [&[1][..], &body[1..10]].concat(), // too few
        |body| *body = vec![0],                           // none
        |body| *body = [&[3][..], &body[1..], &[0; 8], &[0xff, 0x7f]].concat(), // too many
        |body| *body = [&[2][..], &body[10..], &body[1..10]].concat(), // out of order
        |body| *body = [&[2][..], &body[1..10], &body[1..10]].concat(), // twice the same
    ];
    for lie in lies {
        let lying = rewrite(&stream, &place, |_, body| lie(body));
        // The end record may now be at another distance: make it right again.
        let end = records(&lying).into_iter().find(|r| r.0 == END).unwrap().1;
        let distance = end.start - place.start;
        let lying =
            rewrite(&lying, &end, |_, body| *body = end_body(2, 2, distance as u64, end.start));
        assert_corrupt(&lying, "index");
    }
}

#[test]
fn an_index_that_lies_never_makes_read_tensor_return_the_wrong_tensor() {
    let stream = indexed();
    let options = DecodeOptions::default();
    let truth: Vec<Tensor> = decode(&stream).unwrap();
    let place = records(&stream).into_iter().find(|r| r.0 == INDEX).unwrap().1;
    let mut rng = Rng(5);
    for _ in 0..3000 {
        let lying = rewrite(&stream, &place, |_, body| {
            for _ in 0..1 + rng.below(2) {
                let at = rng.below(body.len());
                body[at] = rng.next() as u8;
            }
        });
        for tensor in &truth {
            match fedpress::read_tensor(&mut Cursor::new(&lying), &tensor.name, &options) {
                Ok(found) => assert_eq!(found, *tensor),
                Err(error) => {
                    assert!(!matches!(error.kind(), ErrorKind::Io(_)), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_record_between_index_and_end_is_corrupt() {
    let stream = indexed();
    let place = records(&stream).into_iter().find(|r| r.0 == INDEX).unwrap().1;
    let index = stream[place.clone()].to_vec();
    let tensor = record(TENSOR, &RawTensor::new("c", DType::F32, &[0]).body());
    let unknown = record(UNKNOWN_SKIPPABLE, b"from the future");
    for between in [tensor, index.clone(), record(METADATA, &[0]), record(MANIFEST, &[0]), unknown]
    {
        let distance = index.len() + between.len();
        let end = record(END, &end_body(2, 2, distance as u64, place.start + distance));
        let changed = [&stream[..place.end], &between, &end].concat();
        assert_corrupt(&changed, "between the index and the end record");
    }
}

#[test]
fn stream_and_seek_agree_on_an_unknown_record_between_index_and_end() {
    let stream = indexed();
    let place = records(&stream).into_iter().find(|r| r.0 == INDEX).unwrap().1;
    let between = record(UNKNOWN_SKIPPABLE, b"from the future");
    for distance in [place.len(), place.len() + between.len()] {
        let at = place.end + between.len();
        let end = record(END, &end_body(2, 2, distance as u64, at));
        let changed = [&stream[..place.end], &between, &end].concat();
        let streamed = decode(&changed).map(|tensors| tensors[1].clone());
        let options = DecodeOptions::default();
        let sought = fedpress::read_tensor(&mut Cursor::new(&changed), "b", &options);
        match (streamed, sought) {
            (Ok(streamed), Ok(sought)) => assert_eq!(streamed, sought),
            (Err(_), Err(_)) => {}
            (streamed, sought) => panic!("streaming: {streamed:?}, seeking: {sought:?}"),
        }
    }
}

#[test]
fn a_manifest_that_lies_is_corrupt() {
    let truth = plain();
    let stream = |listed: &[RawTensor], flags: u8| {
        let body = listed.iter().flat_map(|t| t.desc(flags)).collect::<Vec<_>>();
        let body = [varint(listed.len() as u64), body].concat();
        Raw::new().record(MANIFEST, &body).tensor(&truth).chunk(0, LAST, 4, &payload()).end()
    };
    assert!(decode(&stream(std::slice::from_ref(&truth), 0)).is_ok());
    let lies = [
        RawTensor { name: b"v".to_vec(), ..plain() },
        RawTensor { dtype: DType::I32.number(), ..plain() },
        RawTensor { shape: vec![2, 2], ..plain() },
        RawTensor { shape: vec![5], ..plain() },
    ];
    for lie in lies {
        assert_corrupt(&stream(std::slice::from_ref(&lie), 0), "manifest announces");
        assert_corrupt(&stream(&[lie, truth.clone()], 0), "manifest announces");
    }
    assert_corrupt(&stream(&[], 0), "manifest announces");
    let second = RawTensor { name: b"second".to_vec(), ..plain() };
    assert_corrupt(&stream(&[truth.clone(), second], 0), "fewer tensors");
    let opened = RawTensor { shape: vec![0], ..plain() };
    assert_corrupt(&stream(&[opened], OPEN), "manifest announces");
    assert_corrupt(&stream(std::slice::from_ref(&truth), 12), "reserved");
}

#[test]
fn metadata_out_of_order_or_twice_is_corrupt() {
    let map = |keys: &[&str]| {
        let entries = keys.iter().flat_map(|k| [text(k.as_bytes()), text(b"v")].concat());
        [varint(keys.len() as u64), entries.collect()].concat()
    };
    assert!(decode(&Raw::new().record(METADATA, &map(&["a", "b"])).end()).is_ok());
    assert_corrupt(&Raw::new().record(METADATA, &map(&["b", "a"])).end(), "out of order");
    assert_corrupt(&Raw::new().record(METADATA, &map(&["a", "a"])).end(), "out of order");
}

#[test]
fn records_at_the_head_out_of_place_are_corrupt() {
    let (metadata, manifest) = ((METADATA, &[0][..]), (MANIFEST, &[0][..]));
    for list in [[metadata, metadata], [manifest, metadata], [manifest, manifest]] {
        let raw = list.iter().fold(Raw::new(), |raw, (kind, body)| raw.record(*kind, body));
        assert_corrupt(&raw.end(), "out of place");
    }
    let tensor = RawTensor::new("w", DType::F32, &[0]);
    for (kind, body) in [metadata, manifest] {
        assert_corrupt(&Raw::new().tensor(&tensor).record(kind, body).end(), "out of place");
    }
    let inside = Raw::new().tensor(&plain()).record(METADATA, &[0]).end();
    assert_corrupt(&inside, "before the last chunk");
}

#[test]
fn records_other_than_chunks_are_128_mib_at_most() {
    for kind in [TENSOR, END, METADATA, MANIFEST, INDEX] {
        let stream = [PREAMBLE.to_vec(), record_header(kind, (1 << 27) + 1)].concat();
        assert_corrupt(&stream, "134217728");
    }
}

// ---------------------------------------------------------------------------------------------
// After an error

#[test]
fn a_decoder_is_poisoned_by_an_error() {
    let mut decoder = fedpress::Decoder::new(DecodeOptions::default());
    assert!(decoder.next(&mut &b"not a stream"[..]).is_err());
    let again = decoder.next(&mut &with_tensor(&plain())[..]).unwrap_err();
    assert_eq!(*again.kind(), ErrorKind::Poisoned);
    assert_eq!(*decoder.finish().unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn a_reader_hands_out_nothing_of_a_batch_in_which_a_chunk_was_corrupt() {
    // The second chunk has a scale of NaN under a right checksum.
    let n = 3 * 4096;
    let tensor = RawTensor::new("w", DType::F32, &[n]).stages(&stages(&[&Q1]));
    let body = |lo: f32| [vec![0], le_bytes(&[lo, 1.0]), vec![0x55; 512]].concat();
    let stream = Raw::new()
        .tensor(&tensor)
        .chunk(0, 0, 4096, &body(5.0))
        .chunk(1, 0, 4096, &body(f32::NAN))
        .chunk(2, LAST, 4096, &body(7.0))
        .end();
    for threads in [1, 2, 3] {
        let mut options = DecodeOptions::default();
        options.threads = threads;
        let mut reader = Reader::new(&stream[..], options);
        let mut tensor = reader.next_tensor().unwrap().unwrap();
        let mut failed = false;
        for _ in 0..6 {
            match tensor.next_chunk() {
                Err(_) => failed = true,
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    let lo = f32::from_le_bytes(chunk[4..8].try_into().unwrap());
                    assert!(!failed, "{threads} threads: a chunk of {lo} after the error");
                    assert_eq!(lo, 5.0, "{threads} threads");
                }
            }
        }
        assert!(failed, "{threads} threads");
    }
}
