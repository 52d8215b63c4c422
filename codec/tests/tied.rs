//! Law: tensors of equal bytes travel once and come back under every name, however a stream is read;
//! and what ties a tensor to anything but one before it of its own kind is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    DType, DecodeOptions, EncodeOptions, Encoder, ErrorKind, Reader, Spec, Tensor, TensorDesc,
    TensorView, Writer,
};
use std::io::Cursor;

const TIED: u8 = 0x04;

fn ties() -> EncodeOptions {
    small_groups().with_tie(true).with_index(true)
}

/// `(name, values)` of matrices: three of "a", two of "c", one of "b".
fn model() -> Vec<(String, Vec<f32>)> {
    let (a, b, c) = (gaussian(9000, 1), gaussian(9000, 2), vec![0.0; 5000]);
    let named = |name: &str, x: &[f32]| (name.to_owned(), x.to_vec());
    vec![
        named("a", &a),
        named("b", &b),
        named("a.again", &a),
        named("c", &c),
        named("c.again", &c),
        named("a.last", &a),
    ]
}

fn encode(model: &[(String, Vec<f32>)], text: &str, options: &EncodeOptions) -> Vec<u8> {
    let tensors: Vec<_> =
        model.iter().map(|(name, x)| (name, ([x.len() / 2, 2], &x[..]))).collect();
    fedpress::encode(&tensors, &spec(text), options).unwrap()
}

fn kinds(bytes: &[u8]) -> Vec<u8> {
    records(bytes).into_iter().map(|(kind, _)| kind).filter(|kind| *kind != CHUNK).collect()
}

#[test]
fn equal_tensors_travel_once_and_come_back_under_every_name() {
    let model = model();
    for text in ["none", "lossless", "hadamard|subsample=0.5|q=4|zstd", "rotation|lm=2"] {
        let bytes = encode(&model, text, &ties());
        assert_eq!(kinds(&bytes), [TENSOR, TENSOR, TIED, TENSOR, TIED, TIED, INDEX, END], "{text}");
        assert!(bytes == encode(&model, text, &ties().with_threads(3)), "{text}");
        let alone = encode(&model, text, &ties().with_tie(false));
        let names: Vec<_> = model.iter().map(|(name, _)| &name[..]).collect();
        for threads in [1, 3] {
            let options = DecodeOptions::default().with_threads(threads);
            let tensors = fedpress::decode(&bytes, &options).unwrap();
            assert!(tensors.iter().map(|t| &t.name[..]).eq(names.iter().copied()));
            for (original, tied) in [(0, 2), (3, 4), (0, 5)] {
                assert!(tensors[original].data == tensors[tied].data, "{text}");
            }
            // What is sent is what would have been sent without.
            let apart = fedpress::decode(&alone, &options).unwrap();
            assert!([0, 1, 3].into_iter().all(|i| tensors[i] == apart[i]), "{text}");
        }
    }
}

#[test]
fn tied_tensors_are_read_by_name_by_parts_and_into_sums() {
    let bytes = encode(&model(), "hadamard|q=4|zstd", &ties());
    let expected = decode(&bytes).unwrap();
    // Behind another stream, with and without an index.
    let no_index = encode(&model(), "hadamard|q=4|zstd", &ties().with_index(false));
    for stream in [
        bytes.clone(),
        no_index.clone(),
        [bytes.clone(), bytes.clone()].concat(),
        [bytes.clone(), no_index].concat(),
    ] {
        for tensor in &expected {
            let mut source = Cursor::new(&stream);
            let found = fedpress::read_tensor(&mut source, &tensor.name, &DecodeOptions::default());
            assert_eq!(found.unwrap(), *tensor);
        }
    }
    let mut reader = Reader::new(&bytes[..], DecodeOptions::default());
    let mut n = 0;
    while let Some(mut tensor) = reader.next_tensor().unwrap() {
        let found = &expected[n];
        n += 1;
        // Some are taken by parts, some are passed over, some are added.
        let values = found.to_f32().unwrap();
        match n % 3 {
            0 => {
                assert_eq!(tensor.meta().tied_to(), (n == 3 || n == 6).then_some("a"));
                let mut data = Vec::new();
                while let Some(chunk) = tensor.next_chunk().unwrap() {
                    data.extend_from_slice(chunk);
                }
                assert!(data == found.data);
            }
            1 => {}
            _ => {
                let mut sums = vec![1.0; values.len()];
                tensor.add_into(&mut sums, 1.0).unwrap();
                assert!(sums.iter().zip(&values).all(|(sum, v)| *sum == v + 1.0));
            }
        }
    }
    assert_eq!(n, 6);
}

#[test]
fn headers_alone_say_what_is_tied_to_what() {
    let bytes = encode(&model(), "hadamard|q=4", &ties());
    let options = DecodeOptions::default();
    let sought = fedpress::summarize(&mut Cursor::new(&bytes), &options).unwrap();
    let streamed = fedpress::summarize_stream(&mut &bytes[..], &options).unwrap();
    for summary in [sought, streamed] {
        let said: Vec<_> = summary.tensors.iter().map(|t| t.meta.tied_to()).collect();
        assert_eq!(said, [None, None, Some("a"), None, Some("c"), Some("a")]);
        for (tensor, (name, x)) in summary.tensors.iter().zip(model()) {
            assert_eq!((tensor.meta.name(), tensor.n_values), (&name[..], x.len() as u64));
            assert_eq!(tensor.shape, [x.len() as u64 / 2, 2]);
        }
        assert!(summary.tensors[2].n_chunks == 0 && summary.tensors[2].n_bytes < 40);
        assert_eq!(summary.n_bytes, bytes.len() as u64);
    }
}

#[test]
fn what_differs_in_type_bytes_or_pipeline_is_not_tied() {
    let x = gaussian(4096, 1);
    let mut y = x.clone();
    y[4095] = f32::from_bits(y[4095].to_bits() ^ 1);
    let bits: Vec<u32> = x.iter().map(|v| v.to_bits()).collect();
    let options = EncodeOptions::new(SEEDS);
    let (matrix, lossy) = ([64, 64], spec("hadamard|q=4"));
    let tensors: Vec<(&str, TensorView<'_>)> = vec![
        ("x", TensorView::f32("x", &matrix, &x)),
        ("one bit", TensorView::f32("one bit", &matrix, &y)),
        ("as integers", TensorView::of("as integers", &matrix, &bits)),
        // Spared by its name.
        ("x_mask", TensorView::f32("x_mask", &matrix, &x)),
        ("again", TensorView::f32("again", &matrix, &x)),
    ];
    let views: Vec<_> = tensors.iter().map(|(_, view)| *view).collect();
    let bytes = fedpress::encode(&views, &lossy, &options).unwrap();
    assert_eq!(kinds(&bytes), [TENSOR, TENSOR, TENSOR, TENSOR, TIED, END]);
    let mut writer = Writer::new(Vec::new(), options).unwrap();
    let (other, none) = (spec("hadamard|q=5"), Spec::none());
    let specs = [&lossy, &other, &none, &lossy, &other];
    let pairs: Vec<_> = views.iter().copied().zip(specs).collect();
    writer.tensors(&pairs).unwrap();
    assert_eq!(kinds(&writer.finish().unwrap()), [TENSOR, TENSOR, TENSOR, TENSOR, TENSOR, END]);
    // Empty ones are as short as they get.
    let empty = [("a", [0f32; 0]), ("b", [0f32; 0])];
    let bytes = fedpress::encode(&empty, &lossy, &ties()).unwrap();
    assert_eq!(kinds(&bytes), [TENSOR, TENSOR, INDEX, END]);
}

#[test]
fn the_sixty_fifth_of_equal_tensors_travels_again() {
    let names: Vec<_> = (0..130).map(|i| i.to_string()).collect();
    let tensors: Vec<_> = names.iter().map(|name| (name, [7i64; 9])).collect();
    let bytes = fedpress::encode(&tensors, &Spec::none(), &ties()).unwrap();
    let sent: Vec<_> =
        kinds(&bytes).iter().enumerate().filter(|k| *k.1 == TENSOR).map(|k| k.0).collect();
    assert_eq!(sent, [0, 64, 128]);
    let tensors = decode(&bytes).unwrap();
    assert!(tensors.len() == 130 && tensors.iter().all(|t| t.data == tensors[0].data));
}

#[test]
fn a_caller_that_ties_wrongly_is_told_and_goes_on() {
    let mut encoder = Encoder::new(options()).unwrap();
    let (desc, open) = (
        |name: &str| TensorDesc::new(name, DType::U8, &[4]),
        TensorDesc::open("o", DType::U8, &[]),
    );
    let refused = |result: fedpress::Result<()>| {
        assert_eq!(*result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    };
    refused(encoder.begin_kept(&open, &Spec::none()));
    encoder.begin(&desc("not kept"), &Spec::none()).unwrap();
    encoder.push(&[0; 4]).unwrap();
    encoder.end().unwrap();
    encoder.begin_kept(&desc("a"), &Spec::none()).unwrap();
    refused(encoder.tie(&desc("early"), "a"));
    encoder.push(&[1, 2, 3, 4]).unwrap();
    encoder.end().unwrap();
    refused(encoder.tie(&desc("b"), "missing"));
    refused(encoder.tie(&desc("b"), "not kept"));
    refused(encoder.tie(&desc("a"), "a"));
    refused(encoder.tie(&TensorDesc::new("b", DType::U8, &[5]), "a"));
    refused(encoder.tie(&TensorDesc::new("b", DType::I8, &[4]), "a"));
    refused(encoder.tie(&open, "a"));
    (0..63).for_each(|i| encoder.tie(&desc(&i.to_string()), "a").unwrap());
    refused(encoder.tie(&desc("64"), "a"));
    encoder.finish().unwrap();
    assert_eq!(decode(encoder.output()).unwrap().len(), 65);
}

/// A kept tensor of four bytes, and where its record starts.
fn kept() -> (Raw, RawTensor, u64) {
    let tensor = RawTensor::new("a", DType::U8, &[4]).kept();
    let raw = Raw::new().tensor(&RawTensor::new("first", DType::U8, &[0]));
    let at = raw.bytes.len() as u64;
    (raw.tensor(&tensor).chunk(0, LAST, 4, &[1, 2, 3, 4]), tensor, at)
}

fn tied_body(tensor: &RawTensor, flags: u8, original: u64) -> Vec<u8> {
    [tensor.desc(flags), varint(original)].concat()
}

#[test]
fn ties_to_nothing_to_themselves_or_to_others_are_corrupt() {
    let tied = |tensor: RawTensor, flags, original: u64| -> fedpress::Result<Vec<Tensor>> {
        let (raw, ..) = kept();
        decode(&raw.record(TIED, &tied_body(&tensor, flags, original)).end())
    };
    let (raw, _, at) = kept();
    let (here, b) = (raw.bytes.len() as u64, RawTensor::new("b", DType::U8, &[2, 2]));
    assert_eq!(tied(b.clone(), 0, at).unwrap()[2].data, [1, 2, 3, 4]);
    // The preamble, another tensor, the chunk, itself, what comes later, what is nowhere.
    for original in [0, 10, at - 1, at + 1, here - 3, here, here + 40, u64::MAX] {
        let error = tied(b.clone(), 0, original).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{original}: {error}");
        assert_eq!(error.tensor(), Some("b"));
    }
    for flags in [12, OPEN, 0x40, SEEDED] {
        assert_eq!(*tied(b.clone(), flags, at).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    for (dtype, shape) in
        [(DType::I8, vec![4]), (DType::U8, vec![5]), (DType::U8, vec![0]), (DType::F32, vec![1])]
    {
        let wrong = RawTensor::new("b", dtype, &shape);
        assert_eq!(*tied(wrong, 0, at).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    // A second tensor of that name.
    let again = RawTensor::new("a", DType::U8, &[4]);
    assert_eq!(*tied(again, 0, at).unwrap_err().kind(), ErrorKind::Corrupt);
    // Tied to one that is tied, or that is not kept; a body that goes on.
    let (raw, ..) = kept();
    let chained = raw.record(TIED, &tied_body(&b, 0, at));
    let chained =
        chained.record(TIED, &tied_body(&RawTensor { name: b"c".to_vec(), ..b.clone() }, 0, here));
    assert_eq!(*decode(&chained.end()).unwrap_err().kind(), ErrorKind::Corrupt);
    let plain = Raw::new().tensor(&RawTensor::new("a", DType::U8, &[1])).chunk(0, LAST, 1, &[1]);
    let one = RawTensor::new("b", DType::U8, &[1]);
    assert_eq!(
        *decode(&plain.record(TIED, &tied_body(&one, 0, 10)).end()).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    let (raw, ..) = kept();
    let long = raw.record(TIED, &[tied_body(&b, 0, at), vec![0]].concat());
    assert_eq!(*decode(&long.end()).unwrap_err().kind(), ErrorKind::Corrupt);
    // Between the chunks of a tensor.
    let (raw, ..) = kept();
    let inside = raw.tensor(&RawTensor::new("d", DType::U8, &[4]));
    assert_eq!(
        *decode(&inside.record(TIED, &tied_body(&b, 0, at)).end()).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn no_more_are_tied_to_one_than_the_format_allows() {
    let stream = |n: u64| {
        let (mut raw, _, at) = kept();
        for i in 0..n {
            let tensor =
                RawTensor { name: i.to_string().into(), ..RawTensor::new("", DType::U8, &[4]) };
            raw = raw.record(TIED, &tied_body(&tensor, 0, at));
        }
        raw.end()
    };
    assert_eq!(decode(&stream(63)).unwrap().len(), 65);
    assert_eq!(*decode(&stream(64)).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn what_is_kept_is_charged_and_given_back() {
    let data = Rng(1).bytes(1 << 20);
    let options = options().with_tie(true);
    let view = |name| TensorView { name, dtype: DType::U8, shape: &[1 << 20], data: &data };
    let bytes = fedpress::encode(&[view("a"), view("b")], &Spec::none(), &options).unwrap();
    // Two streams behind one another need no more than one.
    let twice = [bytes.clone(), bytes].concat();
    let drain = |memory: u64| -> fedpress::Result<usize> {
        let mut reader = Reader::new(&twice[..], DecodeOptions::default().with_memory(memory));
        let mut n = 0;
        while let Some(mut tensor) = reader.next_tensor()? {
            while let Some(chunk) = tensor.next_chunk()? {
                assert!(chunk == data);
            }
            n += 1;
        }
        Ok(n)
    };
    let plain = fedpress::encode(&[view("a")], &Spec::none(), &options).unwrap();
    let least = (1..64).map(|i| i << 18).find(|memory| drain(*memory).is_ok()).unwrap();
    let least_plain = (1..64).map(|i| i << 18).find(|memory| {
        let options = DecodeOptions::default().with_memory(*memory);
        let mut reader = Reader::new(&plain[..], options);
        let mut passes = || -> fedpress::Result<()> {
            while let Some(mut tensor) = reader.next_tensor()? {
                while tensor.next_chunk()?.is_some() {}
            }
            Ok(())
        };
        passes().is_ok()
    });
    assert!(least - least_plain.unwrap() >= 1 << 20, "{least} for what is kept, too");
    let error = drain(1 << 20).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { .. }), "{error}");
}
