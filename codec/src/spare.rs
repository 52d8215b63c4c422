//! Which tensors of a model are spared loss by default: those whose values have a meaning that noise
//! destroys, while what they would save is next to nothing.
//!
//! A variance that comes back negative makes an inference NaN; a bias or a gain of a norm acts on a
//! whole channel. [`SPARED`] is the whole rule, [`EncodeOptions::spare`] switches it off.

use crate::options::EncodeOptions;
use crate::wire::TensorDesc;

/// What is spared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Spare {
    /// What [`SPARED`] says.
    #[default]
    Listed,
    /// Nothing: every tensor goes through the pipeline that is asked for.
    Nothing,
}

/// One line of the table of what is spared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpareRule {
    /// What the last part of a name (behind `.` or `/`) looks like, `*` standing for anything; empty
    /// for vectors of any name.
    pub pattern: &'static str,
    /// What such tensors are.
    pub what: &'static str,
}

/// The tensors that travel losslessly by default. Vectors are spared in a set of several tensors only
/// ([`EncodeOptions::several`]): one that stands alone is a flattened model or update.
pub const SPARED: &[SpareRule] = &[
    SpareRule { pattern: "*running_var", what: "variance of a batch norm, never negative" },
    SpareRule { pattern: "*running_mean", what: "mean of a batch norm" },
    SpareRule { pattern: "*exp_avg_sq*", what: "second moment of an optimizer, never negative" },
    SpareRule { pattern: "*_mask", what: "mask of zeros and ones" },
    SpareRule { pattern: "*scale*", what: "scale that multiplies whole channels or blocks" },
    SpareRule {
        pattern: "",
        what: "vector of at most 65,536 values: bias, gain or statistic of a layer",
    },
];

/// Longer vectors are flattened models.
const LONGEST_VECTOR: u64 = 1 << 16;

/// The rule by which a tensor is spared; `None` where it goes through the pipeline that is asked for.
///
/// ```
/// use fedpress::{DType, EncodeOptions, Seeds, TensorDesc, spared};
/// let options = EncodeOptions::new(Seeds::new(7, 0x5eed)).with_several(true);
/// let spares = |name: &str, shape| spared(&TensorDesc::new(name, DType::F32, shape), &options);
/// assert_eq!(spares("bn1.running_var", &[2048]).unwrap().pattern, "*running_var");
/// assert!(spares("fc.bias", &[2048]).is_some());
/// assert!(spares("fc.weight", &[2048, 10]).is_none());
/// ```
pub fn spared(desc: &TensorDesc, options: &EncodeOptions) -> Option<&'static SpareRule> {
    if options.spare == Spare::Nothing {
        return None;
    }
    let last = desc.name.rsplit(['.', '/']).next().unwrap_or_default();
    let is_short = desc.shape.iter().product::<u64>() <= LONGEST_VECTOR;
    let is_vector = options.several && !desc.open && desc.shape.len() <= 1 && is_short;
    SPARED.iter().find(|rule| match rule.pattern {
        "" => is_vector,
        pattern => matches(pattern, last),
    })
}

/// Whether a text fits a pattern with at most one `*` at each end.
fn matches(pattern: &str, text: &str) -> bool {
    let core = pattern.trim_matches('*');
    match (pattern.starts_with('*'), pattern.ends_with('*')) {
        (true, true) => text.contains(core),
        (true, false) => text.ends_with(core),
        (false, true) => text.starts_with(core),
        (false, false) => text == core,
    }
}
