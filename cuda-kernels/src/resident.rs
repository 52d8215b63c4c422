//! Values that live on the device: coded from there to host bytes and back, on the caller's stream.

use crate::device::Cuda;
use crate::error::{Error, Result};
use crate::memory::{span, span_mut};
use crate::parts::Part;
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceRepr};
use fedpress::DType;
use fedpress::device::GroupPlan;
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
        let parts = Part::cut(plan, first, values.len(), None, span(stream, values))?;
        let mut peaks = Vec::new();
        for part in &parts {
            let part = std::slice::from_ref(part);
            for group in self.encode_parts(stream, part)?.groups(part) {
                peaks.push(group.peak);
                group.put(payloads);
            }
        }
        Ok(peaks)
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
        let parts = Part::cut(plan, first, n_values, None, span_mut(stream, values))?;
        self.decode_each(stream, &parts, payloads)
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
        let parts = Part::cut(plan, first, n_values, Some(weight), span_mut(stream, sums))?;
        self.decode_each(stream, &parts, payloads)
    }

    fn check(&self, streams: &[&Arc<CudaStream>]) -> Result<()> {
        if streams.iter().all(|stream| stream.context() == self.context()) {
            return Ok(());
        }
        Err(Error::invalid("the stream or the values belong to another device"))
    }

    /// Decodes batches from the P of their groups, one behind the other.
    fn decode_each(
        &self,
        stream: &Arc<CudaStream>,
        parts: &[Part<'_>],
        mut payloads: &[u8],
    ) -> Result<()> {
        let n_bytes = |part: &Part<'_>| part.batch.n_groups * part.batch.payload_len;
        let (expected, found) = (parts.iter().map(n_bytes).sum::<usize>(), payloads.len());
        if found != expected {
            return Err(Error::invalid(format!(
                "coded groups: expected {expected} bytes, found {found}"
            )));
        }
        for part in parts {
            let (coded, rest) = payloads.split_at(n_bytes(part));
            let groups = coded.chunks_exact(part.batch.payload_len);
            self.decode_parts(stream, std::slice::from_ref(part), groups)?;
            payloads = rest;
        }
        Ok(())
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
