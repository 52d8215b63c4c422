//! Laws of the records of applications: handed out when asked for, otherwise unknown records.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    DecodeOptions, Decoder, EncodeOptions, Encoder, ErrorKind, Event, Spec, TensorView,
};

fn stream(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(EncodeOptions::new(SEEDS)).unwrap();
    encoder.record(kind, body).unwrap();
    encoder.tensor(&TensorView::f32("w", &[2], &[1.0, 2.0]), &Spec::lossless()).unwrap();
    encoder.record(kind, b"").unwrap();
    encoder.finish().unwrap();
    encoder.output().to_vec()
}

fn records(mut decoder: Decoder, bytes: &[u8]) -> fedpress::Result<Vec<(u8, Vec<u8>)>> {
    let mut found = Vec::new();
    for mut piece in bytes.chunks(5) {
        while let Some(event) = decoder.next(&mut piece)? {
            if let Event::Record { kind, body } = event {
                found.push((kind, body));
            }
        }
    }
    decoder.finish().map(|()| found)
}

#[test]
fn records_arrive_as_they_were_sent_and_only_where_asked_for() {
    for kind in [0xA0, 0xBF] {
        let bytes = stream(kind, b"hello");
        let asked = records(Decoder::with_records(DecodeOptions::default()), &bytes).unwrap();
        assert_eq!(asked, [(kind, b"hello".to_vec()), (kind, Vec::new())]);
        assert_eq!(records(Decoder::new(DecodeOptions::default()), &bytes).unwrap(), []);
        let tensors = fedpress::decode(&bytes, &DecodeOptions::default()).unwrap();
        assert_eq!(tensors[0].to_f32().unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn critical_records_are_refused_by_those_who_do_not_know_them() {
    for kind in [0x20, 0x3F] {
        let bytes = stream(kind, b"hello");
        assert_eq!(
            records(Decoder::with_records(DecodeOptions::default()), &bytes).unwrap().len(),
            2
        );
        let error = fedpress::decode(&bytes, &DecodeOptions::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unsupported { .. }), "{error}");
    }
}

#[test]
fn other_kinds_and_other_places_are_the_callers_mistake() {
    let mut encoder = Encoder::new(EncodeOptions::new(SEEDS)).unwrap();
    for kind in [0x00, 0x01, 0x1F, 0x40, 0x80, 0x81, 0x9F, 0xC0, 0xFF] {
        let error = encoder.record(kind, b"").unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{kind:#x}");
    }
    let too_long = vec![0; (1 << 27) + 1];
    assert!(encoder.record(0xA0, &too_long).is_err());
    encoder.finish().unwrap();
    assert!(encoder.record(0xA0, b"").is_err());
    // None of the refused left a trace.
    assert_eq!(fedpress::decode(encoder.output(), &DecodeOptions::default()).unwrap(), []);
}

#[test]
fn every_flip_in_a_record_is_an_error_and_every_truncation_is_truncated() {
    let bytes = stream(0xA0, b"hello");
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(
            records(Decoder::with_records(DecodeOptions::default()), &flipped).is_err(),
            "{at}"
        );
    }
    for end in 1..bytes.len() {
        let error = records(Decoder::with_records(DecodeOptions::default()), &bytes[..end]);
        assert_eq!(*error.unwrap_err().kind(), ErrorKind::Truncated, "{end}");
    }
}

#[test]
fn a_record_past_the_memory_limit_is_refused() {
    let mut options = DecodeOptions::default();
    options.memory = 1 << 16;
    let error = records(Decoder::with_records(options), &stream(0xA0, &[0; 1 << 17])).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { .. }), "{error}");
}
