//! Values to the body of a chunk.

use super::{GroupCodec, SLACK, Scratch, first_non_finite, payload_len};
use crate::convert;
use crate::entropy::shuffle;
use crate::meta::ChunkHeader;
use crate::quantize::{Coefficients, Quantizer};
use crate::range;
use crate::{DType, Error, Result};

impl GroupCodec<'_> {
    /// Appends the body of the chunk: head and payload of `elements`.
    pub(crate) fn encode(
        &self,
        group: u64,
        last: bool,
        elements: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let n_values = elements.len() / self.meta.desc.dtype.size();
        let mut payload = std::mem::take(&mut scratch.payload);
        payload.clear();
        if self.meta.spec.is_lossy() {
            self.encode_values(group, elements, scratch, &mut payload)?;
        } else if self.meta.spec.lossless.shuffle {
            shuffle(elements, self.meta.desc.dtype.size(), &mut payload);
        } else {
            payload.extend_from_slice(elements);
        }
        let header = ChunkHeader { group, last, stored: false, n_values };
        self.put_body(header, &payload, scratch, out)?;
        scratch.payload = payload;
        Ok(())
    }

    /// Appends the body of a chunk from P: head, and P through the final lossless stage.
    pub(crate) fn put_body(
        &self,
        mut header: ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let zstd = self.meta.spec.lossless.zstd;
        let at = out.len();
        header.write_to(out);
        let compressed = match zstd {
            Some(level) => scratch.zstandard.compress(level, payload, out)?,
            None => false,
        };
        if !compressed {
            header.stored = zstd.is_some();
            out.truncate(at);
            header.write_to(out);
            out.extend_from_slice(payload);
        }
        Ok(())
    }

    /// Refuses a group whose largest magnitude, as bits, is NaN or infinity.
    pub(crate) fn check_finite(&self, group: u64, elements: &[u8], peak: u32) -> Result<()> {
        if peak < f32::INFINITY.to_bits() {
            return Ok(());
        }
        let index = first_non_finite(self.meta.desc.dtype, elements).unwrap_or(0) as u64;
        let index = group * self.meta.group_values() as u64 + index;
        Err(non_finite(index).in_tensor(&self.meta.desc.name))
    }

    fn encode_values(
        &self,
        group: u64,
        elements: &[u8],
        scratch: &mut Scratch,
        payload: &mut Vec<u8>,
    ) -> Result<()> {
        let dtype = self.meta.desc.dtype;
        let n = elements.len() / dtype.size();
        if n == 0 {
            return Ok(());
        }
        let mut own = std::mem::take(&mut scratch.values);
        let values = match aligned(dtype, elements) {
            Some(values) => values,
            None => {
                own.resize(n, 0.0);
                convert::to_f32(dtype, elements, &mut own);
                &own
            }
        };
        payload.resize(payload_len(self.meta, n) + SLACK, 0);
        let peak = self.encode_coefficients(group, values, scratch, payload);
        self.check_finite(group, elements, peak)?;
        // Rare enough to code the group twice instead of reading every group twice.
        let exponent = range::exponent(peak);
        if exponent != 0 {
            let mut scaled = values.to_vec();
            range::scale_down(&mut scaled, exponent);
            self.encode_coefficients(group, &scaled, scratch, payload);
        }
        payload.truncate(payload_len(self.meta, n));
        if let Some(last) = payload.last_mut() {
            *last = exponent as u8;
        }
        scratch.values = own;
        Ok(())
    }

    /// Codes a group; returns the bits of its largest magnitude. Values that are not finite give
    /// codes that mean nothing.
    fn encode_coefficients(
        &self,
        group: u64,
        values: &[f32],
        scratch: &mut Scratch,
        coded: &mut [u8],
    ) -> u32 {
        let transform = &self.meta.spec.transform;
        let n = transform.n_coefficients(values.len());
        let context = self.context(group);
        let Some(subsample) = self.meta.spec.subsample else {
            let mut peak = 0;
            for span in self.spans(n) {
                scratch.coefficients.resize(span.len(), 0.0);
                let coefficients = &mut scratch.coefficients[..span.len()];
                let unit = &mut scratch.unit;
                peak =
                    peak.max(transform.forward(&context, values, span.clone(), coefficients, unit));
                let ahead = values.get(span.end..).unwrap_or_default();
                let input = Coefficients { of: n, span, values: coefficients, ahead };
                self.encode_span(group, &input, coded);
            }
            return peak;
        };
        scratch.coefficients.resize(n, 0.0);
        let coefficients = &mut scratch.coefficients[..n];
        let peak = transform.forward(&context, values, 0..n, coefficients, &mut scratch.unit);
        subsample.select(n, self.selection.stream(group), &mut scratch.positions);
        let kept = &mut scratch.kept;
        kept.clear();
        kept.extend(scratch.positions.iter().map(|i| coefficients[*i as usize]));
        let n = kept.len();
        self.encode_span(
            group,
            &Coefficients { of: n, span: 0..n, values: kept, ahead: &[] },
            coded,
        );
        peak
    }

    fn encode_span(&self, group: u64, input: &Coefficients<'_>, coded: &mut [u8]) {
        match &self.meta.spec.quantizer {
            Some(Quantizer::Uniform(uniform)) => {
                let rounding = self.rounding.filter(|_| !uniform.nearest);
                uniform.encode(self.kernel, rounding.map(|keys| (keys, group)), input, coded);
            }
            None => {
                let bytes = &mut coded[input.span.start * 4..input.span.end * 4];
                convert::from_f32(DType::F32, input.values, bytes);
            }
        }
    }
}

/// A view of the elements as f32, where they are and lie so.
fn aligned(dtype: DType, elements: &[u8]) -> Option<&[f32]> {
    if dtype != DType::F32 || cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice(elements).ok()
}

/// The error for a NaN or infinity in a lossy tensor.
fn non_finite(index: u64) -> Error {
    Error::invalid(format!(
        "NaN or infinity at index {index}; a lossy pipeline takes finite values only (or send the tensor losslessly)"
    ))
}
