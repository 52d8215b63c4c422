//! [`Writer`]: the encoder over `std::io::Write`.

use crate::as_tensor::Parts;
use crate::encode::Encoder;
use crate::options::EncodeOptions;
use crate::wire::TensorDesc;
use crate::{Error, NamedTensor, Result, Spec, TensorView};
use std::collections::BTreeMap;
use std::io::Write;

/// Bytes handed to the encoder between two writes.
const PUSH_BYTES: usize = 1 << 22;

/// Writes a stream. [`finish`](Self::finish) is mandatory: a stream without its end record is
/// truncated, and dropping the writer does not write one.
///
/// ```
/// use fedpress::{EncodeOptions, Seeds, Spec, TensorView, Writer};
/// let seeds = Seeds::new(7, 0x5eed);
/// let w = vec![0.5f32; 5000];
/// let mut writer = Writer::new(Vec::new(), EncodeOptions::new(seeds))?;
/// writer.tensor(&TensorView::f32("w", &[50, 100], &w), &Spec::hadamard().quantized(4)?)?;
/// let bytes = writer.finish()?;
/// assert!(bytes.len() < 20_000 / 7);
/// # Ok::<(), fedpress::Error>(())
/// ```
#[must_use = "a stream needs its end record: call finish"]
pub struct Writer<W> {
    encoder: Encoder,
    inner: W,
    /// A write failed, perhaps half-way; what follows would not fit to what is there.
    failed: bool,
}

impl<W: Write> Writer<W> {
    /// Starts a stream.
    pub fn new(inner: W, options: EncodeOptions) -> Result<Self> {
        let mut writer = Self { encoder: Encoder::new(options)?, inner, failed: false };
        writer.flush_output()?;
        Ok(writer)
    }

    fn flush_output(&mut self) -> Result<()> {
        if self.failed {
            return Err(Error::poisoned());
        }
        self.failed = true;
        self.inner.write_all(self.encoder.output())?;
        self.encoder.clear_output();
        self.failed = false;
        Ok(())
    }

    /// See [`Encoder::metadata`].
    pub fn metadata(&mut self, map: &BTreeMap<String, String>) -> Result<()> {
        self.encoder.metadata(map)?;
        self.flush_output()
    }

    /// See [`Encoder::manifest`].
    pub fn manifest(&mut self, tensors: &[TensorDesc]) -> Result<()> {
        self.encoder.manifest(tensors)?;
        self.flush_output()
    }

    /// See [`Encoder::record`].
    pub fn record(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        self.encoder.record(kind, body)?;
        self.flush_output()
    }

    /// See [`Encoder::begin`].
    pub fn begin(&mut self, desc: &TensorDesc, spec: &Spec) -> Result<()> {
        self.encoder.begin(desc, spec)?;
        self.flush_output()
    }

    /// See [`Encoder::begin_keyed`].
    pub fn begin_keyed(&mut self, desc: &TensorDesc, spec: &Spec, key: Option<u64>) -> Result<()> {
        self.encoder.begin_keyed(desc, spec, key)?;
        self.flush_output()
    }

    /// See [`Encoder::begin_kept`].
    pub fn begin_kept(&mut self, desc: &TensorDesc, spec: &Spec) -> Result<()> {
        self.encoder.begin_kept(desc, spec)?;
        self.flush_output()
    }

    /// See [`Encoder::tie`].
    pub fn tie(&mut self, desc: &TensorDesc, original: &str) -> Result<()> {
        self.encoder.tie(desc, original)?;
        self.flush_output()
    }

    /// See [`Encoder::push`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        for bytes in bytes.chunks(PUSH_BYTES) {
            self.encoder.push(bytes)?;
            self.flush_output()?;
        }
        Ok(())
    }

    /// See [`Encoder::end`].
    pub fn end(&mut self) -> Result<()> {
        self.encoder.end()?;
        self.flush_output()
    }

    /// See [`Encoder::tensor`]; writes as it goes.
    pub fn tensor(&mut self, tensor: &impl NamedTensor, spec: &Spec) -> Result<()> {
        self.tensors(&[(Parts::of(tensor).view(), spec)]).map(drop)
    }

    /// See [`Encoder::tensors`]; writes as it goes.
    pub fn tensors(&mut self, tensors: &[(TensorView<'_>, &Spec)]) -> Result<Vec<u64>> {
        let Self { encoder, inner, failed } = self;
        if *failed {
            return Err(Error::poisoned());
        }
        encoder.tensors_to(tensors, &mut |encoder| {
            *failed = true;
            inner.write_all(encoder.output())?;
            encoder.clear_output();
            *failed = false;
            Ok(())
        })
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.encoder.n_bytes()
    }

    /// Ends the stream, flushes, and returns what it was written to.
    pub fn finish(mut self) -> Result<W> {
        self.encoder.finish()?;
        self.flush_output()?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}
