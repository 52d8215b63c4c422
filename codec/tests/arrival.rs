//! Law: neither how bytes arrive nor how many threads work nor which instructions they use shows
//! in a result.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    DType, DecodeOptions, Decoder, EncodeOptions, Encoder, Event, Simd, Spec, TensorDesc,
    TensorView, Writer,
};
use proptest::prelude::*;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

// ---------------------------------------------------------------------------------------------
// Decoding

/// Everything an event says, chunks with their bytes.
fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut found = Vec::new();
    for mut input in pieces {
        while let Some(event) = decoder.next(&mut input).unwrap() {
            found.push(format!("{event:?}"));
        }
        assert!(input.is_empty());
    }
    decoder.finish().unwrap();
    found
}

/// Cuts at the given places, in any order and as often as they come.
fn cut<'a, T>(all: &'a [T], places: &[prop::sample::Index]) -> Vec<&'a [T]> {
    let mut places: Vec<usize> = places.iter().map(|i| i.index(all.len() + 1)).collect();
    places.sort_unstable();
    let mut at = 0;
    let mut pieces = Vec::new();
    for place in places.into_iter().chain([all.len()]) {
        pieces.push(&all[at..place]);
        at = place;
    }
    pieces
}

#[test]
fn events_do_not_depend_on_how_bytes_arrive() {
    for sample in zoo() {
        let whole = events([&sample.bytes[..]]);
        for size in [1, 2, 3, 7, 10, 64, 1000] {
            assert_eq!(events(sample.bytes.chunks(size)), whole, "{}, {size}", sample.name);
        }
        let n = |what: &str| whole.iter().filter(|e| e.starts_with(what)).count();
        assert_eq!(n("Stream"), sample.ends.len());
        assert_eq!(n("End"), sample.ends.len());
        assert_eq!(n("Tensor("), n("TensorEnd"));
    }
}

#[test]
fn events_come_as_soon_as_their_last_byte_is_there() {
    let bytes = everything();
    let mut decoder = Decoder::new(DecodeOptions::default());
    let ends: Vec<usize> =
        [10].into_iter().chain(records(&bytes).iter().map(|r| r.1.end)).collect();
    let mut seen = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        let mut input = std::slice::from_ref(byte);
        while let Some(event) = decoder.next(&mut input).unwrap() {
            if !matches!(event, Event::TensorEnd { .. }) {
                seen.push(at + 1);
            }
        }
    }
    assert_eq!(seen, ends);
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn events_do_not_depend_on_random_cuts(
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        which in any::<prop::sample::Index>(),
    ) {
        let zoo = zoo();
        let bytes = &which.get(&zoo).bytes;
        prop_assert_eq!(events(cut(bytes, &places)), events([&bytes[..]]));
    }

    #[test]
    fn tensors_do_not_depend_on_how_a_reader_gives_bytes(
        step in 1usize..5000,
        interrupts: bool,
        threads in 1usize..8,
        which in any::<prop::sample::Index>(),
    ) {
        let zoo = zoo();
        let bytes = &which.get(&zoo).bytes;
        let mut options = DecodeOptions::default();
        options.threads = threads;
        let slow = read_all(Slow::new(bytes, step, interrupts), &options).unwrap();
        prop_assert_eq!(slow, decode(bytes).unwrap());
    }
}

#[test]
fn tensors_do_not_depend_on_threads_or_instruction_set() {
    let values = gaussian(9 * 4096 + 77, 3);
    for text in ["lossless", "hadamard|q=3|zstd", "kashin|subsample=0.5", "identity|q=9", "none"] {
        let bytes = encode_f32(&values, &spec(text), &small_groups());
        let expected = decode(&bytes).unwrap();
        for simd in [Simd::Auto, Simd::Scalar, Simd::Avx2] {
            for threads in [0, 1, 2, 7, 50] {
                let mut options = DecodeOptions::default();
                options.threads = threads;
                options.simd = simd;
                let found = fedpress::decode(&bytes, &options).unwrap();
                assert!(found == expected, "{text}, {threads} threads, {simd:?}");
            }
        }
    }
}

#[test]
fn sums_do_not_depend_on_the_instruction_set() {
    let values = gaussian(4096 + 77, 3);
    for text in ["lossless", "hadamard|q=3", "kashin|subsample=0.5", "identity|q=16"] {
        let bytes = encode_f32(&values, &spec(text), &small_groups());
        let sums = [Simd::Auto, Simd::Scalar, Simd::Avx2].map(|simd| {
            let mut options = DecodeOptions::default();
            options.simd = simd;
            let mut sums = lognormal(values.len(), 9);
            let mut reader = fedpress::Reader::new(&bytes[..], options);
            reader.next_tensor().unwrap().unwrap().add_into(&mut sums, 0.3).unwrap();
            le_bytes(&sums)
        });
        assert!(sums[0] == sums[1] && sums[0] == sums[2], "{text}");
    }
}

#[test]
fn chunks_decode_in_any_order_and_alone() {
    let values = gaussian(5 * 4096 + 1, 4);
    for text in ["hadamard|subsample=0.25|q=2|zstd", "lossless", "kashin|q=7"] {
        let bytes = encode_f32(&values, &spec(text), &small_groups());
        let expected = decode(&bytes).unwrap()[0].data.clone();
        let mut chunks = Vec::new();
        let mut decoder = Decoder::new(DecodeOptions::default());
        let mut input = &bytes[..];
        while let Some(event) = decoder.next(&mut input).unwrap() {
            if let Event::Chunk(chunk) = event {
                chunks.push(chunk);
            }
        }
        chunks.reverse();
        chunks.swap(1, 3);
        let mut out = vec![0xAA; expected.len()];
        let mut one = fedpress::ChunkDecoder::new(&DecodeOptions::default());
        for chunk in chunks {
            let at = 4 * chunk.first_value() as usize;
            chunk.decode(&mut one, &mut out[at..at + 4 * chunk.n_values()]).unwrap();
        }
        assert!(out == expected, "{text}");
    }
}

#[test]
fn a_summary_does_not_depend_on_whether_the_source_seeks() {
    let options = DecodeOptions::default();
    for sample in zoo() {
        let sought =
            fedpress::summarize(&mut std::io::Cursor::new(&sample.bytes), &options).unwrap();
        for step in [1, 100, 100_000] {
            let mut slow = Slow::new(&sample.bytes, step, true);
            let streamed = fedpress::summarize_stream(&mut slow, &options).unwrap();
            assert_eq!(format!("{sought:?}"), format!("{streamed:?}"), "{}", sample.name);
        }
        let tensors = decode(&sample.bytes).unwrap();
        assert_eq!(sought.n_bytes, sample.bytes.len() as u64);
        assert_eq!(sought.n_streams, sample.ends.len() as u64);
        assert_eq!(sought.tensors.len(), tensors.len());
        for (summary, tensor) in sought.tensors.iter().zip(&tensors) {
            assert_eq!(summary.meta.name(), tensor.name);
            assert_eq!(summary.shape, tensor.view().desc().shape);
            assert_eq!(tensor.dtype.byte_len(summary.n_values as usize), tensor.data.len());
        }
    }
}

#[test]
fn one_tensor_alone_is_the_same_as_among_all() {
    let options = DecodeOptions::default();
    for sample in zoo() {
        let tensors = decode(&sample.bytes).unwrap();
        for tensor in &tensors {
            // Of the same name in several streams, the last.
            let expected = tensors.iter().rfind(|t| t.name == tensor.name).unwrap();
            let mut source = std::io::Cursor::new(&sample.bytes);
            let alone = fedpress::read_tensor(&mut source, &tensor.name, &options).unwrap();
            assert_eq!(alone, *expected, "{}", sample.name);
            let source = std::io::Cursor::new(&sample.bytes);
            let mut reader = fedpress::seek_tensor(source, &tensor.name, &options).unwrap();
            let sought = reader.next_tensor().unwrap().unwrap().read().unwrap();
            assert_eq!(sought, *expected, "{}", sample.name);
        }
        let mut source = std::io::Cursor::new(&sample.bytes);
        let error = fedpress::read_tensor(&mut source, "not there", &options).unwrap_err();
        assert_eq!(*error.kind(), fedpress::ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_reader_that_was_sought_goes_on_to_the_end_of_a_valid_stream() {
    for index in [false, true] {
        let values = gaussian(100, 1);
        let views = ["a", "b", "c"].map(|name| TensorView::f32(name, &[100], &values));
        let mut options = small_groups();
        options.index = index;
        let bytes = fedpress::encode(&views, &spec("none"), &options).unwrap();
        let source = std::io::Cursor::new(&bytes);
        let mut reader = fedpress::seek_tensor(source, "b", &DecodeOptions::default()).unwrap();
        let mut names = Vec::new();
        loop {
            match reader.next_tensor() {
                Ok(Some(tensor)) => names.push(tensor.meta().name().to_owned()),
                Ok(None) => break,
                Err(error) => panic!("index {index}, after {names:?}: {error}"),
            }
        }
        assert_eq!(names[0], "b");
    }
}

#[test]
fn what_is_read_of_a_tensor_fits_its_shape() {
    let values = gaussian(3 * 4096, 1);
    let bytes = encode_f32(&values, &spec("none"), &small_groups());
    let mut reader = fedpress::Reader::new(&bytes[..], DecodeOptions::default());
    let mut tensor = reader.next_tensor().unwrap().unwrap();
    tensor.next_chunk().unwrap().unwrap();
    if let Ok(tensor) = tensor.read() {
        let n: usize = tensor.shape.iter().product();
        assert_eq!(tensor.data.len(), 4 * n, "shape {:?}", tensor.shape);
    }
}

// ---------------------------------------------------------------------------------------------
// Encoding

const SPECS: [&str; 9] = [
    "none",
    "lossless",
    "zstd=5",
    "hadamard|q=4|zstd",
    "hadamard,block=256|q=5,block=512",
    "kashin|q=2|zstd",
    "hadamard|subsample=0.5|q=2|zstd",
    "identity|q=4,nearest|zstd",
    "kashin,clip,lambda=1.5|subsample=0.3",
];

fn with(threads: usize, simd: Simd) -> EncodeOptions {
    let mut options = small_groups();
    options.threads = threads;
    options.simd = simd;
    options.index = true;
    options
}

/// Pushes the pieces; ends the stream.
fn pushed<'a>(
    desc: &TensorDesc,
    spec: &Spec,
    options: EncodeOptions,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), options).unwrap();
    writer.begin(desc, spec).unwrap();
    pieces.into_iter().for_each(|piece| writer.push(piece).unwrap());
    writer.end().unwrap();
    writer.finish().unwrap()
}

fn whole(view: &TensorView<'_>, spec: &Spec, options: &EncodeOptions) -> Vec<u8> {
    fedpress::encode(&[*view], spec, options).unwrap()
}

#[test]
fn streams_do_not_depend_on_threads_or_instruction_set() {
    let n = 9 * 4096 + 77;
    for dtype in [DType::F32, DType::F16, DType::I64] {
        let data = elements(dtype, n, 8);
        let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
        for text in SPECS {
            let spec = spec(text);
            let expected = whole(&view, &spec, &with(1, Simd::Auto));
            for (threads, simd) in [
                (2, Simd::Auto),
                (7, Simd::Auto),
                (0, Simd::Auto),
                (1, Simd::Scalar),
                (2, Simd::Avx2),
            ] {
                let found = whole(&view, &spec, &with(threads, simd));
                assert!(found == expected, "{dtype}, {text}, {threads} threads, {simd:?}");
            }
        }
    }
}

#[test]
fn begin_push_end_is_the_same_as_tensor() {
    // Around the ends of groups, and of batches of groups.
    for n in [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 3 * 4096, 6 * 4096 + 1] {
        for dtype in [DType::F32, DType::BF16, DType::U8, DType::C64] {
            let data = elements(dtype, n, 8);
            let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
            let desc = TensorDesc::new("w", dtype, &[n as u64]);
            for text in ["lossless", "hadamard|q=4|zstd"] {
                let spec = spec(text);
                for threads in [1, 2, 3] {
                    let options = with(threads, Simd::Auto);
                    let expected = whole(&view, &spec, &options);
                    for size in [4096, 1 << 30, 16383, 4096 * dtype.byte_len(3)] {
                        let found = pushed(&desc, &spec, options.clone(), data.chunks(size));
                        assert!(found == expected, "{n} {dtype}, {text}, {threads}, {size}");
                    }
                }
            }
        }
    }
}

#[test]
fn single_bytes_are_the_same_as_the_whole() {
    let data = elements(DType::F32, 4096 + 500, 8);
    let view = TensorView { name: "w", dtype: DType::F32, shape: &[4596], data: &data };
    let desc = TensorDesc::new("w", DType::F32, &[4596]);
    for text in SPECS {
        let expected = whole(&view, &spec(text), &with(1, Simd::Auto));
        let found = pushed(&desc, &spec(text), with(2, Simd::Auto), data.chunks(1));
        assert!(found == expected, "{text}");
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn streams_do_not_depend_on_how_elements_are_pushed(
        n in prop_oneof![0usize..10, 4000usize..4200, 8000usize..30_000],
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        text in prop::sample::select(&SPECS[..]),
        dtype in prop::sample::select(vec![DType::F32, DType::F16, DType::BF16, DType::F64, DType::Bool]),
        threads in prop::sample::select(vec![1usize, 2, 7]),
        open: bool,
    ) {
        let data = elements(dtype, n, 8);
        let desc = match open {
            true => TensorDesc::open("w", dtype, &[]),
            false => TensorDesc::new("w", dtype, &[n as u64]),
        };
        let once = pushed(&desc, &spec(text), with(1, Simd::Auto), [&data[..]]);
        let often = pushed(&desc, &spec(text), with(threads, Simd::Auto), cut(&data, &places));
        prop_assert!(once == often);
        let tensor = &decode(&once).unwrap()[0];
        prop_assert_eq!(&tensor.shape, &[n]);
    }
}

#[test]
fn an_output_that_is_cleared_is_the_same_as_one_that_is_not() {
    let build = |clear: bool| {
        let mut options = with(2, Simd::Auto);
        options.index = true;
        let mut encoder = Encoder::new(options).unwrap();
        let mut out = Vec::new();
        let mut take = |encoder: &mut Encoder| {
            if clear {
                out.extend_from_slice(encoder.output());
                encoder.clear_output();
            }
        };
        let data = elements(DType::F32, 3 * 4096, 1);
        for name in ["a", "b", "c"] {
            take(&mut encoder);
            let desc = TensorDesc::new(name, DType::F32, &[3 * 4096]);
            encoder.begin(&desc, &spec("hadamard|q=1")).unwrap();
            for piece in data.chunks(999) {
                encoder.push(piece).unwrap();
                take(&mut encoder);
            }
            encoder.end().unwrap();
        }
        encoder.finish().unwrap();
        out.extend_from_slice(encoder.output());
        assert_eq!(out.len() as u64, encoder.n_bytes());
        out
    };
    assert_eq!(build(true), build(false));
    assert_eq!(decode(&build(true)).unwrap().len(), 3);
}

#[test]
fn elements_need_not_lie_aligned() {
    let data = elements(DType::F32, 5000, 8);
    for shift in 0..5 {
        let moved = [vec![0; shift], data.clone()].concat();
        for text in SPECS {
            let view = |data| TensorView { name: "w", dtype: DType::F32, shape: &[5000], data };
            let expected = whole(&view(&data), &spec(text), &with(1, Simd::Auto));
            assert!(whole(&view(&moved[shift..]), &spec(text), &with(1, Simd::Auto)) == expected);
        }
    }
    let bytes = encode_f32(&gaussian(5000, 1), &spec("hadamard|q=4"), &options());
    let expected = decode(&bytes).unwrap()[0].data.clone();
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut input = &bytes[..];
    while let Some(event) = decoder.next(&mut input).unwrap() {
        let Event::Chunk(chunk) = event else { continue };
        for shift in 0..5 {
            let mut out = vec![0; shift + 20_000];
            let mut one = fedpress::ChunkDecoder::new(&DecodeOptions::default());
            chunk.decode(&mut one, &mut out[shift..]).unwrap();
            assert!(out[shift..] == expected);
        }
    }
}

#[test]
fn the_same_call_gives_the_same_bytes_and_other_seeds_give_others() {
    let values = gaussian(5000, 1);
    let encode = |change: fn(&mut EncodeOptions)| {
        let mut options = options();
        change(&mut options);
        encode_f32(&values, &spec("hadamard|q=4"), &options)
    };
    let base = encode(|_| {});
    assert_eq!(base, encode(|_| {}));
    for change in [
        (|o| o.seeds.shared += 1) as fn(&mut EncodeOptions),
        |o| o.seeds.private += 1,
        |o| o.seeds.round += 1,
        |o| o.seeds.client += 1,
    ] {
        assert_ne!(base, encode(change));
    }
}
