//! The codec's [`Device`]: groups between host memory and host memory.

use crate::coding::{download, span, span_mut, upload};
use crate::device::Cuda;
use crate::plan::most_shared;
use crate::resident::Target;
use fedpress::{Basis, DType, Device, DeviceResult, GroupPlan};

/// Values that are handed over at a time: 64 MB of f32, enough to fill a device many times over.
const BATCH_VALUES: usize = 1 << 24;

impl Device for Cuda {
    fn supports(&self, plan: &GroupPlan) -> bool {
        let fits = |block_log2, iterates| most_shared(block_log2, iterates) <= self.shared;
        let has_kernels = match plan.basis() {
            Basis::Identity => true,
            Basis::Hadamard { block_log2 } => fits(block_log2, false),
            Basis::Kashin(frame) => fits(frame.block_log2, true),
            _ => false,
        };
        let is_supported =
            has_kernels && matches!(plan.dtype(), DType::F32 | DType::F16 | DType::BF16);
        if let Some(tell) = self.on_refusal.as_ref().filter(|_| !is_supported) {
            tell(plan);
        }
        is_supported
    }

    fn batch_values(&self) -> usize {
        BATCH_VALUES
    }

    fn encode(
        &self,
        plan: &GroupPlan,
        first: u64,
        elements: &[u8],
        payloads: &mut Vec<u8>,
    ) -> DeviceResult<Vec<u32>> {
        let stream = self.stream();
        let values = upload(stream, elements)?;
        let n_values = elements.len() / plan.dtype().size();
        let values_at = span(stream, &values);
        Ok(self.encode_span(stream, plan, first, values_at, n_values, payloads)?)
    }

    fn decode(
        &self,
        plan: &GroupPlan,
        group: u64,
        payload: &[u8],
        elements: &mut [u8],
    ) -> DeviceResult<()> {
        let stream = self.stream();
        let mut values = crate::coding::zeros::<u8>(stream, elements.len())?;
        let n_values = elements.len() / plan.dtype().size();
        let target = Target { values: span_mut(stream, &mut values), n_values, weight: None };
        self.decode_span(stream, plan, group, payload, target)?;
        elements.copy_from_slice(&download(stream, &values)?);
        Ok(())
    }

    fn add_into(
        &self,
        plan: &GroupPlan,
        group: u64,
        payload: &[u8],
        out: &mut [f32],
        weight: f32,
    ) -> DeviceResult<()> {
        let stream = self.stream();
        let mut sums = upload(stream, out)?;
        let (values, n_values) = (span_mut(stream, &mut sums), out.len());
        let target = Target { values, n_values, weight: Some(weight) };
        self.decode_span(stream, plan, group, payload, target)?;
        out.copy_from_slice(&download(stream, &sums)?);
        Ok(())
    }
}
