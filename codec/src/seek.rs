//! Reading only what is needed from a stream that can be seeked: a summary of the headers, or one
//! tensor by name.

use crate::decode::{DecodeOptions, Decoder, Event, closed_shape, names_memory};
use crate::limits::Allowance;
use crate::random::name_key;
use crate::wire::bytes::Cursor;
use crate::wire::record::{
    Checksum, HEADER_LEN, MAX_BODY, OVERHEAD, RecordHeader, TRAILER_LEN, kind,
};
use crate::wire::{
    End, IndexEntry, MAX_NAME, PREAMBLE_LEN, TensorMeta, Tied, check_preamble, read_index,
};
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
    /// Where its stream starts.
    stream_at: u64,
}

/// Reads the headers of a seekable source and jumps over the payloads, which are not verified.
pub fn summarize<R: Read + Seek>(inner: &mut R, options: &DecodeOptions) -> Result<Summary> {
    summarize_up_to(inner, u64::MAX, options)
}

/// The same for the part before a position (counted from where reading starts).
fn summarize_up_to<R: Read + Seek>(
    inner: &mut R,
    end: u64,
    options: &DecodeOptions,
) -> Result<Summary> {
    let mut walk = Walk::new(options);
    walk.end = end;
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
    /// Where the stream starts that is being read.
    stream_at: u64,
    position: u64,
    /// Where to stop.
    end: u64,
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
        Self {
            decoder: Decoder::headers_only(options.clone()),
            summary,
            stream_at: 0,
            position: 0,
            end: u64::MAX,
        }
    }

    fn run<R: Read>(
        &mut self,
        inner: &mut R,
        jump: impl Fn(&mut R, u64) -> Result<()>,
    ) -> Result<()> {
        // Small reads: a header is a few dozen bytes, and what lies behind it is jumped over.
        let mut buffer = [0; 256];
        loop {
            let room = self.end.saturating_sub(self.position).min(buffer.len() as u64) as usize;
            let n = match inner.read(&mut buffer[..room]) {
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
                self.stream_at = at;
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
                    stream_at: self.stream_at,
                });
            }
            Event::Chunk(_) => {
                let n_bytes = self.decoder.record_len();
                if let Some(tensor) = summary.tensors.last_mut() {
                    tensor.n_chunks += 1;
                    tensor.n_bytes += n_bytes;
                }
            }
            Event::TensorEnd { n_values } => {
                // One that is tied to another has no chunks of its own.
                if let Some(tensor) = summary.tensors.last_mut() {
                    tensor.n_values = n_values;
                    tensor.shape = closed_shape(&tensor.meta, n_values);
                }
            }
            Event::Index(_) => summary.has_index = true,
            Event::Manifest(_) | Event::Record { .. } | Event::End { .. } => {}
        }
        Ok(())
    }
}

/// Reads one tensor of a seekable source, and as little else as possible: where a stream ends with
/// an index, its end and the tensor itself; otherwise also the headers before it. Of tensors of the
/// same name in concatenated streams, the last. What is not read is not verified: an index that
/// points to a tensor record inside other data is found out by reading the whole stream only.
pub fn read_tensor<R: Read + Seek>(
    inner: &mut R,
    name: &str,
    options: &DecodeOptions,
) -> Result<Tensor> {
    let place = find_tensor(inner, name, options)?;
    match reader_at(inner, place, options)?.next_tensor()? {
        Some(tensor) => tensor.read(),
        None => Err(Error::corrupt("no tensor record").at(place.offset)),
    }
}

/// The same without reading the values: a reader whose next tensor is the one of that name.
pub fn seek_tensor<R: Read + Seek>(
    mut inner: R,
    name: &str,
    options: &DecodeOptions,
) -> Result<Reader<R>> {
    let place = find_tensor(&mut inner, name, options)?;
    reader_at(inner, place, options)
}

/// Where a tensor is.
#[derive(Clone, Copy)]
struct Place {
    /// Its stream.
    start: u64,
    /// Its record.
    offset: u64,
}

/// A reader whose next tensor is the one there; that of which it has the values is read before, where
/// there is one.
fn reader_at<R: Read + Seek>(
    mut inner: R,
    Place { start, offset }: Place,
    options: &DecodeOptions,
) -> Result<Reader<R>> {
    let original = original_of(&mut inner, Place { start, offset }, options)?;
    let first = original.unwrap_or(offset);
    inner.seek(SeekFrom::Start(first))?;
    let decoder = Decoder::at_tensor(options.clone(), start, first);
    let mut reader = Reader::with_decoder(inner, decoder);
    if original.is_some() {
        reader.pass_tensor()?;
        reader.jump_to(offset)?;
    }
    Ok(reader)
}

/// Where the record of the tensor is that the one there is tied to, if it is.
fn original_of<R: Read + Seek>(
    inner: &mut R,
    Place { start, offset }: Place,
    options: &DecodeOptions,
) -> Result<Option<u64>> {
    let head = read_at(inner, offset.saturating_add(HEADER_LEN as u64), HEADER_LEN as u64)?;
    let Some(head) = head.first_chunk() else { return Ok(None) };
    let header = RecordHeader::from_bytes(head).map_err(|e| e.at(offset))?;
    if header.kind != kind::TIED || header.body_len > MAX_BODY {
        return Ok(None);
    }
    let length = u64::from(header.body_len) + OVERHEAD as u64;
    Allowance::new(options.memory).check("a record", length)?;
    let record = read_at(inner, offset.saturating_add(length), length)?;
    let tied = parse_record(&record, kind::TIED).and_then(Tied::read_from);
    let original = start.checked_add(tied.map_err(|e| e.at(offset))?.original);
    let before = original.filter(|at| *at < offset);
    before.map(Some).ok_or_else(|| Error::corrupt("tied to no tensor before it").at(offset))
}

/// Where the tensor record of that name starts. Goes from the last stream back as long as streams
/// have an index; the headers of what is before are read once.
fn find_tensor<R: Read + Seek>(
    inner: &mut R,
    name: &str,
    options: &DecodeOptions,
) -> Result<Place> {
    let mut end = inner.seek(SeekFrom::End(0))?;
    let mut allowance = Allowance::new(options.memory);
    let missing = || Error::invalid("no tensor of that name").in_tensor(name);
    loop {
        let tail = Tail::read(inner, end, &mut allowance)?;
        let Some(entries) = &tail.index else {
            inner.seek(SeekFrom::Start(0))?;
            let summary = summarize_up_to(inner, end, options)?;
            let found = summary.tensors.iter().rfind(|t| t.meta.name() == name);
            let place = found.map(|t| Place { start: t.stream_at, offset: t.offset });
            return place.ok_or_else(missing);
        };
        if let Some(offset) = tail.find(inner, entries, name)? {
            return Ok(Place { start: tail.start, offset });
        }
        if tail.start == 0 {
            return Err(missing());
        }
        end = tail.start;
    }
}

/// What the end of a stream says about it.
struct Tail {
    /// Where the stream starts.
    start: u64,
    /// Where its index starts.
    index_at: u64,
    index: Option<Vec<IndexEntry>>,
}

impl Tail {
    /// Reads the end record, and the index if there is one, of the stream that ends at `end`.
    fn read<R: Read + Seek>(inner: &mut R, end: u64, allowance: &mut Allowance) -> Result<Self> {
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
        let distance = record.index_distance;
        if distance == 0 {
            return Ok(Self { start, index_at: at, index: None });
        }
        let longest = (u64::from(MAX_BODY) + OVERHEAD as u64)
            .min(record.stream_bytes.saturating_sub(PREAMBLE_LEN as u64));
        if distance > longest {
            return Err(Error::corrupt("index distance out of range").at(at));
        }
        // The record, and its entries, of nine bytes or more each.
        let entries = distance / 9 * 2 * size_of::<IndexEntry>() as u64;
        allowance.check("the index", distance + entries)?;
        let bytes = read_at(inner, at, distance)?;
        let body = parse_record(&bytes, kind::INDEX).map_err(|e| e.at(at))?;
        let entries = read_index(body).map_err(|e| e.at(at))?;
        Ok(Self { start, index_at: at - distance, index: Some(entries) })
    }

    /// Where the tensor of that name starts. Reads one record for each entry with its hash; an
    /// entry that points to anything but a tensor record of its hash is corrupt.
    fn find<R: Read + Seek>(
        &self,
        inner: &mut R,
        entries: &[IndexEntry],
        name: &str,
    ) -> Result<Option<u64>> {
        let hash = name_key(name);
        for entry in entries.iter().filter(|e| e.name_hash == hash) {
            let offset = self.start.saturating_add(entry.offset);
            let wrong = || Error::corrupt("the index points to no such tensor").at(offset);
            let head_end = offset.saturating_add(HEADER_LEN as u64);
            if head_end > self.index_at {
                return Err(wrong());
            }
            let head = read_at(inner, head_end, HEADER_LEN as u64)?;
            let head = head.first_chunk().ok_or_else(wrong)?;
            let header = RecordHeader::from_bytes(head).map_err(|e| e.at(offset))?;
            let length = u64::from(header.body_len) + OVERHEAD as u64;
            if !matches!(header.kind, kind::TENSOR | kind::TIED) || length > self.index_at - offset
            {
                return Err(wrong());
            }
            // No more than a name and what stands before it: the rest is verified when it is read.
            let length = length.min(HEADER_LEN as u64 + 3 + MAX_NAME);
            let record = read_at(inner, offset + length, length)?;
            let mut cursor = Cursor::new(&record[HEADER_LEN..]);
            let found = cursor.text(MAX_NAME, "tensor name").map_err(|e| e.at(offset))?;
            if name_key(found) != hash {
                return Err(wrong());
            }
            if found == name {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }
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
