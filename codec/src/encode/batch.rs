//! Groups of one tensor or of many, coded side by side or by a device.

use super::group::{Group, Planned, groups_of};
use super::tie::Tie;
use super::{Encoder, Open, State, check_length};
use crate::as_tensor::Parts;
use crate::group::{Choice, Worker};
use crate::schedule::in_parallel;
use crate::wire::TensorDesc;
use crate::{Error, NamedTensor, Result, Spec, TensorView};
use std::sync::Arc;

/// What is put into the stream, in order.
pub(super) enum Item<'a> {
    Tensor(Arc<Planned>),
    /// A tensor, and the one that it is tied to.
    Tied(TensorDesc, &'a str),
    Group(Group<'a>),
}

/// Groups that are coded side by side for each thread: enough that all are busy to the end.
const GROUPS_PER_THREAD: usize = 128;
/// Values of them beyond which no more are taken.
const VALUES_PER_THREAD: usize = 1 << 20;

impl Encoder {
    /// A whole tensor at once; reads it without copying it. After an error the stream cannot
    /// go on, as after one in [`push`](Self::push) or [`end`](Self::end).
    pub fn tensor(&mut self, tensor: &impl NamedTensor, spec: &Spec) -> Result<()> {
        self.tensors(&[(Parts::of(tensor).view(), spec)]).map(drop)
    }

    /// Several tensors, each by its pipeline, on all threads whatever their sizes are; returns how many
    /// bytes of the stream each takes.
    pub fn tensors(&mut self, tensors: &[(TensorView<'_>, &Spec)]) -> Result<Vec<u64>> {
        self.tensors_to(tensors, &mut |_| Ok(()))
    }

    /// The same; calls `flush` whenever there is output to be taken.
    pub(crate) fn tensors_to(
        &mut self,
        tensors: &[(TensorView<'_>, &Spec)],
        flush: &mut dyn FnMut(&mut Self) -> Result<()>,
    ) -> Result<Vec<u64>> {
        self.check_between()?;
        if tensors.is_empty() {
            return Ok(Vec::new());
        }
        self.stream.starts.clear();
        self.stream.several |= tensors.len() > 1;
        let ties = self.ties(tensors);
        let mut batch = Vec::new();
        let (mut n_groups, mut n_values) = (0, 0);
        let most = self.batch_limits();
        for (i, (view, spec)) in tensors.iter().enumerate() {
            let desc = view.desc();
            let kept = match ties[i] {
                Tie::To(original) => {
                    self.check_tensor(&desc, spec).map_err(|e| e.in_tensor(&desc.name))?;
                    check_length(&desc, view.data.len() as u64, true)?;
                    self.take_name(&desc);
                    batch.push(Item::Tied(desc, tensors[original].0.name));
                    continue;
                }
                Tie::Sent { kept } => kept,
            };
            let tensor = self.plan(&desc, spec, None, kept)?;
            if i == 0 {
                // What was refused before anything was planned has changed nothing.
                self.state = State::Poisoned;
            }
            check_length(&desc, view.data.len() as u64, true)?;
            batch.push(Item::Tensor(tensor.clone()));
            for group in groups_of(&tensor, 0, view.data, true) {
                (n_groups, n_values) = (n_groups + 1, n_values + group.header.n_values);
                batch.push(Item::Group(group));
                if n_groups >= most.0 || n_values >= most.1 {
                    self.put_all(&batch)?;
                    flush(self)?;
                    batch.clear();
                    (n_groups, n_values) = (0, 0);
                }
            }
        }
        self.put_all(&batch)?;
        flush(self)?;
        self.state = State::Between;
        let starts = std::mem::take(&mut self.stream.starts);
        let ends = starts.iter().skip(1).copied().chain([self.n_bytes()]);
        Ok(starts.iter().zip(ends).map(|(start, end)| end - start).collect())
    }

    /// Groups, and values of them, that are worth collecting.
    fn batch_limits(&self) -> (usize, usize) {
        let threads = self.workers.len();
        let wanted = self.options.device.as_ref().map_or(0, |device| device.batch_values());
        match threads.max(usize::from(wanted > 0)) {
            // Nobody waits for anybody.
            1 if wanted == 0 => (1, 1),
            _ => {
                let values = (threads * VALUES_PER_THREAD).max(wanted.min(1 << 28));
                (threads.max(wanted >> 12) * GROUPS_PER_THREAD, values)
            }
        }
    }

    pub(super) fn batch_bytes(&self, tensor: &Planned) -> usize {
        let device = self.options.device.as_ref().filter(|_| tensor.plan.is_some());
        // Of what a device wants to have at a time, no more than 2^28 values are collected.
        let full = tensor.meta.group_values();
        let wanted = device.map_or(0, |d| d.batch_values().min(1 << 28) / full);
        tensor.meta.dtype().byte_len(full) * wanted.max(self.workers.len())
    }

    /// Codes whole groups of the open tensor and appends them.
    pub(super) fn put_groups(
        &mut self,
        open: &mut Open,
        elements: &[u8],
        last: bool,
    ) -> Result<()> {
        let groups: Vec<_> =
            groups_of(&open.tensor, open.n_groups, elements, last).map(Item::Group).collect();
        open.n_groups += groups.len() as u64;
        self.put_all(&groups)
    }

    /// Codes all groups, on the device or side by side if there are threads for it, and appends
    /// everything in order.
    fn put_all(&mut self, items: &[Item<'_>]) -> Result<()> {
        let made = self.on_device(items)?;
        let mut made = made.iter();
        let groups = items.iter().filter_map(|item| match item {
            Item::Group(group) => Some(group),
            Item::Tensor(_) | Item::Tied(..) => None,
        });
        // With what the device made of those that it codes.
        let jobs: Vec<_> =
            groups.map(|group| (group, group.on_device().and_then(|_| made.next()))).collect();
        let (kernel, choice) = (self.kernel, self.choice());
        if self.workers.len() > 1 && jobs.len() > 1 {
            let code = |worker: &mut Worker, (group, made): (&Group<'_>, Option<&_>)| {
                let mut out = Vec::new();
                group.put(kernel, choice, made, worker, &mut out).map(|()| out)
            };
            let mut records = in_parallel(&mut self.workers, jobs, code)?.into_iter();
            for item in items {
                match item {
                    Item::Tensor(tensor) => self.put_tensor(tensor)?,
                    Item::Tied(desc, original) => self.put_tied(desc, original)?,
                    Item::Group(_) => {
                        self.out.extend_from_slice(&records.next().unwrap_or_default());
                        self.stream.n_chunks += 1;
                    }
                }
            }
            return Ok(());
        }
        let mut jobs = jobs.into_iter();
        for item in items {
            match item {
                Item::Tensor(tensor) => self.put_tensor(tensor)?,
                Item::Tied(desc, original) => self.put_tied(desc, original)?,
                Item::Group(group) => {
                    let made = jobs.next().and_then(|(_, made)| made);
                    group.put(kernel, choice, made, &mut self.workers[0], &mut self.out)?;
                    self.stream.n_chunks += 1;
                }
            }
        }
        Ok(())
    }

    fn choice(&self) -> Choice {
        Choice { non_finite: self.options.non_finite, smaller: self.options.smaller }
    }

    /// What the device makes of the groups that it codes, in order.
    fn on_device(&self, items: &[Item<'_>]) -> Result<Vec<crate::device::Made>> {
        let jobs: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                Item::Group(group) => group.on_device(),
                Item::Tensor(_) | Item::Tied(..) => None,
            })
            .collect();
        let Some(device) = self.options.device.as_ref().filter(|_| !jobs.is_empty()) else {
            return Ok(Vec::new());
        };
        let made = device.encode(&jobs).map_err(Error::device)?;
        if made.len() != jobs.len() {
            let found = format!("{} groups of {}", made.len(), jobs.len());
            return Err(Error::device(found.into()));
        }
        Ok(made)
    }
}
