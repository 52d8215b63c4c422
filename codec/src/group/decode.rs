//! The body of a chunk to values.

use super::{GroupCodec, Scratch, payload_len};
use crate::convert;
use crate::device::GroupPlan;
use crate::entropy::unshuffle;
use crate::meta::ChunkHeader;
use crate::quantize::Quantizer;
use crate::range;
use crate::{DType, Error, Result};
use std::ops::Range;

impl GroupCodec<'_> {
    /// Decodes the payload of a chunk into `elements`, little-endian bytes of its values.
    pub(crate) fn decode(
        &self,
        header: &ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        elements: &mut [u8],
    ) -> Result<()> {
        let dtype = self.meta.desc.dtype;
        if self.meta.spec.is_lossy() {
            let mut own = std::mem::take(&mut scratch.values);
            let result = match aligned_mut(dtype, elements) {
                Some(values) => self.decode_values(header, payload, scratch, values),
                None => {
                    own.resize(header.n_values, 0.0);
                    let result = self.decode_values(header, payload, scratch, &mut own);
                    if result.is_ok() {
                        convert::from_f32(dtype, &own[..header.n_values], elements);
                    }
                    result
                }
            };
            scratch.values = own;
            return result;
        }
        let unpacked = self.unpack(header, payload, scratch)?;
        let bytes = unpacked.bytes(payload, scratch);
        match self.meta.spec.lossless.shuffle {
            true => unshuffle(bytes, dtype.size(), elements),
            false => elements.copy_from_slice(bytes),
        }
        Ok(())
    }

    /// P of a lossy chunk, unpacked and [checked](GroupPlan::check).
    pub(crate) fn checked<'a>(
        &self,
        header: &ChunkHeader,
        payload: &'a [u8],
        scratch: &'a mut Scratch,
        plan: &GroupPlan,
    ) -> Result<&'a [u8]> {
        let unpacked = self.unpack(header, payload, scratch)?;
        let bytes = unpacked.bytes(payload, scratch);
        if header.n_values > 0 {
            plan.check(header.n_values, bytes)?;
        }
        Ok(bytes)
    }

    /// Adds `weight` times the values of a chunk of f32, f16 or bf16 to `out`.
    pub(crate) fn add_into(
        &self,
        header: &ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut [f32],
        weight: f32,
    ) -> Result<()> {
        let dtype = self.meta.desc.dtype;
        let mut own = std::mem::take(&mut scratch.values);
        own.resize(header.n_values, 0.0);
        if self.meta.spec.is_lossy() {
            self.decode_values(header, payload, scratch, &mut own)?;
            convert::round_to(dtype, &mut own);
        } else {
            let mut elements = vec![0; header.n_values * dtype.size()];
            self.decode(header, payload, scratch, &mut elements)?;
            convert::to_f32(dtype, &elements, &mut own);
        }
        self.kernel.add_scaled(out, &own, weight);
        scratch.values = own;
        Ok(())
    }

    /// Undoes the final lossless stage; the payload then has exactly the length it must have.
    fn unpack(
        &self,
        header: &ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Unpacked> {
        let expected = payload_len(self.meta, header.n_values);
        let zstd = self.meta.spec.lossless.zstd.is_some();
        if zstd && !header.stored {
            if payload.len() >= expected {
                return Err(Error::corrupt(format!(
                    "zstd frame of {} bytes for {expected} bytes; such chunks are stored",
                    payload.len()
                )));
            }
            scratch.payload.resize(expected, 0);
            scratch.zstandard.decompress(payload, &mut scratch.payload[..expected])?;
            scratch.payload.truncate(expected);
            return Ok(Unpacked::InScratch);
        }
        if payload.len() != expected {
            return Err(Error::corrupt(format!(
                "chunk payload: expected {expected} bytes, found {}",
                payload.len()
            )));
        }
        Ok(Unpacked::AsStored)
    }

    fn decode_values(
        &self,
        header: &ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        values: &mut [f32],
    ) -> Result<()> {
        let unpacked = self.unpack(header, payload, scratch)?;
        if values.is_empty() {
            return Ok(());
        }
        let own = std::mem::take(&mut scratch.payload);
        let bytes = match unpacked {
            Unpacked::AsStored => payload,
            Unpacked::InScratch => &own,
        };
        let (exponent, coded) = match bytes.split_last() {
            Some((exponent, coded)) => (*exponent as i8, coded),
            None => (0, bytes),
        };
        let result = range::check_exponent(exponent)
            .and_then(|()| self.decode_coefficients(header.group, coded, scratch, values));
        scratch.payload = own;
        result?;
        if exponent != 0 {
            range::scale_up(values, exponent);
        }
        Ok(())
    }

    fn decode_coefficients(
        &self,
        group: u64,
        coded: &[u8],
        scratch: &mut Scratch,
        values: &mut [f32],
    ) -> Result<()> {
        let transform = &self.meta.spec.transform;
        let context = self.context(group);
        let n = transform.n_coefficients(values.len());
        let Some(subsample) = self.meta.spec.subsample else {
            let mut own = std::mem::take(&mut scratch.coefficients);
            let in_place = transform.is_in_place();
            let coefficients = if in_place {
                &mut *values
            } else {
                own.resize(n, 0.0);
                &mut own[..n]
            };
            for span in self.spans(n) {
                let part = &mut coefficients[span.clone()];
                self.decode_span(n, span.clone(), 1.0, coded, part)?;
                transform.inverse(&context, span.start, part);
            }
            if !in_place {
                transform.collect(&own[..n], values);
            }
            scratch.coefficients = own;
            return Ok(());
        };
        let n_kept = subsample.n_kept(n);
        scratch.kept.resize(n_kept, 0.0);
        let kept = &mut scratch.kept[..n_kept];
        self.decode_span(n_kept, 0..n_kept, subsample.gain(n), coded, kept)?;
        scratch.coefficients.clear();
        scratch.coefficients.resize(n, 0.0);
        let coefficients = &mut scratch.coefficients[..n];
        subsample.select(n, self.selection.stream(group), &mut scratch.positions);
        for (position, value) in scratch.positions.iter().zip(kept) {
            coefficients[*position as usize] = *value;
        }
        transform.inverse(&context, 0, coefficients);
        transform.collect(coefficients, values);
        Ok(())
    }

    fn decode_span(
        &self,
        n_coded: usize,
        span: Range<usize>,
        gain: f32,
        coded: &[u8],
        out: &mut [f32],
    ) -> Result<()> {
        match &self.meta.spec.quantizer {
            Some(Quantizer::Uniform(uniform)) => {
                uniform.decode(self.kernel, n_coded, span, gain, coded, out)
            }
            None => {
                convert::to_f32(DType::F32, &coded[span.start * 4..span.end * 4], out);
                if self.kernel.peak_bits(out) > range::LARGEST.to_bits() {
                    return Err(Error::corrupt("coefficient out of range"));
                }
                out.iter_mut().for_each(|v| *v *= gain);
                Ok(())
            }
        }
    }
}

/// Where the payload lies after the final lossless stage has been undone.
#[derive(Clone, Copy)]
enum Unpacked {
    AsStored,
    InScratch,
}

impl Unpacked {
    fn bytes<'a>(self, payload: &'a [u8], scratch: &'a Scratch) -> &'a [u8] {
        match self {
            Self::AsStored => payload,
            Self::InScratch => &scratch.payload,
        }
    }
}

fn aligned_mut(dtype: DType, elements: &mut [u8]) -> Option<&mut [f32]> {
    if dtype != DType::F32 || cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice_mut(elements).ok()
}
