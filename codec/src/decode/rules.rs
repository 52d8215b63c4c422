//! What a verified record does to the state of the stream: the rules of FORMAT.md about order,
//! totals, names and the sizes of chunks.

use super::{Decoder, EncodedChunk, Event, Step};
use crate::encode::MOST_TIED;
use crate::group::decode_memory;
use crate::wire::bytes::Cursor;
use crate::wire::record::{RecordHeader, TRAILER_LEN, kind};
use crate::wire::{
    ChunkHeader, End, IndexEntry, TensorDesc, TensorMeta, Tied, read_index, read_manifest,
    read_metadata,
};
use crate::{Error, Result};
use std::collections::HashSet;
use std::sync::Arc;

/// What one stream has held so far.
#[derive(Default)]
pub(super) struct StreamState {
    pub(super) start: u64,
    /// Where the record being read starts.
    pub(super) record_at: u64,
    /// The highest kind of head record seen.
    pub(super) head: u8,
    /// Whether a tensor or the index was seen, so that the head is over.
    pub(super) body: bool,
    pub(super) names: HashSet<String>,
    pub(super) manifest: Option<Arc<[TensorDesc]>>,
    /// Whether reading began inside the stream.
    pub(super) joined_late: bool,
    pub(super) open: Option<OpenTensor>,
    /// The chunks of a tied tensor that are still to come.
    pub(super) repeat: Option<Repeat>,
    /// The end of a tensor, behind its last chunk.
    pub(super) tensor_end: Option<Event>,
    /// Tensors that others may be tied to, with their chunks.
    pub(super) kept: Vec<Kept>,
    pub(super) n_tensors: u64,
    pub(super) n_chunks: u64,
    /// Memory charged until the end of the stream.
    pub(super) spent: u64,
    /// The index that this stream must have, if it has one.
    pub(super) expected_index: Vec<IndexEntry>,
    pub(super) index_at: Option<u64>,
}

/// A tensor that others may be tied to.
pub(super) struct Kept {
    pub(super) meta: Arc<TensorMeta>,
    /// Where its record starts, from the preamble.
    pub(super) at: u64,
    pub(super) chunks: Vec<EncodedChunk>,
    pub(super) n_tied: u32,
}

/// Chunks of a kept tensor that come once more, one at a time: what is kept stays all the memory they take.
pub(super) struct Repeat {
    /// Number of the tensor among those kept, and of the next chunk of it.
    kept: usize,
    next: usize,
    /// The tensor that they come under.
    meta: Arc<TensorMeta>,
}

pub(super) struct OpenTensor {
    pub(super) meta: Arc<TensorMeta>,
    pub(super) next_group: u64,
    pub(super) n_values: u64,
    pub(super) reserved: u64,
}

impl StreamState {
    /// Whether events are left that records before caused.
    pub(super) fn is_pending(&self) -> bool {
        self.repeat.is_some() || self.tensor_end.is_some()
    }

    /// The next chunk of a tied tensor.
    fn repeated(&mut self) -> Option<EncodedChunk> {
        let Repeat { kept, next, meta } = self.repeat.as_mut()?;
        let chunk = self.kept.get(*kept)?.chunks.get(*next).map(|chunk| chunk.under(meta));
        *next += 1;
        if chunk.is_none() {
            self.repeat = None;
        }
        chunk
    }

    pub(super) fn check_not_after_index(&self) -> Result<()> {
        match self.index_at {
            Some(_) => Err(Error::corrupt("a record between the index and the end record")),
            None => Ok(()),
        }
    }
}

impl Decoder {
    /// Whether a record of this kind may stand here; everything that its header tells.
    pub(super) fn check_place(&self, kind: u8) -> Result<()> {
        if let Some(open) = &self.stream.open {
            let message = format!("record {kind:#04x} before the last chunk of the tensor");
            return Err(Error::corrupt(message).in_tensor(open.meta.name()));
        }
        if kind != kind::END {
            self.stream.check_not_after_index()?;
        }
        let head = matches!(kind, kind::METADATA | kind::MANIFEST);
        if head && (self.stream.body || self.stream.head >= kind) {
            return Err(Error::corrupt(format!(
                "record {kind:#04x} out of place: metadata, manifest, tensors, in this order"
            )));
        }
        Ok(())
    }

    pub(super) fn head(&mut self, kind: u8, body: &[u8]) -> Result<Event> {
        self.stream.head = kind;
        let mut spend = |bytes| self.spend("metadata and manifest", bytes);
        if kind == kind::METADATA {
            return read_metadata(body, &mut spend).map(Event::Metadata);
        }
        let manifest: Arc<[TensorDesc]> = read_manifest(body, &mut spend)?.into();
        self.stream.manifest = Some(manifest.clone());
        Ok(Event::Manifest(manifest))
    }

    pub(super) fn tensor(&mut self, body: &[u8]) -> Result<Event> {
        let meta = Arc::new(TensorMeta::read_from(body)?);
        let open = self.open_tensor(&meta).map_err(|e| e.in_tensor(meta.name()))?;
        self.stream.open = Some(open);
        if meta.kept {
            let at = self.stream.record_at - self.stream.start;
            self.stream.kept.push(Kept { meta: meta.clone(), at, chunks: Vec::new(), n_tied: 0 });
        }
        if meta.n_values() == Some(0) {
            self.close_tensor();
        }
        Ok(Event::Tensor(meta))
    }

    /// A tensor with the values of one that was kept: its chunks come once more, under this name.
    pub(super) fn tied(&mut self, body: &[u8]) -> Result<Event> {
        let tied = Tied::read_from(body)?;
        let in_tensor = |e: Error| e.in_tensor(&tied.desc.name);
        let all = &mut self.stream.kept;
        let number = all.iter().position(|kept| kept.at == tied.original);
        let number = number.ok_or_else(|| Error::corrupt("tied to no tensor that is kept"));
        let number = number.map_err(in_tensor)?;
        let kept = &mut all[number];
        kept.n_tied += 1;
        if kept.n_tied > MOST_TIED {
            let message = format!("a tensor more than {MOST_TIED} that are tied to one");
            return Err(in_tensor(Error::corrupt(message)));
        }
        let meta = Arc::new(tied.meta(&kept.meta).map_err(in_tensor)?);
        // What decoding the chunks takes is charged as it was for the original.
        let open = self.open_tensor(&meta).map_err(in_tensor)?;
        self.stream.open = Some(open);
        self.stream.repeat = Some(Repeat { kept: number, next: 0, meta: meta.clone() });
        let n_values = meta.n_values().unwrap_or(0);
        self.stream.tensor_end = Some(Event::TensorEnd { n_values });
        Ok(Event::Tensor(meta))
    }

    /// What a tied tensor was charged for goes when its last event does.
    pub(super) fn next_pending(&mut self) -> Option<Event> {
        if let Some(chunk) = self.stream.repeated() {
            return Some(Event::Chunk(chunk));
        }
        let event = self.stream.tensor_end.take()?;
        if let Some(open) = self.stream.open.take() {
            self.allowance.release(open.reserved);
        }
        Some(event)
    }

    fn open_tensor(&mut self, meta: &Arc<TensorMeta>) -> Result<OpenTensor> {
        // The name and its place in the set, and the header.
        self.spend("names", names_memory(meta))?;
        let stream = &mut self.stream;
        if !stream.names.insert(meta.name().to_owned()) {
            return Err(Error::corrupt("a second tensor of that name"));
        }
        let announced = stream.manifest.as_ref().map(|m| m.get(stream.n_tensors as usize));
        if announced.is_some_and(|announced| announced != Some(meta.desc())) {
            return Err(Error::corrupt("not the tensor that the manifest announces"));
        }
        stream.body = true;
        stream.n_tensors += 1;
        stream.expected_index.push(IndexEntry {
            name_hash: meta.name_hash,
            offset: stream.record_at - stream.start,
        });
        let reserved = match self.headers_only {
            true => 0,
            false => {
                let threads = self.options.threads.max(1) as u64;
                decode_memory(meta)
                    .saturating_mul(meta.n_groups().map_or(threads, |n| n.min(threads)))
            }
        };
        self.allowance.charge("decoding a chunk", reserved)?;
        Ok(OpenTensor { meta: meta.clone(), next_group: 0, n_values: 0, reserved })
    }

    fn close_tensor(&mut self) {
        if let Some(open) = self.stream.open.take() {
            self.allowance.release(open.reserved);
            self.stream.tensor_end = Some(Event::TensorEnd { n_values: open.n_values });
        }
    }

    /// The head of a chunk in headers-only mode; the payload is left to be skipped.
    pub(super) fn chunk_head(&mut self, header: RecordHeader) -> Result<Event> {
        let head = std::mem::take(&mut self.buffer);
        let left = u64::from(header.body_len) - head.len() as u64 + TRAILER_LEN as u64;
        self.step = Step::Skip { left, checksum: None, trailer: Vec::new() };
        let mut chunk = self.chunk_event(head)?;
        chunk.body = Arc::default();
        chunk.payload_at = None;
        Ok(Event::Chunk(chunk))
    }

    pub(super) fn chunk(&mut self, body: Vec<u8>) -> Result<Event> {
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
        let payload_at = Some(body.len() - cursor.rest().len());
        self.stream.n_chunks += 1;
        let body = Arc::new(body);
        let chunk = EncodedChunk { meta, header, body, payload_at, offset };
        if chunk.meta.kept && !self.headers_only {
            if let Some(kept) = self.stream.kept.last_mut() {
                kept.chunks.push(chunk.clone());
            }
        }
        if header.last {
            self.close_tensor();
        }
        Ok(chunk)
    }

    pub(super) fn index(&mut self, body: &[u8]) -> Result<Event> {
        self.stream.body = true;
        self.stream.index_at = Some(self.stream.record_at);
        self.spend("the index", 4 * body.len() as u64)?;
        let entries = read_index(body)?;
        if entries != self.stream.expected_index && !self.stream.joined_late {
            return Err(Error::corrupt("the index does not list the tensors of the stream"));
        }
        Ok(Event::Index(entries))
    }

    pub(super) fn end(&mut self, body: &[u8]) -> Result<Event> {
        let end = End::read_from(body)?;
        let stream = &self.stream;
        let distance = stream.index_at.map_or(0, |at| stream.record_at - at);
        let expected = End {
            n_tensors: stream.n_tensors,
            n_chunks: stream.n_chunks,
            index_distance: distance,
            stream_bytes: stream.record_at - stream.start,
        };
        if end != expected && !stream.joined_late {
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
        let Some(spec) = self.meta.pipelines.get(usize::from(header.pipeline)) else {
            return Err(Error::corrupt(format!(
                "chunk of pipeline {}, the tensor has {}",
                header.pipeline,
                self.meta.pipelines.len()
            )));
        };
        if header.stored && spec.lossless.zstd.is_none() && spec.unknown.is_none() {
            return Err(Error::corrupt("chunk marked stored in a pipeline without zstd"));
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
        if header.last && self.n_values % self.meta.desc.row_values()? != 0 {
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
    if meta.desc.open {
        if let (Some(first), Ok(row)) = (shape.first_mut(), meta.desc.row_values()) {
            *first = n_values / row;
        }
    }
    shape
}

/// Memory that the header of a tensor takes here, and again where a caller keeps it.
pub(crate) fn names_memory(meta: &TensorMeta) -> u64 {
    // Lists double as they grow.
    let index = 2 * size_of::<IndexEntry>();
    (2 * meta.name().len() + 16 * meta.desc.shape.len() + index + 512) as u64
}
