//! One group of values through the whole pipeline and back: the body of a chunk.
//!
//! A pure function of the values, the tensor's header, the group's number and the keys, so that
//! groups can be coded in any order, by any number of threads, or on a GPU. What a pipeline does is a
//! [flow](crate::flow) between its stages; here they are put together.

mod decode;
mod elements;
mod encode;
pub(crate) mod exponent;
mod lossless;
mod redundancy;

pub(crate) use decode::{Coded, add_coefficients, decode, open, values_of};
pub(crate) use elements::{Elements, Output, Target};
pub(crate) use encode::{Choice, encode, expected_error, numbers_of, put_coded, put_payload};

use crate::aligned::Aligned;
use crate::basis::{self, Transform, with_basis};
use crate::code::{Compared, Way};
use crate::dither::DitherKeys;
use crate::entropy::Zstandard;
use crate::kernel::Kernel;
use crate::random::{Keys, Purpose, Seeds};
use crate::select::Kept;
use crate::wire::{ChunkHeader, TensorMeta};
use crate::{DType, Spec, arrays, select};

/// What a stage knows about the group it works on, besides numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) keys: &'a TensorKeys,
    /// Number of the group in its tensor.
    pub(crate) group: u64,
    /// Dimensions of the tensor, for a coder that encodes its values as they are; else none.
    pub(crate) shape: &'a [u64],
    /// What decoded values are rounded to.
    pub(crate) dtype: DType,
}

/// The keys of one tensor, the block not yet absorbed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TensorKeys {
    pub(crate) signs: Keys,
    pub(crate) window_signs: Keys,
    pub(crate) selection: Keys,
    pub(crate) dither: DitherKeys,
    /// For encoding; decoding does not need (or know) the private seed.
    pub(crate) rounding: Option<Keys>,
}

impl TensorKeys {
    /// Of no tensor.
    pub(crate) fn none() -> Self {
        let key = Keys::from_absorbed(0);
        Self {
            signs: key,
            window_signs: key,
            selection: key,
            dither: DitherKeys::none(),
            rounding: None,
        }
    }

    /// Those that decoding needs.
    pub(crate) fn shared(meta: &TensorMeta) -> Self {
        let seeds = meta.seeds.unwrap_or_default();
        let client = if seeds.own { seeds.client } else { 0 };
        let keys = |purpose| Keys::new(seeds.shared, seeds.round, client, meta.key(), purpose);
        Self {
            signs: keys(Purpose::Signs),
            window_signs: keys(Purpose::WindowSigns),
            selection: keys(Purpose::Subsample),
            dither: DitherKeys::new(&seeds, meta.key()),
            rounding: None,
        }
    }

    /// Those that encoding needs.
    pub(crate) fn all(meta: &TensorMeta, seeds: &Seeds) -> Self {
        let Seeds { private, round, client, .. } = *seeds;
        // From the name even where there is an explicit key: tensors that share one rotate alike,
        // but each rounds for itself.
        let rounding = Keys::new(private, round, client, meta.name_hash, Purpose::Rounding);
        Self { rounding: Some(rounding), ..Self::shared(meta) }
    }
}

/// Buffers that are reused from group to group; one per thread.
pub(crate) struct Worker {
    pub(crate) kernel: Kernel,
    pub(crate) flow: Buffers,
    /// P, where it is not the bytes on the wire.
    pub(crate) payload: Vec<u8>,
    /// Element bytes, sorted by significance.
    pub(crate) planes: Vec<u8>,
    pub(crate) zstandard: Zstandard,
}

/// Those of the stages that numbers flow through.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) basis: basis::Work,
    pub(crate) code: Work,
    pub(crate) kept: Kept,
}

/// Those of a coder.
#[derive(Default)]
pub(crate) struct Work {
    /// A run of coefficients.
    pub(crate) run: Aligned,
    /// Those of a group.
    pub(crate) whole: Aligned,
    /// What is coded of them.
    pub(crate) bytes: Vec<u8>,
    /// What is coded of them beside their neighbours.
    pub(crate) compared: Compared,
    /// Whether codes may turn out not to be valid when some of the numbers have been handed on.
    pub(crate) may_fail: bool,
    /// How the group that is coded next is coded, where a coder found that out when it was compared with others.
    pub(crate) way: Option<Way>,
}

impl Worker {
    pub(crate) fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            flow: Buffers::default(),
            payload: Vec::new(),
            planes: Vec::new(),
            zstandard: Zstandard::default(),
        }
    }

    /// Gives the buffers back; compression contexts stay.
    pub(crate) fn release(&mut self) {
        self.flow = Buffers::default();
        (self.payload, self.planes) = (Vec::new(), Vec::new());
    }
}

/// Coefficients of a group of `n` values, and how many of them are coded.
pub(crate) fn coefficients(spec: &Spec, n: usize) -> (usize, usize) {
    let all = with_basis!(&spec.basis, basis => basis.n_coefficients(n));
    (all, spec.subsample.map_or(all, |s| s.n_kept(all)))
}

/// Coefficients of a group of `n` values in a basis.
pub(crate) fn n_coefficients(basis: &crate::basis::Basis, n: usize) -> usize {
    with_basis!(basis, basis => basis.n_coefficients(n))
}

/// Most bytes of P of a group of `n` values.
pub(crate) fn payload_bound(spec: &Spec, dtype: DType, n: usize) -> usize {
    if !spec.is_lossy() {
        return dtype.byte_len(n);
    }
    match n {
        0 => 0,
        n => 1 + spec.quantizer.bound(coefficients(spec, n).1),
    }
}

/// Most bytes of P of any group of at most `n` values.
fn largest_payload(spec: &Spec, dtype: DType, n: usize) -> usize {
    if !spec.is_lossy() {
        return dtype.byte_len(n);
    }
    // A smaller group may keep more: all that stands behind its last whole block.
    let rest = if spec.subsample.is_some() { select::BLOCK } else { 0 };
    1 + spec.quantizer.bound(coefficients(spec, n).1 + rest)
}

/// Values in the largest group of this tensor.
pub(crate) fn largest_group(meta: &TensorMeta) -> usize {
    let full = meta.group_values();
    meta.n_values().map_or(full, |n| usize::try_from(n).map_or(full, |n| n.min(full)))
}

/// Longest body of a chunk that decodes; FORMAT.md allows no tensor more than
/// [`ChunkHeader::most`].
pub(crate) fn max_body_len(meta: &TensorMeta) -> usize {
    let n = largest_group(meta);
    let most = ChunkHeader::most(n);
    if meta.supported().is_err() {
        return most;
    }
    let bounds = meta.pipelines.iter().map(|spec| largest_payload(spec, meta.dtype(), n));
    (ChunkHeader::MAX_LEN + bounds.max().unwrap_or(0)).min(most)
}

/// Memory that decoding one group takes, its body and its decoded bytes included, at most.
pub(crate) fn decode_memory(meta: &TensorMeta) -> u64 {
    let n = largest_group(meta);
    if meta.supported().is_err() {
        return max_body_len(meta) as u64;
    }
    let elements = meta.dtype().byte_len(n);
    let buffers = meta.pipelines.iter().map(|spec| match spec.is_lossy() {
        true => {
            let (all, coded) = coefficients(spec, n);
            // What is kept waits for its run, and all coefficients of a run are spread out.
            let run = spec.basis.memory(n).max(spec.quantizer.memory(all));
            let kept = if spec.subsample.is_some() { 3 * run } else { 0 };
            run + spec.quantizer.memory(coded) + spec.basis.memory(n) + kept
        }
        // Elements once more, and to be added to a sum: values.
        false if meta.dtype().is_lossy_capable() => elements + size_of::<f32>() * n,
        false => 0,
    });
    let buffers = buffers.max().unwrap_or(0);
    let frames = meta.pipelines.iter().filter(|spec| spec.lossless.zstd.is_some());
    let frames = frames.map(|spec| Zstandard::memory(largest_payload(spec, meta.dtype(), n)));
    let buffers = buffers + frames.max().unwrap_or(0);
    // A body, that of which it was copied when it grew, and P of the chunk before.
    (5 * max_body_len(meta) / 2 + elements + buffers) as u64
}

/// The first NaN or infinity among elements of f32, f16 or bf16 (`None` for other types).
///
/// ```
/// let bytes: Vec<u8> = [1.0f32, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
/// assert_eq!(fedpress::first_non_finite(fedpress::DType::F32, &bytes), Some(1));
/// ```
pub fn first_non_finite(dtype: DType, elements: &[u8]) -> Option<usize> {
    match dtype {
        DType::F32 => arrays::split::<_, 4>(elements)
            .0
            .iter()
            .position(|b| u32::from_le_bytes(*b) & 0x7f80_0000 == 0x7f80_0000),
        DType::F16 | DType::BF16 => {
            let mask = if dtype == DType::F16 { 0x7c00 } else { 0x7f80 };
            let halves = arrays::split::<_, 2>(elements).0;
            halves.iter().position(|b| u16::from_le_bytes(*b) & mask == mask)
        }
        _ => None,
    }
}
