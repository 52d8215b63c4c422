//! [`Reader`]: the decoder over `std::io::Read`.

use crate::decode::{
    ChunkDecoder, DecodeOptions, Decoder, EncodedChunk, Event, closed_shape, decode_all,
};
use crate::group::decode_memory;
use crate::limits::Allowance;
use crate::wire::{TensorDesc, TensorMeta};
use crate::{Error, Result, Tensor};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::Arc;

/// Bytes read from the source at a time.
const READ_BYTES: usize = 1 << 16;

/// Reads streams, one after the other, tensor by tensor.
///
/// ```
/// # let seeds = fedpress::Seeds::new(7, 1);
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
            if let Event::Tensor(meta) = event {
                return Ok(Some(TensorReader {
                    reader: self,
                    meta,
                    ready: VecDeque::new(),
                    decoded: Vec::new(),
                    n_values: 0,
                    handed_out: false,
                }));
            }
        }
        Ok(None)
    }

    /// All tensors that are left, in memory and on all threads, whatever their sizes are. One that is
    /// [not supported](TensorMeta::supported) is an error; to read the others of its stream, take
    /// tensor by tensor.
    pub fn read_all(&mut self) -> Result<Vec<Tensor>> {
        let mut tensors = Vec::new();
        let mut batch = Batch::default();
        let result = self.read_into_all(&mut tensors, &mut batch);
        if result.is_err() {
            // What was read goes with the error, and so does what was charged for it.
            let data = tensors.iter().map(|tensor: &Tensor| tensor.data.capacity() as u64);
            let held = data.sum::<u64>() + batch.heads + batch.charged;
            self.decoder.allowance().release(held);
        }
        result.map(|()| tensors)
    }

    fn read_into_all(&mut self, tensors: &mut Vec<Tensor>, batch: &mut Batch) -> Result<()> {
        let mut open: Option<Arc<TensorMeta>> = None;
        while let Some(event) = self.next_event()? {
            match event {
                Event::Tensor(meta) => {
                    meta.supported()?;
                    tensors.push(self.begin(&meta, batch)?);
                    open = Some(meta);
                }
                Event::Chunk(chunk) if open.is_some() => {
                    let Some(tensor) = tensors.last_mut() else { continue };
                    grow(&mut tensor.data, &chunk, self.decoder.allowance())?;
                    batch.push(tensors, chunk, self)?;
                    if batch.is_full(self.workers.len()) {
                        batch.decode(tensors, self)?;
                    }
                }
                Event::TensorEnd { n_values } => {
                    if let (Some(meta), Some(tensor)) = (open.take(), tensors.last_mut()) {
                        tensor.shape = closed_shape(&meta, n_values);
                    }
                }
                _ => {}
            }
        }
        batch.decode(tensors, self)
    }

    /// A tensor without its values, paid for.
    fn begin(&mut self, meta: &TensorMeta, batch: &mut Batch) -> Result<Tensor> {
        let head = size_of::<Tensor>() + meta.name().len() + 8 * meta.desc().shape.len();
        let paid = self.decoder.allowance().charge("the tensors", 2 * head as u64);
        paid.map_err(|e| e.in_tensor(meta.name()))?;
        batch.heads += 2 * head as u64;
        let (name, dtype) = (meta.name().to_owned(), meta.dtype());
        Ok(Tensor { name, dtype, shape: Vec::new(), data: Vec::new() })
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
                return Ok(event.map(|event| self.noted(event)));
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

    /// Takes up what an event says about the stream.
    fn noted(&mut self, event: Event) -> Event {
        match &event {
            Event::Stream { .. } => {
                self.metadata.clear();
                self.manifest = None;
            }
            Event::Metadata(map) => self.metadata.clone_from(map),
            Event::Manifest(tensors) => self.manifest = Some(tensors.clone()),
            Event::Tensor(_) => self.inside = true,
            Event::TensorEnd { .. } => self.inside = false,
            Event::Chunk(_) | Event::Index(_) | Event::Record { .. } | Event::End { .. } => {}
        }
        event
    }
}

/// Makes `data` longer by the values of a chunk. What it takes is charged first: all of a tensor of
/// known size when its first chunk is there, else at least twice what there was, which is there as
/// well until it has been copied.
fn grow(data: &mut Vec<u8>, chunk: &EncodedChunk, allowance: &mut Allowance) -> Result<()> {
    let grown = data.len() + chunk.decoded_len();
    if data.capacity() < grown {
        let meta = chunk.meta();
        let old = data.capacity() as u64;
        let new = match meta.n_values() {
            Some(n) => meta.dtype().byte_len_of(n).unwrap_or(u64::MAX),
            None => (2 * old).max(grown as u64),
        };
        let charged = allowance.charge("a whole tensor", new);
        charged.map_err(|e| e.in_tensor(meta.name()))?;
        let refused = || Error::limit("a whole tensor", new, new).in_tensor(meta.name());
        let room = usize::try_from(new).map_err(|_| refused())?;
        data.try_reserve_exact(room - data.len()).map_err(|_| refused())?;
        allowance.release(old);
    }
    data.resize(grown, 0);
    Ok(())
}

/// Chunks of any tensors that are decoded side by side.
#[derive(Default)]
struct Batch {
    chunks: Vec<Pending>,
    /// Values of all.
    n_values: usize,
    /// What was charged for keeping them, and for the workers that will decode them.
    charged: u64,
    /// What one worker was charged for.
    a_worker: u64,
    /// What was charged for all tensors, their values apart.
    heads: u64,
}

struct Pending {
    tensor: usize,
    /// Where its values start in the data of the tensor.
    at: usize,
    chunk: EncodedChunk,
}

/// Chunks for each thread: enough that all are busy to the end.
const CHUNKS_PER_THREAD: usize = 8;
const VALUES_PER_THREAD: usize = 1 << 20;

impl Batch {
    fn push<R>(
        &mut self,
        tensors: &mut [Tensor],
        chunk: EncodedChunk,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        let tensor = tensors.len() - 1;
        // One that is decoded at once is charged while its tensor is open. Where the limit leaves no
        // room to wait, none does: what can be read does not depend on the number of threads.
        let may_wait = reader.workers.len() > 1 && self.charge(&chunk, reader);
        self.n_values += chunk.n_values();
        self.chunks.push(Pending { tensor, at: 0, chunk });
        match may_wait {
            false => self.decode(tensors, reader),
            true => Ok(()),
        }
    }

    fn charge<R>(&mut self, chunk: &EncodedChunk, reader: &mut Reader<R>) -> bool {
        let a_worker = decode_memory(chunk.meta()).max(self.a_worker);
        let workers = (a_worker - self.a_worker) * reader.workers.len() as u64;
        let kept = chunk.body_len() as u64 + workers;
        let is_paid = reader.decoder.allowance().charge("chunks that wait", kept).is_ok();
        if is_paid {
            self.charged += kept;
            self.a_worker = a_worker;
        }
        is_paid
    }

    fn is_full(&self, threads: usize) -> bool {
        self.chunks.len() >= threads * CHUNKS_PER_THREAD
            || self.n_values >= threads * VALUES_PER_THREAD
    }

    /// Decodes all to the ends of the data of their tensors.
    fn decode<R>(&mut self, tensors: &mut [Tensor], reader: &mut Reader<R>) -> Result<()> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        // Where each starts: its tensor's data ends with what is in the batch.
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        for pending in self.chunks.iter_mut().rev() {
            let end = ends.entry(pending.tensor).or_insert(tensors[pending.tensor].data.len());
            *end -= pending.chunk.decoded_len();
            pending.at = *end;
        }
        let mut jobs = Vec::with_capacity(self.chunks.len());
        let mut chunks = self.chunks.iter().peekable();
        let first = chunks.peek().map_or(0, |pending| pending.tensor);
        for (number, tensor) in tensors.iter_mut().enumerate().skip(first) {
            let (mut rest, mut at) = (&mut tensor.data[..], 0);
            while let Some(pending) = chunks.next_if(|pending| pending.tensor == number) {
                let behind = rest.split_at_mut(pending.at - at).1;
                let (place, behind) = behind.split_at_mut(pending.chunk.decoded_len());
                jobs.push((&pending.chunk, place));
                (rest, at) = (behind, pending.at + pending.chunk.decoded_len());
            }
        }
        decode_all(jobs, &mut reader.workers).map_err(|e| reader.decoder.fail(e))?;
        reader.decoder.allowance().release(self.charged);
        *self = Self { heads: self.heads, ..Self::default() };
        Ok(())
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

    /// As many chunks as are decoded together.
    fn next_batch(&mut self) -> Result<Vec<EncodedChunk>> {
        let mut chunks = Vec::new();
        while chunks.len() < self.reader.workers.len() {
            let Some(chunk) = self.next_encoded()? else { break };
            self.n_values += chunk.n_values() as u64;
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// Decodes chunks into consecutive places.
    fn decode(&mut self, chunks: &[EncodedChunk], elements: &mut [u8]) -> Result<()> {
        let mut rest = elements;
        let jobs = chunks.iter().map(|chunk| {
            let place;
            (place, rest) = std::mem::take(&mut rest).split_at_mut(chunk.decoded_len());
            (chunk, place)
        });
        let jobs = jobs.collect();
        decode_all(jobs, &mut self.reader.workers).map_err(|e| self.reader.decoder.fail(e))
    }

    /// The next group of values, as little-endian element bytes; `None` after the last.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>> {
        if self.ready.is_empty() {
            let chunks = self.next_batch()?;
            self.refuse_unsupported()?;
            let mut decoded = std::mem::take(&mut self.decoded);
            decoded.resize(chunks.iter().map(EncodedChunk::decoded_len).sum(), 0);
            self.decode(&chunks, &mut decoded)?;
            self.decoded = decoded;
            let mut at = 0;
            for chunk in &chunks {
                self.ready.push_back(at..at + chunk.decoded_len());
                at += chunk.decoded_len();
            }
            self.handed_out = true;
        }
        Ok(self.ready.pop_front().map(|range| &self.decoded[range]))
    }

    /// A tensor that this crate cannot decode is an error of that tensor alone: the reader goes on.
    fn refuse_unsupported(&self) -> Result<()> {
        self.meta.supported()
    }

    fn refuse_handed_out(&self) -> Result<()> {
        match self.handed_out {
            true => Err(Error::invalid("chunks of this tensor were taken already")
                .in_tensor(self.meta.name())),
            false => Ok(()),
        }
    }

    /// The whole tensor, within what the memory limit leaves; an error if chunks of it were taken.
    pub fn read(mut self) -> Result<Tensor> {
        self.refuse_unsupported()?;
        self.refuse_handed_out()?;
        let mut data = Vec::new();
        loop {
            let chunks = self.next_batch()?;
            if chunks.is_empty() {
                break;
            }
            let at = data.len();
            for chunk in &chunks {
                grow(&mut data, chunk, self.reader.decoder.allowance())?;
            }
            self.decode(&chunks, &mut data[at..])?;
        }
        // From here on it is the caller's.
        self.reader.decoder.allowance().release(data.capacity() as u64);
        let shape = self.shape();
        Ok(Tensor { name: self.meta.name().to_owned(), dtype: self.meta.dtype(), shape, data })
    }

    /// The whole tensor, as little-endian element bytes, into a buffer of exactly its size; returns
    /// its shape. Takes no memory of its own beyond a few chunks.
    ///
    /// ```
    /// # let w = fedpress::TensorView::f32("w", &[2], &[1.0, 2.0]);
    /// # let options = fedpress::EncodeOptions::new(fedpress::Seeds::new(7, 1));
    /// # let bytes = fedpress::encode(&[w], &fedpress::Spec::none(), &options)?;
    /// let mut reader = fedpress::Reader::new(&bytes[..], Default::default());
    /// let mut values = [0.0f32; 2];
    /// let shape = reader.next_tensor()?.unwrap().read_f32_into(&mut values)?;
    /// assert_eq!((shape, values), (vec![2], [1.0, 2.0]));
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn read_into(mut self, elements: &mut [u8]) -> Result<Vec<u64>> {
        self.refuse_unsupported()?;
        self.refuse_handed_out()?;
        let mut at = 0;
        loop {
            let chunks = self.next_batch()?;
            let len: usize = chunks.iter().map(EncodedChunk::decoded_len).sum();
            let room = elements.len();
            if chunks.is_empty() && at == room {
                return Ok(self.shape());
            }
            match elements.get_mut(at..at + len) {
                Some(place) if !chunks.is_empty() => self.decode(&chunks, place)?,
                _ => return Err(self.wrong_room(room, "bytes")),
            }
            at += len;
        }
    }

    /// The same as f32, for f32, f16 and bf16 tensors, into as many values as it has; on one thread.
    pub fn read_f32_into(mut self, values: &mut [f32]) -> Result<Vec<u64>> {
        self.refuse_unsupported()?;
        self.refuse_handed_out()?;
        if !self.meta.dtype().is_lossy_capable() {
            let message = format!("{} values are not read as f32", self.meta.dtype());
            return Err(Error::invalid(message).in_tensor(self.meta.name()));
        }
        let mut at = 0;
        while let Some(chunk) = self.next_encoded()? {
            let place = values.get_mut(at..at + chunk.n_values());
            let Some(place) = place else { return Err(self.wrong_room(values.len(), "values")) };
            let decoded = chunk.decode_f32(&mut self.reader.workers[0], place);
            decoded.map_err(|e| self.reader.decoder.fail(e))?;
            at += chunk.n_values();
            self.n_values = at as u64;
        }
        match at == values.len() {
            true => Ok(self.shape()),
            false => Err(self.wrong_room(values.len(), "values")),
        }
    }

    fn wrong_room(&self, found: usize, what: &str) -> Error {
        let message =
            format!("shape {:?} of {}: not {found} {what}", self.shape(), self.meta.dtype());
        Error::invalid(message).in_tensor(self.meta.name())
    }

    /// `out += weight * tensor`, chunk by chunk, each verified before any of it is added; returns
    /// the number of values. After an error, [`Error::values_done`] says how many were added.
    ///
    /// Takes f32, f16 and bf16 tensors of exactly `out.len()` values, of which no chunk has been
    /// taken; works on one thread. Values of a lossless tensor may be NaN or infinite.
    pub fn add_into(mut self, out: &mut [f32], weight: f32) -> Result<u64> {
        self.refuse_unsupported().map_err(|e| e.after_values(0))?;
        self.refuse_handed_out().map_err(|e| e.after_values(0))?;
        let name = self.meta.name().to_owned();
        let refuse =
            |message: String| Err(Error::invalid(message).in_tensor(&name).after_values(0));
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
