//! Law: a stream that was cut short is never taken for a whole one, wherever the cut is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{DecodeOptions, Decoder, Result};

/// Runs the sans-IO decoder over `bytes` in pieces; the number of tensors.
fn drive(bytes: &[u8], piece: usize) -> Result<usize> {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut n_tensors = 0;
    for mut input in bytes.chunks(piece) {
        while let Some(event) = decoder.next(&mut input)? {
            n_tensors += usize::from(matches!(event, fedpress::Event::Tensor(_)));
        }
        assert!(input.is_empty(), "asked for more before taking all");
    }
    decoder.finish()?;
    Ok(n_tensors)
}

/// Tries every cut, and checks that a cut between streams succeeds.
fn at_every_cut<T>(sample: &Sample, stride: usize, mut f: impl FnMut(&[u8]) -> Result<T>) {
    for cut in (0..sample.bytes.len()).step_by(stride) {
        let result = f(&sample.bytes[..cut]);
        if !sample.ends.contains(&cut) {
            assert_truncated(result, &format!("{} cut at {cut}", sample.name));
        }
    }
    for end in &sample.ends {
        if let Err(error) = f(&sample.bytes[..*end]) {
            panic!("{} up to {end}: {error}", sample.name);
        }
    }
}

#[test]
fn every_cut_inside_a_stream_is_truncated() {
    for sample in zoo() {
        at_every_cut(&sample, 1, decode);
    }
}

#[test]
fn every_cut_is_truncated_for_the_sans_io_decoder() {
    for sample in zoo() {
        at_every_cut(&sample, 1, |bytes| drive(bytes, 1 << 20));
        at_every_cut(&sample, 3, |bytes| drive(bytes, 1));
    }
}

#[test]
fn every_cut_is_truncated_for_slow_and_interrupted_readers() {
    for sample in zoo() {
        let stride = 1 + sample.bytes.len() / 300;
        for (step, interrupts) in [(1, false), (1, true), (1000, true)] {
            at_every_cut(&sample, stride, |bytes| {
                read_all(Slow::new(bytes, step, interrupts), &DecodeOptions::default())
            });
        }
    }
}

#[test]
fn every_cut_is_truncated_for_parallel_readers() {
    let mut options = DecodeOptions::default();
    options.threads = 3;
    for sample in zoo().iter().filter(|s| s.name.starts_with("three")) {
        at_every_cut(sample, 53, |bytes| fedpress::decode(bytes, &options));
    }
}

#[test]
fn every_cut_is_truncated_for_summaries() {
    let options = DecodeOptions::default();
    for sample in zoo() {
        at_every_cut(&sample, 1, |bytes| {
            fedpress::summarize(&mut std::io::Cursor::new(bytes), &options)
        });
        at_every_cut(&sample, 1, |bytes| fedpress::summarize_stream(&mut &bytes[..], &options));
    }
}

#[test]
fn a_cut_at_the_end_of_a_tensor_is_seen_when_the_next_one_is_asked_for() {
    let bytes = everything();
    let last = records(&bytes).iter().rfind(|r| r.0 == CHUNK).unwrap().1.clone();
    let mut reader = fedpress::Reader::new(&bytes[..last.end], DecodeOptions::default());
    for _ in 0..4 {
        reader.next_tensor().unwrap().unwrap().read().unwrap();
    }
    assert_truncated(reader.next_tensor().map(drop), "after the last tensor");
}

#[test]
fn nothing_is_not_a_stream() {
    assert_truncated(decode(b""), "empty input");
    assert_truncated(drive(b"", 1), "empty input");
    assert_truncated(read_all(std::io::empty(), &DecodeOptions::default()), "empty input");
    assert_truncated(Decoder::new(DecodeOptions::default()).finish(), "no input");
}

#[test]
fn a_cut_says_where() {
    let bytes = everything();
    let error = decode(&bytes[..50]).unwrap_err();
    assert_eq!(error.offset(), Some(50));
}

#[test]
fn no_cut_stream_lets_read_tensor_take_the_wrong_bytes() {
    let options = DecodeOptions::default();
    let bytes = everything();
    let whole = fedpress::read_tensor(&mut std::io::Cursor::new(&bytes), "log", &options).unwrap();
    assert_eq!(whole, decode(&bytes).unwrap()[3]);
    for cut in 0..bytes.len() {
        let mut source = std::io::Cursor::new(&bytes[..cut]);
        let result = fedpress::read_tensor(&mut source, "log", &options);
        assert_truncated(result, &format!("read_tensor, cut at {cut}"));
    }
}
