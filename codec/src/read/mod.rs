//! [`Reader`]: the decoder over `std::io::Read`.

mod batch;
mod tensor;

pub use tensor::TensorReader;

use crate::decode::{ChunkDecoder, DecodeOptions, Decoder, Event, closed_shape};
use crate::tensor::in_memory;
use crate::wire::{TensorDesc, TensorMeta};
use crate::{Error, Result, Tensor};
use batch::{Batch, grow};
use std::collections::BTreeMap;
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
                return Ok(Some(TensorReader::new(self, meta)));
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
        let (mut open, mut filled): (Option<Arc<TensorMeta>>, _) = (None, 0);
        while let Some(event) = self.next_event()? {
            match event {
                Event::Tensor(meta) => {
                    meta.supported()?;
                    tensors.push(self.begin(&meta, batch)?);
                    (open, filled) = (Some(meta), 0);
                }
                Event::Chunk(chunk) if open.is_some() => {
                    let Some(tensor) = tensors.last_mut() else { continue };
                    let at = filled;
                    filled = grow(&mut tensor.data, at, &chunk, self.decoder.allowance())?;
                    if batch.push(tensors.len() - 1, (at, chunk), self) {
                        batch.decode(tensors.iter_mut().map(|t| &mut t.data[..]), self)?;
                    }
                }
                Event::TensorEnd { n_values } => {
                    if let (Some(meta), Some(tensor)) = (open.take(), tensors.last_mut()) {
                        tensor.shape = in_memory(&closed_shape(&meta, n_values))?;
                    }
                }
                _ => {}
            }
        }
        batch.decode(tensors.iter_mut().map(|t| &mut t.data[..]), self)
    }

    /// As many tensors as there are places, the next ones, each into a place of exactly its size and on
    /// all threads, whatever their sizes are; takes no memory of its own beyond a few chunks for each thread.
    ///
    /// ```
    /// # let options = fedpress::EncodeOptions::new(fedpress::Seeds::new(7, 1));
    /// let tensors = [("a", vec![1u8, 2]), ("b", vec![3u8, 4, 5])];
    /// let bytes = fedpress::encode(&tensors, &fedpress::Spec::lossless(), &options)?;
    /// let mut values = [0; 5];
    /// let (a, b) = values.split_at_mut(2);
    /// fedpress::Reader::new(&bytes[..], Default::default()).read_tensors_into(&mut [a, b])?;
    /// assert_eq!(values, [1, 2, 3, 4, 5]);
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn read_tensors_into(&mut self, places: &mut [&mut [u8]]) -> Result<()> {
        let mut batch = Batch::default();
        let result = (0..places.len())
            .try_for_each(|number| self.collect(number, places, &mut batch))
            .and_then(|()| batch.decode(places.iter_mut().map(|place| &mut **place), self));
        if result.is_err() {
            self.decoder.allowance().release(batch.charged);
        }
        result
    }

    /// The next tensor, the one of that number, into the batch, which is decoded when it is full.
    fn collect(
        &mut self,
        number: usize,
        places: &mut [&mut [u8]],
        batch: &mut Batch,
    ) -> Result<()> {
        let meta = self.next_tensor()?.map(TensorReader::into_meta);
        let meta = meta.ok_or_else(|| {
            Error::invalid(format!("the stream ends before tensor {number} of {}", places.len()))
        })?;
        meta.supported()?;
        let room = places[number].len();
        let wrong = || Error::invalid(format!("not {room} bytes")).in_tensor(meta.name());
        let mut filled = 0;
        while self.inside {
            let Some(Event::Chunk(chunk)) = self.next_event()? else { continue };
            let at = filled;
            filled += chunk.decoded_len();
            if filled > room {
                return Err(wrong());
            }
            if batch.push(number, (at, chunk), self) {
                batch.decode(places.iter_mut().map(|place| &mut **place), self)?;
            }
        }
        if filled == room { Ok(()) } else { Err(wrong()) }
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

    /// Reads a tensor and forgets it, but for what others are tied to.
    pub(crate) fn pass_tensor(&mut self) -> Result<()> {
        while let Some(event) = self.next_event()? {
            if matches!(event, Event::TensorEnd { .. }) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes on at another record of the stream.
    pub(crate) fn jump_to(&mut self, offset: u64) -> Result<()>
    where
        R: std::io::Seek,
    {
        self.inner.seek(std::io::SeekFrom::Start(offset))?;
        self.unread = 0..0;
        self.decoder.jump_to(offset);
        Ok(())
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
            if self.decoder.read_body(&mut self.inner)? > 0 {
                continue;
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
