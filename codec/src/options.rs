//! How to encode.

use crate::device::Device;
use crate::kernel::Simd;
use crate::meta::{TensorDesc, TensorMeta};
use crate::random::Seeds;
use crate::{Error, Result, Spec};
use std::sync::Arc;

/// What to do with NaN and infinity in a tensor that would be lossy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NonFinite {
    /// An error that names tensor and index.
    #[default]
    Refuse,
    /// Send that tensor losslessly. Works where the encoder sees a whole tensor before it begins
    /// ([`crate::Encoder::tensor`]); for pushed tensors, scan first ([`crate::first_non_finite`]).
    Lossless,
}

/// How to encode.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// What the draws depend on.
    pub seeds: Seeds,
    /// Groups that are coded at the same time. Bytes do not depend on it.
    pub threads: usize,
    /// Tensors with fewer values travel losslessly.
    pub min_values: u64,
    /// What to do with NaN and infinity.
    pub non_finite: NonFinite,
    /// Values per chunk, as a power of two: 12 to 20.
    pub group_log2: u8,
    /// Whether to end with an index for seekable readers.
    pub index: bool,
    /// Instruction set; for tests and benches.
    pub simd: Simd,
    /// What codes the groups it supports, in place of the processor. Bytes do not depend on it.
    pub device: Option<Arc<dyn Device>>,
}

impl EncodeOptions {
    /// One thread, tensors under 1,024 values lossless, non-finite values refused, 2^20 values a
    /// chunk, no index, no device.
    pub fn new(seeds: Seeds) -> Self {
        Self {
            seeds,
            threads: 1,
            min_values: 1024,
            non_finite: NonFinite::Refuse,
            group_log2: 20,
            index: false,
            simd: Simd::Auto,
            device: None,
        }
    }

    /// The record of a tensor that goes through `spec`, keyed by `key` where that is given.
    pub(crate) fn meta(
        &self,
        desc: &TensorDesc,
        spec: Spec,
        name_hash: u64,
        key: Option<u64>,
    ) -> TensorMeta {
        TensorMeta {
            desc: desc.clone(),
            group_log2: self.group_log2,
            seed: spec.is_seeded().then_some((self.seeds.shared, self.seeds.round)),
            name_hash,
            explicit_key: key,
            spec,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !crate::meta::GROUP_LOG2.contains(&self.group_log2) {
            return Err(Error::invalid(format!(
                "group_log2: expected 12 to 20, found {}",
                self.group_log2
            )));
        }
        Ok(())
    }
}

/// The pipeline a tensor really gets: lossless for element types other than f32, f16 and bf16, and
/// for tensors known to be smaller than [`EncodeOptions::min_values`].
pub fn effective_spec(desc: &TensorDesc, spec: &Spec, options: &EncodeOptions) -> Spec {
    let small = matches!(desc.n_values(), Ok(Some(n)) if n < options.min_values);
    if spec.is_lossy() && (small || !desc.dtype.is_lossy_capable()) {
        return Spec::lossless();
    }
    spec.clone()
}
