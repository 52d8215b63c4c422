//! Which kernels run for a batch, and in which order.

use crate::device::Cuda;
use crate::error::{Error, Result};
use crate::memory::{download, finished, upload};
use crate::parts::{Part, Workspace};
use crate::plan::Batch;
use crate::span::{Span, Spans};
use cudarc::driver::CudaStream;
use fedpress::device::GroupPlan;
use std::sync::Arc;

/// What was made of batches: payloads as the device lays them out, and of each group the exponent and
/// the bits of the largest magnitude.
pub(crate) struct Coded {
    laid_out: Vec<u8>,
    exponents: Vec<i32>,
    peaks: Vec<u32>,
}

/// One group of them.
pub(crate) struct CodedGroup<'a> {
    pub(crate) peak: u32,
    exponent: i8,
    scales: &'a [u8],
    codes: &'a [u8],
}

impl Coded {
    /// The groups of the batches, in order.
    pub(crate) fn groups(&self, parts: &[Part<'_>]) -> impl Iterator<Item = CodedGroup<'_>> {
        let mut rest = &self.laid_out[..];
        let pieces = parts.iter().flat_map(move |Part { batch, .. }| {
            let mine = batch.payload_bytes().min(rest.len());
            let (mine, behind) = rest.split_at(mine);
            rest = behind;
            mine.chunks_exact(batch.plan.payload_stride as usize).map(|group| batch.pieces(group))
        });
        let numbers = self.exponents.iter().zip(&self.peaks);
        pieces.zip(numbers).map(|((scales, codes), (exponent, peak))| {
            let exponent = *exponent as i8;
            CodedGroup { peak: *peak, exponent, scales, codes }
        })
    }
}

impl CodedGroup<'_> {
    /// Appends P.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.reserve(1 + self.scales.len() + self.codes.len());
        out.push(self.exponent as u8);
        out.extend_from_slice(self.scales);
        out.extend_from_slice(self.codes);
    }
}

impl Cuda {
    /// Codes batches whose elements lie on the device. All are queued before any is waited for.
    pub(crate) fn encode_parts(
        &self,
        stream: &Arc<CudaStream>,
        parts: &[Part<'_>],
    ) -> Result<Coded> {
        if parts.iter().any(|part| part.plan.keys().rounding.is_none()) {
            return Err(Error::invalid("a plan that decodes has no key to round by"));
        }
        let mut work = Workspace::new(stream, parts, None)?;
        let scaled = self.encode_scaled(stream, parts, &mut work);
        let (peaks, exponents) = finished(stream, scaled)?;
        Ok(Coded { laid_out: download(stream, &work.payloads)?, exponents, peaks })
    }

    /// Codes all groups as they are, and once more the batches that hold some whose values have to be
    /// scaled first: rare enough not to read every group twice. Returns peaks and exponents.
    fn encode_scaled(
        &self,
        stream: &Arc<CudaStream>,
        parts: &[Part<'_>],
        work: &mut Workspace,
    ) -> Result<(Vec<u32>, Vec<i32>)> {
        for (part, spans) in parts.iter().zip(work.spans(stream, parts)) {
            self.encode_kernels(stream, &part.batch, &spans)?;
        }
        let peaks = download(stream, &work.peaks)?;
        // NaN and infinity have none; the other groups do not suffer from them.
        let exponent = |peak: &u32| match *peak < f32::INFINITY.to_bits() {
            true => i32::from(GroupPlan::exponent(*peak)),
            false => 0,
        };
        let exponents: Vec<i32> = peaks.iter().map(exponent).collect();
        if exponents.iter().all(|e| *e == 0) {
            return Ok((peaks, exponents));
        }
        work.exponents = upload(stream, &exponents)?;
        let mut left = &exponents[..];
        for (part, spans) in parts.iter().zip(work.spans(stream, parts)) {
            let (mine, behind) = left.split_at(part.batch.n_groups.min(left.len()));
            left = behind;
            if mine.iter().any(|e| *e != 0) {
                self.encode_kernels(stream, &part.batch, &spans)?;
            }
        }
        Ok((peaks, exponents))
    }

    /// Launches what codes a batch; nothing waits for it.
    fn encode_kernels(&self, stream: &Arc<CudaStream>, batch: &Batch, spans: &Spans) -> Result<()> {
        let kernels = &self.kernels;
        let whole = if batch.is_blockwise() { batch.n_whole_units() } else { 0 };
        let fused = if batch.is_fused() { whole } else { 0 };
        if fused > 0 {
            let no_coefficients = Spans { coefficients: Span::NONE, ..*spans };
            kernels.encode_blocks(stream, batch, &no_coefficients)?;
        } else if whole > 0 {
            kernels.encode_blocks(stream, batch, spans)?;
        }
        if whole < batch.n_units() {
            kernels.encode_units(stream, batch, spans, whole)?;
        } else if fused > 0 {
            return Ok(());
        }
        if batch.plan.q > 0 {
            kernels.encode_scales(stream, batch, spans, fused)?;
        }
        kernels.encode_codes(stream, batch, spans, fused << batch.plan.block_log2)
    }

    /// Decodes P of each group of batches, in order, to values on the device.
    pub(crate) fn decode_parts<'p>(
        &self,
        stream: &Arc<CudaStream>,
        parts: &[Part<'_>],
        payloads: impl Iterator<Item = &'p [u8]>,
    ) -> Result<()> {
        let mut payloads = payloads;
        let (mut laid_out, mut exponents) = (Vec::new(), Vec::new());
        for Part { batch, .. } in parts {
            for _ in 0..batch.n_groups {
                let payload = payloads.next().unwrap_or_default();
                exponents.push(batch.lay_out_payload(payload, &mut laid_out)?);
            }
        }
        let coded = (upload(stream, &laid_out)?, upload(stream, &exponents)?);
        let mut work = Workspace::new(stream, parts, Some(coded))?;
        let spans = work.spans(stream, parts);
        let mut jobs = parts.iter().zip(&spans);
        let queued =
            jobs.try_for_each(|(part, spans)| self.decode_kernels(stream, &part.batch, spans));
        // What the kernels read goes away with this function.
        finished(stream, queued)
    }

    /// Launches what decodes a batch; coefficients, where there are any, are zero.
    fn decode_kernels(&self, stream: &Arc<CudaStream>, batch: &Batch, spans: &Spans) -> Result<()> {
        let kernels = &self.kernels;
        let whole = if batch.rotates { batch.n_whole_units() } else { 0 };
        let in_place = batch.rotates && batch.plan.n_coefficients == batch.plan.n_values;
        let fused = if batch.is_fused() && in_place { whole } else { 0 };
        if fused > 0 {
            let no_coefficients = Spans { coefficients: Span::NONE, ..*spans };
            kernels.decode_blocks(stream, batch, &no_coefficients)?;
            if whole == batch.n_units() {
                return Ok(());
            }
        }
        kernels.decode_codes(stream, batch, spans, fused << batch.plan.block_log2)?;
        if whole > fused && in_place {
            kernels.decode_blocks(stream, batch, spans)?;
        } else if whole > fused {
            // Where they stand; the values are picked from among them.
            let spans = Spans { values: spans.coefficients, exponents: spans.zeros, ..*spans };
            kernels.decode_blocks(stream, &batch.of_coefficients(), &spans)?;
        }
        if batch.rotates && whole < batch.n_units() {
            kernels.decode_units(stream, batch, spans, whole)?;
        }
        let done = if in_place { whole << batch.plan.block_log2 } else { 0 };
        if done < batch.plan.n_values {
            kernels.put_values(stream, batch, spans, done)?;
        }
        Ok(())
    }
}
