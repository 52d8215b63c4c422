//! Law: decoding and adding in one step is decoding, then adding, bit for bit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    ChunkDecoder, DType, DecodeOptions, Decoder, ErrorKind, Event, Reader, Result, TensorView,
};

const N: usize = 3 * 4096 + 1234;
const GROUP: usize = 4096;

fn stream(dtype: DType, text: &str) -> Vec<u8> {
    let data = elements(dtype, N, 4);
    let view = TensorView { name: "w", dtype, shape: &[N], data: &data };
    fedpress::encode(&[view], &spec(text), &small_groups()).unwrap()
}

fn add(bytes: &[u8], sums: &mut [f32], weight: f32) -> Result<u64> {
    let mut reader = Reader::new(bytes, DecodeOptions::default());
    reader.next_tensor()?.unwrap().add_into(sums, weight)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

const SPECS: [&str; 8] = [
    "none",
    "lossless",
    "zstd",
    "hadamard|q=4|zstd",
    "identity|q=3,nearest",
    "kashin|q=5",
    "hadamard|subsample=0.5|q=2|zstd",
    "kashin|subsample=0.25",
];

#[test]
fn adding_is_decoding_then_adding() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for text in SPECS {
            let bytes = stream(dtype, text);
            let decoded = decode_f32(&bytes);
            for weight in [1.0, 0.0, -0.3, 1e-20, 3e38] {
                let mut expected = lognormal(N, 6);
                let mut found = expected.clone();
                expected.iter_mut().zip(&decoded).for_each(|(sum, x)| *sum += weight * x);
                assert_eq!(add(&bytes, &mut found, weight).unwrap(), N as u64);
                assert!(bits(&found) == bits(&expected), "{dtype}, {text}, weight {weight}");
            }
        }
    }
}

#[test]
fn adding_chunk_by_chunk_is_the_same() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for text in SPECS {
            let bytes = stream(dtype, text);
            let mut expected = gaussian(N, 6);
            let mut found = expected.clone();
            add(&bytes, &mut expected, 0.7).unwrap();
            let mut decoder = Decoder::new(DecodeOptions::default());
            let mut one = ChunkDecoder::new(&DecodeOptions::default());
            let mut input = &bytes[..];
            while let Some(event) = decoder.next(&mut input).unwrap() {
                if let Event::Chunk(chunk) = event {
                    let at = chunk.first_value() as usize;
                    let sums = &mut found[at..at + chunk.n_values()];
                    chunk.add_into(&mut one, sums, 0.7).unwrap();
                    let mut wrong = vec![0.0; chunk.n_values() + 1];
                    let error = chunk.add_into(&mut one, &mut wrong, 0.7).unwrap_err();
                    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
                    assert!(wrong.iter().all(|v| *v == 0.0));
                }
            }
            assert!(bits(&found) == bits(&expected), "{dtype}, {text}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let bytes = stream(DType::F32, "hadamard|q=4");
    let mut expected = gaussian(N, 6);
    let mut found = expected.clone();
    add(&bytes, &mut expected, 0.7).unwrap();
    let mut options = DecodeOptions::default();
    options.threads = 3;
    let mut reader = Reader::new(&bytes[..], options);
    reader.next_tensor().unwrap().unwrap().add_into(&mut found, 0.7).unwrap();
    assert!(bits(&found) == bits(&expected));
}

#[test]
fn sums_of_another_length_are_refused_and_untouched() {
    for text in ["hadamard|q=4", "lossless"] {
        let bytes = stream(DType::F32, text);
        for n in [0, 1, GROUP, N - 1, N + 1] {
            let mut sums = vec![5.0; n];
            let error = add(&bytes, &mut sums, 1.0).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
            assert_eq!((error.tensor(), error.values_done()), (Some("w"), Some(0)));
            assert!(sums.iter().all(|v| *v == 5.0));
        }
    }
}

#[test]
fn sums_of_another_length_than_an_open_tensor_are_refused() {
    let mut writer = fedpress::Writer::new(Vec::new(), small_groups()).unwrap();
    let desc = fedpress::TensorDesc::open("w", DType::F32, &[]);
    writer.begin(&desc, &spec("hadamard|q=4")).unwrap();
    writer.push(&elements(DType::F32, N, 4)).unwrap();
    writer.end().unwrap();
    let bytes = writer.finish().unwrap();
    assert_eq!(add(&bytes, &mut vec![0.0; N], 1.0).unwrap(), N as u64);
    for (n, done) in [(0, 0), (GROUP + 1, GROUP), (N - 1, 3 * GROUP), (N + 1, N)] {
        let mut sums = vec![5.0; n];
        let error = add(&bytes, &mut sums, 1.0).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!((error.tensor(), error.values_done()), (Some("w"), Some(done as u64)));
        assert!(sums[done..].iter().all(|v| *v == 5.0));
    }
}

#[test]
fn element_types_other_than_f32_f16_bf16_are_refused() {
    for dtype in DType::ALL.into_iter().filter(|d| !d.is_lossy_capable()) {
        let bytes = stream(dtype, "lossless");
        let mut sums = vec![5.0; N];
        let error = add(&bytes, &mut sums, 1.0).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{dtype}");
        assert_eq!((error.tensor(), error.values_done()), (Some("w"), Some(0)));
        assert!(error.to_string().contains(dtype.name()));
        assert!(sums.iter().all(|v| *v == 5.0));
    }
}

/// Damages the third chunk; the error must say that two groups were added, and no more were.
#[track_caller]
fn assert_two_groups_added(bytes: &[u8], damaged: &[u8], kind: &ErrorKind) {
    let mut whole = gaussian(N, 6);
    let before = whole.clone();
    let mut sums = whole.clone();
    add(bytes, &mut whole, 0.7).unwrap();
    let error = add(damaged, &mut sums, 0.7).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.values_done(), Some(2 * GROUP as u64));
    assert!(bits(&sums[..2 * GROUP]) == bits(&whole[..2 * GROUP]), "added differently");
    assert!(bits(&sums[2 * GROUP..]) == bits(&before[2 * GROUP..]), "added too much");
}

#[test]
fn nothing_of_a_chunk_with_a_bad_checksum_is_added() {
    for text in SPECS {
        let bytes = stream(DType::F32, text);
        let third = records(&bytes).into_iter().filter(|r| r.0 == CHUNK).nth(2).unwrap().1;
        for at in [third.start, third.start + 8, third.end - 5, third.end - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_two_groups_added(&bytes, &damaged, &ErrorKind::Corrupt);
        }
        assert_two_groups_added(&bytes, &bytes[..third.end - 1], &ErrorKind::Truncated);
    }
}

#[test]
fn nothing_of_a_chunk_with_a_corrupt_payload_is_added() {
    for (text, change) in [
        // The scale of its last block is NaN: blocks before it are fine.
        ("identity|q=4,block=256", (|b| b[5 + 15 * 8..][..4].fill(0xff)) as fn(&mut Vec<u8>)),
        ("hadamard|q=4", |b| b[5..9].fill(0xff)),
        // The last coefficient is infinite.
        ("hadamard|subsample=1", |b| {
            let at = b.len() - 4;
            b[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        }),
        ("kashin|q=4", |b| b[4] = 1),
        ("lossless", |b| b.truncate(b.len() - 1)),
        ("none", |b| b.push(0)),
    ] {
        let bytes = stream(DType::F32, text);
        let third = records(&bytes).into_iter().filter(|r| r.0 == CHUNK).nth(2).unwrap().1;
        let damaged = rewrite(&bytes, &third, |_, body| change(body));
        assert_two_groups_added(&bytes, &damaged, &ErrorKind::Corrupt);
    }
}

#[test]
fn tensors_follow_each_other_whether_they_were_added_read_or_passed_over() {
    let x = gaussian(N, 1);
    let names = ["a", "b", "c", "d"];
    let views = names.map(|name| TensorView::f32(name, &[N], &x));
    let bytes = fedpress::encode(&views, &spec("hadamard|q=4"), &small_groups()).unwrap();
    let expected = decode(&bytes).unwrap();
    let mut reader = Reader::new(&bytes[..], DecodeOptions::default());
    let mut sums = vec![0.0; N];
    reader.next_tensor().unwrap().unwrap().add_into(&mut sums, 1.0).unwrap();
    assert_eq!(sums, expected[0].to_f32().unwrap());
    // One chunk of b, nothing of c.
    let mut b = reader.next_tensor().unwrap().unwrap();
    assert_eq!(b.next_chunk().unwrap().unwrap(), &expected[1].data[..4 * GROUP]);
    assert_eq!(reader.next_tensor().unwrap().unwrap().meta().name(), "c");
    assert_eq!(reader.next_tensor().unwrap().unwrap().read().unwrap(), expected[3]);
    assert!(reader.next_tensor().unwrap().is_none());
    assert!(reader.next_tensor().unwrap().is_none());
}

#[test]
fn a_tensor_without_values_adds_nothing() {
    let view = TensorView::f32("w", &[0], &[]);
    let bytes = fedpress::encode(&[view], &spec("hadamard|q=4"), &options()).unwrap();
    assert_eq!(add(&bytes, &mut [], 1.0).unwrap(), 0);
    assert_eq!(add(&bytes, &mut [1.0], 1.0).unwrap_err().values_done(), Some(0));
}

#[test]
fn adding_the_rest_of_a_tensor_after_a_chunk_was_read_is_refused() {
    // The sums would stand beside the wrong values.
    let bytes = stream(DType::F32, "hadamard|q=4");
    let mut reader = Reader::new(&bytes[..], DecodeOptions::default());
    let mut tensor = reader.next_tensor().unwrap().unwrap();
    tensor.next_chunk().unwrap().unwrap();
    let mut sums = vec![0.0; N];
    assert!(tensor.add_into(&mut sums, 1.0).is_err());
}
