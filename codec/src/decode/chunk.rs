//! A chunk that has been framed and verified, and what turns it into values.

use super::DecodeOptions;
use crate::device::{Device, GroupPlan};
use crate::group::{GroupCodec, Scratch, decode_memory};
use crate::kernel::Kernel;
use crate::meta::{ChunkHeader, TensorMeta};
use crate::run::join;
use crate::{Error, Result};
use std::sync::Arc;

/// A chunk whose framing has been verified; [`decode`](Self::decode) does the work, on any thread.
#[derive(Debug, Clone)]
pub struct EncodedChunk {
    pub(super) meta: Arc<TensorMeta>,
    pub(super) header: ChunkHeader,
    /// The whole body; the payload is behind `payload_at`, and absent in headers-only mode.
    pub(super) body: Vec<u8>,
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

    /// The values, as little-endian element bytes, into a buffer of exactly their size.
    pub fn decode(&self, decoder: &mut ChunkDecoder, elements: &mut [u8]) -> Result<()> {
        let expected = self.header.n_values * self.meta.dtype().size();
        if elements.len() != expected {
            return Err(Error::invalid(format!(
                "a buffer of {expected} bytes is needed, found {}",
                elements.len()
            )));
        }
        decoder.prepare(&self.meta);
        let codec = GroupCodec::new(&self.meta, decoder.kernel);
        let (header, payload) = (&self.header, self.payload()?);
        let result = match &decoder.device {
            Some((device, plan)) if header.n_values > 0 => {
                let coded = codec.checked(header, payload, &mut decoder.scratch, plan);
                coded.and_then(|coded| {
                    device.decode(plan, header.group, coded, elements).map_err(Error::device)
                })
            }
            _ => codec.decode(header, payload, &mut decoder.scratch, elements),
        };
        if result.is_err() {
            // Neither what was decoded before nor half of this chunk is for the caller.
            elements.fill(0);
        }
        result.map_err(|e| self.locate(e))
    }

    /// `out += weight * values`, for f32, f16 and bf16 tensors.
    pub fn add_into(&self, decoder: &mut ChunkDecoder, out: &mut [f32], weight: f32) -> Result<()> {
        if !self.meta.dtype().is_lossy_capable() {
            return Err(self.locate(Error::invalid(format!(
                "{} values cannot be added to f32",
                self.meta.dtype()
            ))));
        }
        if out.len() != self.header.n_values {
            return Err(Error::invalid(format!(
                "{} sums are needed, found {}",
                self.header.n_values,
                out.len()
            )));
        }
        decoder.prepare(&self.meta);
        let codec = GroupCodec::new(&self.meta, decoder.kernel);
        let (header, payload) = (&self.header, self.payload()?);
        let result = match &decoder.device {
            Some((device, plan)) if header.n_values > 0 => {
                let coded = codec.checked(header, payload, &mut decoder.scratch, plan);
                coded.and_then(|coded| {
                    let group = header.group;
                    device.add_into(plan, group, coded, out, weight).map_err(Error::device)
                })
            }
            _ => codec.add_into(header, payload, &mut decoder.scratch, out, weight),
        };
        result.map_err(|e| self.locate(e))
    }

    /// Number of the chunk in its tensor, from 0.
    pub fn group(&self) -> u64 {
        self.header.group
    }

    /// P of FORMAT.md, section 7, of a lossy chunk: the lossless stage undone, length, exponent and
    /// scales checked. For a caller that decodes it elsewhere ([`GroupPlan`]).
    pub fn unpack(&self, decoder: &mut ChunkDecoder) -> Result<Vec<u8>> {
        let plan = GroupPlan::of(&self.meta)
            .ok_or_else(|| self.locate(Error::invalid("the chunk is not lossy")))?;
        decoder.prepare(&self.meta);
        let codec = GroupCodec::new(&self.meta, decoder.kernel);
        codec
            .checked(&self.header, self.payload()?, &mut decoder.scratch, &plan)
            .map(<[u8]>::to_vec)
            .map_err(|e| self.locate(e))
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

/// Buffers and instruction set for decoding chunks; one per thread.
pub struct ChunkDecoder {
    kernel: Kernel,
    scratch: Scratch,
    /// What the caller offers, and what it is used for at the moment.
    offered: Option<Arc<dyn Device>>,
    device: Option<(Arc<dyn Device>, GroupPlan)>,
    /// Whose chunks the buffers were for.
    last: Option<Arc<TensorMeta>>,
}

impl ChunkDecoder {
    /// For use with chunks of any tensor.
    pub fn new(options: &DecodeOptions) -> Self {
        Self {
            kernel: Kernel::new(options.simd),
            scratch: Scratch::default(),
            offered: options.device.clone(),
            device: None,
            last: None,
        }
    }

    /// Buffers grow to what a tensor needs, and only that is charged: those of a tensor that needed
    /// others go before the next one begins.
    fn prepare(&mut self, meta: &Arc<TensorMeta>) {
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, meta)) {
            return;
        }
        let same = self.last.as_ref().is_some_and(|last| {
            last.spec == meta.spec
                && last.dtype() == meta.dtype()
                && decode_memory(last) <= decode_memory(meta)
        });
        if !same {
            self.scratch.release();
        }
        self.device = self.offered.as_ref().and_then(|device| {
            let plan = GroupPlan::of(meta).filter(|plan| device.supports(plan))?;
            Some((device.clone(), plan))
        });
        self.last = Some(meta.clone());
    }
}

/// Starting a thread takes longer than decoding as many bytes.
const WORTH_A_THREAD: usize = 1 << 16;

/// Decodes chunks side by side, chunk i by decoder i; at most as many chunks as decoders.
pub(crate) fn decode_all(
    chunks: &[EncodedChunk],
    decoders: &mut [ChunkDecoder],
    out: &mut [u8],
) -> Result<()> {
    let total = out.len();
    let mut rest = out;
    let mut jobs = chunks.iter().zip(decoders).map(|(chunk, decoder)| {
        let size = chunk.n_values() * chunk.meta.dtype().size();
        let elements;
        (elements, rest) = std::mem::take(&mut rest).split_at_mut(size);
        move || chunk.decode(decoder, elements)
    });
    if chunks.len() < 2 || total < WORTH_A_THREAD {
        return jobs.try_for_each(|mut job| job());
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            jobs.map(|job| std::thread::Builder::new().spawn_scoped(scope, job)).collect();
        // The first error in stream order, however the threads finished.
        workers.into_iter().try_for_each(join)
    })
}
