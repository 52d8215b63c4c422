//! The groups that a tensor is cut into, each to its chunk record.

use crate::Result;
use crate::device::{EncodeJob, GroupPlan};
use crate::group::{self, Choice, Job, TensorKeys, Worker};
use crate::kernel::Kernel;
use crate::wire::record::{kind, put_record};
use crate::wire::{ChunkHeader, TensorMeta};
use std::sync::Arc;

/// A tensor and what coding its groups takes.
pub(super) struct Planned {
    pub(super) meta: TensorMeta,
    pub(super) keys: TensorKeys,
    /// Where a device codes its groups.
    pub(super) plan: Option<GroupPlan>,
}

pub(super) struct Group<'a> {
    tensor: Arc<Planned>,
    pub(super) header: ChunkHeader,
    elements: &'a [u8],
}

impl Group<'_> {
    pub(super) fn on_device(&self) -> Option<EncodeJob<'_>> {
        let plan = self.tensor.plan.as_ref().filter(|_| !self.elements.is_empty())?;
        Some(EncodeJob { plan, group: self.header.group, elements: self.elements })
    }

    /// Appends the record.
    pub(super) fn put(
        &self,
        kernel: Kernel,
        choice: Choice,
        made: Option<&crate::device::Made>,
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Planned { meta, keys, .. } = &*self.tensor;
        put_record(kind::CHUNK, out, |out| match made {
            Some(made) => {
                let coded = (&made.payload[..], made.peak);
                group::put_coded(meta, choice, self.header, coded, self.elements, worker, out)
            }
            None => {
                let (group, shape) = (self.header.group, &meta.desc.shape);
                let job = Job { kernel, keys, group, shape, dtype: meta.dtype() };
                group::encode(&job, meta, choice, self.header, self.elements, worker, out)
            }
        })
        .map_err(|e| e.in_tensor(meta.name()))
    }
}

/// The groups of consecutive elements of a tensor, from group number `first` on; `ends` says whether
/// they are the last.
pub(super) fn groups_of<'a>(
    tensor: &Arc<Planned>,
    first: u64,
    elements: &'a [u8],
    ends: bool,
) -> impl Iterator<Item = Group<'a>> + use<'a> {
    let (dtype, full) = (tensor.meta.dtype(), tensor.meta.group_values());
    let total = tensor.meta.n_values();
    let size = dtype.byte_len(full);
    // An open tensor without rows has one group all the same.
    let is_empty = elements.is_empty() && first == 0 && tensor.meta.desc.open && ends;
    let n = elements.len().div_ceil(size).max(usize::from(is_empty));
    let tensor = tensor.clone();
    (0..n).map(move |i| {
        let elements = &elements[i * size..elements.len().min((i + 1) * size)];
        let group = first + i as u64;
        // Of types of less than a byte the shape tells how many.
        let left = total.map_or(u64::MAX, |total| total - group * full as u64);
        let n_values = (dtype.n_values(elements.len()) as u64).min(left) as usize;
        let last = ends && i + 1 == n;
        let header = ChunkHeader { group, last, stored: false, pipeline: 0, n_values };
        Group { tensor: tensor.clone(), header, elements }
    })
}
