//! Law: what looks like a tensor is encoded as the bytes it stands for, into any buffer, by an encoder
//! of any age.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    AsTensor, DType, DecodeOptions, Element, EncodeOptions, Encoder, ErrorKind, NamedTensor, Seeds,
    Spec, TensorView,
};

/// Values of every type that Rust has, as they are and as little-endian bytes.
fn check<T: Element + PartialEq + std::fmt::Debug>(values: &[T], bytes: &[u8]) {
    assert_eq!((values.dtype(), &values.data()[..]), (T::DTYPE, bytes));
    let shaped = ([1, values.len()], values);
    let pair: [(&str, &dyn AsTensor); 2] = [("flat", &values), ("row", &shaped)];
    let stream = fedpress::encode(&pair, &Spec::none(), &options()).unwrap();
    let back = decode(&stream).unwrap();
    assert_eq!((back[0].dtype, &back[0].data[..], &back[0].shape[..]), (T::DTYPE, bytes, &[2][..]));
    assert_eq!((&back[1].data[..], &back[1].shape[..]), (bytes, &[1, 2][..]));
    assert_eq!(back[1].values().shape()[..], [1, 2]);
}

#[test]
fn numbers_of_every_type_are_tensors() {
    check(&[true, false], &[1, 0]);
    check(&[1u8, 255], &[1, 255]);
    check(&[1i8, -1], &[1, 255]);
    check(&[0x0102u16, 3], &[2, 1, 3, 0]);
    check(&[-2i16, 3], &[0xfe, 0xff, 3, 0]);
    check(&[0x0102_0304u32, 5], &[4, 3, 2, 1, 5, 0, 0, 0]);
    check(&[-1i32, 5], &[255, 255, 255, 255, 5, 0, 0, 0]);
    check(&[1u64, 2], &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    check(&[1i64, 2], &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    check(&[half::f16::ONE, half::f16::from_f32(-2.0)], &[0, 0x3c, 0, 0xc0]);
    check(&[half::bf16::ONE, half::bf16::from_f32(-2.0)], &[0x80, 0x3f, 0, 0xc0]);
    check(&[1.0f32, -2.0], &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    check(&[1.0f64, -2.0], &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
}

/// Tensors of a framework of one's own.
struct Mine(Vec<f32>);

impl AsTensor for Mine {
    fn dtype(&self) -> DType {
        DType::F32
    }
    fn shape(&self) -> std::borrow::Cow<'_, [usize]> {
        vec![self.0.len() / 2, 2].into()
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        le_bytes(&self.0).into()
    }
}

#[test]
fn a_tensor_of_ones_own_takes_the_bytes_of_its_view() {
    let values = gaussian(9000, 1);
    let expected = TensorView::f32("w", &[4500, 2], &values);
    let expected = fedpress::encode(&[expected], &spec("hadamard|q=4"), &options()).unwrap();
    let mine = Mine(values);
    for threads in [1, 3] {
        let options = options().with_threads(threads);
        let bytes = fedpress::encode(&[("w", &mine)], &spec("hadamard|q=4"), &options).unwrap();
        assert!(bytes == expected);
    }
    let mut writer = fedpress::Writer::new(Vec::new(), options()).unwrap();
    writer.tensor(&("w", &mine), &spec("hadamard|q=4")).unwrap();
    assert!(writer.finish().unwrap() == expected);
}

#[test]
fn a_shape_of_other_values_is_refused_and_the_buffer_is_as_it_was() {
    let mut out = b"before".to_vec();
    for shape in [&[3, 2][..], &[7], &[usize::MAX, 2], &[]] {
        let tensor = (shape, &[1i64, 2, 3, 4, 5][..]);
        let error = fedpress::encode_into(&[("w", tensor)], &Spec::none(), &options(), &mut out);
        assert_eq!(*error.unwrap_err().kind(), ErrorKind::InvalidArgument, "{shape:?}");
        assert_eq!(out, b"before");
    }
    let wrong = options().with_group_log2(11);
    fedpress::encode_into(&[("w", [1u8])], &Spec::none(), &wrong, &mut out).unwrap_err();
    assert_eq!(out, b"before");
}

#[test]
fn a_stream_in_a_reused_buffer_is_the_one_in_a_new_one() {
    let values = gaussian(9000, 1);
    let options = options().with_index(true);
    let tensors = [("a", &values), ("b", &values)];
    let expected = fedpress::encode(&tensors, &spec("hadamard|q=4"), &options).unwrap();
    let mut out = expected.clone();
    fedpress::encode_into(&tensors, &spec("hadamard|q=4"), &options, &mut out).unwrap();
    assert!(out[..expected.len()] == expected && out[expected.len()..] == expected);
    // Two streams, the second found by its index.
    assert_eq!(decode(&out).unwrap().len(), 4);
    out.clear();
    let room = out.capacity();
    fedpress::encode_into(&tensors, &spec("hadamard|q=4"), &options, &mut out).unwrap();
    assert!(out == expected && out.capacity() == room);
}

#[test]
fn an_encoder_that_starts_again_makes_what_a_new_one_makes() {
    let values = gaussian(9000, 1);
    let lossy = spec("hadamard|subsample=0.5|q=2|zstd");
    let seeds = |round| Seeds::new(7, 9).in_round(round);
    let mut encoder = Encoder::new(EncodeOptions::new(seeds(0)).with_index(true)).unwrap();
    for round in 0..4 {
        encoder.clear_output();
        encoder.restart(seeds(round)).unwrap();
        if round == 2 {
            // One that fails half-way leaves nothing behind.
            let short = TensorView { shape: &[4], ..TensorView::f32("w", &[9000], &values) };
            encoder.tensor(&short, &lossy).unwrap_err();
            encoder.finish().unwrap_err();
            continue;
        }
        encoder.manifest(&[TensorView::f32("w", &[9000], &values).desc()]).unwrap();
        encoder.tensor(&TensorView::f32("w", &[9000], &values), &lossy).unwrap();
        encoder.finish().unwrap();
        let options = EncodeOptions::new(seeds(round)).with_index(true);
        let mut new = Encoder::new(options).unwrap();
        new.manifest(&[TensorView::f32("w", &[9000], &values).desc()]).unwrap();
        new.tensor(&TensorView::f32("w", &[9000], &values), &lossy).unwrap();
        new.finish().unwrap();
        assert!(encoder.output() == new.output(), "round {round}");
        assert_eq!(encoder.n_bytes(), new.n_bytes());
    }
}

#[test]
fn what_is_read_into_the_callers_buffers_is_what_is_read() {
    let values = gaussian(9000, 1);
    let bytes = encode_f32(&values, &spec("hadamard|q=4"), &small_groups());
    let expected = decode(&bytes).unwrap().remove(0);
    for threads in [1, 3] {
        let options = DecodeOptions::default().with_threads(threads);
        let mut reader = fedpress::Reader::new(&bytes[..], options.clone());
        let mut data = vec![0xaa; expected.data.len()];
        let shape = reader.next_tensor().unwrap().unwrap().read_into(&mut data).unwrap();
        assert!((&shape, &data) == (&expected.shape, &expected.data));
        for n in [8999, 9001] {
            let mut reader = fedpress::Reader::new(&bytes[..], options.clone());
            let (mut values, mut data) = (vec![0.0; n], vec![0; 4 * n]);
            let error = reader.next_tensor().unwrap().unwrap().read_into(&mut data).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
            let mut reader = fedpress::Reader::new(&bytes[..], options.clone());
            let error = reader.next_tensor().unwrap().unwrap().read_f32_into(&mut values);
            assert_eq!(*error.unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
}
