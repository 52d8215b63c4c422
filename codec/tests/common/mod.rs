//! What the laws share: generators with fixed seeds, small streams of every kind, and a writer of
//! raw records that knows the format independently of the crate.
#![allow(dead_code, reason = "each test binary uses its own part")]

use fedpress::{
    DType, DecodeOptions, EncodeOptions, Encoder, Error, ErrorKind, Result, Seeds, Spec, Tensor,
    TensorDesc, TensorView,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

pub const SEEDS: Seeds = Seeds::new(7, 0x5eed_5eed).in_round(3).of_client(1, 0);

/// SplitMix64, written down again.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }

    /// Box-Muller.
    pub fn gauss(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

pub fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng(seed);
    (0..n).map(|_| rng.gauss() as f32).collect()
}

/// Random sign, exp(1.5 N).
pub fn lognormal(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng(seed);
    let mut one = || {
        let sign = if rng.next() & 1 == 0 { 1.0 } else { -1.0 };
        (sign * (1.5 * rng.gauss()).exp()) as f32
    };
    (0..n).map(|_| one()).collect()
}

/// Zeros and a single one.
pub fn spike(n: usize) -> Vec<f32> {
    let mut values = vec![0.0; n];
    values[n / 3] = 1.0;
    values
}

pub fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn spec(text: &str) -> Spec {
    text.parse().unwrap()
}

/// Every group through the pipeline that is asked for.
pub fn options() -> EncodeOptions {
    let mut options = EncodeOptions::new(SEEDS);
    options.min_values = 1;
    options.spare = fedpress::Spare::Nothing;
    options.smaller = false;
    options.tie = false;
    options
}

pub fn small_groups() -> EncodeOptions {
    let mut options = options();
    options.group_log2 = 12;
    options
}

/// One tensor called "w".
pub fn encode_f32(values: &[f32], spec: &Spec, options: &EncodeOptions) -> Vec<u8> {
    let shape = [values.len()];
    fedpress::encode(&[TensorView::f32("w", &shape, values)], spec, options).unwrap()
}

pub fn decode(bytes: &[u8]) -> Result<Vec<Tensor>> {
    fedpress::decode(bytes, &DecodeOptions::default())
}

pub fn decode_f32(bytes: &[u8]) -> Vec<f32> {
    decode(bytes).unwrap()[0].to_f32().unwrap()
}

/// |a - b|^2 / |a|^2.
pub fn nmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let error: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    error / a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>()
}

/// The one rule for cutting into blocks, written down again: the last takes the remainder.
pub fn blocks(n: usize, size: usize) -> Vec<Range<usize>> {
    let count = if n == 0 { 0 } else { (n / size).max(1) };
    (0..count).map(|i| i * size..if i + 1 == count { n } else { (i + 1) * size }).collect()
}

// ---------------------------------------------------------------------------------------------
// Raw records

pub const PREAMBLE: [u8; 10] = *b"\x89FDP\r\n\x1a\n\x00\x02";
pub const TENSOR: u8 = 0x01;
pub const CHUNK: u8 = 0x02;
pub const END: u8 = 0x03;
pub const METADATA: u8 = 0x81;
pub const MANIFEST: u8 = 0x82;
pub const INDEX: u8 = 0x83;
/// May be skipped, and nobody knows it.
pub const UNKNOWN_SKIPPABLE: u8 = 0xC0;

pub const LAST: u8 = 1;
pub const STORED: u8 = 2;

/// Castagnoli, reflected, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

pub fn record_header(kind: u8, body_len: u32) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(body_len.to_le_bytes());
    let check = crc32c(&out) as u16;
    out.extend(check.to_le_bytes());
    out
}

pub fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = record_header(kind, body.len() as u32);
    out.extend_from_slice(body);
    let crc = crc32c(&out);
    out.extend(crc.to_le_bytes());
    out
}

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

pub fn text(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// The body of a tensor record, field by field.
#[derive(Clone)]
pub struct RawTensor {
    pub name: Vec<u8>,
    pub dtype: u8,
    /// Group size as a power of two, and flags.
    pub flags: u8,
    pub shape: Vec<u64>,
    /// The only pipeline: number of stages, then the stages.
    pub stages: Vec<u8>,
    /// Seeds and key.
    pub tail: Vec<u8>,
    /// Whether others may be tied to it.
    pub kept: bool,
}

pub const OPEN: u8 = 1 << 5;
pub const SEEDED: u8 = 1 << 7;

impl RawTensor {
    /// A lossless tensor in groups of 4096.
    pub fn new(name: &str, dtype: DType, shape: &[u64]) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            dtype: dtype.number(),
            flags: 12,
            shape: shape.to_vec(),
            stages: vec![0],
            tail: Vec::new(),
            kept: false,
        }
    }

    pub fn kept(mut self) -> Self {
        self.kept = true;
        self
    }

    pub fn stages(mut self, stages: &[u8]) -> Self {
        self.stages = stages.to_vec();
        self
    }

    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// Shared seed 7, round 3, client 1 of an unknown number, with a rotation of its own.
    pub fn seeded(mut self) -> Self {
        self.flags |= SEEDED;
        self.tail = [7u64.to_le_bytes().to_vec(), vec![3, 1, 1]].concat();
        self
    }

    pub fn desc(&self, flags: u8) -> Vec<u8> {
        let mut out = text(&self.name);
        out.extend([self.dtype, flags]);
        out.extend(varint(self.shape.len() as u64));
        self.shape.iter().for_each(|d| out.extend(varint(*d)));
        out
    }

    pub fn body(&self) -> Vec<u8> {
        let pipelines = if self.kept { 0x81 } else { 1 };
        [self.desc(self.flags), vec![pipelines], self.stages.clone(), self.tail.clone()].concat()
    }
}

pub fn chunk_body(group: u64, flags: u8, n_values: u64, payload: &[u8]) -> Vec<u8> {
    [varint(group), vec![flags], varint(n_values), payload.to_vec()].concat()
}

pub fn end_body(n_tensors: u64, n_chunks: u64, index_distance: u64, at: usize) -> Vec<u8> {
    let totals = [n_tensors, n_chunks, index_distance, at as u64];
    let mut out: Vec<u8> = totals.into_iter().flat_map(varint).collect();
    out.push((out.len() + 1 + 11) as u8);
    out
}

/// Writes streams record by record, right or wrong.
pub struct Raw {
    pub bytes: Vec<u8>,
    n_tensors: u64,
    n_chunks: u64,
}

impl Raw {
    pub fn new() -> Self {
        Self { bytes: PREAMBLE.to_vec(), n_tensors: 0, n_chunks: 0 }
    }

    pub fn record(mut self, kind: u8, body: &[u8]) -> Self {
        self.n_tensors += u64::from(kind == TENSOR || kind == 0x04);
        self.n_chunks += u64::from(kind == CHUNK);
        self.bytes.extend(record(kind, body));
        self
    }

    pub fn tensor(self, tensor: &RawTensor) -> Self {
        self.record(TENSOR, &tensor.body())
    }

    pub fn chunk(self, group: u64, flags: u8, n_values: u64, payload: &[u8]) -> Self {
        self.record(CHUNK, &chunk_body(group, flags, n_values, payload))
    }

    /// The right end record.
    pub fn end(self) -> Vec<u8> {
        let body = end_body(self.n_tensors, self.n_chunks, 0, self.bytes.len());
        self.record(END, &body).bytes
    }
}

/// Kind and place of every record of a valid stream (or of several).
pub fn records(bytes: &[u8]) -> Vec<(u8, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if found.last().is_none_or(|(kind, _)| *kind == END) {
            assert_eq!(bytes[at..at + 10], PREAMBLE);
            at += 10;
        }
        let len = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        found.push((bytes[at], at..at + 11 + len));
        at += 11 + len;
    }
    found
}

/// The body of a record, to be rewritten by `change`, with checks that match again.
pub fn rewrite(
    bytes: &[u8],
    place: &Range<usize>,
    change: impl FnOnce(u8, &mut Vec<u8>),
) -> Vec<u8> {
    let mut body = bytes[place.start + 7..place.end - 4].to_vec();
    change(bytes[place.start], &mut body);
    let record = record(bytes[place.start], &body);
    [&bytes[..place.start], &record, &bytes[place.end..]].concat()
}

/// A frame of RFC 8878 that runs one byte to `n`, with this window descriptor.
pub fn zstd_run(window: u8, mut n: usize) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, window];
    while n > 0 {
        let size = n.min(1 << 17);
        n -= size;
        let block = u32::from(n == 0) | 1 << 1 | (size as u32) << 3;
        out.extend(&block.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

// ---------------------------------------------------------------------------------------------
// Streams of every kind

pub struct Sample {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Where a stream ends, so that a cut leaves something complete.
    pub ends: Vec<usize>,
}

impl Sample {
    fn one(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let ends = vec![bytes.len()];
        Self { name: name.into(), bytes, ends }
    }
}

/// Elements that are not NaN or infinity, so that every pipeline takes them.
pub fn elements(dtype: DType, n: usize, seed: u64) -> Vec<u8> {
    let values = gaussian(n, seed);
    match dtype {
        DType::F32 => le_bytes(&values),
        DType::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => Rng(seed).bytes(dtype.byte_len(n)),
    }
}

/// One tensor of every element type, scalars, empty tensors, open tensors.
pub fn every_dtype_and_shape(spec: &Spec, options: EncodeOptions) -> Vec<u8> {
    let mut encoder = Encoder::new(options).unwrap();
    for dtype in DType::ALL {
        let data = elements(dtype, 6, dtype.number().into());
        let view = TensorView { name: dtype.name(), dtype, shape: &[2, 3], data: &data };
        encoder.tensor(&view, spec).unwrap();
    }
    let shapes: [&[usize]; 4] = [&[], &[0], &[3, 0, 2], &[0, usize::MAX, usize::MAX]];
    for (i, shape) in shapes.into_iter().enumerate() {
        let data = if shape.is_empty() { le_bytes(&[1.5]) } else { Vec::new() };
        let name = format!("shape {i}");
        let view = TensorView { name: &name, dtype: DType::F32, shape, data: &data };
        encoder.tensor(&view, spec).unwrap();
    }
    for rows in [0, 1, 5] {
        let desc = TensorDesc::open(format!("open {rows}"), DType::BF16, &[7, 1]);
        encoder.begin(&desc, spec).unwrap();
        encoder.push(&elements(DType::BF16, rows * 7, 99)).unwrap();
        encoder.end().unwrap();
    }
    encoder.finish().unwrap();
    encoder.output().to_vec()
}

/// Metadata, manifest, tensors, an unknown record, an index.
pub fn everything() -> Vec<u8> {
    let mut options = small_groups();
    options.index = true;
    let mut encoder = Encoder::new(options).unwrap();
    let map = [("", ""), ("round", "3"), ("ümlaut", "\0 and \u{1F980}")];
    let map: BTreeMap<_, _> = map.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    encoder.metadata(&map).unwrap();
    let tensors = [
        (TensorDesc::new("", DType::F32, &[100]), "hadamard|q=2"),
        (TensorDesc::new("conv/w 1,ß", DType::F16, &[3, 5]), "kashin|subsample=0.5|q=3|zstd"),
        (TensorDesc::new("steps", DType::I64, &[]), "lossless"),
        (TensorDesc::open("log", DType::F32, &[10]), "identity|q=4,nearest"),
    ];
    let manifest: Vec<_> = tensors.iter().map(|(desc, _)| desc.clone()).collect();
    encoder.manifest(&manifest).unwrap();
    for (desc, text) in &tensors {
        let n = if desc.open { 20 } else { desc.shape.iter().product() };
        encoder.begin_keyed(desc, &spec(text), desc.open.then_some(42)).unwrap();
        encoder.push(&elements(desc.dtype, n as usize, n)).unwrap();
        encoder.end().unwrap();
    }
    encoder.finish().unwrap();
    encoder.output().to_vec()
}

/// Streams of many kinds, none longer than a few kilobytes.
pub fn zoo() -> Vec<Sample> {
    let values = gaussian(300, 1);
    let mut zoo = vec![
        Sample::one(
            "no tensor",
            fedpress::encode::<TensorView<'_>>(&[], &Spec::none(), &options()).unwrap(),
        ),
        Sample::one("dtypes, none", every_dtype_and_shape(&Spec::none(), options())),
        Sample::one("dtypes, lossy", every_dtype_and_shape(&spec("hadamard|q=3"), options())),
        Sample::one("everything", everything()),
    ];
    for preset in fedpress::PRESETS {
        let bytes = encode_f32(&values, &spec(preset.name), &options());
        zoo.push(Sample::one(preset.name, bytes));
    }
    let more = ["zstd=3", "shuffle", "hadamard,block=256", "kashin,clip,lambda=1.1|q=1,nearest"];
    for text in more {
        zoo.push(Sample::one(text, encode_f32(&values[..60], &spec(text), &options())));
    }
    for (dtype, text) in [
        (DType::F32, "hadamard|subsample=0.5|q=1"),
        (DType::BF16, "identity|q=1"),
        (DType::U8, "zstd"),
    ] {
        let n = 2 * 4096 + 100;
        let data = match dtype {
            DType::U8 => (0..n).map(|i| (i / 100) as u8).collect(),
            _ => elements(dtype, n, 5),
        };
        let view = TensorView { name: "chunks", dtype, shape: &[n], data: &data };
        let bytes = fedpress::encode(&[view], &spec(text), &small_groups()).unwrap();
        assert_eq!(records(&bytes).iter().filter(|r| r.0 == CHUNK).count(), 3);
        zoo.push(Sample::one(format!("three chunks of {dtype}"), bytes));
    }
    let tied = [("a", &values[..9]), ("b", &values[..8]), ("c", &values[..9]), ("d", &values[..9])];
    let with_index = options().with_tie(true).with_index(true);
    let tied = fedpress::encode(&tied, &spec("lossless"), &with_index).unwrap();
    assert_eq!(records(&tied).iter().filter(|r| r.0 == 0x04).count(), 2);
    zoo.push(Sample::one("tied", tied));
    let parts = [
        encode_f32(&values[..40], &spec("hadamard|q=4"), &options()),
        fedpress::encode::<TensorView<'_>>(&[], &Spec::none(), &options()).unwrap(),
        everything(),
    ];
    let ends = parts.iter().scan(0, |at, part| {
        *at += part.len();
        Some(*at)
    });
    zoo.push(Sample {
        name: "three streams".to_owned(),
        ends: ends.collect(),
        bytes: parts.concat(),
    });
    zoo
}

// ---------------------------------------------------------------------------------------------
// Errors and readers

#[track_caller]
pub fn assert_truncated<T>(result: Result<T>, what: &str) {
    match result {
        Err(error) => assert_eq!(*error.kind(), ErrorKind::Truncated, "{what}: {error}"),
        Ok(_) => panic!("{what}: success"),
    }
}

/// Decoding must call the bytes corrupt, with these words.
#[track_caller]
pub fn assert_corrupt(bytes: &[u8], words: &str) -> Error {
    match decode(bytes) {
        Ok(_) => panic!("expected an error that says {words:?}"),
        Err(error) => {
            assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(words), "expected {words:?}, found: {error}");
            assert!(error.offset().is_some(), "no offset: {error}");
            error
        }
    }
}

/// Decoding must say that the bytes ask for something unknown.
#[track_caller]
pub fn assert_unsupported(bytes: &[u8], words: &str) {
    match decode(bytes) {
        Ok(_) => panic!("expected an error that says {words:?}"),
        Err(error) => match error.kind() {
            ErrorKind::Unsupported { found, .. } => {
                assert!(found.contains(words), "expected {words:?}, found: {error}");
            }
            _ => panic!("expected unsupported, found: {error}"),
        },
    }
}

/// Gives at most `step` bytes a call, and an `Interrupted` before each.
pub struct Slow<'a> {
    pub rest: &'a [u8],
    pub step: usize,
    pub interrupts: bool,
    pub interrupted: bool,
}

impl<'a> Slow<'a> {
    pub fn new(rest: &'a [u8], step: usize, interrupts: bool) -> Self {
        Self { rest, step, interrupts, interrupted: false }
    }
}

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.interrupts && !self.interrupted {
            self.interrupted = true;
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        self.interrupted = false;
        let n = self.step.min(out.len()).min(self.rest.len());
        out[..n].copy_from_slice(&self.rest[..n]);
        self.rest = &self.rest[n..];
        Ok(n)
    }
}

/// Everything a reader gives.
pub fn read_all<R: Read>(inner: R, options: &DecodeOptions) -> Result<Vec<Tensor>> {
    let mut reader = fedpress::Reader::new(inner, options.clone());
    let mut tensors = Vec::new();
    while let Some(tensor) = reader.next_tensor()? {
        tensors.push(tensor.read()?);
    }
    Ok(tensors)
}
