//! Values that live on the device: coded from there to host bytes and back, on the caller's stream.

use crate::coding::{span, span_mut};
use crate::device::Cuda;
use crate::error::{Error, Result};
use crate::launch::Span;
use crate::plan::{Batch, MOST_GROUPS};
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceRepr};
use fedpress::{DType, GroupPlan};
use std::sync::Arc;

/// How the device holds elements of lossy tensors.
pub trait Element: DeviceRepr {
    /// Whether elements of that type are held so.
    fn holds(dtype: DType) -> bool;
}

impl Element for f32 {
    fn holds(dtype: DType) -> bool {
        dtype == DType::F32
    }
}

/// The bits of f16 and bf16.
impl Element for u16 {
    fn holds(dtype: DType) -> bool {
        matches!(dtype, DType::F16 | DType::BF16)
    }
}

/// Values that are coded at a time: what bounds the memory beside the caller's.
const BATCH_VALUES: usize = 1 << 26;

/// Where decoded values go: their place, or with a weight f32 sums that they are added to.
pub(crate) struct Target {
    pub(crate) values: Span,
    pub(crate) n_values: usize,
    pub(crate) weight: Option<f32>,
}

impl Cuda {
    /// Codes consecutive groups, from number `first` on, of values on the device: all but the last
    /// have [`GroupPlan::group_values`], and the last has the rest. Appends P of each group
    /// (FORMAT.md, section 7) to `payloads`, for [`fedpress::Encoder::push_coded`], and returns for
    /// each the bits of its largest magnitude: at or above those of infinity, the group holds NaN or
    /// infinity and its P means nothing.
    ///
    /// Runs on `stream`, a stream of this device's context, behind what the caller has queued
    /// there, and waits for the result. The first value must lie at a multiple of 16 bytes. Memory of
    /// other libraries comes in through [`CudaStream::upgrade_device_ptr`], which takes it over: call
    /// [`leak`](cudarc::driver::CudaSlice::leak) on it afterwards, or it is freed twice.
    pub fn encode_resident<T: Element, S: DevicePtr<T>>(
        &self,
        stream: &Arc<CudaStream>,
        plan: &GroupPlan,
        first: u64,
        values: &S,
        payloads: &mut Vec<u8>,
    ) -> Result<Vec<u32>> {
        self.check(&[stream, values.stream()])?;
        check_element::<T>(plan)?;
        let values_at = span(stream, values);
        self.encode_span(stream, plan, first, values_at, values.len(), payloads)
    }

    /// Decodes consecutive groups to values on the device: the way back of
    /// [`encode_resident`](Self::encode_resident), for P that [`fedpress::EncodedChunk::unpack`] or
    /// [`GroupPlan::check`] has passed.
    pub fn decode_resident<T: Element, S: DevicePtrMut<T>>(
        &self,
        stream: &Arc<CudaStream>,
        plan: &GroupPlan,
        first: u64,
        payloads: &[u8],
        values: &mut S,
    ) -> Result<()> {
        self.check(&[stream, values.stream()])?;
        check_element::<T>(plan)?;
        let n_values = values.len();
        let target = Target { values: span_mut(stream, values), n_values, weight: None };
        self.decode_span(stream, plan, first, payloads, target)
    }

    /// Decodes the same and adds `weight` times the values, rounded to their element type, to f32
    /// sums on the device. After an error some groups may have been added. The bits of a NaN that was
    /// in the sums are not those of the processor.
    pub fn add_resident<S: DevicePtrMut<f32>>(
        &self,
        stream: &Arc<CudaStream>,
        plan: &GroupPlan,
        first: u64,
        payloads: &[u8],
        sums: &mut S,
        weight: f32,
    ) -> Result<()> {
        self.check(&[stream, sums.stream()])?;
        let n_values = sums.len();
        let target = Target { values: span_mut(stream, sums), n_values, weight: Some(weight) };
        self.decode_span(stream, plan, first, payloads, target)
    }

    fn check(&self, streams: &[&Arc<CudaStream>]) -> Result<()> {
        if streams.iter().all(|stream| stream.context() == self.context()) {
            return Ok(());
        }
        Err(Error::invalid("the stream or the values belong to another device"))
    }

    pub(crate) fn encode_span(
        &self,
        stream: &Arc<CudaStream>,
        plan: &GroupPlan,
        first: u64,
        values: Span,
        n_values: usize,
        payloads: &mut Vec<u8>,
    ) -> Result<Vec<u32>> {
        if plan.keys().rounding.is_none() {
            return Err(Error::invalid("a plan that decodes has no key to round by"));
        }
        let mut peaks = Vec::new();
        for (start, batch) in batches(plan, first, n_values)? {
            let part = part_of(values, start * batch.element_bytes);
            peaks.extend(self.encode_batch(stream, plan, &batch, part, payloads)?);
        }
        Ok(peaks)
    }

    pub(crate) fn decode_span(
        &self,
        stream: &Arc<CudaStream>,
        plan: &GroupPlan,
        first: u64,
        mut payloads: &[u8],
        Target { values, n_values, weight }: Target,
    ) -> Result<()> {
        for (start, mut batch) in batches(plan, first, n_values)? {
            let mut size = batch.element_bytes;
            if let Some(weight) = weight {
                (batch.plan.adds, batch.plan.weight) = (1, weight);
                size = size_of::<f32>();
            }
            let n_bytes = (batch.n_groups * batch.payload_len).min(payloads.len());
            let (coded, rest) = payloads.split_at(n_bytes);
            self.decode_batch(stream, plan, &batch, coded, part_of(values, start * size))?;
            payloads = rest;
        }
        if payloads.is_empty() {
            return Ok(());
        }
        let n = payloads.len();
        Err(Error::invalid(format!("{n} bytes of coded groups are left over")))
    }
}

fn check_element<T: Element>(plan: &GroupPlan) -> Result<()> {
    let dtype = plan.dtype();
    if T::holds(dtype) {
        return Ok(());
    }
    let found = std::any::type_name::<T>();
    Err(Error::invalid(format!("{dtype} is held as f32 or as the bits of a half, found {found}")))
}

fn part_of(span: Span, start: usize) -> Span {
    Span { address: span.address + start as u64, bytes: span.bytes - start }
}

/// The batches of `n_values` values, with the first value of each: full groups, then the rest.
fn batches(plan: &GroupPlan, first: u64, n_values: usize) -> Result<Vec<(usize, Batch)>> {
    let full = plan.group_values();
    let most = (BATCH_VALUES / full).clamp(1, MOST_GROUPS);
    let mut batches = Vec::new();
    let mut done = 0;
    while done < n_values {
        let left = n_values - done;
        let (n_groups, n) = if left < full { (1, left) } else { ((left / full).min(most), full) };
        let group = first.wrapping_add((done / full) as u64);
        batches.push((done, Batch::new(plan, group, n_groups, n)?));
        done += n_groups * n;
    }
    Ok(batches)
}
