//! [`ServerOptimizer`]: from the mean change of a round to the next model.

use crate::{Aggregator, Error, Parameter, Result, Role};
use serde::{Deserialize, Serialize};

/// How the server takes a step along the mean change of its clients (Reddi et al. 2021, FedOpt;
/// Hsu et al. 2019 for momentum).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
#[non_exhaustive]
pub enum ServerRule {
    /// `w += rate * (m = momentum * m + change)`; FedAvg at rate 1 and momentum 0.
    Sgd {
        /// Server learning rate.
        rate: f64,
        /// Of the running sum; 0 keeps none.
        momentum: f64,
    },
    /// `w += rate * m / (sqrt(v) + epsilon)`, m and v running means of the change and its square,
    /// without correction of their start.
    Adam {
        /// Server learning rate.
        rate: f64,
        /// Of the running mean.
        beta1: f64,
        /// Of the running mean square.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
    },
}

impl ServerRule {
    /// Whether its numbers make steps: the rate is finite and above 0, what a running mean keeps of the past is
    /// at least 0 and below 1, and epsilon is above 0, as 0 over 0 is no step.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the number.
    pub fn check(&self) -> Result<()> {
        let (rate, kept, epsilon) = match *self {
            Self::Sgd { rate, momentum } => (rate, [("momentum", momentum); 2], 1.0),
            Self::Adam { rate, beta1, beta2, epsilon } => {
                (rate, [("beta1", beta1), ("beta2", beta2)], epsilon)
            }
        };
        if !(rate > 0.0 && rate.is_finite()) {
            let message = format!("rate: expected a finite number above 0, found {rate}");
            return Err(Error::invalid(message));
        }
        if let Some((name, found)) = kept.iter().find(|(_, kept)| !(0.0..1.0).contains(kept)) {
            let message = format!("{name}: expected at least 0 and below 1, found {found}");
            return Err(Error::invalid(message));
        }
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            let message = format!("epsilon: expected a number above 0, found {epsilon}");
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}

impl Default for ServerRule {
    /// FedAvg.
    fn default() -> Self {
        Self::Sgd { rate: 1.0, momentum: 0.0 }
    }
}

/// A rule with its running means. Coordinates that nobody trained stay as they are, running means
/// included.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerOptimizer {
    rule: ServerRule,
    /// Running means of changes and of their squares, one list for each parameter; empty where the
    /// rule has none.
    pub(crate) first: Vec<Vec<f32>>,
    pub(crate) second: Vec<Vec<f32>>,
}

impl ServerOptimizer {
    /// Running means at zero.
    pub fn new(rule: ServerRule, model: &[Parameter]) -> Self {
        let zeros = |wanted| -> Vec<Vec<f32>> {
            model.iter().map(|p| vec![0.0; if wanted { p.values.len() } else { 0 }]).collect()
        };
        let [first, second] = keeps(rule);
        Self { rule, first: zeros(first), second: zeros(second) }
    }

    /// The rule.
    pub fn rule(&self) -> ServerRule {
        self.rule
    }

    /// Moves `model` by what was aggregated.
    ///
    /// # Errors
    /// `InvalidArgument` if the model is not of the aggregator's layout, the optimizer was made for
    /// another model, or the rule is [none](ServerRule::check); then nothing has moved.
    pub fn step(&mut self, model: &mut [Parameter], aggregator: &Aggregator) -> Result<()> {
        aggregator.layout().check(model)?;
        self.rule.check()?;
        self.check(model)?;
        for ((i, parameter), means) in model.iter_mut().enumerate().zip(aggregator.means()?) {
            let plain = aggregator.layout().params()[i].role == Role::Statistic;
            for (at, change) in means.into_iter().enumerate() {
                let Some(change) = change else { continue };
                let step = if plain { change } else { self.moved(i, at, change) };
                let value = &mut parameter.values[at];
                *value = (f64::from(*value) + step) as f32;
            }
        }
        Ok(())
    }

    fn check(&self, model: &[Parameter]) -> Result<()> {
        let [first, second] = keeps(self.rule);
        let fits = |means: &[Vec<f32>], wanted: bool| {
            let len = |p: &Parameter| if wanted { p.values.len() } else { 0 };
            means.iter().map(Vec::len).eq(model.iter().map(len))
        };
        match fits(&self.first, first) && fits(&self.second, second) {
            true => Ok(()),
            false => Err(Error::invalid("an optimizer of another model")),
        }
    }

    fn moved(&mut self, i: usize, at: usize, change: f64) -> f64 {
        match self.rule {
            ServerRule::Sgd { rate, momentum: 0.0 } => rate * change,
            ServerRule::Sgd { rate, momentum } => {
                let m = momentum * f64::from(self.first[i][at]) + change;
                self.first[i][at] = m as f32;
                rate * m
            }
            ServerRule::Adam { rate, beta1, beta2, epsilon } => {
                let m = beta1 * f64::from(self.first[i][at]) + (1.0 - beta1) * change;
                let v = beta2 * f64::from(self.second[i][at]) + (1.0 - beta2) * change * change;
                self.first[i][at] = m as f32;
                self.second[i][at] = v as f32;
                rate * m / (v.sqrt() + epsilon)
            }
        }
    }
}

/// Whether a rule has running means of changes, and of their squares.
fn keeps(rule: ServerRule) -> [bool; 2] {
    match rule {
        ServerRule::Sgd { momentum, .. } => [momentum != 0.0, false],
        ServerRule::Adam { .. } => [true, true],
    }
}
