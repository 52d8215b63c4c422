//! Law: a stream cannot make a reader take more memory than its limit, whatever it claims, nor
//! more time than its length and its values are worth.
//!
//! Every allocation of this test binary is counted. Tests take turns, so that each sees its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;
#[path = "common/heap.rs"]
mod heap;

use common::*;
use fedpress::{
    ChunkDecoder, DType, DecodeOptions, Decoder, ErrorKind, Event, Reader, Result, Tensor,
    TensorDesc, TensorView,
};
use heap::peak_of;
use std::io::Read;
use std::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::new(());

/// To be held by a test from start to end: what it makes counts, too.
fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

const MIB: usize = 1 << 20;
/// What decoding may take beyond its limit: input buffers, contexts, threads.
const SLACK: usize = 4 * MIB;

fn limited(memory: usize) -> DecodeOptions {
    let mut options = DecodeOptions::default();
    options.memory = memory as u64;
    options
}

#[track_caller]
fn assert_limit_exceeded<T>(result: Result<T>, limit: usize) {
    match result {
        Ok(_) => panic!("success"),
        Err(error) => match error.kind() {
            ErrorKind::LimitExceeded { limit: found, needed } => {
                assert_eq!(*found, limit as u64);
                assert!(*needed > limit as u64, "{error}");
            }
            _ => panic!("{error}"),
        },
    }
}

/// Decodes in all ways with a limit; each must stay under it. Returns what [`fedpress::decode`] did.
#[track_caller]
fn within(memory: usize, bytes: &[u8]) -> Result<Vec<Tensor>> {
    let options = limited(memory);
    let (_, events) = peak_of(|| {
        let mut decoder = Decoder::new(options.clone());
        let mut input = bytes;
        while let Ok(Some(event)) = decoder.next(&mut input) {
            drop(event);
        }
    });
    let (_, summary) = peak_of(|| fedpress::summarize_stream(&mut &bytes[..], &options).map(drop));
    let (result, decode) = peak_of(|| fedpress::decode(bytes, &options));
    let [events, summary, decode, memory] = [events, summary, decode, memory].map(|n| n as f64);
    let mib = |n: f64| n / MIB as f64;
    assert!(
        events.max(summary).max(decode) <= memory + SLACK as f64,
        "MiB of a stream of {:.1} with {:.1} allowed: events {:.1}, summary {:.1}, decode {:.1}",
        mib(bytes.len() as f64),
        mib(memory),
        mib(events),
        mib(summary),
        mib(decode)
    );
    result
}

/// Repeats what `next` makes until `total` bytes have been read.
struct Endless<F> {
    next: F,
    number: usize,
    ready: Vec<u8>,
    at: usize,
    left: usize,
}

impl<F: FnMut(usize) -> Vec<u8>> Endless<F> {
    fn new(head: Vec<u8>, total: usize, next: F) -> Self {
        Self { next, number: 0, ready: head, at: 0, left: total }
    }
}

impl<F: FnMut(usize) -> Vec<u8>> Read for Endless<F> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let mut n = 0;
        while n < out.len() && self.left > 0 {
            if self.at == self.ready.len() {
                self.ready = (self.next)(self.number);
                self.number += 1;
                self.at = 0;
            }
            let piece = (out.len() - n).min(self.ready.len() - self.at).min(self.left);
            out[n..n + piece].copy_from_slice(&self.ready[self.at..self.at + piece]);
            (n, self.at, self.left) = (n + piece, self.at + piece, self.left - piece);
        }
        Ok(n)
    }
}

// ---------------------------------------------------------------------------------------------
// Claims

#[test]
fn a_tensor_that_claims_2_to_the_63_elements_costs_nothing_until_they_come() {
    let _turn = turn();
    for shape in [&[1 << 63][..], &[1 << 21, 1 << 21, 1 << 21], &[1 << 62, 2]] {
        for stages in [&[0][..], &[1, 0x20, 3, 16, 0, 21], &[1, 0x31, 1, 1]] {
            let tensor = RawTensor::new("w", DType::F32, shape).stages(stages);
            let stream = Raw::new().tensor(&tensor).bytes;
            let (result, peak) = peak_of(|| decode(&stream));
            assert_truncated(result, "no chunk");
            assert!(peak < SLACK, "{peak}");
            let mut sums = vec![0.0; 100];
            let mut reader = Reader::new(&stream[..], DecodeOptions::default());
            let error = reader.next_tensor().unwrap().unwrap().add_into(&mut sums, 1.0);
            assert_eq!(*error.unwrap_err().kind(), ErrorKind::InvalidArgument);
            let summary = fedpress::summarize_stream(&mut &stream[..], &DecodeOptions::default());
            assert_truncated(summary, "no chunk");
        }
    }
    let empty = RawTensor::new("w", DType::F64, &[0, u64::MAX, u64::MAX]);
    assert_eq!(within(MIB, &Raw::new().tensor(&empty).end()).unwrap()[0].data, []);
}

#[test]
fn a_group_that_does_not_fit_the_limit_is_refused_before_its_bytes() {
    let _turn = turn();
    // 2^20 f32 through kashin of lambda 2, unquantized: 8 MiB of payload, and three times that.
    let stages = [&[1, 0x02, 6, 15, 0][..], &2f32.to_le_bytes()].concat();
    let tensor = RawTensor::new("w", DType::F32, &[1 << 20]).stages(&stages).flags(20).seeded();
    let stream = Raw::new().tensor(&tensor).bytes;
    let (result, peak) = peak_of(|| fedpress::decode(&stream, &limited(8 * MIB)));
    assert_limit_exceeded(result, 8 * MIB);
    assert!(peak < MIB, "{peak}");
    let (result, _) = peak_of(|| fedpress::decode(&stream, &limited(64 * MIB)));
    assert_truncated(result, "enough for one thread");
    // Threads that have a chunk each count, others do not.
    let mut options = limited(64 * MIB);
    options.threads = 7;
    assert_truncated(fedpress::decode(&stream, &options), "one chunk");
    let tensor = RawTensor::new("w", DType::F32, &[7 << 20]).stages(&stages).flags(20).seeded();
    let stream = Raw::new().tensor(&tensor).bytes;
    assert_limit_exceeded(fedpress::decode(&stream, &options), 64 * MIB);
}

#[cfg(feature = "zstd")]
#[test]
fn a_tensor_that_does_not_fit_the_limit_is_refused_when_read_whole() {
    let _turn = turn();
    // A real one: 64 MiB of zeros, a few kilobytes of stream.
    let zeros = vec![0u8; 64 * MIB];
    let n = zeros.len();
    let view = TensorView { name: "w", dtype: DType::U8, shape: &[n], data: &zeros };
    let bytes = fedpress::encode(&[view], &spec("zstd"), &options()).unwrap();
    drop(zeros);
    assert!(bytes.len() < 100_000);
    assert_limit_exceeded(within(16 * MIB, &bytes), 16 * MIB);
    assert_eq!(within(80 * MIB, &bytes).unwrap()[0].data.len(), 64 * MIB);
    // Chunk by chunk it needs a few groups only.
    let (n, peak) = peak_of(|| {
        let mut reader = Reader::new(&bytes[..], limited(4 * MIB));
        let mut tensor = reader.next_tensor().unwrap().unwrap();
        let mut n = 0;
        while let Some(chunk) = tensor.next_chunk().unwrap() {
            n += chunk.len();
        }
        n
    });
    assert_eq!(n, 64 * MIB);
    assert!(peak <= 4 * MIB + SLACK, "{peak}");
}

#[test]
fn a_record_that_does_not_fit_the_limit_is_refused_before_its_bytes() {
    let _turn = turn();
    for kind in [METADATA, MANIFEST, TENSOR, INDEX] {
        let stream = [PREAMBLE.to_vec(), record_header(kind, 1 << 27)].concat();
        let (result, peak) = peak_of(|| fedpress::decode(&stream, &limited(MIB)));
        assert_limit_exceeded(result, MIB);
        assert!(peak < MIB, "{peak}");
    }
    // Not refused: it is not kept.
    let stream = [PREAMBLE.to_vec(), record_header(UNKNOWN_SKIPPABLE, u32::MAX)].concat();
    let (result, peak) = peak_of(|| fedpress::decode(&stream, &limited(0)));
    assert_truncated(result, "nothing behind it");
    assert!(peak < MIB, "{peak}");
}

#[test]
fn memory_for_a_record_comes_with_its_bytes() {
    let _turn = turn();
    for kind in [METADATA, MANIFEST, TENSOR, INDEX] {
        let stream = [PREAMBLE.to_vec(), record_header(kind, 1 << 27), vec![0; 1000]].concat();
        let (result, peak) = peak_of(|| fedpress::decode(&stream, &DecodeOptions::default()));
        assert_truncated(result, "1000 of 2^27 bytes");
        assert!(peak < MIB, "{peak}");
    }
}

#[test]
fn counts_that_are_not_backed_by_bytes_cost_nothing() {
    let _turn = turn();
    for kind in [METADATA, MANIFEST, INDEX] {
        let stream = Raw::new().record(kind, &varint(u64::MAX)).end();
        let (result, peak) = peak_of(|| fedpress::decode(&stream, &DecodeOptions::default()));
        assert_eq!(*result.unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(peak < MIB, "{peak}");
    }
}

// ---------------------------------------------------------------------------------------------
// What a small stream unfolds to

#[test]
fn a_manifest_of_tiny_entries_stays_within_the_limit() {
    let _turn = turn();
    // Four bytes each: no name, u8, a scalar.
    let n = 3_000_000;
    let entries = [0, DType::U8.number(), 0, 0].repeat(n);
    let body = [varint(n as u64), entries].concat();
    let stream = Raw::new().record(MANIFEST, &body).end();
    let _ = within(64 * MIB, &stream);
}

#[test]
fn a_manifest_of_many_dimensions_stays_within_the_limit() {
    let _turn = turn();
    let tensor = RawTensor::new("", DType::U8, &[1; 64]);
    let n = 200_000;
    let body = [varint(n as u64), tensor.desc(0).repeat(n)].concat();
    let stream = Raw::new().record(MANIFEST, &body).end();
    let _ = within(64 * MIB, &stream);
}

#[test]
fn metadata_of_tiny_entries_stays_within_the_limit() {
    let _turn = turn();
    let n = 2_000_000u32;
    let entries = (0..n).flat_map(|i| {
        let digits = [(i >> 21) & 127, (i >> 14) & 127, (i >> 7) & 127, i & 127].map(|d| d as u8);
        [&[4][..], &digits, &[0]].concat()
    });
    let body: Vec<u8> = varint(u64::from(n)).into_iter().chain(entries).collect();
    let stream = Raw::new().record(METADATA, &body).end();
    let _ = within(64 * MIB, &stream);
}

#[test]
fn an_index_of_many_entries_stays_within_the_limit() {
    let _turn = turn();
    let n = 1_300_000u64;
    let entries = (0..n).flat_map(|i| [&[0; 8][..], &varint(i)].concat());
    let body: Vec<u8> = varint(n).into_iter().chain(entries).collect();
    let stream = Raw::new().record(INDEX, &body).end();
    assert!(within(64 * MIB, &stream).is_err());
}

#[test]
fn empty_tensors_of_many_dimensions_stay_within_the_limit() {
    let _turn = turn();
    let raw = (0..60_000u32).fold(Raw::new(), |raw, i| {
        raw.tensor(&RawTensor::new(&i.to_string(), DType::U8, &[0; 64]))
    });
    let _ = within(16 * MIB, &raw.end());
}

#[test]
fn empty_tensors_of_long_names_stay_within_the_limit() {
    let _turn = turn();
    let raw = (0..400).fold(Raw::new(), |raw, i| {
        raw.tensor(&RawTensor::new(&format!("{i:065535}"), DType::U8, &[0]))
    });
    assert_limit_exceeded(within(16 * MIB, &raw.end()), 16 * MIB);
}

#[test]
fn concatenated_streams_of_tiny_tensors_stay_within_the_limit() {
    let _turn = turn();
    let one = Raw::new().tensor(&RawTensor::new("", DType::U8, &[0])).end();
    let _ = within(MIB, &one.repeat(100_000));
}

#[test]
fn concatenated_streams_of_metadata_stay_within_the_limit() {
    let _turn = turn();
    let mut bytes = Vec::new();
    for i in 0..64 {
        let body = [vec![1], text(&[b'a' + i % 26, b'a' + i / 26]), text(&vec![b'v'; 250_000])];
        bytes.extend(Raw::new().record(METADATA, &body.concat()).end());
    }
    let _ = within(2 * MIB, &bytes);
}

#[test]
fn a_chunk_longer_than_its_own_values_need_stays_within_the_limit() {
    let _turn = turn();
    // One f64 in groups of 2^20: the chunk may claim 8 MiB, and sends them.
    let tensor = RawTensor::new("w", DType::F64, &[1]).flags(20);
    let stream = Raw::new().tensor(&tensor).chunk(0, LAST, 1, &vec![0; 8 * MIB]).end();
    let result = within(MIB, &stream);
    assert!(result.is_err());
}

#[cfg(feature = "zstd")]
#[test]
fn a_zstd_frame_cannot_unfold_beyond_its_chunk() {
    let _turn = turn();
    let tensor = RawTensor::new("w", DType::U8, &[1 << 16]).flags(20).stages(&[1, 0x31, 1, 1]);
    let stream = |frame: &[u8]| Raw::new().tensor(&tensor).chunk(0, LAST, 1 << 16, frame).end();
    assert!(within(MIB, &stream(&zstd_run(0x58, 1 << 16))).is_ok());
    // A gigabyte for 32 KiB of frame.
    let bomb = stream(&zstd_run(0x58, 1 << 30));
    let error = within(MIB, &bomb).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt);
}

#[cfg(feature = "zstd")]
#[test]
fn a_zstd_window_of_terabytes_takes_no_memory() {
    let _turn = turn();
    let tensor = RawTensor::new("w", DType::U8, &[1 << 16]).stages(&[1, 0x31, 1, 1]).flags(20);
    for window in [0x58, 0xa8, 0xf8, 0xff] {
        let frame = zstd_run(window, 1 << 16);
        let stream = Raw::new().tensor(&tensor).chunk(0, LAST, 1 << 16, &frame).end();
        if let Ok(tensors) = within(MIB, &stream) {
            assert_eq!(tensors[0].data, vec![0; 1 << 16]);
        }
    }
    // A content size that lies: 2^62, single segment.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend((1u64 << 62).to_le_bytes());
    frame.extend([1, 0, 0]);
    let stream = Raw::new().tensor(&tensor).chunk(0, LAST, 1 << 16, &frame).end();
    assert_eq!(*within(MIB, &stream).unwrap_err().kind(), ErrorKind::Corrupt);
}

// ---------------------------------------------------------------------------------------------
// Streams that do not end

const LONG: usize = 8 * MIB;

#[test]
fn endless_empty_records_take_no_memory() {
    let _turn = turn();
    let record = record(UNKNOWN_SKIPPABLE, &[]);
    let (result, peak) = peak_of(|| {
        read_all(Endless::new(PREAMBLE.to_vec(), LONG, |_| record.clone()), &limited(0))
    });
    assert_truncated(result, "no end record");
    assert!(peak < MIB, "{peak}");
    let (result, peak) = peak_of(|| {
        let mut source = Endless::new(PREAMBLE.to_vec(), LONG, |_| record.clone());
        fedpress::summarize_stream(&mut source, &limited(0))
    });
    assert_truncated(result, "no end record");
    assert!(peak < MIB, "{peak}");
}

#[test]
fn endless_streams_without_tensors_take_no_memory() {
    let _turn = turn();
    let stream = Raw::new().end();
    let total = stream.len() * (LONG / stream.len());
    let source = || Endless::new(stream.clone(), total, |_| stream.clone());
    let (result, peak) = peak_of(|| read_all(source(), &limited(100)));
    assert!(result.unwrap().is_empty());
    assert!(peak < MIB, "{peak}");
    let (result, peak) = peak_of(|| fedpress::summarize_stream(&mut source(), &limited(100)));
    assert_eq!(result.unwrap().n_streams, (total / stream.len()) as u64);
    assert!(peak < MIB, "{peak}");
}

#[test]
fn endless_empty_tensors_pass_the_limit() {
    let _turn = turn();
    let tensor =
        |i: usize| record(TENSOR, &RawTensor::new(&i.to_string(), DType::F32, &[0]).body());
    for memory in [0, MIB] {
        let source = || Endless::new(PREAMBLE.to_vec(), LONG, tensor);
        let (result, peak) = peak_of(|| read_all(source(), &limited(memory)));
        assert_limit_exceeded(result, memory);
        assert!(peak < memory + SLACK, "{peak}");
        let (result, peak) =
            peak_of(|| fedpress::summarize_stream(&mut source(), &limited(memory)));
        assert_limit_exceeded(result, memory);
        assert!(peak < memory + SLACK, "{peak}");
    }
}

#[test]
fn an_endless_open_tensor_passes_the_limit_when_read_whole() {
    let _turn = turn();
    // 4096 bytes of every 30: a million of them would be four gigabytes.
    let open = RawTensor { shape: vec![0], ..RawTensor::new("w", DType::U8, &[]) };
    let open = open.flags(12 | OPEN).stages(&[1, 0x31, 1, 1]);
    let head = Raw::new().tensor(&open).bytes;
    let chunk = |i: usize| record(CHUNK, &chunk_body(i as u64, 0, 4096, &zstd_run(0x10, 4096)));
    let (result, peak) =
        peak_of(|| read_all(Endless::new(head.clone(), LONG, chunk), &limited(8 * MIB)));
    assert_limit_exceeded(result, 8 * MIB);
    assert!(peak < 8 * MIB + SLACK, "{peak}");
    // Chunk by chunk it goes on in constant memory, as long as it comes.
    let (result, peak) = peak_of(|| {
        let mut reader = Reader::new(Endless::new(head.clone(), LONG / 8, chunk), limited(MIB));
        let mut tensor = reader.next_tensor().unwrap().unwrap();
        loop {
            match tensor.next_chunk() {
                Ok(Some(_)) => {}
                other => return other.map(drop),
            }
        }
    });
    assert_truncated(result, "no last chunk");
    assert!(peak < MIB + SLACK, "{peak}");
}

#[test]
fn concatenated_streams_do_not_add_up_where_nothing_is_kept() {
    let _turn = turn();
    // Each stream takes nearly all of the limit for names, and gives it back.
    let one = (0..200u32).fold(Raw::new(), |raw, i| {
        raw.tensor(&RawTensor::new(&format!("{i:01000}"), DType::U8, &[0]))
    });
    let bytes = one.end().repeat(20);
    let mut reader = Reader::new(&bytes[..], limited(MIB));
    let mut n = 0;
    while reader.next_tensor().unwrap().is_some() {
        n += 1;
    }
    assert_eq!(n, 4000);
}

#[test]
fn tensors_that_were_read_and_dropped_do_not_add_up() {
    let _turn = turn();
    // Ten tensors of 1 MiB, one after the other, fit 4 MiB.
    let data = Rng(1).bytes(MIB);
    let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let views: Vec<_> = names
        .iter()
        .map(|name| TensorView { name, dtype: DType::U8, shape: &[MIB], data: &data })
        .collect();
    let bytes = fedpress::encode(&views, &spec("none"), &options()).unwrap();
    let mut reader = Reader::new(&bytes[..], limited(5 * MIB));
    while let Some(tensor) = reader.next_tensor().unwrap() {
        drop(tensor.read().unwrap());
    }
}

// ---------------------------------------------------------------------------------------------
// The limit is enough and is kept

/// Raises the limit to what errors say is needed, until it is enough; then the peak must fit it.
#[track_caller]
fn assert_what_is_needed_is_enough(what: &str, bytes: &[u8], threads: usize) {
    let mut memory = 0;
    for _ in 0..100 {
        let mut options = limited(memory);
        options.threads = threads;
        let (result, peak) = peak_of(|| fedpress::decode(bytes, &options).map(drop));
        assert!(
            peak <= memory + SLACK,
            "{what}, {threads} threads: {:.1} MiB with {:.1} allowed",
            peak as f64 / MIB as f64,
            memory as f64 / MIB as f64
        );
        match result {
            Ok(()) => return,
            Err(error) => match error.kind() {
                ErrorKind::LimitExceeded { needed, .. } => {
                    assert!(*needed > memory as u64);
                    memory = *needed as usize;
                }
                _ => panic!("{what}: {error}"),
            },
        }
    }
    panic!("{what}: no limit is enough");
}

#[test]
fn what_is_said_to_be_needed_is_enough_and_is_not_exceeded() {
    let _turn = turn();
    let n = (1 << 20) + 4096;
    for dtype in [DType::F32, DType::BF16] {
        let data = elements(dtype, n, 1);
        let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
        let texts = [
            "none",
            "lossless",
            "hadamard|q=4|zstd",
            "kashin,lambda=2",
            "hadamard|subsample=1",
            "rotation|lm=2",
            "identity|lm=8",
            "rotation|trellis=0.5",
            "identity|step=0.5",
            "identity|step=9",
            "kashin|step=2,biased",
            "rotation|trellis=7",
            "identity|trellis=12",
        ];
        for text in texts {
            let bytes = fedpress::encode(&[view], &spec(text), &options()).unwrap();
            for threads in [1, 2] {
                assert_what_is_needed_is_enough(&format!("{dtype}, {text}"), &bytes, threads);
            }
        }
    }
}

#[test]
fn what_is_said_to_be_needed_is_enough_for_subsampled_halves_in_parallel() {
    let _turn = turn();
    let n = 4 << 20;
    let data = elements(DType::BF16, n, 1);
    let view = TensorView { name: "w", dtype: DType::BF16, shape: &[n], data: &data };
    let bytes = fedpress::encode(&[view], &spec("kashin,lambda=2|subsample=1|q=1"), &options());
    assert_what_is_needed_is_enough("one tensor", &bytes.unwrap(), 4);
}

#[test]
fn buffers_of_an_earlier_tensor_do_not_come_on_top_of_the_limit() {
    let _turn = turn();
    // The first tensor needs much to be decoded and little to be kept, the second the other way.
    let small = elements(DType::F32, 1 << 20, 1);
    let large = Rng(2).bytes(48 * MIB);
    let views = [
        TensorView { name: "a", dtype: DType::F32, shape: &[1 << 20], data: &small },
        TensorView { name: "b", dtype: DType::U8, shape: &[48 << 20], data: &large },
    ];
    let mut encoder = fedpress::Encoder::new(options()).unwrap();
    encoder.tensor(&views[0], &spec("kashin,lambda=2|subsample=1|zstd=-7")).unwrap();
    encoder.tensor(&views[1], &spec("none")).unwrap();
    encoder.finish().unwrap();
    assert_what_is_needed_is_enough("two tensors", encoder.output(), 1);
}

#[test]
fn a_limit_that_is_enough_is_enough_however_bytes_arrive() {
    let _turn = turn();
    let bytes = everything();
    for memory in (0..100_000).step_by(1000) {
        let whole = read_all(&bytes[..], &limited(memory)).map_err(|e| e.to_string());
        let slow = read_all(Slow::new(&bytes, 3, true), &limited(memory));
        assert_eq!(whole, slow.map_err(|e| e.to_string()));
    }
}

// ---------------------------------------------------------------------------------------------
// Nothing of an earlier content shows

#[test]
fn earlier_content_of_a_buffer_never_shows() {
    let _turn = turn();
    let specs = [
        "none",
        "lossless",
        "hadamard|q=3|zstd",
        "kashin|subsample=0.3|q=2",
        "hadamard|subsample=0.01",
        "kashin",
        "identity|q=16,nearest",
    ];
    for dtype in [DType::F32, DType::BF16] {
        for text in specs {
            for n in [1, 17, 4097, 9000] {
                let data = elements(dtype, n, 1);
                let view = TensorView { name: "w", dtype, shape: &[n], data: &data };
                let bytes = fedpress::encode(&[view], &spec(text), &small_groups()).unwrap();
                let mut decoder = Decoder::new(DecodeOptions::default());
                // This one has decoded other things before.
                let mut used = ChunkDecoder::new(&DecodeOptions::default());
                let mut input = &bytes[..];
                while let Some(event) = decoder.next(&mut input).unwrap() {
                    let Event::Chunk(chunk) = event else { continue };
                    let size = dtype.byte_len(chunk.n_values());
                    let mut fill = |byte, fresh| {
                        let mut out = vec![byte; size];
                        match fresh {
                            true => chunk.decode(
                                &mut ChunkDecoder::new(&DecodeOptions::default()),
                                &mut out,
                            ),
                            false => chunk.decode(&mut used, &mut out),
                        }
                        .unwrap();
                        out
                    };
                    let expected = fill(0, true);
                    for byte in [0x00, 0x3f, 0xff] {
                        assert!(fill(byte, true) == expected, "{dtype}, {text}, {n}");
                        assert!(fill(byte, false) == expected, "{dtype}, {text}, {n}");
                    }
                    let mut wrong = vec![0; size + 1];
                    assert!(chunk.decode(&mut used, &mut wrong).is_err());
                }
            }
        }
    }
}

#[test]
fn a_chunk_decoder_is_as_good_as_new_after_an_error() {
    let _turn = turn();
    let n = 4096;
    let x = gaussian(n, 1);
    for text in ["hadamard|q=4", "kashin|subsample=0.5|q=4", "hadamard|q=4|zstd", "lossless"] {
        let good = encode_f32(&x, &spec(text), &small_groups());
        let chunk_of = |bytes: &[u8]| {
            let mut decoder = Decoder::new(DecodeOptions::default());
            let mut input = bytes;
            loop {
                if let Event::Chunk(chunk) = decoder.next(&mut input).unwrap().unwrap() {
                    return chunk;
                }
            }
        };
        let place = records(&good).into_iter().find(|r| r.0 == CHUNK).unwrap().1;
        let bad = rewrite(&good, &place, |_, body| {
            let middle = body.len() / 2;
            body.truncate(middle);
        });
        let (good, bad) = (chunk_of(&good), chunk_of(&bad));
        let mut used = ChunkDecoder::new(&DecodeOptions::default());
        let (mut first, mut second) = (vec![0; 4 * n], vec![1; 4 * n]);
        good.decode(&mut used, &mut first).unwrap();
        assert!(bad.decode(&mut used, &mut second).is_err());
        assert!(bad.add_into(&mut used, &mut vec![0.0; n], 1.0).is_err());
        good.decode(&mut used, &mut second).unwrap();
        assert!(first == second, "{text}");
    }
}

#[test]
fn an_open_tensor_of_announced_rows_counts_what_it_holds() {
    let _turn = turn();
    let desc = TensorDesc::open("w", DType::F32, &[1 << 40]);
    let mut writer = fedpress::Writer::new(Vec::new(), options()).unwrap();
    writer.begin(&desc, &spec("none")).unwrap();
    writer.end().unwrap();
    let bytes = writer.finish().unwrap();
    assert_eq!(within(64 * MIB, &bytes).unwrap()[0].shape, [0, 1 << 40]);
}

#[test]
fn what_is_kept_of_many_small_chunks_stays_within_the_limit() {
    let _turn = turn();
    const CHUNKS: u64 = 50_000;
    let original = RawTensor::new("a", DType::U8, &[CHUNKS << 12]).kept().stages(&[1, 0x31, 1, 1]);
    let mut raw = Raw::new().tensor(&original);
    let frame = zstd_run(0x10, 1 << 12);
    for group in 0..CHUNKS {
        raw = raw.chunk(group, u8::from(group + 1 == CHUNKS), 1 << 12, &frame);
    }
    for name in ["b", "c"] {
        let tied = RawTensor::new(name, DType::U8, &[CHUNKS << 12]);
        raw = raw.record(0x04, &[tied.desc(0), varint(PREAMBLE.len() as u64)].concat());
    }
    let bytes = raw.end();
    // Raises the limit to what errors say is needed.
    let mut memory = 0;
    for _ in 0..1_000_000 {
        let options = limited(memory);
        let (error, peak) = peak_of(|| {
            let mut decoder = Decoder::new(options);
            let mut input = &bytes[..];
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(event)) => drop(event),
                    Ok(None) => return None,
                    Err(error) => return Some(error),
                }
            }
        });
        assert!(peak <= memory + MIB, "{peak} bytes with {memory} allowed");
        let Some(error) = error else { return };
        let ErrorKind::LimitExceeded { needed, .. } = error.kind() else { panic!("{error}") };
        memory = (2 * memory).max(*needed as usize).min(memory + (1 << 20)).max(*needed as usize);
    }
    panic!("no limit is enough");
}
