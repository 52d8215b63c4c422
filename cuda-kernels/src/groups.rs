//! The codec's [`Device`]: groups between host memory and host memory.

use crate::device::Cuda;
use crate::error::{Error, Result};
use crate::memory::{download, fill, span, span_mut, zeros};
use crate::parts::Part;
use crate::plan::{ALIGNMENT, most_shared};
use crate::span::Span;
use fedpress::device::{DecodeJob, DecodeTarget, DeviceResult, EncodeJob, GroupPlan, Made};
use fedpress::{DType, Device, Spec};

/// Values that are handed over at a time: 64 MB of f32, enough to fill a device many times over.
const BATCH_VALUES: usize = 1 << 24;

/// What a spec names of the stages that have kernels; zstd is the codec's, which undoes it.
const STAGES: [&str; 6] = ["identity", "hadamard", "kashin", "subsample", "q", "zstd"];

/// Whether there are kernels for all stages, those that a later codec has included.
fn has_kernels(spec: &Spec) -> bool {
    let text = spec.to_string();
    let names = text.split('|').map(|stage| stage.split([',', '=']).next().unwrap_or_default());
    spec.is_lossy() && names.into_iter().all(|name| STAGES.contains(&name))
}

impl Device for Cuda {
    fn supports(&self, plan: &GroupPlan) -> bool {
        let stages = plan.spec().stages();
        let fits = |block: usize, iterates| most_shared(block.ilog2(), iterates) <= self.shared;
        let is_supported = has_kernels(plan.spec())
            && matches!(plan.dtype(), DType::F32 | DType::F16 | DType::BF16)
            && stages.hadamard.is_none_or(|stage| fits(stage.block(), false))
            && stages.kashin.is_none_or(|stage| fits(stage.block(), true));
        if let Some(tell) = self.on_refusal.as_ref().filter(|_| !is_supported) {
            tell(plan);
        }
        is_supported
    }

    fn batch_values(&self) -> usize {
        BATCH_VALUES
    }

    fn encode(&self, jobs: &[EncodeJob<'_>]) -> DeviceResult<Vec<Made>> {
        let stream = self.stream();
        let groups = jobs.iter().map(Group::to_encode).collect::<Result<Vec<_>>>()?;
        let placed = Placed::new(groups);
        let mut values = zeros::<u8>(stream, placed.n_elements)?;
        let from = placed.groups.iter().zip(jobs).map(|((_, at), job)| (*at, job.elements));
        fill(stream, &mut values, from)?;
        let parts = placed.parts(span(stream, &values), Span::NONE)?;
        let coded = self.encode_parts(stream, &parts)?;
        let made = coded.groups(&parts).map(|group| {
            let mut made = Made { peak: group.peak, ..Made::default() };
            group.put(&mut made.payload);
            made
        });
        Ok(made.collect())
    }

    fn decode(&self, jobs: &mut [DecodeJob<'_>]) -> DeviceResult<()> {
        let stream = self.stream();
        let groups = jobs.iter().map(Group::to_decode).collect::<Result<Vec<_>>>()?;
        let placed = Placed::new(groups);
        let mut elements = zeros::<u8>(stream, placed.n_elements)?;
        let mut sums = zeros::<f32>(stream, placed.n_sums)?;
        let before =
            placed.groups.iter().zip(&*jobs).filter_map(|((_, at), job)| match &job.target {
                DecodeTarget::Elements(_) => None,
                DecodeTarget::Add { sums, .. } => Some((*at, &**sums)),
            });
        fill(stream, &mut sums, before)?;
        let spans = (span_mut(stream, &mut elements), span_mut(stream, &mut sums));
        let parts = placed.parts(spans.0, spans.1)?;
        self.decode_parts(stream, &parts, jobs.iter().map(|job| job.payload))?;
        // All of it, before the first target changes.
        let (elements, sums) = (download(stream, &elements)?, download(stream, &sums)?);
        for ((_, at), job) in placed.groups.iter().zip(jobs) {
            match &mut job.target {
                DecodeTarget::Elements(to) => to.copy_from_slice(&elements[*at..at + to.len()]),
                DecodeTarget::Add { sums: to, .. } => {
                    to.copy_from_slice(&sums[*at..at + to.len()]);
                }
            }
        }
        Ok(())
    }
}

/// A job without its bytes.
#[derive(Debug, Clone, Copy)]
struct Group<'a> {
    plan: &'a GroupPlan,
    number: u64,
    n_values: usize,
    /// Of sums that its values are added to.
    weight: Option<f32>,
}

impl<'a> Group<'a> {
    fn to_encode(job: &EncodeJob<'a>) -> Result<Self> {
        Self::of_elements(job.plan, job.group, job.elements.len())
    }

    fn to_decode(job: &DecodeJob<'a>) -> Result<Self> {
        match &job.target {
            DecodeTarget::Elements(elements) => {
                Self::of_elements(job.plan, job.group, elements.len())
            }
            DecodeTarget::Add { sums, weight } => {
                let (plan, number, n_values) = (job.plan, job.group, sums.len());
                Self { plan, number, n_values, weight: Some(*weight) }.checked()
            }
        }
    }

    fn of_elements(plan: &'a GroupPlan, number: u64, n_bytes: usize) -> Result<Self> {
        let size = plan.dtype().byte_len(1);
        if size == 0 || !n_bytes.is_multiple_of(size) {
            let dtype = plan.dtype();
            return Err(Error::invalid(format!("{n_bytes} bytes are no elements of {dtype}")));
        }
        Self { plan, number, n_values: n_bytes / size, weight: None }.checked()
    }

    fn checked(self) -> Result<Self> {
        let most = self.plan.group_values();
        match (1..=most).contains(&self.n_values) {
            true => Ok(self),
            false => {
                let found = self.n_values;
                Err(Error::invalid(format!("a group: expected 1 to {most} values, found {found}")))
            }
        }
    }

    /// Whether `next` is the next group of the same tensor, and the same is done with it.
    fn continues(&self, next: &Self) -> bool {
        self.n_values == self.plan.group_values()
            && self.number.wrapping_add(1) == next.number
            && self.weight.map(f32::to_bits) == next.weight.map(f32::to_bits)
            && self.plan == next.plan
    }
}

/// Groups and where their values lie on the device: one behind the other, elements and sums apart. Full
/// groups leave no gap, so a run of them lies as a tensor does.
struct Placed<'a> {
    /// With the byte or the sum that they start from.
    groups: Vec<(Group<'a>, usize)>,
    /// Bytes of elements.
    n_elements: usize,
    n_sums: usize,
}

impl<'a> Placed<'a> {
    fn new(groups: Vec<Group<'a>>) -> Self {
        let (mut n_elements, mut n_sums) = (0, 0);
        let place = |group: Group<'a>| {
            let (end, n) = match group.weight {
                None => (&mut n_elements, group.plan.dtype().byte_len(group.n_values)),
                Some(_) => (&mut n_sums, group.n_values),
            };
            let at = *end;
            *end += n.next_multiple_of(ALIGNMENT);
            (group, at)
        };
        let groups = groups.into_iter().map(place).collect();
        Self { groups, n_elements, n_sums }
    }

    /// What is launched: a batch for as many consecutive groups as possible.
    fn parts(&self, elements: Span, sums: Span) -> Result<Vec<Part<'a>>> {
        let mut parts = Vec::new();
        for run in self.groups.chunk_by(|(a, _), (b, _)| a.continues(b)) {
            let Some(&(Group { plan, number, weight, .. }, at)) = run.first() else { continue };
            let n_values = run.iter().map(|(group, _)| group.n_values).sum();
            let values = match weight {
                None => elements.behind(at),
                Some(_) => sums.behind(at * size_of::<f32>()),
            };
            parts.extend(Part::cut(plan, number, n_values, weight, values)?);
        }
        Ok(parts)
    }
}
