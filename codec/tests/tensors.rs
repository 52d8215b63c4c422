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

#[test]
fn several_tensors_are_read_into_the_callers_buffers_on_any_number_of_threads() {
    let (a, b) = (gaussian(9000, 1), gaussian(50, 2));
    let tensors: [(&str, &dyn AsTensor); 6] =
        [("a", &a), ("b", &b), ("again", &a), ("none", &[0u8; 0]), ("n", &[7i64]), ("last", &b)];
    let options = small_groups().with_tie(true);
    let stream = fedpress::encode(&tensors, &spec("hadamard|q=4"), &options).unwrap();
    let expected = decode(&stream).unwrap();
    let mut data: Vec<_> = expected.iter().map(|tensor| vec![1; tensor.data.len()]).collect();
    for threads in [1, 2, 5] {
        let options = DecodeOptions::default().with_threads(threads);
        let mut reader = fedpress::Reader::new(&stream[..], options);
        let mut places: Vec<_> = data.iter_mut().map(|data| &mut data[..]).collect();
        let (first, rest) = places.split_at_mut(1);
        // One is passed over half-way, the others are read in one go.
        reader.next_tensor().unwrap().unwrap().next_chunk().unwrap();
        first[0].copy_from_slice(&expected[0].data);
        reader.read_tensors_into(rest).unwrap();
        assert!(reader.next_tensor().unwrap().is_none());
        assert!(data.iter().eq(expected.iter().map(|tensor| &tensor.data)), "{threads}");
        data.iter_mut().for_each(|data| data.fill(1));
    }
}

#[test]
fn buffers_of_other_sizes_or_of_more_tensors_are_refused() {
    let tensors = [("a", vec![1u8; 3]), ("b", vec![2u8; 5])];
    let stream = fedpress::encode(&tensors, &Spec::none(), &options()).unwrap();
    for sizes in [&[3, 4][..], &[3, 6], &[2, 5], &[3, 5, 1]] {
        let mut data: Vec<_> = sizes.iter().map(|n| vec![0u8; *n]).collect();
        let mut places: Vec<_> = data.iter_mut().map(|data| &mut data[..]).collect();
        let mut reader = fedpress::Reader::new(&stream[..], DecodeOptions::default());
        let error = reader.read_tensors_into(&mut places).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{sizes:?}");
    }
}

#[test]
fn tensors_that_are_put_together_take_the_bytes_that_are_told() {
    let (a, b) = (gaussian(9000, 1), gaussian(50, 2));
    let (long, short) = ([a.len()], [b.len()]);
    let views = [("a", &long, &a), ("b", &short, &b), ("again", &long, &a)];
    let views = views.map(|(name, shape, x)| TensorView::f32(name, shape, x));
    let lossy = spec("hadamard|q=4");
    let views: Vec<_> = views.iter().map(|view| (*view, &lossy)).collect();
    for threads in [1, 3] {
        let options = small_groups().with_tie(true).with_threads(threads);
        let mut encoder = Encoder::new(options).unwrap();
        let start = encoder.n_bytes();
        let sizes = encoder.tensors(&views).unwrap();
        assert_eq!(start + sizes.iter().sum::<u64>(), encoder.n_bytes());
        assert!(sizes[0] > 4500 && sizes[1] > 50 && sizes[2] < 50, "{sizes:?}");
        assert_eq!(encoder.tensors(&[]).unwrap(), [0; 0]);
        let one = TensorView::f32("one", &[50], &b);
        assert_eq!(encoder.tensors(&[(one, &lossy)]).unwrap().len(), 1);
    }
}
