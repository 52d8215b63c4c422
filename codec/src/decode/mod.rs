//! The sans-IO decoder: stream bytes in, events out.

mod chunk;
mod rules;

pub(crate) use chunk::decode_all;
pub use chunk::{ChunkDecoder, EncodedChunk};
pub(crate) use rules::{closed_shape, names_memory};

use crate::device::Device;
use crate::group::{largest_group, max_body_len};
use crate::kernel::Simd;
use crate::limits::Allowance;
use crate::wire::record::{
    Checksum, HEADER_LEN, MAX_BODY, OVERHEAD, RecordHeader, TRAILER_LEN, kind,
};
use crate::wire::{
    ChunkHeader, IndexEntry, PREAMBLE_LEN, TensorDesc, TensorMeta, VERSION, VERSION_TEXT,
    check_preamble,
};
use crate::{Error, Result};
use rules::StreamState;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// How to decode.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Most memory to take, in bytes, for everything that grows with what the stream claims or
    /// holds: records, names, groups being decoded, and tensors read whole. Chunks that a caller
    /// keeps ([`EncodedChunk`]) are the caller's.
    pub memory: u64,
    /// Groups that are decoded at the same time.
    pub threads: usize,
    /// Instruction set; for tests and benches.
    pub simd: Simd,
    /// What decodes the groups it supports, in place of the processor. Values do not depend on it.
    pub device: Option<Arc<dyn Device>>,
}

impl Default for DecodeOptions {
    /// 1 GiB, one thread, no device.
    fn default() -> Self {
        Self { memory: 1 << 30, threads: 1, simd: Simd::Auto, device: None }
    }
}

impl DecodeOptions {
    /// For streams of one's own: as much memory as they ask for.
    pub fn trusted() -> Self {
        Self::default().with_memory(u64::MAX)
    }

    /// With another memory limit, in bytes.
    pub fn with_memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    /// With so many threads.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// With another instruction set; for tests and benches.
    pub fn with_simd(self, simd: Simd) -> Self {
        Self { simd, ..self }
    }

    /// With a device.
    pub fn with_device(self, device: Arc<dyn Device>) -> Self {
        Self { device: Some(device), ..self }
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
    Manifest(Arc<[TensorDesc]>),
    /// A tensor begins.
    Tensor(Arc<TensorMeta>),
    /// A group of its values, checked and still coded. In headers-only mode its payload is empty.
    Chunk(EncodedChunk),
    /// A record of an application; only from a decoder that was asked for them
    /// ([`Decoder::with_records`]).
    Record {
        /// Its number: 0x20 to 0x3F, or 0xA0 to 0xBF for those that may be passed over.
        kind: u8,
        /// Its verified bytes.
        body: Vec<u8>,
    },
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

/// Turns stream bytes into events; concatenated streams follow each other.
///
/// ```
/// use fedpress::{Decoder, Event};
/// let seeds = fedpress::Seeds::new(7, 1);
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
    /// Whether the records of applications are events.
    records: bool,
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

/// Bytes of a record that room is taken for at once.
const AT_ONCE: usize = 1 << 20;
/// Missing bytes of a chunk from which they are read without a stop between.
const WORTH_READING: usize = 1 << 14;

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

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(options: DecodeOptions) -> Self {
        Self {
            allowance: Allowance::new(options.memory),
            options,
            headers_only: false,
            records: false,
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

    /// A decoder that also hands out the records of applications ([`Event::Record`]), for messages
    /// that carry tensors. Others pass over those that may be passed over, and refuse the rest.
    pub fn with_records(options: DecodeOptions) -> Self {
        Self { records: true, ..Self::new(options) }
    }

    /// A decoder at a tensor record at this offset of the input, in the stream that starts at `start`, for
    /// seekable readers. What the stream held before is unknown, so its totals and its index are not compared.
    pub(crate) fn at_tensor(options: DecodeOptions, start: u64, offset: u64) -> Self {
        let mut decoder = Self { step: Step::Header, taken: offset, ..Self::new(options) };
        decoder.stream.start = start;
        decoder.stream.joined_late = true;
        decoder
    }

    /// The caller goes on at another record of the same stream.
    pub(crate) fn jump_to(&mut self, offset: u64) {
        self.taken = offset;
    }

    /// A chunk of this stream turned out to be corrupt when it was decoded: nothing more is to be
    /// read. One that is not supported leaves the others as they are.
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        self.poisoned |= !matches!(error.kind(), crate::ErrorKind::Unsupported { .. });
        error
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
        if between && self.stream.start > 0 && !self.stream.is_pending() {
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
            if let Some(event) = self.next_pending() {
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
        self.make_room(wanted, n);
        self.buffer.extend_from_slice(head);
        self.taken += wanted as u64;
        *input = rest;
        Ok(self.buffer.len() >= n)
    }

    /// Room for `more` bytes that are there, of `n` that the record has in all. For a chunk up to
    /// [`AT_ONCE`] is taken unseen: what it takes was charged with its tensor.
    fn make_room(&mut self, more: usize, n: usize) {
        let needed = self.buffer.len() + more;
        if self.buffer.capacity() < needed {
            let is_chunk = matches!(self.step, Step::Body(header) if header.kind == kind::CHUNK);
            let least = if is_chunk { AT_ONCE } else { needed };
            let room = (4 * self.buffer.capacity()).max(needed).max(least).min(n.max(needed));
            self.buffer.reserve_exact(room - self.buffer.len());
        }
    }

    /// Reads what is missing of a long chunk straight to where it stays; says how many bytes came.
    pub(crate) fn read_body(&mut self, inner: &mut impl Read) -> std::io::Result<usize> {
        let Step::Body(header) = self.step else { return Ok(0) };
        let n = header.body_len as usize + TRAILER_LEN;
        let missing = n.saturating_sub(self.buffer.len());
        let is_whole = header.kind == kind::CHUNK && !self.headers_only;
        if missing < WORTH_READING || !is_whole || self.poisoned {
            return Ok(0);
        }
        self.make_room(1, n);
        let before = self.buffer.len();
        let room = (self.buffer.capacity() - before).min(missing) as u64;
        let result = inner.take(room).read_to_end(&mut self.buffer);
        let read = self.buffer.len() - before;
        self.taken += read as u64;
        result.map(|_| read)
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
                // What the format allows, then what the pipelines of this tensor can make.
                let most = ChunkHeader::most(largest_group(&open.meta));
                let max = max_body_len(&open.meta).min(most);
                if len as usize > max {
                    return Err(Error::corrupt(format!(
                        "chunk of {len} bytes, at most {max} are possible"
                    ))
                    .in_tensor(open.meta.name()));
                }
                if open.meta.kept && !self.headers_only {
                    // It stays for tensors that are tied to this one.
                    let kept = 4 * size_of::<Event>() as u64 + u64::from(len);
                    self.spend("a tensor that others are tied to", kept)?;
                }
            }
            kind::TENSOR
            | kind::TIED
            | kind::END
            | kind::METADATA
            | kind::MANIFEST
            | kind::INDEX => {
                self.check_place(header.kind)?;
                check_body_len(len)?;
                // Its parsed form takes a small multiple of its bytes.
                self.allowance.check("a record", 4 * u64::from(len))?;
            }
            application if self.records && kind::is_application(application) => {
                self.stream.check_not_after_index()?;
                check_body_len(len)?;
                self.allowance.check("a record", u64::from(len))?;
            }
            unknown if unknown & kind::SKIPPABLE != 0 => {
                self.stream.check_not_after_index()?;
                let checksum = Some(Checksum::of(header));
                self.step = Step::Skip { left: u64::from(len), checksum, trailer: Vec::new() };
                return Ok(());
            }
            unknown => {
                return Err(Error::unsupported(
                    format!("record kind {unknown:#04x}"),
                    format!("the records of FORMAT.md, version {VERSION_TEXT}"),
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
        match header.kind {
            kind::CHUNK => self.chunk(body).map(Some),
            kind::TENSOR => self.tensor(&body).map(Some),
            kind::TIED => self.tied(&body).map(Some),
            kind::END => self.end(&body).map(Some),
            kind::INDEX => self.index(&body).map(Some),
            kind if kind::is_application(kind) => Ok(Some(Event::Record { kind, body })),
            head => self.head(head, &body).map(Some),
        }
    }

    /// Charges what stays until the end of the stream.
    fn spend(&mut self, what: &str, bytes: u64) -> Result<()> {
        self.allowance.charge(what, bytes)?;
        self.stream.spent += bytes;
        Ok(())
    }
}

/// Of records other than chunks.
fn check_body_len(len: u32) -> Result<()> {
    if len > MAX_BODY {
        return Err(Error::corrupt(format!(
            "record of {len} bytes, at most {MAX_BODY} are allowed"
        )));
    }
    Ok(())
}
