//! The sans-IO decoder: stream bytes in, events out.

use crate::bytes::Cursor;
use crate::encode::join;
use crate::frame::{Checksum, HEADER_LEN, MAX_BODY, OVERHEAD, RecordHeader, TRAILER_LEN, kind};
use crate::group::{GroupCodec, Scratch, decode_memory, max_body_len};
use crate::kernel::{Kernel, Simd};
use crate::limits::Allowance;
use crate::meta::{
    ChunkHeader, End, IndexEntry, PREAMBLE_LEN, TensorDesc, TensorMeta, VERSION, check_preamble,
    read_index, read_manifest, read_metadata, write_index,
};
use crate::random::name_key;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// How to decode.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Most memory to take, in bytes, for everything that grows with what the stream claims or
    /// holds: records, names, groups being decoded, and tensors read whole.
    pub memory: u64,
    /// Groups that are decoded at the same time.
    pub threads: usize,
    /// Instruction set; for tests and benches.
    pub simd: Simd,
}

impl Default for DecodeOptions {
    /// 1 GiB, one thread.
    fn default() -> Self {
        Self { memory: 1 << 30, threads: 1, simd: Simd::Auto }
    }
}

/// What the decoder found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A stream begins.
    Stream {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// What the sender says about the stream.
    Metadata(BTreeMap<String, String>),
    /// The tensors that will follow.
    Manifest(Vec<TensorDesc>),
    /// A tensor begins.
    Tensor(Arc<TensorMeta>),
    /// A group of its values, checked and still coded. In headers-only mode its payload is empty.
    Chunk(EncodedChunk),
    /// The tensor is complete.
    TensorEnd {
        /// How many values it has.
        n_values: u64,
    },
    /// Where the tensors stand, for seekable readers.
    Index(Vec<IndexEntry>),
    /// The stream is complete. More bytes begin another one.
    End {
        /// How many tensors it had.
        n_tensors: u64,
    },
}

/// A chunk whose framing has been verified; [`decode`](Self::decode) does the work, on any thread.
#[derive(Debug, Clone)]
pub struct EncodedChunk {
    meta: Arc<TensorMeta>,
    header: ChunkHeader,
    /// The whole body; the payload is behind `payload_at`.
    body: Vec<u8>,
    payload_at: usize,
    /// Position of its record in the stream.
    offset: u64,
}

impl EncodedChunk {
    /// The tensor it belongs to.
    pub fn meta(&self) -> &Arc<TensorMeta> {
        &self.meta
    }

    /// Values in the chunk.
    pub fn n_values(&self) -> usize {
        self.header.n_values
    }

    /// Index of its first value in the tensor.
    pub fn first_value(&self) -> u64 {
        self.header.group * self.meta.group_values() as u64
    }

    /// The values, as little-endian element bytes, into a buffer of exactly their size.
    pub fn decode(&self, decoder: &mut ChunkDecoder, elements: &mut [u8]) -> Result<()> {
        let expected = self.header.n_values * self.meta.dtype().size();
        if elements.len() != expected {
            return Err(Error::invalid(format!(
                "a buffer of {expected} bytes is needed, found {}",
                elements.len()
            )));
        }
        let codec = GroupCodec::new(&self.meta, decoder.kernel);
        codec
            .decode(&self.header, &self.body[self.payload_at..], &mut decoder.scratch, elements)
            .map_err(|e| self.locate(e))
    }

    /// `out += weight * values`, for f32, f16 and bf16 tensors.
    pub fn add_into(&self, decoder: &mut ChunkDecoder, out: &mut [f32], weight: f32) -> Result<()> {
        if !self.meta.dtype().is_lossy_capable() {
            return Err(self.locate(Error::invalid(format!(
                "{} values cannot be added to f32",
                self.meta.dtype()
            ))));
        }
        if out.len() != self.header.n_values {
            return Err(Error::invalid(format!(
                "{} sums are needed, found {}",
                self.header.n_values,
                out.len()
            )));
        }
        let codec = GroupCodec::new(&self.meta, decoder.kernel);
        let payload = &self.body[self.payload_at..];
        codec
            .add_into(&self.header, payload, &mut decoder.scratch, out, weight)
            .map_err(|e| self.locate(e))
    }

    fn locate(&self, error: Error) -> Error {
        error.at(self.offset).in_tensor(self.meta.name())
    }
}

/// Buffers and instruction set for decoding chunks; one per thread.
pub struct ChunkDecoder {
    kernel: Kernel,
    scratch: Scratch,
}

impl ChunkDecoder {
    /// For use with chunks of any tensor.
    pub fn new(options: &DecodeOptions) -> Self {
        Self { kernel: Kernel::new(options.simd), scratch: Scratch::default() }
    }
}

/// Decodes chunks side by side, chunk i by decoder i; at most as many chunks as decoders.
pub(crate) fn decode_all(
    chunks: &[EncodedChunk],
    decoders: &mut [ChunkDecoder],
    out: &mut [u8],
) -> Result<()> {
    let mut rest = out;
    let jobs = chunks.iter().zip(decoders).map(|(chunk, decoder)| {
        let size = chunk.n_values() * chunk.meta.dtype().size();
        let elements;
        (elements, rest) = std::mem::take(&mut rest).split_at_mut(size);
        move || chunk.decode(decoder, elements)
    });
    if chunks.len() < 2 {
        return jobs.map(|mut job| job()).collect();
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = jobs.map(|job| scope.spawn(job)).collect();
        // The first error in stream order, however the threads finished.
        workers.into_iter().map(join).collect()
    })
}

/// Turns stream bytes into events; concatenated streams follow each other.
///
/// ```
/// use fedpress::{Decoder, Event};
/// let seeds = fedpress::Seeds { shared: 7, private: 1, round: 0, client: 0 };
/// let w = fedpress::TensorView::f32("w", &[2], &[1.0, 2.0]);
/// let bytes = fedpress::encode(&[w], &fedpress::Spec::none(), &fedpress::EncodeOptions::new(seeds))?;
///
/// let mut decoder = Decoder::new(Default::default());
/// let mut names = Vec::new();
/// for mut piece in bytes.chunks(5) {
///     while let Some(event) = decoder.next(&mut piece)? {
///         if let Event::Tensor(meta) = event {
///             names.push(meta.name().to_owned());
///         }
///     }
/// }
/// decoder.finish()?;
/// assert_eq!(names, ["w"]);
/// # Ok::<(), fedpress::Error>(())
/// ```
pub struct Decoder {
    options: DecodeOptions,
    headers_only: bool,
    allowance: Allowance,
    /// Bytes taken from the input.
    taken: u64,
    /// Bytes of the last record whose header was read.
    record_len: u64,
    /// The piece of the stream that is being collected.
    buffer: Vec<u8>,
    step: Step,
    stream: StreamState,
    poisoned: bool,
}

/// What the bytes being collected are.
enum Step {
    Preamble,
    Header,
    Body(RecordHeader),
    /// The payload of a chunk in headers-only mode, or the body of a record to skip; `None` is a
    /// payload that is not verified.
    Skip {
        left: u64,
        checksum: Option<Checksum>,
        trailer: Vec<u8>,
    },
}

/// What one stream has held so far.
#[derive(Default)]
struct StreamState {
    start: u64,
    /// Where the record being read starts.
    record_at: u64,
    /// The highest kind of head record seen.
    head: u8,
    /// Whether a tensor or the index was seen, so that the head is over.
    body: bool,
    names: HashSet<String>,
    manifest: Option<Vec<TensorDesc>>,
    open: Option<OpenTensor>,
    /// Events that one record caused beside its first.
    pending: Option<Event>,
    n_tensors: u64,
    n_chunks: u64,
    /// Memory charged until the end of the stream.
    spent: u64,
    /// The index that this stream must have, entries only, as a running checksum and length.
    expected_index: (u32, u64),
    index_at: Option<u64>,
}

struct OpenTensor {
    meta: Arc<TensorMeta>,
    next_group: u64,
    n_values: u64,
    reserved: u64,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(options: DecodeOptions) -> Self {
        Self {
            allowance: Allowance::new(options.memory),
            options,
            headers_only: false,
            taken: 0,
            record_len: 0,
            buffer: Vec::new(),
            step: Step::Preamble,
            stream: StreamState::default(),
            poisoned: false,
        }
    }

    /// A decoder that reads the heads of chunks only: their payloads may be
    /// [skipped](Self::skippable), and are not verified.
    pub fn headers_only(options: DecodeOptions) -> Self {
        Self { headers_only: true, ..Self::new(options) }
    }

    /// A decoder at a tensor record at this offset of the input, for seekable readers.
    pub(crate) fn at_tensor(options: DecodeOptions, offset: u64) -> Self {
        Self { step: Step::Header, taken: offset, ..Self::new(options) }
    }

    /// Takes from `input` what it can use and returns the next event; `None` when it needs more
    /// bytes than `input` had.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>> {
        if self.poisoned {
            return Err(Error::poisoned());
        }
        let result = self.advance(input);
        if let Err(error) = result {
            self.poisoned = true;
            return Err(error.at(self.stream.record_at));
        }
        result
    }

    /// The input ends here: fine between streams, [truncated](crate::ErrorKind::Truncated) inside
    /// one.
    pub fn finish(&mut self) -> Result<()> {
        if self.poisoned {
            return Err(Error::poisoned());
        }
        let between = matches!(self.step, Step::Preamble) && self.buffer.is_empty();
        if between && self.stream.start > 0 && self.stream.pending.is_none() {
            return Ok(());
        }
        self.poisoned = true;
        Err(Error::truncated("the input ends before the end record").at(self.taken))
    }

    /// How many of the next bytes mean nothing to this decoder (headers-only mode, or a record that
    /// may be skipped); a caller that can seek may jump over them and say so with
    /// [`skip`](Self::skip).
    pub fn skippable(&self) -> u64 {
        match &self.step {
            Step::Skip { left, checksum: None, .. } => *left,
            _ => 0,
        }
    }

    /// The caller has jumped over `n` bytes, at most [`skippable`](Self::skippable).
    pub fn skip(&mut self, n: u64) {
        if let Step::Skip { left, checksum: None, .. } = &mut self.step {
            let n = n.min(*left);
            *left -= n;
            self.taken += n;
        }
    }

    /// The options it was made with.
    pub(crate) fn options(&self) -> &DecodeOptions {
        &self.options
    }

    /// What is left of the memory limit; tensors that are read whole are charged to it.
    pub(crate) fn allowance(&mut self) -> &mut Allowance {
        &mut self.allowance
    }

    /// Bytes of the record that was read last, its frame included.
    pub(crate) fn record_len(&self) -> u64 {
        self.record_len
    }

    /// Position in the input of the record that is being read or was read last.
    pub(crate) fn record_offset(&self) -> u64 {
        self.stream.record_at
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.stream.pending.take() {
                return Ok(Some(event));
            }
            match &self.step {
                Step::Preamble => {
                    if self.buffer.is_empty() {
                        self.stream.record_at = self.taken;
                    }
                    let full = self.fill(PREAMBLE_LEN, input)?;
                    check_preamble(&self.buffer)?;
                    if !full {
                        return Ok(None);
                    }
                    self.buffer.clear();
                    let start = self.stream.record_at;
                    self.stream = StreamState { start, record_at: start, ..Default::default() };
                    self.step = Step::Header;
                    let (major, minor) = VERSION;
                    return Ok(Some(Event::Stream { major, minor }));
                }
                Step::Header => {
                    if self.buffer.is_empty() {
                        self.stream.record_at = self.taken;
                    }
                    if !self.fill(HEADER_LEN, input)? {
                        return Ok(None);
                    }
                    self.begin_record()?;
                }
                Step::Body(header) => {
                    let header = *header;
                    if self.headers_only && header.kind == kind::CHUNK {
                        let head = (header.body_len as usize).min(ChunkHeader::MAX_LEN);
                        if !self.fill(head, input)? {
                            return Ok(None);
                        }
                        return self.chunk_head(header).map(Some);
                    }
                    if !self.fill(header.body_len as usize + TRAILER_LEN, input)? {
                        return Ok(None);
                    }
                    if let Some(event) = self.end_record(header)? {
                        return Ok(Some(event));
                    }
                }
                Step::Skip { .. } => {
                    if !self.skip_over(input)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Collects until the buffer has `n` bytes; memory grows only with bytes that are there.
    fn fill(&mut self, n: usize, input: &mut &[u8]) -> Result<bool> {
        let wanted = n.saturating_sub(self.buffer.len()).min(input.len());
        let (head, rest) = input.split_at(wanted);
        if self.buffer.capacity() < self.buffer.len() + wanted {
            let room = (2 * self.buffer.capacity()).max(self.buffer.len() + wanted).min(n);
            self.buffer.reserve_exact(room - self.buffer.len());
        }
        self.buffer.extend_from_slice(head);
        self.taken += wanted as u64;
        *input = rest;
        Ok(self.buffer.len() >= n)
    }

    /// Decides from its header what to do with a record.
    fn begin_record(&mut self) -> Result<()> {
        let mut bytes = [0; HEADER_LEN];
        bytes.copy_from_slice(&self.buffer);
        let header = RecordHeader::from_bytes(&bytes)?;
        self.buffer.clear();
        let len = header.body_len;
        self.record_len = u64::from(len) + OVERHEAD as u64;
        match header.kind {
            kind::CHUNK => {
                let open = self.stream.open.as_ref();
                let open = open.ok_or_else(|| Error::corrupt("a chunk outside a tensor"))?;
                let max = max_body_len(&open.meta);
                if len as usize > max {
                    return Err(Error::corrupt(format!(
                        "chunk of {len} bytes, at most {max} are possible"
                    ))
                    .in_tensor(open.meta.name()));
                }
            }
            kind::TENSOR | kind::END | kind::METADATA | kind::MANIFEST | kind::INDEX => {
                if len > MAX_BODY {
                    return Err(Error::corrupt(format!(
                        "record of {len} bytes, at most {MAX_BODY} are allowed"
                    )));
                }
                if let Some(open) = &self.stream.open {
                    return Err(Error::corrupt(format!(
                        "record {:#04x} before the last chunk of the tensor",
                        header.kind
                    ))
                    .in_tensor(open.meta.name()));
                }
                // Its parsed form takes a small multiple of its bytes.
                self.allowance.check("a record", 4 * u64::from(len))?;
            }
            unknown if unknown & kind::SKIPPABLE != 0 => {
                let checksum = Some(Checksum::of(header));
                self.step = Step::Skip { left: u64::from(len), checksum, trailer: Vec::new() };
                return Ok(());
            }
            unknown => {
                return Err(Error::unsupported(
                    format!("record kind {unknown:#04x}"),
                    "the records of FORMAT.md, version 0.1",
                ));
            }
        }
        self.step = Step::Body(header);
        Ok(())
    }

    /// Passes over bytes, and checks them if they are to be checked.
    fn skip_over(&mut self, input: &mut &[u8]) -> Result<bool> {
        let Step::Skip { left, checksum, trailer } = &mut self.step else { return Ok(true) };
        let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
        let (head, rest) = input.split_at(n);
        *left -= n as u64;
        self.taken += n as u64;
        *input = rest;
        if let Some(checksum) = checksum {
            checksum.update(head);
            let n = if *left == 0 { (TRAILER_LEN - trailer.len()).min(input.len()) } else { 0 };
            trailer.extend_from_slice(&input[..n]);
            self.taken += n as u64;
            *input = &input[n..];
            let Ok(complete) = <[u8; TRAILER_LEN]>::try_from(trailer.as_slice()) else {
                return Ok(false);
            };
            checksum.verify(complete)?;
        } else if *left > 0 {
            return Ok(false);
        }
        self.step = Step::Header;
        Ok(true)
    }

    /// A record is complete: verify it, then act on it.
    fn end_record(&mut self, header: RecordHeader) -> Result<Option<Event>> {
        let body_len = header.body_len as usize;
        let mut checksum = Checksum::of(header);
        checksum.update(&self.buffer[..body_len]);
        let mut trailer = [0; TRAILER_LEN];
        trailer.copy_from_slice(&self.buffer[body_len..]);
        checksum.verify(trailer)?;
        let mut body = std::mem::take(&mut self.buffer);
        body.truncate(body_len);
        self.step = Step::Header;
        if self.stream.index_at.is_some() && header.kind != kind::END {
            return Err(Error::corrupt("a record between the index and the end record"));
        }
        match header.kind {
            kind::CHUNK => self.chunk(body).map(Some),
            kind::TENSOR => self.tensor(&body).map(Some),
            kind::END => self.end(&body).map(Some),
            kind::INDEX => self.index(&body).map(Some),
            head => self.head(head, &body).map(Some),
        }
    }

    /// Charges what stays until the end of the stream.
    fn spend(&mut self, what: &str, bytes: u64) -> Result<()> {
        self.allowance.charge(what, bytes)?;
        self.stream.spent += bytes;
        Ok(())
    }

    fn head(&mut self, kind: u8, body: &[u8]) -> Result<Event> {
        if self.stream.body || self.stream.head >= kind {
            return Err(Error::corrupt(format!(
                "record {kind:#04x} out of place: metadata, manifest, tensors, in this order"
            )));
        }
        self.stream.head = kind;
        self.spend("metadata and manifest", 4 * body.len() as u64)?;
        if kind == kind::METADATA {
            return read_metadata(body).map(Event::Metadata);
        }
        let manifest = read_manifest(body)?;
        self.stream.manifest = Some(manifest.clone());
        Ok(Event::Manifest(manifest))
    }

    fn tensor(&mut self, body: &[u8]) -> Result<Event> {
        let meta = Arc::new(TensorMeta::read_from(body)?);
        let open = self.open_tensor(&meta).map_err(|e| e.in_tensor(meta.name()))?;
        self.stream.open = Some(open);
        if meta.n_values() == Some(0) {
            self.close_tensor();
        }
        Ok(Event::Tensor(meta))
    }

    fn open_tensor(&mut self, meta: &Arc<TensorMeta>) -> Result<OpenTensor> {
        // The name, its place in the set, and what the caller keeps of the header.
        self.spend("names", 2 * meta.name().len() as u64 + 256)?;
        let stream = &mut self.stream;
        if !stream.names.insert(meta.name().to_owned()) {
            return Err(Error::corrupt("a second tensor of that name"));
        }
        if let Some(manifest) = &stream.manifest
            && manifest.get(stream.n_tensors as usize) != Some(meta.desc())
        {
            return Err(Error::corrupt("not the tensor that the manifest announces"));
        }
        stream.body = true;
        stream.n_tensors += 1;
        let entry = IndexEntry {
            name_hash: name_key(meta.name()),
            offset: stream.record_at - stream.start,
        };
        let mut bytes = Vec::new();
        write_index(&[entry], &mut bytes);
        let (crc, length) = stream.expected_index;
        // Without the count in front, which is one byte for one entry.
        let entry = &bytes[1..];
        stream.expected_index = (crc32c::crc32c_append(crc, entry), length + entry.len() as u64);
        let reserved = match self.headers_only {
            true => 0,
            false => decode_memory(meta) * self.options.threads.max(1) as u64,
        };
        self.allowance.charge("decoding a chunk", reserved)?;
        Ok(OpenTensor { meta: meta.clone(), next_group: 0, n_values: 0, reserved })
    }

    fn close_tensor(&mut self) {
        if let Some(open) = self.stream.open.take() {
            self.allowance.release(open.reserved);
            self.stream.pending = Some(Event::TensorEnd { n_values: open.n_values });
        }
    }

    /// The head of a chunk in headers-only mode; the payload is left to be skipped.
    fn chunk_head(&mut self, header: RecordHeader) -> Result<Event> {
        let head = std::mem::take(&mut self.buffer);
        let left = u64::from(header.body_len) - head.len() as u64 + TRAILER_LEN as u64;
        self.step = Step::Skip { left, checksum: None, trailer: Vec::new() };
        let mut chunk = self.chunk_event(head)?;
        chunk.body.clear();
        chunk.payload_at = 0;
        Ok(Event::Chunk(chunk))
    }

    fn chunk(&mut self, body: Vec<u8>) -> Result<Event> {
        self.chunk_event(body).map(Event::Chunk)
    }

    fn chunk_event(&mut self, body: Vec<u8>) -> Result<EncodedChunk> {
        let offset = self.stream.record_at;
        let Some(open) = &mut self.stream.open else {
            return Err(Error::corrupt("a chunk outside a tensor"));
        };
        let meta = open.meta.clone();
        let mut cursor = Cursor::new(&body);
        let header = ChunkHeader::read_from(&mut cursor)
            .and_then(|header| open.accept(&header).map(|()| header))
            .map_err(|e| e.in_tensor(meta.name()))?;
        let payload_at = body.len() - cursor.rest().len();
        self.stream.n_chunks += 1;
        if header.last {
            self.close_tensor();
        }
        Ok(EncodedChunk { meta, header, body, payload_at, offset })
    }

    fn index(&mut self, body: &[u8]) -> Result<Event> {
        self.stream.body = true;
        self.stream.index_at = Some(self.stream.record_at);
        self.spend("the index", 4 * body.len() as u64)?;
        let entries = read_index(body)?;
        let mut count = Vec::new();
        crate::bytes::put_varint(&mut count, self.stream.n_tensors);
        let listed = body.get(count.len()..).unwrap_or_default();
        let found = (crc32c::crc32c(listed), listed.len() as u64);
        if entries.len() as u64 != self.stream.n_tensors || found != self.stream.expected_index {
            return Err(Error::corrupt("the index does not list the tensors of the stream"));
        }
        Ok(Event::Index(entries))
    }

    fn end(&mut self, body: &[u8]) -> Result<Event> {
        let end = End::read_from(body)?;
        let stream = &self.stream;
        let distance = stream.index_at.map_or(0, |at| stream.record_at - at);
        let expected = End {
            n_tensors: stream.n_tensors,
            n_chunks: stream.n_chunks,
            index_distance: distance,
        };
        if end != expected {
            return Err(Error::corrupt(format!(
                "totals: the stream has {expected:?}, says {end:?}"
            )));
        }
        if stream.manifest.as_ref().is_some_and(|m| m.len() as u64 != stream.n_tensors) {
            return Err(Error::corrupt("fewer tensors than the manifest announces"));
        }
        self.allowance.release(stream.spent);
        self.step = Step::Preamble;
        // Any position past the first byte says that a stream has ended; names start afresh.
        self.stream = StreamState {
            start: self.taken,
            record_at: self.stream.record_at,
            ..Default::default()
        };
        Ok(Event::End { n_tensors: end.n_tensors })
    }
}

impl OpenTensor {
    /// The rules that tie a chunk to its tensor.
    fn accept(&mut self, header: &ChunkHeader) -> Result<()> {
        let full = self.meta.group_values() as u64;
        if header.group != self.next_group {
            return Err(Error::corrupt(format!(
                "chunk {} where chunk {} is due",
                header.group, self.next_group
            )));
        }
        let n = header.n_values as u64;
        match self.meta.n_values() {
            Some(total) => {
                let left = total - self.n_values;
                let (expected, last) = (left.min(full), left <= full);
                if n != expected || header.last != last {
                    return Err(Error::corrupt(format!(
                        "chunk of {n} values{}, expected {expected}{}",
                        if header.last { ", marked last" } else { "" },
                        if last { ", marked last" } else { "" }
                    )));
                }
            }
            None => {
                let fits = if header.last { n <= full } else { n == full };
                if !fits || (n == 0 && header.group > 0) {
                    return Err(Error::corrupt(format!("chunk of {n} values in groups of {full}")));
                }
            }
        }
        self.next_group += 1;
        self.n_values = self
            .n_values
            .checked_add(n)
            .filter(|n| *n <= 1 << 63)
            .ok_or_else(|| Error::corrupt("more than 2^63 values"))?;
        if header.last && !self.n_values.is_multiple_of(self.meta.desc.row_values()?) {
            return Err(Error::corrupt(format!(
                "{} values are not a whole number of rows of shape {:?}",
                self.n_values, self.meta.desc.shape
            )));
        }
        Ok(())
    }
}

/// The shape of a tensor of `n_values`, an open first dimension filled in.
pub(crate) fn closed_shape(meta: &TensorMeta, n_values: u64) -> Vec<u64> {
    let mut shape = meta.desc.shape.clone();
    if meta.desc.open
        && let (Some(first), Ok(row)) = (shape.first_mut(), meta.desc.row_values())
    {
        *first = n_values / row;
    }
    shape
}
