//! A chunk that has been framed and verified, and what turns it into values.

use super::DecodeOptions;
use crate::basis::Basis;
use crate::device::{DecodeJob, DecodeTarget, Device, GroupPlan};
use crate::group::{self, Coded, Job, Target, TensorKeys, Worker, decode_memory};
use crate::kernel::Kernel;
use crate::schedule::in_parallel;
use crate::wire::{ChunkHeader, TensorMeta};
use crate::{Error, Result, Spec};
use std::sync::Arc;

/// A chunk whose framing has been verified; [`decode`](Self::decode) does the work, on any thread.
#[derive(Debug, Clone)]
pub struct EncodedChunk {
    pub(super) meta: Arc<TensorMeta>,
    pub(super) header: ChunkHeader,
    /// The whole body; the payload is behind `payload_at`, and absent in headers-only mode.
    pub(super) body: Arc<Vec<u8>>,
    pub(super) payload_at: Option<usize>,
    /// Position of its record in the stream.
    pub(super) offset: u64,
}

impl EncodedChunk {
    /// The tensor it belongs to.
    pub fn meta(&self) -> &Arc<TensorMeta> {
        &self.meta
    }

    /// Values in the chunk.
    pub fn n_values(&self) -> usize {
        self.header.n_values
    }

    /// Index of its first value in the tensor.
    pub fn first_value(&self) -> u64 {
        self.header.group * self.meta.group_values() as u64
    }

    /// Number of the chunk in its tensor, from 0.
    pub fn group(&self) -> u64 {
        self.header.group
    }

    /// The pipeline that this chunk went through, one of its tensor's.
    pub fn spec(&self) -> &Spec {
        &self.meta.pipelines[usize::from(self.header.pipeline)]
    }

    /// The same chunk, of a tensor that is tied to its own.
    pub(super) fn under(&self, meta: &Arc<TensorMeta>) -> Self {
        Self { meta: meta.clone(), ..self.clone() }
    }

    /// Bytes of its body, as long as it is coded.
    pub(crate) fn body_len(&self) -> usize {
        self.body.len()
    }

    /// Bytes that its values take.
    pub(crate) fn decoded_len(&self) -> usize {
        self.meta.dtype().byte_len(self.header.n_values)
    }

    /// The values, as little-endian element bytes, into a buffer of exactly their size.
    pub fn decode(&self, decoder: &mut ChunkDecoder, elements: &mut [u8]) -> Result<()> {
        if elements.len() != self.decoded_len() {
            return Err(Error::invalid(format!(
                "a buffer of {} bytes is needed, found {}",
                self.decoded_len(),
                elements.len()
            )));
        }
        let result = self.decode_to(decoder, Target::Elements(&mut *elements));
        if result.is_err() {
            // Neither what was decoded before nor half of this chunk is for the caller.
            elements.fill(0);
        }
        result
    }

    /// The values as f32, of f32, f16 and bf16 tensors, into a buffer of exactly as many.
    pub fn decode_f32(&self, decoder: &mut ChunkDecoder, values: &mut [f32]) -> Result<()> {
        self.check_floats(values.len())?;
        let result = self.decode_to(decoder, Target::F32(&mut *values));
        if result.is_err() {
            values.fill(0.0);
        }
        result
    }

    /// `out += weight * values`, for f32, f16 and bf16 tensors; nothing is added after an error.
    pub fn add_into(&self, decoder: &mut ChunkDecoder, out: &mut [f32], weight: f32) -> Result<()> {
        self.check_floats(out.len())?;
        self.decode_to(decoder, Target::Add { sums: out, weight })
    }

    /// Adds its coefficients in a basis, times `weight`, to as many sums.
    pub(crate) fn add_coefficients(
        &self,
        decoder: &mut ChunkDecoder,
        basis: &Basis,
        sums: &mut [f32],
        weight: f32,
    ) -> Result<()> {
        let result = self.meta.supported().and_then(|()| {
            decoder.prepare(&self.meta);
            let ChunkDecoder { kernel, keys, worker, .. } = decoder;
            let job = Job {
                kernel: *kernel,
                keys,
                group: self.header.group,
                shape: &[],
                dtype: self.meta.dtype(),
            };
            let (spec, dtype, n) = (self.spec(), self.meta.dtype(), self.header.n_values);
            let coded = Coded { spec, dtype, n, payload: self.payload()? };
            group::add_coefficients(&job, basis, (coded, &self.header), worker, sums, weight)
        });
        result.map_err(|e| self.locate(e))
    }

    fn check_floats(&self, found: usize) -> Result<()> {
        if !self.meta.dtype().is_lossy_capable() {
            self.meta.supported().map_err(|e| self.locate(e))?;
            let message = format!("{} values cannot be added to f32", self.meta.dtype());
            return Err(self.locate(Error::invalid(message)));
        }
        if found != self.header.n_values {
            return Err(Error::invalid(format!(
                "room for {} values is needed, found {found}",
                self.header.n_values
            )));
        }
        Ok(())
    }

    fn decode_to(&self, decoder: &mut ChunkDecoder, target: Target<'_>) -> Result<()> {
        let result = self.meta.supported().and_then(|()| {
            decoder.prepare(&self.meta);
            match (&decoder.device, target) {
                (Some((device, plan)), target) if self.is_for_device(&target) => {
                    let payload = self.payload()?;
                    let device = (&**device, plan);
                    on_device(device, self, payload, &mut decoder.worker, target)
                }
                (_, target) => {
                    let job = Job {
                        kernel: decoder.kernel,
                        keys: &decoder.keys,
                        group: self.header.group,
                        shape: &[],
                        dtype: self.meta.dtype(),
                    };
                    let (header, dtype) = (&self.header, self.meta.dtype());
                    let worker = &mut decoder.worker;
                    group::decode(&job, self.spec(), dtype, header, self.payload()?, worker, target)
                }
            }
        });
        result.map_err(|e| self.locate(e))
    }

    /// Whether a device that codes the tensor codes this chunk of it.
    fn is_for_device(&self, target: &Target<'_>) -> bool {
        let first = self.header.pipeline == 0 && self.header.n_values > 0;
        first && !matches!(target, Target::F32(_))
    }

    /// P of FORMAT.md, section 7, of a lossy chunk: the lossless stage undone, length, exponent and
    /// scales checked. For a caller that decodes it elsewhere ([`GroupPlan`]).
    pub fn unpack(&self, decoder: &mut ChunkDecoder) -> Result<Vec<u8>> {
        if self.meta.supported().is_err() || !self.spec().is_lossy() {
            return Err(self.locate(Error::invalid("the chunk is not lossy")));
        }
        decoder.prepare(&self.meta);
        let unpacked = self.checked(self.payload()?, &mut decoder.worker).map(<[u8]>::to_vec);
        unpacked.map_err(|e| self.locate(e))
    }

    fn checked<'a>(&self, payload: &'a [u8], worker: &'a mut Worker) -> Result<&'a [u8]> {
        let Worker { payload: buffer, zstandard, .. } = worker;
        let (spec, dtype) = (self.spec(), self.meta.dtype());
        let payload = group::open(spec, dtype, &self.header, payload, (buffer, zstandard))?;
        Coded { spec, dtype, n: self.header.n_values, payload }.check()?;
        Ok(payload)
    }

    fn payload(&self) -> Result<&[u8]> {
        match self.payload_at {
            Some(at) => Ok(&self.body[at..]),
            None => Err(self.locate(Error::invalid("only the headers were read"))),
        }
    }

    fn locate(&self, error: Error) -> Error {
        error.at(self.offset).in_tensor(self.meta.name())
    }
}

/// Has a device decode a chunk.
fn on_device(
    (device, plan): (&dyn Device, &GroupPlan),
    chunk: &EncodedChunk,
    payload: &[u8],
    worker: &mut Worker,
    target: Target<'_>,
) -> Result<()> {
    let payload = chunk.checked(payload, worker)?;
    let target = match target {
        Target::Elements(elements) => DecodeTarget::Elements(elements),
        Target::Add { sums, weight } => DecodeTarget::Add { sums, weight },
        Target::F32(_) => return Err(Error::invalid("no device decodes to f32")),
    };
    let mut jobs = [DecodeJob { plan, group: chunk.header.group, payload, target }];
    device.decode(&mut jobs).map_err(Error::device)
}

/// Buffers and instruction set for decoding chunks; one per thread.
pub struct ChunkDecoder {
    kernel: Kernel,
    worker: Worker,
    keys: TensorKeys,
    /// What the caller offers, and what it is used for at the moment.
    offered: Option<Arc<dyn Device>>,
    device: Option<(Arc<dyn Device>, GroupPlan)>,
    /// Whose chunks the buffers were for.
    last: Option<Arc<TensorMeta>>,
    /// The most memory that the buffers may have taken.
    memory: u64,
}

impl ChunkDecoder {
    /// For use with chunks of any tensor.
    pub fn new(options: &DecodeOptions) -> Self {
        Self {
            kernel: Kernel::new(options.simd),
            worker: Worker::new(Kernel::new(options.simd)),
            keys: TensorKeys::none(),
            offered: options.device.clone(),
            device: None,
            last: None,
            memory: 0,
        }
    }

    /// The values of coefficients of a group in the basis of its tensor.
    pub(crate) fn values_of(
        &mut self,
        meta: &Arc<TensorMeta>,
        group: u64,
        coefficients: &[f32],
        out: &mut [f32],
    ) -> Result<()> {
        self.prepare(meta);
        let job =
            Job { kernel: self.kernel, keys: &self.keys, group, shape: &[], dtype: meta.dtype() };
        group::values_of(&job, &meta.spec().basis, coefficients, &mut self.worker, out)
    }

    /// Buffers grow to what a tensor needs, and only that is charged: those of a tensor that needed
    /// more go before the next one begins.
    fn prepare(&mut self, meta: &Arc<TensorMeta>) {
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, meta)) {
            return;
        }
        let memory = decode_memory(meta);
        if self.memory > memory {
            self.worker.release();
            self.memory = 0;
        }
        self.memory = self.memory.max(memory);
        self.keys = TensorKeys::shared(meta);
        self.device = self.offered.as_ref().and_then(|device| {
            let plan = GroupPlan::of(meta).filter(|plan| device.supports(plan))?;
            Some((device.clone(), plan))
        });
        self.last = Some(meta.clone());
    }
}

/// Starting a thread takes longer than decoding as many bytes.
const WORTH_A_THREAD: usize = 1 << 16;

/// Decodes chunks, of one tensor or of many, each to its place.
pub(crate) fn decode_all(
    jobs: Vec<(&EncodedChunk, &mut [u8])>,
    decoders: &mut [ChunkDecoder],
) -> Result<()> {
    let total: usize = jobs.iter().map(|(_, place)| place.len()).sum();
    let helpers = if total < WORTH_A_THREAD { 1 } else { decoders.len() };
    let decode = |decoder: &mut ChunkDecoder, (chunk, place): (&EncodedChunk, &mut [u8])| {
        chunk.decode(decoder, place)
    };
    in_parallel(&mut decoders[..helpers], jobs, decode).map(drop)
}
