//! Coding groups beside the processor: what a device has to offer, and all it needs to know.
//!
//! A group is a pure function of its values, the tensor's header and its keys, so a device takes a
//! [`GroupPlan`], which is these as numbers, and the values. It returns P of FORMAT.md, section 7;
//! the lossless stage, the framing and all checks of what strangers sent stay with the codec. So
//! [`Encoder`](crate::Encoder), [`Decoder`](crate::Decoder), [`Writer`](crate::Writer) and
//! [`Reader`](crate::Reader) work with a device as they do without, and give the same bytes.

use crate::group::{self, Coded, TensorKeys};
use crate::options::EncodeOptions;
use crate::random::{Seeds, name_key};
use crate::wire::{TensorDesc, TensorMeta};
use crate::{DType, Error, Result, Spec, effective_spec};
use std::fmt;

/// What a device reports: its own error, which the codec wraps as [`crate::ErrorKind::Device`].
pub type DeviceResult<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Codes groups in place of the processor, to the same bytes (crate `fedpress-cuda`).
///
/// An encoder or decoder with a device ([`crate::EncodeOptions::device`],
/// [`crate::DecodeOptions::device`]) asks it for every lossy group that it
/// [supports](Self::supports), of one tensor or of many. An error of the device is an error of the
/// call: whether to go on without it is for the caller to decide.
pub trait Device: fmt::Debug + Send + Sync {
    /// Whether groups of this plan are coded here; others stay on the processor.
    fn supports(&self, plan: &GroupPlan) -> bool;

    /// Values to hand over at a time, where there are that many; whole groups of them.
    fn batch_values(&self) -> usize;

    /// Codes groups, consecutive ones of a tensor one behind the other. Returns for each, in order,
    /// its P and the bits of its largest magnitude; the P of a group with NaN or infinity, for which
    /// these are at or above the bits of infinity, means nothing.
    fn encode(&self, jobs: &[EncodeJob<'_>]) -> DeviceResult<Vec<Made>>;

    /// Decodes groups whose P has been [checked](GroupPlan::check).
    fn decode(&self, jobs: &mut [DecodeJob<'_>]) -> DeviceResult<()>;
}

/// A group to be coded.
#[derive(Debug, Clone, Copy)]
pub struct EncodeJob<'a> {
    /// How.
    pub plan: &'a GroupPlan,
    /// Number of the group in its tensor.
    pub group: u64,
    /// Its values, one or more, little-endian.
    pub elements: &'a [u8],
}

/// A group that was coded.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// P.
    pub payload: Vec<u8>,
    /// Bits of the largest magnitude among the values ([`GroupPlan::exponent`]).
    pub peak: u32,
}

/// A group to be decoded.
#[derive(Debug)]
pub struct DecodeJob<'a> {
    /// How.
    pub plan: &'a GroupPlan,
    /// Number of the group in its tensor.
    pub group: u64,
    /// P.
    pub payload: &'a [u8],
    /// Where its values go, one or more.
    pub target: DecodeTarget<'a>,
}

/// Where decoded values go.
#[derive(Debug)]
pub enum DecodeTarget<'a> {
    /// Their little-endian bytes.
    Elements(&'a mut [u8]),
    /// Sums, to which `weight` times the values, rounded to the element type, are added: one product
    /// and one sum, each rounded to f32.
    Add {
        /// The sums.
        sums: &'a mut [f32],
        /// What the values are multiplied by.
        weight: f32,
    },
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
/// assert_eq!(fedpress::device::block_key(signs, 2, 5), 0x04cd_c3bc_608e_40ee);
/// ```
pub fn block_key(key: u64, group: u64, block: usize) -> u64 {
    crate::random::Keys::from_absorbed(key).block(group, block)
}

/// All that coding the groups of one lossy tensor depends on, besides the values.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPlan {
    dtype: DType,
    group_values: usize,
    spec: Spec,
    keys: TensorKeys,
}

impl GroupPlan {
    /// What [`Encoder`](crate::Encoder) does with a tensor: for callers that have it coded
    /// elsewhere and hand in the result ([`Encoder::push_coded`](crate::Encoder::push_coded)).
    /// Refuses a tensor that would travel losslessly.
    ///
    /// ```
    /// use fedpress::{DType, EncodeOptions, Seeds, TensorDesc, device::GroupPlan};
    /// let desc = TensorDesc::new("w", DType::F32, &[4096]);
    /// let options = EncodeOptions::new(Seeds::new(7, 0x5eed));
    /// let plan = GroupPlan::new(&desc, &"hadamard|q=4".parse()?, &options)?;
    /// assert_eq!(plan.payload_len(4096), 1 + 8 + 2048); // exponent, scale, codes
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

    /// The plan that decodes the chunks of a tensor that went through the first of its pipelines;
    /// `None` if that is lossless or not supported.
    pub fn of(meta: &TensorMeta) -> Option<Self> {
        let is_lossy = meta.supported().is_ok() && meta.spec().is_lossy();
        is_lossy.then(|| Self::with_keys(meta, TensorKeys::shared(meta)))
    }

    pub(crate) fn encoding(meta: &TensorMeta, seeds: &Seeds) -> Self {
        Self::with_keys(meta, TensorKeys::all(meta, seeds))
    }

    fn with_keys(meta: &TensorMeta, keys: TensorKeys) -> Self {
        let group_values = meta.group_values();
        Self { dtype: meta.dtype(), group_values, spec: meta.spec().clone(), keys }
    }

    /// Element type of the values: F32, F16 or BF16.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// G: values of every group but the last.
    pub fn group_values(&self) -> usize {
        self.group_values
    }

    /// The pipeline; [`Spec::stages`] takes it apart.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The keys.
    pub fn keys(&self) -> PlanKeys {
        PlanKeys {
            signs: self.keys.signs.absorbed(),
            window_signs: self.keys.window_signs.absorbed(),
            rounding: self.keys.rounding.map(crate::random::Keys::absorbed),
        }
    }

    /// N: coefficients of a group of `n` values.
    pub fn n_coefficients(&self, n: usize) -> usize {
        group::coefficients(&self.spec, n).0
    }

    /// K: those of them that are coded; all without subsampling.
    pub fn n_coded(&self, n: usize) -> usize {
        group::coefficients(&self.spec, n).1
    }

    /// What the first of the decoded coefficients are multiplied by, and how many those are; the
    /// others stay as they are.
    pub fn gain(&self, n: usize) -> (f32, usize) {
        self.spec.subsample.map_or((1.0, 0), |s| s.gain(self.n_coefficients(n)))
    }

    /// The positions of the coded coefficients of group `group` of `n` values, ascending, into
    /// `positions`; false, and nothing done, without subsampling.
    pub fn positions(&self, group: u64, n: usize, positions: &mut Vec<u32>) -> bool {
        let Some(subsample) = self.spec.subsample else { return false };
        let key = self.keys.selection.block(group, 0);
        let selection = subsample.selection(self.n_coefficients(n), key);
        positions.clear();
        positions.extend(selection.positions().map(|position| position as u32));
        true
    }

    /// Bytes of P for a group of `n` values, of a pipeline for which that is known.
    pub fn payload_len(&self, n: usize) -> usize {
        group::payload_bound(&self.spec, self.dtype, n)
    }

    /// The exponent of a group whose largest magnitude has these bits.
    pub fn exponent(peak_bits: u32) -> i8 {
        group::exponent::exponent(peak_bits)
    }

    /// Whether P of a group of `n` values is one that decodes: its length, its exponent, and the
    /// scales or coefficients in it. The error is the one that decoding on the processor gives.
    pub fn check(&self, n: usize, payload: &[u8]) -> Result<()> {
        Coded { spec: &self.spec, dtype: self.dtype, n, payload }.check()
    }
}
