//! Coding groups beside the processor: what a device has to offer, and all it needs to know.
//!
//! A group is a pure function of its values, the tensor's header and its keys, so a device takes a
//! [`GroupPlan`], which is these as numbers, and the values. It returns P of FORMAT.md, section 7;
//! the lossless stage, the framing and all checks of what strangers sent stay with the codec. So
//! [`Encoder`](crate::Encoder), [`Decoder`](crate::Decoder), [`Writer`](crate::Writer) and
//! [`Reader`](crate::Reader) work with a device as they do without, and give the same bytes.

use crate::group::GroupCodec;
use crate::kernel::{Kernel, Simd};
use crate::meta::{TensorDesc, TensorMeta};
use crate::options::EncodeOptions;
use crate::quantize::Quantizer;
use crate::random::{Seeds, SelectionStream, name_key};
use crate::transform::Transform;
use crate::{DType, Error, Result, Spec, effective_spec, group, range};
use std::fmt;

/// What a device reports: its own error, which the codec wraps as [`crate::ErrorKind::Device`].
pub type DeviceResult<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Codes groups in place of the processor, to the same bytes (crate `fedpress-cuda`).
///
/// An encoder or decoder with a device ([`crate::EncodeOptions::device`],
/// [`crate::DecodeOptions::device`]) asks it for every lossy group that it
/// [supports](Self::supports). An error of the device is an error of the call: whether to go on
/// without it is for the caller to decide.
pub trait Device: fmt::Debug + Send + Sync {
    /// Whether groups of this plan are coded here; others stay on the processor.
    fn supports(&self, plan: &GroupPlan) -> bool;

    /// Values to hand over at a time, where there are that many; whole groups of them.
    fn batch_values(&self) -> usize;

    /// Codes consecutive groups, the first of which has number `first`; all but the last have
    /// [`GroupPlan::group_values`] values, the last at least one. `elements` are their
    /// little-endian bytes. Appends the P of each, [`GroupPlan::payload_len`] bytes, and returns
    /// for each the bits of its largest magnitude ([`GroupPlan::exponent`]); the P of a group with
    /// NaN or infinity, for which these are at or above the bits of infinity, means nothing.
    fn encode(
        &self,
        plan: &GroupPlan,
        first: u64,
        elements: &[u8],
        payloads: &mut Vec<u8>,
    ) -> DeviceResult<Vec<u32>>;

    /// Decodes the P of one group, already [checked](GroupPlan::check), into the little-endian
    /// bytes of its values.
    fn decode(
        &self,
        plan: &GroupPlan,
        group: u64,
        payload: &[u8],
        elements: &mut [u8],
    ) -> DeviceResult<()>;

    /// Decodes the same and adds `weight` times the values, rounded to the element type, to `out`:
    /// one product and one sum, each rounded to f32.
    fn add_into(
        &self,
        plan: &GroupPlan,
        group: u64,
        payload: &[u8],
        out: &mut [f32],
        weight: f32,
    ) -> DeviceResult<()>;
}

/// The basis of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Basis {
    /// Coefficients are the values.
    Identity,
    /// The rotation of FORMAT.md, section 7.1.
    Hadamard {
        /// k: blocks of 2^k coefficients.
        block_log2: u32,
    },
    /// The same behind a redundant frame.
    Kashin(Frame),
}

/// Parameters of Kashin's representation (FORMAT.md, section 9, point 2).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Frame {
    /// k: blocks of 2^k coefficients.
    pub block_log2: u32,
    /// Rotations of the residual, the unclipped one included. Decoding does not need it.
    pub iterations: u32,
    /// What the level is multiplied by after each. Decoding does not need it.
    pub eta: f32,
    /// What the first level divides by. Decoding does not need it.
    pub delta: f32,
    /// Whether the last is clipped, too. Decoding does not need it.
    pub clip: bool,
}

/// The uniform quantizer of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uniform {
    /// Bits a code, 1 to 16.
    pub q: u32,
    /// Round to nearest; else by draws. Decoding does not need it.
    pub nearest: bool,
    /// b: one scale for 2^b coefficients.
    pub block_log2: u32,
}

/// What purposes the keys of a tensor are for, all but the block absorbed (FORMAT.md, section 8.2):
/// the key of block j of group f is [`block_key`] of one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanKeys {
    /// Purpose 1.
    pub signs: u64,
    /// Purpose 2.
    pub window_signs: u64,
    /// Purpose 4; only an encoder has it.
    pub rounding: Option<u64>,
}

/// The key of block `block` of group `group`, from one of [`PlanKeys`].
///
/// ```
/// // SIGNS(2, 5) of FORMAT.md, section 8.2.
/// let name_hash = 0xa0c0_4ba0_76c9_5249;
/// let signs = fedpress::derive_key(&[7, 3, 0, name_hash, 1]);
/// assert_eq!(fedpress::block_key(signs, 2, 5), 0x04cd_c3bc_608e_40ee);
/// ```
pub fn block_key(key: u64, group: u64, block: usize) -> u64 {
    crate::random::Keys::from_absorbed(key).block(group, block)
}

/// All that coding the groups of one lossy tensor depends on, besides the values.
#[derive(Debug, Clone)]
pub struct GroupPlan {
    meta: TensorMeta,
    keys: PlanKeys,
    selection: crate::random::Keys,
}

impl GroupPlan {
    /// What [`Encoder`](crate::Encoder) does with a tensor: for callers that have it coded
    /// elsewhere and hand in the result ([`Encoder::push_coded`](crate::Encoder::push_coded)).
    /// Refuses a tensor that would travel losslessly.
    ///
    /// ```
    /// use fedpress::{DType, EncodeOptions, GroupPlan, Seeds, TensorDesc};
    /// let seeds = Seeds { shared: 7, private: 0x5eed, round: 0, client: 0 };
    /// let desc = TensorDesc::new("w", DType::F32, &[4096]);
    /// let plan = GroupPlan::new(&desc, &"hadamard|q=4".parse()?, &EncodeOptions::new(seeds))?;
    /// assert_eq!(plan.payload_len(4096), 8 + 2048 + 1); // scale, codes, exponent
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn new(desc: &TensorDesc, spec: &Spec, options: &EncodeOptions) -> Result<Self> {
        desc.check()?;
        let spec = effective_spec(desc, spec, options);
        if !spec.is_lossy() {
            let why = Error::invalid(format!("groups of {spec} are not coded by plan"));
            return Err(why.in_tensor(&desc.name));
        }
        let meta = options.meta(desc, spec, name_key(&desc.name), None);
        Ok(Self::encoding(&meta, &options.seeds))
    }

    /// The plan that decodes the chunks of a tensor; `None` if it travels losslessly.
    pub fn of(meta: &TensorMeta) -> Option<Self> {
        meta.spec.is_lossy().then(|| Self::from_codec(meta, &GroupCodec::new(meta, portable())))
    }

    pub(crate) fn encoding(meta: &TensorMeta, seeds: &Seeds) -> Self {
        Self::from_codec(meta, &GroupCodec::with_seeds(meta, portable(), seeds))
    }

    fn from_codec(meta: &TensorMeta, codec: &GroupCodec<'_>) -> Self {
        let (keys, selection) = codec.plan_keys();
        Self { meta: meta.clone(), keys, selection }
    }

    /// Element type of the values: F32, F16 or BF16.
    pub fn dtype(&self) -> DType {
        self.meta.desc.dtype
    }

    /// G: values of every group but the last.
    pub fn group_values(&self) -> usize {
        self.meta.group_values()
    }

    /// The basis.
    pub fn basis(&self) -> Basis {
        match &self.meta.spec.transform {
            Transform::Identity => Basis::Identity,
            Transform::Hadamard(hadamard) => {
                Basis::Hadamard { block_log2: hadamard.block().trailing_zeros() }
            }
            Transform::Kashin(kashin) => Basis::Kashin(kashin.frame()),
        }
    }

    /// The quantizer; `None` if coefficients travel as f32.
    pub fn uniform(&self) -> Option<Uniform> {
        self.meta.spec.quantizer.as_ref().map(|Quantizer::Uniform(uniform)| uniform.plan())
    }

    /// The keys.
    pub fn keys(&self) -> PlanKeys {
        self.keys
    }

    /// N: coefficients of a group of `n` values.
    pub fn n_coefficients(&self, n: usize) -> usize {
        self.meta.spec.transform.n_coefficients(n)
    }

    /// K: those of them that are coded; all without subsampling.
    pub fn n_coded(&self, n: usize) -> usize {
        let n = self.n_coefficients(n);
        self.meta.spec.subsample.map_or(n, |s| s.n_kept(n))
    }

    /// What decoded coefficients are multiplied by: N/K.
    pub fn gain(&self, n: usize) -> f32 {
        self.meta.spec.subsample.map_or(1.0, |s| s.gain(self.n_coefficients(n)))
    }

    /// The positions of the coded coefficients of group `group` of `n` values, ascending, into
    /// `positions`; false, and nothing done, without subsampling.
    pub fn positions(&self, group: u64, n: usize, positions: &mut Vec<u32>) -> bool {
        let Some(subsample) = self.meta.spec.subsample else { return false };
        let stream: SelectionStream = self.selection.stream(group);
        subsample.select(self.n_coefficients(n), stream, positions);
        true
    }

    /// Bytes of P for a group of `n` values.
    pub fn payload_len(&self, n: usize) -> usize {
        group::payload_len(&self.meta, n)
    }

    /// The exponent of a group whose largest magnitude has these bits.
    pub fn exponent(peak_bits: u32) -> i8 {
        range::exponent(peak_bits)
    }

    /// Whether P of a group of `n` values is one that decodes: its length, its exponent, and the
    /// scales or coefficients in it. The error is the one that decoding on the processor gives.
    pub fn check(&self, n: usize, payload: &[u8]) -> Result<()> {
        let expected = self.payload_len(n);
        let Some((exponent, coded)) = payload.split_last().filter(|_| payload.len() == expected)
        else {
            return Err(Error::corrupt(format!(
                "chunk payload: expected {expected} bytes, found {}",
                payload.len()
            )));
        };
        range::check_exponent(*exponent as i8)?;
        match &self.meta.spec.quantizer {
            Some(Quantizer::Uniform(uniform)) => uniform.check_scales(self.n_coded(n), coded),
            None => range::check_coefficients(coded),
        }
    }
}

/// Keys do not depend on an instruction set.
fn portable() -> Kernel {
    Kernel::new(Simd::Scalar)
}
