//! How to encode.

use crate::device::Device;
use crate::kernel::Simd;
use crate::random::Seeds;
use crate::spare::{Spare, spared};
use crate::wire::{TensorDesc, TensorMeta};
use crate::{Error, Result, Spec};
use std::sync::Arc;

/// What to do with NaN and infinity in a tensor that would be lossy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NonFinite {
    /// An error that names tensor and index; but `max-error` sends such groups losslessly, which is within
    /// any bound.
    #[default]
    Refuse,
    /// Send the groups that hold them losslessly.
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
    /// Whether a group travels losslessly where that takes no more bytes. Where it would be far from it a
    /// sample of the group says so, and it is not tried.
    pub smaller: bool,
    /// Which tensors travel losslessly whatever is asked for.
    pub spare: Spare,
    /// Whether the tensors are several of a model, of which vectors are spared. An encoder of a
    /// [manifest](crate::Encoder::manifest) or of a [slice](crate::encode()) of several tensors finds
    /// that out itself.
    pub several: bool,
    /// Whether tensors of one call whose bytes and pipelines are equal travel once
    /// ([`Encoder::tensors`](crate::Encoder::tensors), [`encode`](crate::encode())).
    pub tie: bool,
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
    /// One thread, tensors under 1,024 values lossless, non-finite values refused, groups lossless
    /// where that is smaller, [`SPARED`](crate::SPARED) tensors spared, equal ones tied, 2^20 values a
    /// chunk, no index, no device.
    pub fn new(seeds: Seeds) -> Self {
        Self {
            seeds,
            threads: 1,
            min_values: 1024,
            non_finite: NonFinite::Refuse,
            smaller: true,
            spare: Spare::Listed,
            several: false,
            tie: true,
            group_log2: 20,
            index: false,
            simd: Simd::Auto,
            device: None,
        }
    }

    /// With so many threads.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Lossy from so many values on.
    pub fn with_min_values(self, min_values: u64) -> Self {
        Self { min_values, ..self }
    }

    /// With another way with NaN and infinity.
    pub fn with_non_finite(self, non_finite: NonFinite) -> Self {
        Self { non_finite, ..self }
    }

    /// Sparing these tensors.
    pub fn with_spare(self, spare: Spare) -> Self {
        Self { spare, ..self }
    }

    /// For several tensors of a model, or for one that stands alone.
    pub fn with_several(self, several: bool) -> Self {
        Self { several, ..self }
    }

    /// With equal tensors that travel once, or as often as they come.
    pub fn with_tie(self, tie: bool) -> Self {
        Self { tie, ..self }
    }

    /// With groups that travel losslessly where that takes no more bytes, or without that.
    pub fn with_smaller(self, smaller: bool) -> Self {
        Self { smaller, ..self }
    }

    /// With so many values a chunk, as a power of two: 12 to 20.
    pub fn with_group_log2(self, group_log2: u8) -> Self {
        Self { group_log2, ..self }
    }

    /// With another instruction set; for tests and benches.
    pub fn with_simd(self, simd: Simd) -> Self {
        Self { simd, ..self }
    }

    /// With an index at the end.
    pub fn with_index(self, index: bool) -> Self {
        Self { index, ..self }
    }

    /// With a device.
    pub fn with_device(self, device: Arc<dyn Device>) -> Self {
        Self { device: Some(device), ..self }
    }

    /// The record of a tensor that goes through `spec`, keyed by `key` where that is given.
    pub(crate) fn meta(
        &self,
        desc: &TensorDesc,
        spec: Spec,
        name_hash: u64,
        key: Option<u64>,
    ) -> TensorMeta {
        // What no lossy pipeline may code, or none should, has somewhere to go.
        let must = self.non_finite == NonFinite::Lossless || spec.max_error().is_some();
        let falls_back = self.smaller || must;
        let is_seeded = spec.is_seeded();
        let fallback = (spec.is_lossy() && falls_back).then(Spec::lossless);
        TensorMeta {
            desc: desc.clone(),
            group_log2: self.group_log2,
            seeds: is_seeded.then(|| self.seeds.drawn()),
            name_hash,
            explicit_key: key,
            pipelines: spec.alternatives().chain(fallback).collect(),
            kept: false,
            tied_to: None,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !crate::wire::GROUP_LOG2.contains(&self.group_log2) {
            return Err(Error::invalid(format!(
                "group_log2: expected 12 to 20, found {}",
                self.group_log2
            )));
        }
        if self.seeds.clients >> 63 != 0 {
            return Err(Error::invalid(format!("{} clients, 2^63 or more", self.seeds.clients)));
        }
        let Seeds { client, clients, .. } = self.seeds;
        if clients != 0 && client >= clients {
            return Err(Error::invalid(format!(
                "client {client} of {clients}, which count from 0"
            )));
        }
        Ok(())
    }
}

/// The pipeline a tensor really gets: lossless for element types other than f32, f16 and bf16, for
/// tensors known to be smaller than [`EncodeOptions::min_values`], and for those that are
/// [spared].
pub fn effective_spec(desc: &TensorDesc, spec: &Spec, options: &EncodeOptions) -> Spec {
    let small = matches!(desc.n_values(), Ok(Some(n)) if n < options.min_values);
    let lossless = small || !desc.dtype.is_lossy_capable() || spared(desc, options).is_some();
    if spec.is_lossy() && lossless {
        return Spec::lossless();
    }
    spec.clone()
}
