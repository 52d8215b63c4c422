//! How far one update may move the model: bounds on its L2 norm.

use super::{AggregatorOptions, incoming::Refusal};
use crate::message::Reason;
use crate::submodel::Gather;
use crate::{Error, Layout, Parameter, Result, Role};

/// What becomes of what is beyond a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Excess {
    /// It is brought down to the bound: of an update its direction stays, of a number of examples
    /// the bound.
    Clip = 0,
    /// The update is rejected.
    Refuse = 1,
}

/// A bound on the L2 norm of an update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// This norm; infinity bounds nothing.
    Absolute(f64),
    /// So many times the norm of the server's model at the beginning of the round. A model of zeros
    /// bounds nothing.
    Relative(f64),
}

impl Limit {
    /// The norm that an update may have where the model has this one.
    pub fn of(self, model_norm: f64) -> f64 {
        match self {
            Self::Absolute(norm) => norm,
            Self::Relative(times) if model_norm > 0.0 => times * model_norm,
            Self::Relative(_) => f64::INFINITY,
        }
    }

    pub(crate) fn check(self, what: &str) -> Result<()> {
        let (Self::Absolute(number) | Self::Relative(number)) = self;
        check_norm(what, number)
    }
}

/// NaN and negative numbers bound nothing that could be meant.
pub(super) fn check_norm(what: &str, norm: f64) -> Result<()> {
    match norm >= 0.0 {
        true => Ok(()),
        false => Err(Error::invalid(format!("{what}: expected at least 0, found {norm}"))),
    }
}

/// The L2 norms of the weights and of the statistics of a model.
pub(crate) fn norms(layout: &Layout, model: &[Parameter]) -> [f64; 2] {
    let values = || model.iter().map(|p| &p.values[..]);
    [false, true].map(|statistics| norm(layout, values(), statistics))
}

fn norm<'a>(layout: &Layout, parameters: impl Iterator<Item = &'a [f32]>, statistics: bool) -> f64 {
    let is_meant = |role: Role| (role == Role::Statistic) == statistics;
    let parameters = layout.params().iter().zip(parameters).filter(|(p, _)| is_meant(p.role));
    parameters.map(|(_, values)| sum_of_squares(values)).sum::<f64>().sqrt()
}

/// In lanes of a fixed number: the same bits on every machine, and no chain of additions.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0; 8];
    let (whole, rest) = values.as_chunks::<8>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    let rest = rest.iter().map(|value| f64::from(*value) * f64::from(*value));
    lanes.into_iter().chain(rest).sum()
}

/// What a clipped update is brought down to, as a fraction of its bound: what rounding its values
/// to f32 and summing 2^30 squares can add stays below it.
const CLIPPED: f64 = 1.0 - 1.0 / (1 << 22) as f64;

/// Brings values, all finite, down to an L2 norm of `most`, all together; says whether they were beyond it.
pub(crate) fn clip<'a>(values: impl Iterator<Item = &'a mut [f32]>, most: f64) -> bool {
    let mut values: Vec<&mut [f32]> = values.collect();
    let norm = values.iter().map(|values| sum_of_squares(values)).sum::<f64>().sqrt();
    if norm <= most {
        return false;
    }
    let factor = most / norm * CLIPPED;
    for value in values.iter_mut().flat_map(|values| &mut **values) {
        *value = (f64::from(*value) * factor) as f32;
    }
    true
}

/// Holds the values of a decoded update, all finite, to the
/// bounds on its norm: weights and statistics each to theirs; says whether it was clipped. A function
/// of this update alone, so the order of arrival does not show.
pub(super) fn hold(
    options: &AggregatorOptions,
    layout: &Layout,
    decoded: &mut [(Gather, Vec<f32>)],
) -> std::result::Result<bool, Refusal> {
    let mut is_clipped = false;
    let bounds = [("weights", options.max_norm), ("statistics", options.max_statistic_norm)];
    for (statistics, (what, most)) in [false, true].into_iter().zip(bounds) {
        if most == f64::INFINITY {
            continue;
        }
        if options.excess_norm == Excess::Refuse {
            let norm = norm(layout, decoded.iter().map(|(_, values)| &values[..]), statistics);
            if norm > most {
                let found = format!("the change of {what} has norm {norm:e}");
                return Err((Reason::TooFar, format!("{found}, up to {most:e} is taken")));
            }
            continue;
        }
        let params = layout.params().iter().zip(&mut *decoded);
        let meant = params.filter(|(param, _)| (param.role == Role::Statistic) == statistics);
        is_clipped |= clip(meant.map(|(_, (_, values))| &mut values[..]), most);
    }
    Ok(is_clipped)
}
