//! What is going to be done with each tensor, and why it is not what was asked for.

use fedpress::{DType, EncodeOptions, Spare, SpareRule, Spec, TensorDesc, effective_spec, spared};

use super::OnF64;
use crate::files::TensorInfo;
use crate::rules::Rules;

/// A tensor and its pipeline.
pub struct Planned<'a> {
    pub desc: TensorDesc,
    /// The pipeline it gets.
    pub spec: Spec,
    /// The pipeline that was asked for.
    pub asked: &'a Spec,
    /// Which rule asked for it.
    pub rule: Option<usize>,
    /// Why it travels losslessly although a lossy pipeline was asked for.
    pub reason: Option<Reason>,
    /// Whether its f64 become f32 on the way.
    pub narrowed: bool,
}

/// Why a tensor is not sent as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The table of what is spared says so.
    Spared(&'static SpareRule),
    /// It has fewer values than pay.
    Small,
    /// No number that a lossy pipeline knows, and f64 could be.
    F64,
    /// The same for other element types.
    Type(DType),
}

impl Reason {
    /// In a few words.
    pub fn sentence(self) -> String {
        match self {
            Self::Spared(rule) => format!("spared: {}", rule.what),
            Self::Small => "too few values (--min-values)".to_owned(),
            Self::F64 => "f64 is lossless (--f64)".to_owned(),
            Self::Type(dtype) => format!("{dtype} is always lossless"),
        }
    }
}

/// The plan for all tensors, in their order.
pub fn plan<'a>(
    infos: &[TensorInfo],
    rules: &mut Rules<'a>,
    options: &EncodeOptions,
    on_f64: OnF64,
) -> Vec<Planned<'a>> {
    infos.iter().map(|info| plan_one(info, rules, options, on_f64)).collect()
}

fn plan_one<'a>(
    info: &TensorInfo,
    rules: &mut Rules<'a>,
    options: &EncodeOptions,
    on_f64: OnF64,
) -> Planned<'a> {
    let TensorInfo { name, dtype, shape, open } = info.clone();
    let (asked, rule) = rules.spec_for(&name);
    let narrowed = dtype == DType::F64 && on_f64 == OnF64::AsF32 && asked.is_lossy();
    let dtype = if narrowed { DType::F32 } else { dtype };
    let desc = TensorDesc { name, dtype, shape, open };
    let spec = effective_spec(&desc, asked, &options.clone().with_spare(Spare::Nothing));
    let reason = match (asked.is_lossy(), spec.is_lossy()) {
        (false, _) => None,
        (true, false) if dtype == DType::F64 => Some(Reason::F64),
        (true, false) if !dtype.is_lossy_capable() => Some(Reason::Type(dtype)),
        (true, false) => Some(Reason::Small),
        // A rule of the user's goes before the table.
        (true, true) if rule.is_some() => None,
        (true, true) => spared(&desc, options).map(Reason::Spared),
    };
    let spec = if matches!(reason, Some(Reason::Spared(_))) { Spec::lossless() } else { spec };
    Planned { desc, spec, asked, rule, reason, narrowed }
}
