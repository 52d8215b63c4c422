//! Which kernels run for a batch, in which order, and the memory they need.

use crate::device::Cuda;
use crate::error::{Error, Result};
use crate::launch::{Span, Spans};
use crate::plan::Batch;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, ValidAsZeroBits};
use fedpress::GroupPlan;
use std::sync::Arc;

/// The largest magnitudes of groups, as bits, and their exponents.
pub(crate) struct Scaled {
    pub(crate) peaks: Vec<u32>,
    pub(crate) exponents: Vec<i32>,
}

/// Device memory that a batch needs beside its values, allocated as a whole.
pub(crate) struct Workspace {
    exponents: CudaSlice<i32>,
    peaks: CudaSlice<u32>,
    zeros: CudaSlice<i32>,
    payloads: CudaSlice<u8>,
    coefficients: Option<CudaSlice<f32>>,
    positions: Option<CudaSlice<u32>>,
    grids: Option<CudaSlice<f32>>,
    scratch: Option<CudaSlice<f32>>,
}

pub(crate) fn zeros<T: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    n: usize,
) -> Result<CudaSlice<T>> {
    let bytes = n.saturating_mul(size_of::<T>());
    stream.alloc_zeros(n.max(1)).map_err(|e| Error::driver("allocate", bytes, e))
}

/// A copy on the device. The host's memory is read when this returns, whatever kind of memory it is.
pub(crate) fn upload<T: DeviceRepr>(stream: &Arc<CudaStream>, x: &[T]) -> Result<CudaSlice<T>> {
    let copy = stream.clone_htod(x);
    let copy = copy.map_err(|e| Error::driver("copy to the device", size_of_val(x), e));
    finished(stream, copy)
}

/// Waits for the stream, also where there is an error: what was queued before it may use memory that
/// goes away with the error.
pub(crate) fn finished<T>(stream: &Arc<CudaStream>, result: Result<T>) -> Result<T> {
    let waited = stream.synchronize().map_err(|e| Error::driver("finish its work", 0, e));
    result.and_then(|x| waited.map(|()| x))
}

pub(crate) fn download<T: DeviceRepr, S: DevicePtr<T>>(
    stream: &Arc<CudaStream>,
    x: &S,
) -> Result<Vec<T>> {
    let copy = stream.clone_dtoh(x).map_err(|e| Error::driver("copy from the device", 0, e));
    finished(stream, copy)
}

/// The memory of a slice, which the stream waits for if another one wrote it. The guard may go at
/// once: every call of this crate waits for its stream before it returns ([`finished`]), with an
/// error or without.
pub(crate) fn span<T, S: DevicePtr<T>>(stream: &Arc<CudaStream>, slice: &S) -> Span {
    let (address, _guard) = slice.device_ptr(stream);
    Span { address, bytes: slice.len() * size_of::<T>() }
}

pub(crate) fn span_mut<T, S: DevicePtrMut<T>>(stream: &Arc<CudaStream>, slice: &mut S) -> Span {
    let bytes = slice.len() * size_of::<T>();
    let (address, _guard) = slice.device_ptr_mut(stream);
    Span { address, bytes }
}

impl Workspace {
    fn spans(&mut self, stream: &Arc<CudaStream>, values: Span) -> Spans {
        fn optional<T>(stream: &Arc<CudaStream>, slice: &mut Option<CudaSlice<T>>) -> Span {
            slice.as_mut().map_or(Span::NONE, |slice| span_mut(stream, slice))
        }
        Spans {
            values,
            exponents: span_mut(stream, &mut self.exponents),
            peaks: span_mut(stream, &mut self.peaks),
            zeros: span(stream, &self.zeros),
            payloads: span_mut(stream, &mut self.payloads),
            coefficients: optional(stream, &mut self.coefficients),
            positions: optional(stream, &mut self.positions),
            grids: optional(stream, &mut self.grids),
            scratch: optional(stream, &mut self.scratch),
        }
    }
}

/// Positions of the coded coefficients of every group, on the device; selection is sequential and
/// stays on the host.
fn positions(
    stream: &Arc<CudaStream>,
    plan: &GroupPlan,
    batch: &Batch,
) -> Result<Option<CudaSlice<u32>>> {
    if !batch.selects {
        return Ok(None);
    }
    let (mut all, mut of_one) = (Vec::new(), Vec::new());
    for group in 0..batch.n_groups as u64 {
        let group = batch.plan.first_group.wrapping_add(group);
        plan.positions(group, batch.plan.n_values as usize, &mut of_one);
        all.extend_from_slice(&of_one);
    }
    upload(stream, &all).map(Some)
}

/// Whether a group has more than whole blocks for the fused kernels.
fn has_tail(batch: &Batch) -> bool {
    batch.n_whole_units() < batch.n_units()
}

/// The memory for encoding, or for decoding payloads that are there.
fn workspace(
    stream: &Arc<CudaStream>,
    plan: &GroupPlan,
    batch: &Batch,
    coded: Option<(CudaSlice<u8>, CudaSlice<i32>)>,
) -> Result<Workspace> {
    let encodes = coded.is_none();
    let (payloads, exponents) = match coded {
        Some(coded) => coded,
        None => (zeros(stream, batch.payload_bytes())?, zeros(stream, batch.n_groups)?),
    };
    // Decoding a frame takes the coefficients apart even where encoding is fused.
    let is_frame = batch.plan.n_coefficients != batch.plan.n_values;
    let needs = !batch.is_fused() || has_tail(batch) || (is_frame && !encodes);
    let floats = |n: usize| zeros::<f32>(stream, n);
    let n = batch.n_coefficients();
    let n_grids = 2 * batch.n_groups * batch.n_scales() as usize;
    Ok(Workspace {
        exponents,
        peaks: zeros(stream, batch.n_groups)?,
        zeros: zeros(stream, batch.n_groups)?,
        payloads,
        coefficients: needs.then(|| floats(n)).transpose()?,
        positions: positions(stream, plan, batch)?,
        grids: (encodes && needs).then(|| floats(n_grids)).transpose()?,
        scratch: (encodes && batch.iterates()).then(|| floats(2 * n)).transpose()?,
    })
}

impl Cuda {
    /// Codes a batch whose elements lie on the device, and appends P of each group.
    pub(crate) fn encode_batch(
        &self,
        stream: &Arc<CudaStream>,
        plan: &GroupPlan,
        batch: &Batch,
        values: Span,
        payloads: &mut Vec<u8>,
    ) -> Result<Vec<u32>> {
        let mut work = workspace(stream, plan, batch, None)?;
        let scaled = finished(stream, self.encode_scaled(stream, batch, values, &mut work))?;
        let laid_out = download(stream, &work.payloads)?;
        batch.gather(&laid_out, &scaled.exponents, payloads);
        Ok(scaled.peaks)
    }

    /// Codes all groups as they are, and once more those whose values have to be scaled first: rare
    /// enough not to read every group twice.
    fn encode_scaled(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        values: Span,
        work: &mut Workspace,
    ) -> Result<Scaled> {
        let spans = work.spans(stream, values);
        self.encode_kernels(stream, batch, &spans)?;
        let peaks = download(stream, &work.peaks)?;
        // NaN and infinity have none; the other groups do not suffer from them.
        let exponent = |peak: &u32| match *peak < f32::INFINITY.to_bits() {
            true => i32::from(GroupPlan::exponent(*peak)),
            false => 0,
        };
        let exponents: Vec<i32> = peaks.iter().map(exponent).collect();
        if exponents.iter().any(|e| *e != 0) {
            work.exponents = upload(stream, &exponents)?;
            let spans = work.spans(stream, values);
            self.encode_kernels(stream, batch, &spans)?;
        }
        Ok(Scaled { peaks, exponents })
    }

    /// Launches what codes a batch; nothing waits for it.
    pub(crate) fn encode_kernels(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
    ) -> Result<()> {
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

    /// Decodes P of each group of a batch to values on the device.
    pub(crate) fn decode_batch(
        &self,
        stream: &Arc<CudaStream>,
        plan: &GroupPlan,
        batch: &Batch,
        payloads: &[u8],
        values: Span,
    ) -> Result<()> {
        let expected = batch.n_groups * batch.payload_len;
        if payloads.len() != expected {
            let found = payloads.len();
            return Err(Error::invalid(format!(
                "coded groups: expected {expected} bytes, found {found}"
            )));
        }
        let (laid_out, exponents) = batch.scatter(payloads);
        let coded = (upload(stream, &laid_out)?, upload(stream, &exponents)?);
        let mut work = workspace(stream, plan, batch, Some(coded))?;
        let spans = work.spans(stream, values);
        // What the kernels read goes away with this function.
        finished(stream, self.decode_kernels(stream, batch, &spans))
    }

    /// Launches what decodes a batch; coefficients, where there are any, are zero.
    pub(crate) fn decode_kernels(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
    ) -> Result<()> {
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
