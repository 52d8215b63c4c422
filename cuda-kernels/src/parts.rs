//! Batches of one or many tensors that are coded together, and the memory they need on the device.

use crate::error::{Error, Result};
use crate::memory::{span, span_mut, upload, zeros};
use crate::plan::{Batch, MOST_GROUPS};
use crate::span::{Span, Spans};
use cudarc::driver::{CudaSlice, CudaStream};
use fedpress::device::GroupPlan;
use std::sync::Arc;

/// A batch and where its values lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) plan: &'a GroupPlan,
    pub(crate) batch: Batch,
    /// Elements, or f32 sums where the plan adds.
    pub(crate) values: Span,
}

/// Values that are coded at a time: what bounds the memory beside the caller's.
const BATCH_VALUES: usize = 1 << 26;

impl<'a> Part<'a> {
    /// `n_values` consecutive values of a tensor, from the start of group `first` on: full groups,
    /// then the rest. With a weight decoded values are added to sums.
    pub(crate) fn cut(
        plan: &'a GroupPlan,
        first: u64,
        n_values: usize,
        weight: Option<f32>,
        mut values: Span,
    ) -> Result<Vec<Self>> {
        let full = plan.group_values();
        let most = (BATCH_VALUES / full).clamp(1, MOST_GROUPS);
        let mut parts = Vec::new();
        let mut done = 0;
        while done < n_values {
            let left = n_values - done;
            let (n_groups, n) =
                if left < full { (1, left) } else { ((left / full).min(most), full) };
            let group = first.wrapping_add((done / full) as u64);
            let mut batch = Batch::new(plan, group, n_groups, n)?;
            if let Some(weight) = weight {
                (batch.plan.adds, batch.plan.weight) = (1, weight);
            }
            parts.push(Self { plan, batch, values: values.take(batch.target_bytes()) });
            done += n_groups * n;
        }
        Ok(parts)
    }

    /// Appends the positions of the coded coefficients of every group.
    fn put_positions(&self, all: &mut Vec<u32>) {
        if !self.batch.selects {
            return;
        }
        let mut of_one = Vec::new();
        for group in 0..self.batch.n_groups as u64 {
            let group = self.batch.plan.first_group.wrapping_add(group);
            self.plan.positions(group, self.batch.plan.n_values as usize, &mut of_one);
            all.extend_from_slice(&of_one);
        }
    }
}

/// Numbers of elements that a batch needs of the memory that its kernels share.
#[derive(Debug, Clone, Copy, Default)]
struct Needs {
    groups: usize,
    payloads: usize,
    coefficients: usize,
    positions: usize,
    grids: usize,
    scratch: usize,
}

impl Needs {
    fn of(batch: &Batch, encodes: bool) -> Self {
        // Decoding a frame takes the coefficients apart even where encoding is fused.
        let is_frame = batch.plan.n_coefficients != batch.plan.n_values;
        let has_tail = batch.n_whole_units() < batch.n_units();
        let in_stages = !batch.is_fused() || has_tail || (is_frame && !encodes);
        let n = batch.n_coefficients();
        let if_so = |is_needed: bool, n: usize| if is_needed { n } else { 0 };
        Self {
            groups: batch.n_groups,
            payloads: batch.payload_bytes(),
            coefficients: if_so(in_stages, n),
            positions: if_so(batch.selects, batch.n_groups * batch.plan.n_coded as usize),
            grids: if_so(encodes && in_stages, 2 * batch.n_groups * batch.n_scales() as usize),
            scratch: if_so(encodes && batch.iterates(), 2 * n),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            groups: self.groups + other.groups,
            payloads: self.payloads + other.payloads,
            coefficients: self.coefficients + other.coefficients,
            positions: self.positions + other.positions,
            grids: self.grids + other.grids,
            scratch: self.scratch + other.scratch,
        }
    }
}

/// Device memory that batches need beside their values, allocated for all of them at once; each has
/// its piece of every kind, behind that of the batch before.
pub(crate) struct Workspace {
    encodes: bool,
    pub(crate) exponents: CudaSlice<i32>,
    pub(crate) peaks: CudaSlice<u32>,
    pub(crate) payloads: CudaSlice<u8>,
    zeros: CudaSlice<i32>,
    coefficients: CudaSlice<f32>,
    positions: CudaSlice<u32>,
    grids: CudaSlice<f32>,
    scratch: CudaSlice<f32>,
}

impl Workspace {
    /// The memory for encoding, or for decoding payloads that are there with their exponents.
    pub(crate) fn new(
        stream: &Arc<CudaStream>,
        parts: &[Part<'_>],
        coded: Option<(CudaSlice<u8>, CudaSlice<i32>)>,
    ) -> Result<Self> {
        let encodes = coded.is_none();
        let needs = parts.iter().map(|part| Needs::of(&part.batch, encodes));
        let all = needs.fold(Needs::default(), Needs::and);
        let (payloads, exponents) = match coded {
            Some(coded) => coded,
            None => (zeros(stream, all.payloads)?, zeros(stream, all.groups)?),
        };
        let mut positions = Vec::with_capacity(all.positions);
        parts.iter().for_each(|part| part.put_positions(&mut positions));
        if positions.len() != all.positions {
            let found = positions.len();
            return Err(Error::invalid(format!("{found} positions of {}", all.positions)));
        }
        let positions = match positions.is_empty() {
            true => zeros(stream, 0)?,
            false => upload(stream, &positions)?,
        };
        Ok(Self {
            encodes,
            exponents,
            peaks: zeros(stream, all.groups)?,
            payloads,
            zeros: zeros(stream, all.groups)?,
            coefficients: zeros(stream, all.coefficients)?,
            positions,
            grids: zeros(stream, all.grids)?,
            scratch: zeros(stream, all.scratch)?,
        })
    }

    /// What the kernels of each batch are given.
    pub(crate) fn spans(&mut self, stream: &Arc<CudaStream>, parts: &[Part<'_>]) -> Vec<Spans> {
        let mut left = Spans {
            values: Span::NONE,
            exponents: span_mut(stream, &mut self.exponents),
            peaks: span_mut(stream, &mut self.peaks),
            zeros: span(stream, &self.zeros),
            payloads: span_mut(stream, &mut self.payloads),
            coefficients: span_mut(stream, &mut self.coefficients),
            positions: span(stream, &self.positions),
            grids: span_mut(stream, &mut self.grids),
            scratch: span_mut(stream, &mut self.scratch),
        };
        let each = parts.iter().map(|part| {
            let needs = Needs::of(&part.batch, self.encodes);
            Spans {
                values: part.values,
                exponents: left.exponents.take(4 * needs.groups),
                peaks: left.peaks.take(4 * needs.groups),
                zeros: left.zeros.take(4 * needs.groups),
                payloads: left.payloads.take(needs.payloads),
                coefficients: left.coefficients.take(4 * needs.coefficients),
                positions: left.positions.take(4 * needs.positions),
                grids: left.grids.take(4 * needs.grids),
                scratch: left.scratch.take(4 * needs.scratch),
            }
        });
        each.collect()
    }
}
