//! One group of values through the whole pipeline and back: the body of a chunk.
//!
//! A pure function of the values, the tensor's header, the group's number and the keys, so that
//! groups can be coded in any order, by any number of threads, or on a GPU. The work goes span by
//! span: a span is the smallest run of values that both the transform and the quantizer cut at its
//! ends, 4096 values by default, so that it stays in the first-level cache.

mod decode;
mod encode;

use crate::blocks::blocks;
use crate::entropy::Zstandard;
use crate::kernel::Kernel;
use crate::meta::{ChunkHeader, TensorMeta};
use crate::random::{Keys, Purpose, Seeds};
use crate::transform::TransformContext;
use crate::{DType, arrays};
use std::ops::Range;

/// Buffers that are reused from group to group; one per thread.
#[derive(Default)]
pub(crate) struct Scratch {
    values: Vec<f32>,
    coefficients: Vec<f32>,
    kept: Vec<f32>,
    positions: Vec<u32>,
    unit: Vec<f32>,
    payload: Vec<u8>,
    zstandard: Zstandard,
}

impl Scratch {
    /// Gives the buffers back; compression contexts stay.
    pub(crate) fn release(&mut self) {
        *self = Self { zstandard: std::mem::take(&mut self.zstandard), ..Self::default() };
    }
}

/// Room behind the codes that kernels may overwrite.
const SLACK: usize = 16;

/// Bytes a group's payload has before the final lossless stage: fixed by the pipeline.
pub(crate) fn payload_len(meta: &TensorMeta, n_values: usize) -> usize {
    let spec = &meta.spec;
    if !spec.is_lossy() {
        return n_values * meta.desc.dtype.size();
    }
    if n_values == 0 {
        return 0;
    }
    let n_coefficients = spec.transform.n_coefficients(n_values);
    let n_coded = spec.subsample.map_or(n_coefficients, |s| s.n_kept(n_coefficients));
    let coded = match &spec.quantizer {
        Some(quantizer) => quantizer.coded_len(n_coded),
        None => n_coded * size_of::<f32>(),
    };
    coded + 1
}

/// Values in the largest group of this tensor.
fn largest_group(meta: &TensorMeta) -> usize {
    let full = meta.group_values();
    meta.n_values().map_or(full, |n| usize::try_from(n).map_or(full, |n| n.min(full)))
}

/// Longest body of a chunk of this tensor.
pub(crate) fn max_body_len(meta: &TensorMeta) -> usize {
    ChunkHeader::MAX_LEN + payload_len(meta, largest_group(meta))
}

/// Memory that decoding one group takes, its body and its decoded bytes included, roughly.
pub(crate) fn decode_memory(meta: &TensorMeta) -> u64 {
    let n = largest_group(meta);
    // Lossy: values, coefficients, kept ones, their positions. Lossless, to be added to a sum:
    // elements once more, and values.
    let adds = usize::from(meta.desc.dtype.is_lossy_capable());
    let floats =
        if meta.spec.is_lossy() { 4 * meta.spec.transform.n_coefficients(n) } else { n * adds };
    let elements = n * meta.desc.dtype.size() * (1 + adds);
    (2 * max_body_len(meta) + elements + floats * size_of::<f32>()) as u64
}

/// The codec of the groups of one tensor.
#[derive(Clone, Copy)]
pub(crate) struct GroupCodec<'a> {
    meta: &'a TensorMeta,
    kernel: Kernel,
    signs: Keys,
    window_signs: Keys,
    selection: Keys,
    /// For encoding; decoding does not need (or know) the private seed.
    rounding: Option<Keys>,
}

impl<'a> GroupCodec<'a> {
    /// A codec that decodes.
    pub(crate) fn new(meta: &'a TensorMeta, kernel: Kernel) -> Self {
        let (seed, round) = meta.seed.unwrap_or((0, 0));
        let tensor = meta.key();
        let keys = |purpose| Keys::new(seed, round, 0, tensor, purpose);
        Self {
            meta,
            kernel,
            signs: keys(Purpose::Signs),
            window_signs: keys(Purpose::WindowSigns),
            selection: keys(Purpose::Subsample),
            rounding: None,
        }
    }

    /// A codec that encodes, too.
    pub(crate) fn with_seeds(meta: &'a TensorMeta, kernel: Kernel, seeds: &Seeds) -> Self {
        let Seeds { private, round, client, .. } = *seeds;
        // From the name even where there is an explicit key: tensors that share one rotate alike,
        // but each rounds for itself.
        let tensor = meta.name_hash;
        let rounding = Keys::new(private, round, client, tensor, Purpose::Rounding);
        Self { rounding: Some(rounding), ..Self::new(meta, kernel) }
    }

    /// The keys, and those of selection, for a plan.
    pub(crate) fn plan_keys(&self) -> (crate::PlanKeys, Keys) {
        let keys = crate::PlanKeys {
            signs: self.signs.absorbed(),
            window_signs: self.window_signs.absorbed(),
            rounding: self.rounding.map(Keys::absorbed),
        };
        (keys, self.selection)
    }

    /// Bytes of P, and values, of a group with these elements.
    pub(crate) fn lengths(&self, elements: &[u8]) -> (usize, usize) {
        let n_values = elements.len() / self.meta.desc.dtype.size();
        (payload_len(self.meta, n_values), n_values)
    }

    /// Bytes of P of every group but the last.
    pub(crate) fn payload_len_of_full(&self) -> usize {
        payload_len(self.meta, self.meta.group_values())
    }

    fn context(&self, group: u64) -> TransformContext {
        TransformContext {
            kernel: self.kernel,
            signs: self.signs,
            window_signs: self.window_signs,
            group,
        }
    }

    /// Runs that neither the transform nor the quantizer reaches across.
    fn spans(&self, n: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let quantizer = self.meta.spec.quantizer.as_ref().map_or(1 << 12, |q| q.block());
        blocks(n, self.meta.spec.transform.block().max(quantizer))
    }
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
