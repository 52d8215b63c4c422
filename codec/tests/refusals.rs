//! Law: what is refused leaves either nothing behind or an encoder that says so, and a reader that was
//! asked in vain goes on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{DType, DecodeOptions, Reader, TensorView, Writer};
use std::collections::BTreeMap;

fn within(memory: u64) -> DecodeOptions {
    let mut options = DecodeOptions::default();
    options.memory = memory;
    options
}

#[test]
fn tensors_that_are_refused_together_leave_a_valid_stream_or_a_poisoned_encoder() {
    let (fine, mut nan) = (gaussian(2000, 1), gaussian(2000, 2));
    nan[7] = f32::NAN;
    let shape = [2000];
    let a = TensorView::f32("a", &shape, &fine);
    let b = TensorView::f32("b", &shape, &nan);
    let spec = spec("hadamard|q=4");
    for threads in [1, 2, 5] {
        for (tensors, before) in [(vec![a, b], 0), (vec![a, a], 0), (vec![b], 0), (vec![a], 1)] {
            let mut writer = Writer::new(Vec::new(), options().with_threads(threads)).unwrap();
            for _ in 0..before {
                writer.tensor(&a, &spec).unwrap();
            }
            let tensors: Vec<_> = tensors.into_iter().map(|view| (view, &spec)).collect();
            writer.tensors(&tensors).unwrap_err();
            // Only what was refused before anything was planned has changed nothing.
            match writer.finish() {
                Ok(bytes) => assert_eq!((decode(&bytes).unwrap().len(), before), (1, 1)),
                Err(error) => assert_eq!(before, 0, "{error}"),
            }
        }
    }
}

#[test]
fn a_writer_of_no_tensors_may_still_begin_with_metadata() {
    let mut writer = Writer::new(Vec::new(), options()).unwrap();
    writer.tensors(&[]).unwrap();
    writer.metadata(&BTreeMap::from([("a".to_owned(), "b".to_owned())])).unwrap();
    assert!(decode(&writer.finish().unwrap()).unwrap().is_empty());
}

#[test]
fn a_reader_goes_on_behind_what_it_was_asked_for_in_vain() {
    let (x, i) = (gaussian(10, 1), elements(DType::I64, 10, 1));
    let numbers = TensorView { name: "i", dtype: DType::I64, shape: &[10], data: &i };
    let views = [numbers, TensorView::f32("w", &[10], &x)];
    let bytes = fedpress::encode(&views, &spec("lossless"), &options()).unwrap();
    let mut reader = Reader::new(&bytes[..], DecodeOptions::default());
    let mut values = [0.0; 10];
    let refused = reader.next_tensor().unwrap().unwrap().read_f32_into(&mut values);
    assert!(refused.unwrap_err().to_string().contains("I64"));
    reader.next_tensor().unwrap().unwrap().read_f32_into(&mut values).unwrap();
    assert_eq!(values[..], x[..]);
}

/// Of one tensor that this crate cannot decode, between two that take most of the memory.
#[test]
fn reading_all_that_stops_gives_back_what_it_was_charged() {
    let n = 1 << 16;
    let tensor = |name: &str| RawTensor::new(name, DType::U8, &[n]);
    let payload = vec![7; n as usize];
    let unknown = RawTensor { dtype: 0x7f, ..RawTensor::new("u", DType::U8, &[1]) };
    let bytes = Raw::new()
        .tensor(&tensor("a").flags(16))
        .chunk(0, LAST, n, &payload)
        .tensor(&unknown)
        .chunk(0, LAST, 1, &[1])
        .tensor(&tensor("b").flags(16))
        .chunk(0, LAST, n, &payload)
        .end();
    let needed = |options: &DecodeOptions| {
        let mut reader = Reader::new(&bytes[..], options.clone());
        loop {
            match reader.next_tensor() {
                Ok(Some(tensor)) if tensor.meta().supported().is_err() => {}
                Ok(Some(tensor)) => match tensor.read() {
                    Ok(_) => {}
                    Err(_) => return false,
                },
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    };
    // The least memory in which tensor by tensor can be read.
    let memory = (1..).map(|i| i << 14).find(|memory| needed(&within(*memory))).unwrap();
    let mut reader = Reader::new(&bytes[..], within(memory));
    reader.read_all().unwrap_err();
    let b = reader.next_tensor().unwrap().unwrap();
    assert_eq!(b.read().unwrap().data, payload);
}

/// The limit that is enough on one thread is enough on many, if their buffers fit it at all.
#[test]
fn what_can_be_read_does_not_depend_on_how_many_chunks_wait() {
    let n = 4 << 20;
    let x = vec![1.5f32; n];
    let bytes = encode_f32(&x, &spec("none"), &options());
    // Fewer threads than chunks.
    for threads in [1, 2, 3] {
        // Tensor by tensor nothing waits.
        let whole = |memory: u64| {
            let mut options = within(memory);
            options.threads = threads;
            let mut reader = Reader::new(&bytes[..], options);
            reader.next_tensor().and_then(|tensor| tensor.unwrap().read())
        };
        let least = (1..).map(|i| i << 20).find(|memory| whole(*memory).is_ok()).unwrap();
        // The tensors themselves are charged for, too.
        let mut options = within(least + 4096);
        options.threads = threads;
        let all = Reader::new(&bytes[..], options).read_all().unwrap();
        assert_eq!(all[0].to_f32().unwrap(), x, "{threads} threads");
    }
}
