//! [`Reader`]: the decoder over `std::io::Read`.

use crate::decode::{
    ChunkDecoder, DecodeOptions, Decoder, EncodedChunk, Event, closed_shape, decode_all,
};
use crate::meta::{TensorDesc, TensorMeta};
use crate::{Error, Result, Tensor};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::Arc;

/// Bytes read from the source at a time.
const READ_BYTES: usize = 1 << 16;

/// Reads streams, one after the other, tensor by tensor.
///
/// ```
/// # let seeds = fedpress::Seeds { shared: 7, private: 1, round: 0, client: 0 };
/// # let w = fedpress::TensorView::f32("w", &[2], &[1.0, 2.0]);
/// # let bytes = fedpress::encode(&[w], &fedpress::Spec::none(), &fedpress::EncodeOptions::new(seeds))?;
/// let mut reader = fedpress::Reader::new(&bytes[..], Default::default());
/// let mut sum = vec![0.0; 2];
/// while let Some(tensor) = reader.next_tensor()? {
///     tensor.add_into(&mut sum, 0.5)?;
/// }
/// assert_eq!(sum, [0.5, 1.0]);
/// # Ok::<(), fedpress::Error>(())
/// ```
pub struct Reader<R> {
    inner: R,
    input: Vec<u8>,
    /// The part of `input` that the decoder has not taken.
    unread: std::ops::Range<usize>,
    decoder: Decoder,
    workers: Vec<ChunkDecoder>,
    metadata: BTreeMap<String, String>,
    manifest: Option<Arc<[TensorDesc]>>,
    /// Whether the current tensor has chunks or its end still to come.
    inside: bool,
}

impl<R: Read> Reader<R> {
    /// Starts reading; nothing is read until the first tensor is asked for.
    pub fn new(inner: R, options: DecodeOptions) -> Self {
        Self::with_decoder(inner, Decoder::new(options))
    }

    pub(crate) fn with_decoder(inner: R, decoder: Decoder) -> Self {
        let options = decoder.options();
        let threads = options.threads.max(1);
        Self {
            inner,
            input: vec![0; READ_BYTES],
            unread: 0..0,
            workers: (0..threads).map(|_| ChunkDecoder::new(options)).collect(),
            decoder,
            metadata: BTreeMap::new(),
            manifest: None,
            inside: false,
        }
    }

    /// What the sender says about the stream, as far as it has been read.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors the stream announces, if it does.
    pub fn manifest(&self) -> Option<&[TensorDesc]> {
        self.manifest.as_deref()
    }

    /// The next tensor; `None` when all streams have ended properly. Chunks of the previous tensor
    /// that were not asked for are verified and passed over.
    pub fn next_tensor(&mut self) -> Result<Option<TensorReader<'_, R>>> {
        while let Some(event) = self.next_event()? {
            match event {
                Event::Stream { .. } => {
                    self.metadata.clear();
                    self.manifest = None;
                }
                Event::Metadata(map) => self.metadata = map,
                Event::Manifest(tensors) => self.manifest = Some(tensors),
                Event::Tensor(meta) => {
                    self.inside = true;
                    return Ok(Some(TensorReader {
                        reader: self,
                        meta,
                        ready: VecDeque::new(),
                        decoded: Vec::new(),
                        n_values: 0,
                        handed_out: false,
                    }));
                }
                Event::TensorEnd { .. } => self.inside = false,
                Event::Chunk(_) | Event::Index(_) | Event::Record { .. } | Event::End { .. } => {}
            }
        }
        Ok(None)
    }

    /// Charges what the caller keeps of the tensors it read.
    pub(crate) fn keep(&mut self, tensor: &Tensor) -> Result<()> {
        let head = size_of::<Tensor>() + tensor.name.len() + 8 * tensor.shape.len();
        let bytes = 2 * head + tensor.data.capacity();
        let charged = self.decoder.allowance().charge("the tensors", bytes as u64);
        charged.map_err(|e| e.in_tensor(&tensor.name))
    }

    /// Gives the source back; up to 64 KiB may have been read ahead.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn next_event(&mut self) -> Result<Option<Event>> {
        loop {
            let mut input = &self.input[self.unread.clone()];
            let event = self.decoder.next(&mut input)?;
            self.unread.start = self.unread.end - input.len();
            if event.is_some() {
                return Ok(event);
            }
            let n = loop {
                match self.inner.read(&mut self.input) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    result => break result?,
                }
            };
            if n == 0 {
                return self.decoder.finish().map(|()| None);
            }
            self.unread = 0..n;
        }
    }
}

/// One tensor of a [`Reader`].
pub struct TensorReader<'a, R> {
    reader: &'a mut Reader<R>,
    meta: Arc<TensorMeta>,
    /// Chunks that were decoded together and not handed out: their sizes in `decoded`.
    ready: VecDeque<std::ops::Range<usize>>,
    decoded: Vec<u8>,
    n_values: u64,
    /// Whether a chunk was handed out.
    handed_out: bool,
}

impl<R: Read> TensorReader<'_, R> {
    /// Its header.
    pub fn meta(&self) -> &TensorMeta {
        &self.meta
    }

    /// The shape, an open first dimension filled in with what has been read: final after the last
    /// chunk.
    pub fn shape(&self) -> Vec<u64> {
        closed_shape(&self.meta, self.n_values)
    }

    fn next_encoded(&mut self) -> Result<Option<EncodedChunk>> {
        while self.reader.inside {
            match self.reader.next_event()? {
                Some(Event::Chunk(chunk)) => return Ok(Some(chunk)),
                Some(Event::TensorEnd { .. }) | None => self.reader.inside = false,
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// As many chunks as are decoded together, with the bytes they decode to.
    fn next_batch(&mut self) -> Result<(Vec<EncodedChunk>, usize)> {
        let mut chunks = Vec::new();
        let mut n_values = 0;
        while chunks.len() < self.reader.workers.len() {
            let Some(chunk) = self.next_encoded()? else { break };
            n_values += chunk.n_values();
            chunks.push(chunk);
        }
        self.n_values += n_values as u64;
        Ok((chunks, n_values * self.meta.dtype().size()))
    }

    /// The next group of values, as little-endian element bytes; `None` after the last.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>> {
        if self.ready.is_empty() {
            let (chunks, size) = self.next_batch()?;
            self.decoded.resize(size, 0);
            decode_all(&chunks, &mut self.reader.workers, &mut self.decoded)
                .map_err(|e| self.reader.decoder.fail(e))?;
            let mut at = 0;
            for chunk in &chunks {
                let size = chunk.n_values() * self.meta.dtype().size();
                self.ready.push_back(at..at + size);
                at += size;
            }
            self.handed_out = true;
        }
        Ok(self.ready.pop_front().map(|range| &self.decoded[range]))
    }

    /// The whole tensor, within what the memory limit leaves; an error if chunks of it were taken.
    pub fn read(mut self) -> Result<Tensor> {
        if self.handed_out {
            return Err(Error::invalid("chunks of this tensor were taken already")
                .in_tensor(self.meta.name()));
        }
        let mut data = Vec::new();
        loop {
            let (chunks, size) = self.next_batch()?;
            if chunks.is_empty() {
                break;
            }
            let at = data.len();
            self.reserve(&mut data, size)?;
            data.resize(at + size, 0);
            decode_all(&chunks, &mut self.reader.workers, &mut data[at..])
                .map_err(|e| self.reader.decoder.fail(e))?;
        }
        // From here on it is the caller's.
        self.reader.decoder.allowance().release(data.capacity() as u64);
        let shape = self.shape();
        Ok(Tensor { name: self.meta.name().to_owned(), dtype: self.meta.dtype(), shape, data })
    }

    /// Room for `more` bytes: at least double, but never past the size of the tensor, and paid for.
    fn reserve(&mut self, data: &mut Vec<u8>, more: usize) -> Result<()> {
        let grown = data.len() + more;
        if data.capacity() >= grown {
            return Ok(());
        }
        let total = self.meta.n_values().map(|n| n.saturating_mul(self.meta.dtype().size() as u64));
        let total = total.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let room = (2 * data.capacity()).max(grown).min(total.max(grown));
        let charged = (room - data.capacity()) as u64;
        let allowance = self.reader.decoder.allowance();
        allowance.charge("a whole tensor", charged).map_err(|e| e.in_tensor(self.meta.name()))?;
        let refused = |_| Error::limit("a whole tensor", room as u64, room as u64);
        data.try_reserve_exact(room - data.len()).map_err(refused)?;
        Ok(())
    }

    /// `out += weight * tensor`, chunk by chunk, each verified before any of it is added; returns
    /// the number of values. After an error, [`Error::values_done`] says how many were added.
    ///
    /// Takes f32, f16 and bf16 tensors of exactly `out.len()` values, of which no chunk has been
    /// taken; works on one thread. Values of a lossless tensor may be NaN or infinite.
    pub fn add_into(mut self, out: &mut [f32], weight: f32) -> Result<u64> {
        let name = self.meta.name().to_owned();
        let refuse =
            |message: String| Err(Error::invalid(message).in_tensor(&name).after_values(0));
        if self.handed_out {
            return refuse("chunks of this tensor were taken already".into());
        }
        if !self.meta.dtype().is_lossy_capable() {
            return refuse(format!("{} values cannot be added to f32", self.meta.dtype()));
        }
        if let Some(n) = self.meta.n_values().filter(|n| *n != out.len() as u64) {
            return refuse(format!("{n} values into {} sums", out.len()));
        }
        let mut done = 0;
        loop {
            let result = self.next_encoded().and_then(|chunk| {
                let Some(chunk) = chunk else { return Ok(0) };
                let n = chunk.n_values();
                let sums = out
                    .get_mut(done..done + n)
                    .ok_or_else(|| Error::invalid("more values than sums").in_tensor(&name))?;
                chunk
                    .add_into(&mut self.reader.workers[0], sums, weight)
                    .map(|()| n)
                    .map_err(|e| self.reader.decoder.fail(e))
            });
            match result {
                Ok(0) if done == out.len() => return Ok(done as u64),
                Ok(0) => {
                    return Err(Error::invalid(format!("{done} values into {} sums", out.len()))
                        .in_tensor(&name)
                        .after_values(done as u64));
                }
                Ok(n) => done += n,
                Err(error) => return Err(error.after_values(done as u64)),
            }
        }
    }
}
