//! Reading only what is needed from a stream that can be seeked: a summary of the headers, or one
//! tensor by name.

use crate::decode::{DecodeOptions, Decoder, Event, closed_shape, names_memory};
use crate::frame::{Checksum, HEADER_LEN, MAX_BODY, OVERHEAD, RecordHeader, TRAILER_LEN, kind};
use crate::meta::{End, IndexEntry, PREAMBLE_LEN, TensorMeta, check_preamble, read_index};
use crate::random::name_key;
use crate::{Error, Reader, Result, Tensor};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// What the headers of one or more concatenated streams say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Summary {
    /// Format version.
    pub version: (u8, u8),
    /// Metadata of all streams; a later stream's entry replaces an earlier one's.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in order.
    pub tensors: Vec<TensorSummary>,
    /// How many streams there are.
    pub n_streams: u64,
    /// Bytes of all of it.
    pub n_bytes: u64,
    /// Whether (the last stream) ends with an index.
    pub has_index: bool,
}

/// What the headers say about one tensor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TensorSummary {
    /// Its header.
    pub meta: Arc<TensorMeta>,
    /// Its shape, an open first dimension filled in.
    pub shape: Vec<u64>,
    /// Number of values.
    pub n_values: u64,
    /// Number of chunks.
    pub n_chunks: u64,
    /// Bytes of all its records.
    pub n_bytes: u64,
    /// Where its first record starts.
    pub offset: u64,
}

/// Reads the headers of a seekable source and jumps over the payloads, which are not verified.
pub fn summarize<R: Read + Seek>(inner: &mut R, options: &DecodeOptions) -> Result<Summary> {
    let mut walk = Walk::new(options);
    walk.run(inner, |inner, n| {
        // Past the end of the input the next read finds nothing, which is reported as truncation.
        let n = i64::try_from(n).map_err(|_| Error::corrupt("chunk of 2^63 bytes"))?;
        inner.seek(SeekFrom::Current(n)).map(drop).map_err(Error::from)
    })?;
    Ok(walk.summary)
}

/// The same for a source that cannot be seeked: reads everything, verifies the headers.
pub fn summarize_stream<R: Read>(inner: &mut R, options: &DecodeOptions) -> Result<Summary> {
    let mut walk = Walk::new(options);
    walk.run(inner, |inner, n| {
        let read = std::io::copy(&mut inner.take(n), &mut std::io::sink())?;
        if read < n {
            return Err(Error::truncated("the input ends inside a chunk"));
        }
        Ok(())
    })?;
    Ok(walk.summary)
}

struct Walk {
    decoder: Decoder,
    summary: Summary,
    position: u64,
}

impl Walk {
    fn new(options: &DecodeOptions) -> Self {
        let summary = Summary {
            version: (0, 0),
            metadata: BTreeMap::new(),
            tensors: Vec::new(),
            n_streams: 0,
            n_bytes: 0,
            has_index: false,
        };
        Self { decoder: Decoder::headers_only(options.clone()), summary, position: 0 }
    }

    fn run<R: Read>(
        &mut self,
        inner: &mut R,
        jump: impl Fn(&mut R, u64) -> Result<()>,
    ) -> Result<()> {
        // Small reads: a header is a few dozen bytes, and what lies behind it is jumped over.
        let mut buffer = [0; 256];
        loop {
            let n = match inner.read(&mut buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if n == 0 {
                return self.decoder.finish();
            }
            self.position += n as u64;
            let mut input = &buffer[..n];
            while let Some(event) = self.decoder.next(&mut input)? {
                self.note(event)?;
            }
            let skippable = self.decoder.skippable();
            if skippable > 0 {
                jump(inner, skippable)?;
                self.decoder.skip(skippable);
                self.position += skippable;
            }
            self.summary.n_bytes = self.position;
        }
    }

    /// Takes up an event; what is kept of it is charged, whatever the decoder still holds.
    fn note(&mut self, event: Event) -> Result<()> {
        let at = self.decoder.record_offset();
        let summary = &mut self.summary;
        match event {
            Event::Stream { major, minor } => {
                summary.version = (major, minor);
                summary.n_streams += 1;
                summary.has_index = false;
            }
            Event::Metadata(map) => {
                let bytes: usize = map.iter().map(|(k, v)| k.len() + v.len() + 192).sum();
                self.decoder.allowance().charge("the summary", bytes as u64)?;
                summary.metadata.extend(map);
            }
            Event::Tensor(meta) => {
                let bytes = names_memory(&meta) + 2 * size_of::<TensorSummary>() as u64;
                self.decoder.allowance().charge("the summary", bytes)?;
                let n_bytes = self.decoder.record_len();
                summary.tensors.push(TensorSummary {
                    shape: closed_shape(&meta, 0),
                    meta,
                    n_values: 0,
                    n_chunks: 0,
                    n_bytes,
                    offset: at,
                });
            }
            Event::Chunk(chunk) => {
                let n_bytes = self.decoder.record_len();
                if let Some(tensor) = summary.tensors.last_mut() {
                    tensor.n_values += chunk.n_values() as u64;
                    tensor.n_chunks += 1;
                    tensor.n_bytes += n_bytes;
                    tensor.shape = closed_shape(&tensor.meta, tensor.n_values);
                }
            }
            Event::Index(_) => summary.has_index = true,
            Event::Manifest(_) | Event::TensorEnd { .. } | Event::End { .. } => {}
        }
        Ok(())
    }
}

/// Reads one tensor of a seekable source, and as little else as possible: where a stream ends with
/// an index, its end and the tensor itself; otherwise also the headers before it. Of tensors of the
/// same name in concatenated streams, the last.
pub fn read_tensor<R: Read + Seek>(
    inner: &mut R,
    name: &str,
    options: &DecodeOptions,
) -> Result<Tensor> {
    let offset = find_tensor(inner, name, options)?;
    match reader_at(inner, offset, options)?.next_tensor()? {
        Some(tensor) => tensor.read(),
        None => Err(Error::corrupt("no tensor record").at(offset)),
    }
}

/// The same without reading the values: a reader whose next tensor is the one of that name.
pub fn seek_tensor<R: Read + Seek>(
    mut inner: R,
    name: &str,
    options: &DecodeOptions,
) -> Result<Reader<R>> {
    let offset = find_tensor(&mut inner, name, options)?;
    reader_at(inner, offset, options)
}

fn reader_at<R: Read + Seek>(
    mut inner: R,
    offset: u64,
    options: &DecodeOptions,
) -> Result<Reader<R>> {
    inner.seek(SeekFrom::Start(offset))?;
    Ok(Reader::with_decoder(inner, Decoder::at_tensor(options.clone(), offset)))
}

fn find_tensor<R: Read + Seek>(inner: &mut R, name: &str, options: &DecodeOptions) -> Result<u64> {
    let mut end = inner.seek(SeekFrom::End(0))?;
    loop {
        let tail = Tail::read(inner, end)?;
        let found = match &tail.index {
            Some(entries) => tail.find(inner, entries, name, options)?,
            None => find_by_headers(inner, tail.start, end, name, options)?,
        };
        if let Some(offset) = found {
            return Ok(offset);
        }
        if tail.start == 0 {
            return Err(Error::invalid("no tensor of that name").in_tensor(name));
        }
        end = tail.start;
    }
}

/// What the end of a stream says about it.
struct Tail {
    /// Where the stream starts.
    start: u64,
    index: Option<Vec<IndexEntry>>,
}

impl Tail {
    /// Reads the end record, and the index if there is one, of the stream that ends at `end`.
    fn read<R: Read + Seek>(inner: &mut R, end: u64) -> Result<Self> {
        let tail = read_at(inner, end, end.min(End::MAX_RECORD_LEN as u64))?;
        let not_found = || Error::truncated("no end record at the end of the input").at(end);
        let length =
            tail.len().checked_sub(5).map(|at| usize::from(tail[at])).ok_or_else(not_found)?;
        let record = tail.len().checked_sub(length).map(|at| &tail[at..]).ok_or_else(not_found)?;
        let record = End::read_from(parse_record(record, kind::END).map_err(|_| not_found())?)?;
        let at = end - length as u64;
        let start = at
            .checked_sub(record.stream_bytes)
            .ok_or_else(|| Error::truncated("the stream starts before the input").at(at))?;
        let preamble = read_at(inner, start + PREAMBLE_LEN as u64, PREAMBLE_LEN as u64)?;
        check_preamble(&preamble).map_err(|e| e.at(start))?;
        if record.index_distance == 0 {
            return Ok(Self { start, index: None });
        }
        if record.index_distance > u64::from(MAX_BODY) + OVERHEAD as u64 {
            return Err(Error::corrupt("index distance out of range").at(at));
        }
        let bytes = read_at(inner, at, record.index_distance)?;
        let body = parse_record(&bytes, kind::INDEX).map_err(|e| e.at(at))?;
        let entries = read_index(body).map_err(|e| e.at(at))?;
        Ok(Self { start, index: Some(entries) })
    }

    /// Where the tensor of that name starts, among the entries with its hash.
    fn find<R: Read + Seek>(
        &self,
        inner: &mut R,
        entries: &[IndexEntry],
        name: &str,
        options: &DecodeOptions,
    ) -> Result<Option<u64>> {
        let hash = name_key(name);
        for entry in entries.iter().filter(|e| e.name_hash == hash) {
            let offset = self.start.saturating_add(entry.offset);
            let mut reader = reader_at(&mut *inner, offset, options)?;
            if reader.next_tensor()?.is_some_and(|t| t.meta().name() == name) {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }
}

/// Where the tensor of that name starts, by the headers from `start` on, if that is before `end`.
fn find_by_headers<R: Read + Seek>(
    inner: &mut R,
    start: u64,
    end: u64,
    name: &str,
    options: &DecodeOptions,
) -> Result<Option<u64>> {
    inner.seek(SeekFrom::Start(start))?;
    let summary = summarize(inner, options)?;
    let found = summary.tensors.iter().find(|t| t.meta.name() == name && start + t.offset < end);
    Ok(found.map(|t| start + t.offset))
}

/// The body of a whole record of that kind, verified.
fn parse_record(record: &[u8], kind: u8) -> Result<&[u8]> {
    let (head, rest) = record
        .split_first_chunk::<HEADER_LEN>()
        .ok_or_else(|| Error::corrupt("record too short"))?;
    let header = RecordHeader::from_bytes(head)?;
    let (body, trailer) =
        rest.split_last_chunk::<TRAILER_LEN>().ok_or_else(|| Error::corrupt("record too short"))?;
    if header.kind != kind || header.body_len as usize != body.len() {
        return Err(Error::corrupt(format!("expected a record of kind {kind:#04x} here")));
    }
    let mut checksum = Checksum::of(header);
    checksum.update(body);
    checksum.verify(*trailer)?;
    Ok(body)
}

/// The `n` bytes before position `end`.
fn read_at<R: Read + Seek>(inner: &mut R, end: u64, n: u64) -> Result<Vec<u8>> {
    let truncated = || Error::truncated("the input ends before the end record");
    inner.seek(SeekFrom::Start(end.checked_sub(n).ok_or_else(truncated)?))?;
    let mut bytes = Vec::new();
    inner.take(n).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < n {
        return Err(truncated());
    }
    Ok(bytes)
}
