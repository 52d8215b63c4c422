//! A plan as the kernels take it, and what follows from it: how a group is cut into units, and how
//! its P is laid out on the device.

use crate::error::{Error, Result};
use fedpress::DType;
use fedpress::device::GroupPlan;

/// `struct Plan` of `kernels/common.cuh`, field by field.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Plan {
    pub(crate) first_group: u64,
    pub(crate) signs: u64,
    pub(crate) window_signs: u64,
    pub(crate) rounding: u64,
    pub(crate) payload_stride: u64,
    pub(crate) codes_at: u64,
    pub(crate) n_values: u32,
    pub(crate) n_coefficients: u32,
    pub(crate) n_coded: u32,
    pub(crate) element: u32,
    pub(crate) block_log2: u32,
    pub(crate) scale_log2: u32,
    pub(crate) q: u32,
    pub(crate) nearest: u32,
    pub(crate) gain: f32,
    pub(crate) n_gained: u32,
    pub(crate) weight: f32,
    pub(crate) adds: u32,
    pub(crate) iterations: u32,
    pub(crate) eta: f32,
    pub(crate) delta: f32,
    pub(crate) clip: u32,
    pub(crate) coefficient_stride: u32,
}

const _: () = assert!(size_of::<Plan>() == 120, "the layout of common.cuh");

impl Plan {
    /// For groups of so many values, but for the first group and the element type.
    fn of(plan: &GroupPlan, n_values: usize) -> Self {
        let (keys, stages) = (plan.keys(), plan.spec().stages());
        let (gain, n_gained) = plan.gain(n_values);
        let mut numbers = Self {
            signs: keys.signs,
            window_signs: keys.window_signs,
            rounding: keys.rounding.unwrap_or(0),
            n_values: n_values as u32,
            n_coefficients: plan.n_coefficients(n_values) as u32,
            n_coded: plan.n_coded(n_values) as u32,
            block_log2: DEFAULT_BLOCK_LOG2,
            gain,
            n_gained: n_gained as u32,
            ..Self::default()
        };
        if let Some(hadamard) = stages.hadamard {
            numbers.block_log2 = hadamard.block().ilog2();
        }
        if let Some(kashin) = stages.kashin {
            numbers.block_log2 = kashin.block().ilog2();
            numbers.iterations = kashin.iterations().into();
            (numbers.eta, numbers.delta) = (kashin.eta(), kashin.delta());
            numbers.clip = kashin.clip().into();
        }
        if let Some(uniform) = stages.uniform {
            numbers.q = uniform.q().into();
            numbers.scale_log2 = uniform.block().ilog2();
            numbers.nearest = uniform.nearest().into();
        }
        numbers
    }
}

/// Consecutive groups of the same number of values, and how the device goes about them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) plan: Plan,
    pub(crate) n_groups: usize,
    /// Whether values are rotated at all.
    pub(crate) rotates: bool,
    /// Whether only selected coefficients are coded.
    pub(crate) selects: bool,
    /// Bytes of P of a group.
    pub(crate) payload_len: usize,
    /// Bytes of an element.
    pub(crate) element_bytes: usize,
}

/// Where the codes begin, and groups: what the widest access asks for.
pub(crate) const ALIGNMENT: usize = 16;

impl Batch {
    /// `n_groups` groups of `n_values` values each, from group `first` on.
    pub(crate) fn new(
        plan: &GroupPlan,
        first: u64,
        n_groups: usize,
        n_values: usize,
    ) -> Result<Self> {
        let element = match plan.dtype() {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::BF16 => 2,
            other => return Err(Error::invalid(format!("{other} has no lossy kernels"))),
        };
        if n_values == 0 || n_values > 1 << 20 || n_groups == 0 || n_groups > MOST_GROUPS {
            return Err(Error::invalid(format!(
                "expected 1 to {MOST_GROUPS} groups of 1 to 2^20 values, found {n_groups} of {n_values}"
            )));
        }
        let stages = plan.spec().stages();
        let numbers = Plan { first_group: first, element, ..Plan::of(plan, n_values) };
        let mut batch = Self {
            plan: numbers,
            n_groups,
            rotates: stages.hadamard.is_some() || stages.kashin.is_some(),
            selects: plan.n_coded(n_values) < plan.n_coefficients(n_values),
            payload_len: plan.payload_len(n_values),
            element_bytes: plan.dtype().byte_len(1),
        };
        batch.lay_out();
        Ok(batch)
    }

    fn lay_out(&mut self) {
        let plan = &mut self.plan;
        // Each group's coefficients begin where a 16-byte access may.
        plan.coefficient_stride = plan.n_coefficients.next_multiple_of(4);
        let codes_at = (scale_bytes(plan)).next_multiple_of(ALIGNMENT);
        // Codes are written by the word.
        let code_bits = plan.n_coded as usize * if plan.q == 0 { 32 } else { plan.q as usize };
        let code_bytes = code_bits.div_ceil(32) * 4;
        plan.codes_at = codes_at as u64;
        plan.payload_stride = (codes_at + code_bytes).next_multiple_of(ALIGNMENT) as u64;
    }

    /// Bytes of the values of all groups.
    pub(crate) fn value_bytes(&self) -> usize {
        self.n_values() * self.element_bytes
    }

    /// Bytes of what they are decoded to, or of the sums they are added to.
    pub(crate) fn target_bytes(&self) -> usize {
        let adds = self.plan.adds == 1;
        self.n_values() * if adds { size_of::<f32>() } else { self.element_bytes }
    }

    /// Values of all groups.
    pub(crate) fn n_values(&self) -> usize {
        self.n_groups * self.plan.n_values as usize
    }

    /// Coefficients of all groups, as memory holds them.
    pub(crate) fn n_coefficients(&self) -> usize {
        self.n_groups * self.plan.coefficient_stride as usize
    }

    /// Bytes of the payloads of all groups on the device.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.n_groups * self.plan.payload_stride as usize
    }

    /// Units of a group.
    pub(crate) fn n_units(&self) -> u32 {
        (self.plan.n_coefficients >> self.plan.block_log2).max(1)
    }

    /// Units at the head of a group that have exactly the block size: all, or all but the last.
    pub(crate) fn n_whole_units(&self) -> u32 {
        let block = 1 << self.plan.block_log2;
        let whole = self.plan.n_coefficients / block;
        if self.plan.n_coefficients.is_multiple_of(block) { whole } else { whole.saturating_sub(1) }
    }

    /// Scales of a group.
    pub(crate) fn n_scales(&self) -> u32 {
        n_scales(&self.plan)
    }

    /// Whether one kernel does both, as rotation and quantizer cut the same blocks.
    pub(crate) fn is_fused(&self) -> bool {
        let plan = &self.plan;
        self.is_blockwise() && !self.selects && plan.q > 0 && plan.scale_log2 == plan.block_log2
    }

    /// Whether whole units have a kernel of their own, `hadamard.cu` or `kashin.cu`.
    pub(crate) fn is_blockwise(&self) -> bool {
        self.rotates && (!self.iterates() || self.plan.block_log2 <= LARGEST_KASHIN_LOG2)
    }

    /// Whether coefficients are Kashin's.
    pub(crate) fn iterates(&self) -> bool {
        self.plan.iterations > 0
    }

    /// The same batch as a rotation of its coefficients, f32 to f32, for turning them back where
    /// they stand; their exponents are then zero.
    pub(crate) fn of_coefficients(&self) -> Self {
        let mut batch = *self;
        batch.plan.n_values = self.plan.coefficient_stride;
        (batch.plan.element, batch.element_bytes) = (0, size_of::<f32>());
        batch.plan.adds = 0;
        batch
    }

    /// Scales and codes of a group, from its payload as the device lays it out.
    pub(crate) fn pieces<'a>(&self, group: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let (scales, codes_at) = (scale_bytes(&self.plan), self.plan.codes_at as usize);
        (&group[..scales], &group[codes_at..codes_at + self.payload_len - 1 - scales])
    }

    /// The way back: appends P of a group as the device reads it, and returns its exponent.
    pub(crate) fn lay_out_payload(&self, payload: &[u8], laid_out: &mut Vec<u8>) -> Result<i32> {
        let exponent = payload.first().filter(|_| payload.len() == self.payload_len);
        let Some(exponent) = exponent else {
            let (expected, found) = (self.payload_len, payload.len());
            return Err(Error::invalid(format!(
                "a coded group: expected {expected} bytes, found {found}"
            )));
        };
        let (start, stride) = (laid_out.len(), self.plan.payload_stride as usize);
        let (scales, codes) = payload[1..].split_at(scale_bytes(&self.plan));
        laid_out.reserve(stride);
        laid_out.extend_from_slice(scales);
        laid_out.resize(start + self.plan.codes_at as usize, 0);
        laid_out.extend_from_slice(codes);
        laid_out.resize(start + stride, 0);
        Ok(i32::from(*exponent as i8))
    }
}

/// Threads of the kernels of `general.cu`.
pub(crate) const THREADS: u32 = 256;

/// Shared memory of those that rotate units of blocks of 2^k: the block, and a sum for each thread.
pub(crate) fn staged_bytes(k: u32) -> u32 {
    8 * THREADS + (4 << k)
}

/// Threads, blocks and bytes of shared memory of a thread block of the kernels of whole blocks of 2^k:
/// `Tile` and `Shared` of the kernels say the same. Those that iterate hold a block once more.
pub(crate) fn blockwise_shape(k: u32, iterates: bool) -> (u32, u32, u32) {
    let threads = (1 << k) / 32;
    let together = if threads < 128 { 128 / threads } else { 1 };
    let staged = together << k;
    let copies = 1 + u32::from(iterates);
    let shared = copies * (staged / 8 * 9 * 4) + 32 * 8 + 16 * together + staged / 4;
    (threads * together, together, shared)
}

/// The most shared memory that a plan with blocks of 2^k takes.
pub(crate) fn most_shared(k: u32, iterates: bool) -> u32 {
    let has_kernel = iterates && k <= LARGEST_KASHIN_LOG2;
    staged_bytes(k).max(blockwise_shape(k, has_kernel).2)
}

/// Groups of one launch: a dimension of the grid has no more.
pub(crate) const MOST_GROUPS: usize = 65_535;

/// Largest block of `kashin.cu`, as a power of two.
const LARGEST_KASHIN_LOG2: u32 = 14;

/// How values without rotation are dealt out to thread blocks.
const DEFAULT_BLOCK_LOG2: u32 = 12;

fn n_scales(plan: &Plan) -> u32 {
    if plan.q == 0 { 0 } else { (plan.n_coded >> plan.scale_log2).max(1) }
}

fn scale_bytes(plan: &Plan) -> usize {
    8 * n_scales(plan) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (name, whether it is a float) of the fields, in order, as Rust prints them.
    fn fields() -> Vec<(String, bool)> {
        let text = format!("{:?}", Plan::default());
        let inside = text.trim_start_matches("Plan {").trim_end_matches('}');
        let fields = inside.split(", ").filter_map(|field| field.trim().split_once(": "));
        fields.map(|(name, value)| (name.to_owned(), value.contains('.'))).collect()
    }

    #[test]
    fn the_kernels_have_the_same_struct() {
        let source = include_str!("../kernels/common.cuh");
        let body = source.split("struct Plan {").nth(1).unwrap().split("};").next().unwrap();
        let lines = body.lines().filter_map(|line| line.trim().split_once(';'));
        let theirs: Vec<_> = lines
            .map(|(field, _)| field.split_once(' ').unwrap())
            .map(|(kind, name)| (kind.to_owned(), name.to_owned()))
            .collect();
        let kinds: Vec<_> = theirs.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds.iter().position(|k| *k != "u64"), Some(6), "the wide ones come first");
        assert!(kinds[6..].iter().all(|k| ["u32", "float"].contains(k)), "{kinds:?}");
        let theirs: Vec<_> =
            theirs.into_iter().map(|(kind, name)| (name, kind == "float")).collect();
        assert_eq!(fields(), theirs);
    }
}
