//! Reading only what is needed from a stream that can be seeked: a summary of the headers, or one
//! tensor by name.

use crate::decode::{DecodeOptions, Decoder, Event, closed_shape};
use crate::frame::{HEADER_LEN, OVERHEAD, RecordHeader, kind};
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
    let length = {
        let here = inner.stream_position()?;
        let end = inner.seek(SeekFrom::End(0))?;
        inner.seek(SeekFrom::Start(here))?;
        end - here
    };
    let mut walk = Walk::new(options);
    walk.run(inner, |inner, n| {
        inner.seek(SeekFrom::Current(n as i64)).map(drop).map_err(Error::from)
    })?;
    if walk.position > length {
        return Err(Error::truncated("the input ends inside a chunk").at(length));
    }
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
                self.note(event);
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

    fn note(&mut self, event: Event) {
        let at = self.decoder.record_offset();
        let summary = &mut self.summary;
        match event {
            Event::Stream { major, minor } => {
                summary.version = (major, minor);
                summary.n_streams += 1;
                summary.has_index = false;
            }
            Event::Metadata(map) => summary.metadata.extend(map),
            Event::Tensor(meta) => {
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
    }
}

/// Reads one tensor of a seekable source that holds one stream, and as little else as possible:
/// where there is an index, its end and the tensor itself; otherwise also the headers before it.
pub fn read_tensor<R: Read + Seek>(
    inner: &mut R,
    name: &str,
    options: &DecodeOptions,
) -> Result<Tensor> {
    let offset = match index_of(inner)? {
        Some(entries) => find_by_index(inner, &entries, name, options)?,
        None => {
            inner.seek(SeekFrom::Start(0))?;
            let summary = summarize(inner, options)?;
            summary.tensors.iter().find(|t| t.meta.name() == name).map(|t| t.offset)
        }
    };
    let offset = offset.ok_or_else(|| Error::invalid("no tensor of that name").in_tensor(name))?;
    read_tensor_at(inner, offset, options)
}

fn read_tensor_at<R: Read + Seek>(
    inner: &mut R,
    offset: u64,
    options: &DecodeOptions,
) -> Result<Tensor> {
    inner.seek(SeekFrom::Start(offset))?;
    let mut reader = Reader::with_decoder(inner, Decoder::at_tensor(options.clone(), offset));
    match reader.next_tensor()? {
        Some(tensor) => tensor.read(),
        None => Err(Error::corrupt("no tensor record").at(offset)),
    }
}

/// The index, if the source is one stream that ends with one.
fn index_of<R: Read + Seek>(inner: &mut R) -> Result<Option<Vec<IndexEntry>>> {
    inner.seek(SeekFrom::Start(0))?;
    let mut preamble = [0; PREAMBLE_LEN];
    read_exact(inner, &mut preamble)?;
    check_preamble(&preamble)?;
    let length = inner.seek(SeekFrom::End(0))?;
    let tail = length.min(End::MAX_RECORD_LEN as u64);
    let end = read_at(inner, length - tail, tail as usize)?;
    let record_len = end.len().checked_sub(5).map_or(0, |at| usize::from(end[at]));
    let Some(record) = end.len().checked_sub(record_len).map(|at| &end[at..]) else {
        return Err(Error::truncated("no end record at the end of the input").at(length));
    };
    let body = parse_record(record, kind::END)
        .map_err(|_| Error::truncated("no end record at the end of the input").at(length))?;
    let end = End::read_from(body)?;
    let at = length - record_len as u64;
    match at.checked_sub(end.index_distance) {
        Some(start) if end.index_distance > 0 => {
            let size = usize::try_from(end.index_distance)
                .ok()
                .filter(|n| *n <= crate::frame::MAX_BODY as usize + OVERHEAD)
                .ok_or_else(|| Error::corrupt("index distance out of range").at(at))?;
            let record = read_at(inner, start, size)?;
            let body = parse_record(&record, kind::INDEX).map_err(|e| e.at(start))?;
            let entries = read_index(body).map_err(|e| e.at(start))?;
            // Of concatenated streams only the last has its index here.
            let whole = entries.len() as u64 == end.n_tensors
                && entries.first().is_none_or(|e| e.offset < start);
            Ok(whole.then_some(entries))
        }
        _ => Ok(None),
    }
}

/// The tensor of that name among the entries with its hash.
fn find_by_index<R: Read + Seek>(
    inner: &mut R,
    entries: &[IndexEntry],
    name: &str,
    options: &DecodeOptions,
) -> Result<Option<u64>> {
    let hash = name_key(name);
    for entry in entries.iter().filter(|e| e.name_hash == hash) {
        inner.seek(SeekFrom::Start(entry.offset))?;
        let mut reader =
            Reader::with_decoder(&mut *inner, Decoder::at_tensor(options.clone(), entry.offset));
        if reader.next_tensor()?.is_some_and(|t| t.meta().name() == name) {
            return Ok(Some(entry.offset));
        }
    }
    Ok(None)
}

fn read_exact<R: Read>(inner: &mut R, out: &mut [u8]) -> Result<()> {
    inner.read_exact(out).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::truncated("the input ends before the end record")
        }
        _ => Error::from(e),
    })
}

fn read_at<R: Read + Seek>(inner: &mut R, offset: u64, n: usize) -> Result<Vec<u8>> {
    inner.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    inner.take(n as u64).read_to_end(&mut bytes)?;
    if bytes.len() < n {
        return Err(Error::truncated("the input ends before the end record"));
    }
    Ok(bytes)
}

/// The body of a whole record of that kind, verified.
fn parse_record(record: &[u8], kind: u8) -> Result<&[u8]> {
    let (head, rest) = record
        .split_first_chunk::<HEADER_LEN>()
        .ok_or_else(|| Error::corrupt("record too short"))?;
    let header = RecordHeader::from_bytes(head)?;
    let (body, trailer) =
        rest.split_last_chunk::<4>().ok_or_else(|| Error::corrupt("record too short"))?;
    if header.kind != kind || header.body_len as usize != body.len() {
        return Err(Error::corrupt(format!("expected a record of kind {kind:#04x} here")));
    }
    let mut checksum = crate::frame::Checksum::of(header);
    checksum.update(body);
    checksum.verify(*trailer)?;
    Ok(body)
}
