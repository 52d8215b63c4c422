//! A device that says, once, when something is not for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fedpress::{Device, DeviceResult, GroupPlan};

use crate::console::Console;

/// A device, and whether it has been said that some tensors are not for it.
#[derive(Debug)]
pub struct Telling {
    device: Arc<dyn Device>,
    console: Console,
    has_told: AtomicBool,
}

impl Telling {
    pub fn new(device: Arc<dyn Device>, console: Console) -> Self {
        Self { device, console, has_told: AtomicBool::new(false) }
    }
}

impl Device for Telling {
    fn supports(&self, plan: &GroupPlan) -> bool {
        let is_supported = self.device.supports(plan);
        if !is_supported && !self.has_told.swap(true, Ordering::Relaxed) {
            let (basis, dtype) = (plan.basis(), plan.dtype());
            self.console.note(&format!(
                "partly on the processor: the device has no kernels for {dtype} in {basis:?}"
            ));
        }
        is_supported
    }

    fn batch_values(&self) -> usize {
        self.device.batch_values()
    }

    fn encode(
        &self,
        plan: &GroupPlan,
        first: u64,
        elements: &[u8],
        payloads: &mut Vec<u8>,
    ) -> DeviceResult<Vec<u32>> {
        self.device.encode(plan, first, elements, payloads)
    }

    fn decode(
        &self,
        plan: &GroupPlan,
        group: u64,
        payload: &[u8],
        elements: &mut [u8],
    ) -> DeviceResult<()> {
        self.device.decode(plan, group, payload, elements)
    }

    fn add_into(
        &self,
        plan: &GroupPlan,
        group: u64,
        payload: &[u8],
        out: &mut [f32],
        weight: f32,
    ) -> DeviceResult<()> {
        self.device.add_into(plan, group, payload, out, weight)
    }
}
