//! Reads small hostile streams under a memory limit of 16 MiB and prints what they cost.
//! `cargo run --release -p fedpress --example bombs`
//!
//! Streams are right, checksums included, up to their hostile place. Each is read in six ways:
//! events (with records of applications), whole, chunk by chunk, added to sums, headers only, and
//! by seeking the tensor "w". A row has the outcome of each, the highest peak of the heap (zstd's
//! own is not counted) and the slowest way; what repeats is read at a length N and at 4N. Exit
//! status 1: a way panicked, took more than the limit and 1 MiB, or grew tenfold from N to 4N.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

#[path = "../tests/common/mod.rs"]
#[expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
mod common;
#[path = "../tests/common/heap.rs"]
mod heap;

use common::*;
use fedpress::{DType, DecodeOptions, Decoder, Reader, Result, Spec};
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// What reading may take for all that a stream claims or holds.
const LIMIT: usize = 16 << 20;
/// What it may take beside that: input buffers, contexts.
const SLACK: usize = 1 << 20;
/// How much more than 4 times as long 4N may take.
const FACTOR: f64 = 2.5;

/// Name, what it declares, N of what it repeats (0: nothing), and the bytes for a number.
type Bomb = (&'static str, &'static str, usize, fn(usize) -> Vec<u8>);

/// Hostile streams.
const STREAMS: &[Bomb] = &[
    ("shape", "2^62 values, no chunk", 0, |_| start(&[1 << 62]).bytes),
    ("shape overflow", "2^80 values", 0, |_| start(&[1 << 40; 2]).bytes),
    ("64 dimensions", "64 times 1, no chunk", 0, |_| start(&[1; 64]).bytes),
    ("255 dimensions", "255 times 1", 0, |_| start(&[1; 255]).bytes),
    ("long chunk", "chunk of 4 GiB", 0, |_| long(&[8], CHUNK)),
    ("long record", "4 GiB to skip", 0, |_| long(&[0], UNKNOWN_SKIPPABLE)),
    ("metadata count", "2^64 - 1 entries", 0, |_| list(METADATA, u64::MAX, &[])),
    ("manifest count", "2^64 - 1 tensors", 0, |_| list(MANIFEST, u64::MAX, &[])),
    ("index count", "2^32 entries", 0, |_| indexed(start(&[0]).bytes, 1, &varint(1 << 32))),
    ("zstd window", "window of 2 GiB", 0, |_| framed(&zstd_run(0xa8, 1 << 16))),
    ("zstd size", "2^62 B, 0 come", 0, |_| framed(b"(\xb5/\xfd\xe0\0\0\0\0\0\0\0\x40\x01\0\0")),
    ("zstd longer", "64 KiB, unfolds to 1 GiB", 0, |_| framed(&zstd_run(0x58, 1 << 30))),
    ("zstd shorter", "64 KiB, unfolds to 100 B", 0, |_| framed(&zstd_run(0x58, 100))),
    ("zstd, cut", "2^60 B, 2^28 come", 0, |_| zeros("w", 1 << 60, 20, 256).bytes),
    ("zstd, true", "N MiB of zeros", 256, |n| zeros("w", n << 20, 20, n).end()),
    ("chunks", "N of 4 KiB", 200, |n| zeros("w", n << 12, 12, n).end()),
    ("long name", "the same", 200, |n| zeros(&"w".repeat(1 << 16), n << 12, 12, n).end()),
    ("kashin", "N chunks, 2^18 values from one", 2, |n| kashin(n, 18)),
    ("kashin, small", "N chunks, 2^12 values from one", 10, |n| kashin(n, 12)),
    ("kashin, large", "a chunk, 2^20 values from one", 0, |_| kashin(1, 20)),
    ("small blocks", "N chunks of one run of 2^18", 4, spread),
    ("empty records", "N to skip", 5000, |n| records_of(UNKNOWN_SKIPPABLE, n)),
    ("own records", "N of an application", 2500, |n| records_of(0xA0, n)),
    ("streams", "N empty ones", 1250, |n| Raw::new().end().repeat(n)),
    ("indexed streams", "N empty ones", 800, |n| indexed(Raw::new().bytes, 0, &[0]).repeat(n)),
    ("index collisions", "N other names, hash of w", 100, colliding_index),
    ("empty tensors", "N of 0 values", 500, |n| tensors(n, 0, 1)),
    ("more tensors", "100,000 of 0 values", 0, |_| tensors(100_000, 0, 1)),
    ("long names", "N of 0 values, 64 KiB", 3, |n| tensors(n, 0, 65_535)),
    ("tiny tensors", "N of 1 value", 400, |n| tensors(n, 1, 1)),
    ("metadata", "N entries", 1000, |n| metadata(n, b"z")),
    ("metadata order", "10^5 entries, last key wrong", 0, |_| metadata(100_000, &[1; 1 << 20])),
    ("manifest", "N tensors", 4000, |n| list(MANIFEST, n as u64, &[0, 2, 0, 0].repeat(n))),
];

/// Hostile pipelines as text. They are no part of a stream, and no limit is set for them.
const SPECS: &[Bomb] = &[
    ("spec, options", "N options", 250_000, |n| [b"hadamard".to_vec(), b",a".repeat(n)].concat()),
    ("spec, name", "a stage whose name has N bytes", 1_000_000, |n| vec![1; n]),
];

/// A stream that begins with a tensor of f32, "w".
fn start(shape: &[u64]) -> Raw {
    Raw::new().tensor(&RawTensor::new("w", DType::F32, shape))
}

/// And goes on with the header of a record of 4 GiB.
fn long(shape: &[u64], kind: u8) -> Vec<u8> {
    [start(shape).bytes, record_header(kind, u32::MAX)].concat()
}

/// A stream of one record, a list that says how long it is.
fn list(kind: u8, count: u64, entries: &[u8]) -> Vec<u8> {
    Raw::new().record(kind, &[&varint(count)[..], entries].concat()).end()
}

/// The start of a stream with `n` empty records.
fn records_of(kind: u8, n: usize) -> Vec<u8> {
    [PREAMBLE.to_vec(), record(kind, &[]).repeat(n)].concat()
}

/// Metadata of `n` short keys and a last one.
fn metadata(n: usize, last: &[u8]) -> Vec<u8> {
    let keys = (0..n).map(|i| format!("{i:06}").into_bytes()).chain([last.to_vec()]);
    let entries: Vec<u8> = keys.flat_map(|key| [text(&key), vec![0]].concat()).collect();
    list(METADATA, n as u64 + 1, &entries)
}

/// Ends a stream of `n_tensors` without chunks with that index.
fn indexed(bytes: Vec<u8>, n_tensors: u64, index: &[u8]) -> Vec<u8> {
    let index = record(INDEX, index);
    let body = end_body(n_tensors, 0, index.len() as u64, bytes.len() + index.len());
    [bytes, index, record(END, &body)].concat()
}

/// An index of `n` tensors whose names have the hash of "w" and whose headers say 64 KiB.
fn colliding_index(n: usize) -> Vec<u8> {
    let unmix = |mut z: u64| {
        z = (z ^ z >> 31 ^ z >> 62).wrapping_mul(0x3196_42B2_D24D_8EC3);
        z = (z ^ z >> 27 ^ z >> 54).wrapping_mul(0x96DE_1B17_3F11_9089);
        z ^ z >> 30 ^ z >> 60
    };
    let hash = fedpress::derive_key(&[1, u64::from(b'w')]);
    let name = |i: u64| {
        let first = u64::from_le_bytes(*format!("{i:08}").as_bytes().first_chunk()?);
        let before = fedpress::derive_key(&[16, first]);
        let last = unmix(unmix(hash) ^ before).wrapping_sub(0x9E37_79B9_7F4A_7C15);
        String::from_utf8([first.to_le_bytes(), last.to_le_bytes()].concat()).ok()
    };
    let (mut bytes, mut index) = (PREAMBLE.to_vec(), varint(n as u64));
    for name in (0..).filter_map(name).take(n) {
        index.extend([&hash.to_le_bytes()[..], &varint(bytes.len() as u64)].concat());
        bytes.extend([record_header(TENSOR, 1 << 16), text(name.as_bytes())].concat());
    }
    bytes.resize(bytes.len() + (1 << 16), 0);
    indexed(bytes, n as u64, &index)
}

/// `n` chunks, alike but for their numbers, of a tensor.
fn chunks_of(tensor: &RawTensor, n: usize, values: u64, payload: &[u8]) -> Raw {
    (0..n as u64).fold(Raw::new().tensor(tensor), |raw, i| {
        let flags = if tensor.shape[0] == (i + 1) * values { LAST } else { 0 };
        raw.chunk(i, flags, values, payload)
    })
}

/// `n` chunks of 2^`log2` zeros, of a tensor of `values` bytes in zstd.
fn zeros(name: &str, values: usize, log2: u8, n: usize) -> Raw {
    let tensor = RawTensor::new(name, DType::U8, &[values as u64]).flags(log2);
    chunks_of(&tensor.stages(&[1, 0x31, 1, 1]), n, 1 << log2, &zstd_run(0x58, 1 << log2))
}

/// A tensor of one chunk of 2^16 bytes, for which that frame stands.
fn framed(frame: &[u8]) -> Vec<u8> {
    let tensor = RawTensor::new("w", DType::U8, &[1 << 16]).flags(16).stages(&[1, 0x31, 1, 1]);
    chunks_of(&tensor, 1, 1 << 16, frame).end()
}

/// `n` tensors of no or one value, their names of that length at least.
fn tensors(n: usize, values: u64, length: usize) -> Vec<u8> {
    let tensor = |raw: Raw, i| {
        let raw = raw.tensor(&RawTensor::new(&format!("{i:0length$}"), DType::F32, &[values]));
        if values == 0 { raw } else { raw.chunk(0, LAST, 1, &[0; 4]) }
    };
    (0..n).fold(Raw::new(), tensor).end()
}

/// Kashin of redundancy 2 that sends one coefficient for each chunk of 2^`log2` values.
fn kashin(n: usize, log2: u8) -> Vec<u8> {
    // Lambda 2, a fraction of 2^-125, one bit.
    let stages = [3, 0x02, 6, 15, 0, 0, 0, 0, 0x40, 0x10, 4, 0, 0, 0, 1, 0x20, 3, 1, 0, 12];
    let tensor = RawTensor::new("w", DType::F32, &[(n as u64) << log2]).flags(log2);
    chunks_of(&tensor.stages(&stages).seeded(), n, 1 << log2, &[0; 10]).end()
}

/// Chunks whose coefficients come in one run, of which the transform takes a small block at a time.
fn spread(n: usize) -> Vec<u8> {
    // Blocks of 256, all that are kept, one bit in blocks of 2^20.
    let stages = [4, 0x01, 1, 8, 0x10, 4, 0, 0, 0x80, 0x3f, 0x20, 3, 1, 0, 20, 0x31, 1, 1];
    let tensor = RawTensor::new("w", DType::F32, &[(n as u64) << 18]).flags(18);
    chunks_of(&tensor.stages(&stages).seeded(), n, 1 << 18, &zstd_run(0x58, 9 + (1 << 15))).end()
}

/// Reads bytes in one way; the sums are for those that add.
type Way = fn(&[u8], &mut [f32]) -> Result<()>;

/// How a stream can be read, in the order of the outcomes.
const WAYS: &[Way] = &[
    |mut bytes, _| {
        let mut decoder = Decoder::with_records(options());
        while decoder.next(&mut bytes)?.is_some() {}
        decoder.finish()
    },
    |bytes, _| fedpress::decode(bytes, &options()).map(drop),
    |bytes, _| drain(Reader::new(bytes, options())),
    add,
    |bytes, _| fedpress::summarize(&mut Cursor::new(bytes), &options()).map(drop),
    |bytes, _| drain(fedpress::seek_tensor(Cursor::new(bytes), "w", &options())?),
];

/// How a pipeline is read.
const PARSE: &[Way] =
    &[|bytes, _| std::str::from_utf8(bytes).unwrap_or_default().parse::<Spec>().map(drop)];

/// The limit.
fn options() -> DecodeOptions {
    let mut options = DecodeOptions::default();
    options.memory = LIMIT as u64;
    options
}

/// All chunks of all tensors, one after the other.
fn drain<R: Read>(mut reader: Reader<R>) -> Result<()> {
    while let Some(mut tensor) = reader.next_tensor()? {
        while tensor.next_chunk()?.is_some() {}
    }
    Ok(())
}

/// Adds what can be added.
fn add(bytes: &[u8], sums: &mut [f32]) -> Result<()> {
    let mut reader = Reader::new(bytes, options());
    while let Some(tensor) = reader.next_tensor()? {
        if tensor.meta().dtype().is_lossy_capable() {
            let n = tensor.meta().n_values().unwrap_or(u64::MAX).min(sums.len() as u64);
            tensor.add_into(&mut sums[..n as usize], 0.5)?;
        }
    }
    Ok(())
}

/// Outcome, peak and milliseconds.
fn run(way: Way, bytes: &[u8], sums: &mut [f32]) -> (String, usize, f64) {
    let start = Instant::now();
    let (result, peak) = heap::peak_of(|| catch_unwind(AssertUnwindSafe(|| way(bytes, sums))));
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let outcome = match result {
        Err(_) => "PANIC".into(),
        Ok(Ok(())) => "read".into(),
        Ok(Err(error)) => error.to_string().split(' ').next().unwrap_or_default().to_owned(),
    };
    (outcome, peak, ms)
}

/// Prints the row of a bomb; whether it did what is not promised.
fn fails((name, says, n, make): Bomb, ways: &[Way], sums: &mut [f32]) -> bool {
    let (short, long) = (make(n), make(4 * n));
    let (mut outcomes, mut peak, mut growth) = (Vec::new(), 0, 0.0f64);
    let (mut n_ms, mut ms) = (0.0, 0.0);
    for way in ways {
        // Four times N against 4N, so that what else the machine does hits both; the least counts.
        let (mut four, mut one, mut outcome) = (f64::MAX, f64::MAX, String::new());
        for attempt in 1..=30 {
            four = four.min((0..4).map(|_| run(*way, &short, sums).2).sum());
            let (kind, heap, took) = run(*way, &long, sums);
            (outcome, peak, one) = (kind, heap.max(peak), took.min(one));
            if attempt >= 3 && one < 1.25 * four {
                break;
            }
        }
        outcomes.push(outcome);
        growth = growth.max(4.0 * one / four);
        (n_ms, ms) = if one > ms { (four / 4.0, one) } else { (n_ms, ms) };
    }
    let panicked = outcomes.iter().any(|outcome| outcome == "PANIC");
    let failed = panicked || peak > LIMIT + SLACK || growth >= 4.0 * FACTOR;
    if outcomes.iter().all(|outcome| *outcome == outcomes[0]) {
        outcomes.truncate(1);
    }
    let (size, kib, did) = (long.len(), peak.div_ceil(1024), outcomes.join(", "));
    println!(
        "| {name} | {size} | {says} | {did} | {kib} | {n_ms:.3} | {ms:.3} | {growth:.1} | {:.0} | {} |",
        ms * 1e6 / size as f64,
        if failed { "FAILED" } else { "" },
    );
    failed
}

/// Lights all bombs.
fn main() -> ExitCode {
    let mut sums = vec![0.0; 1 << 22];
    println!("| stream | bytes | declares | outcome | KiB | ms, N | ms, 4N | growth | ns/B | |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let streams = STREAMS.iter().map(|bomb| (bomb, WAYS));
    let all = streams.chain(SPECS.iter().map(|bomb| (bomb, PARSE)));
    let failed = all.filter(|(bomb, ways)| fails(**bomb, ways, &mut sums)).count();
    ExitCode::from(u8::from(failed > 0))
}
