//! [`TensorReader`]: one tensor of a stream.

use super::Reader;
use super::batch::grow;
use crate::decode::{EncodedChunk, Event, closed_shape, decode_all};
use crate::tensor::in_memory;
use crate::wire::TensorMeta;
use crate::{Error, Result, Tensor};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

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

impl<'a, R: Read> TensorReader<'a, R> {
    pub(super) fn new(reader: &'a mut Reader<R>, meta: Arc<TensorMeta>) -> Self {
        let (ready, decoded) = (VecDeque::new(), Vec::new());
        Self { reader, meta, ready, decoded, n_values: 0, handed_out: false }
    }

    /// Its header, for who reads its chunks otherwise.
    pub(super) fn into_meta(self) -> Arc<TensorMeta> {
        self.meta
    }

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
        let (mut data, mut filled) = (Vec::new(), 0);
        loop {
            let chunks = self.next_batch()?;
            if chunks.is_empty() {
                break;
            }
            let at = filled;
            for chunk in &chunks {
                filled = grow(&mut data, filled, chunk, self.reader.decoder.allowance())?;
            }
            self.decode(&chunks, &mut data[at..filled])?;
        }
        // From here on it is the caller's.
        self.reader.decoder.allowance().release(data.capacity() as u64);
        let shape = in_memory(&self.shape())?;
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
    pub fn read_into(mut self, elements: &mut [u8]) -> Result<Vec<usize>> {
        self.refuse_unsupported()?;
        self.refuse_handed_out()?;
        let mut at = 0;
        loop {
            let chunks = self.next_batch()?;
            let len: usize = chunks.iter().map(EncodedChunk::decoded_len).sum();
            let room = elements.len();
            if chunks.is_empty() && at == room {
                return in_memory(&self.shape());
            }
            match elements.get_mut(at..at + len) {
                Some(place) if !chunks.is_empty() => self.decode(&chunks, place)?,
                _ => return Err(self.wrong_room(room, "bytes")),
            }
            at += len;
        }
    }

    /// The same as f32, for f32, f16 and bf16 tensors, into as many values as it has; on one thread.
    pub fn read_f32_into(mut self, values: &mut [f32]) -> Result<Vec<usize>> {
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
            true => in_memory(&self.shape()),
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
