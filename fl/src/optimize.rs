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
        let zeros = |wanted: bool| -> Vec<Vec<f32>> {
            model.iter().map(|p| vec![0.0; if wanted { p.values.len() } else { 0 }]).collect()
        };
        let adam = matches!(rule, ServerRule::Adam { .. });
        let momentum = matches!(rule, ServerRule::Sgd { momentum, .. } if momentum != 0.0);
        Self { rule, first: zeros(adam || momentum), second: zeros(adam) }
    }

    /// The rule.
    pub fn rule(&self) -> ServerRule {
        self.rule
    }

    /// Moves `model` by what was aggregated.
    ///
    /// # Errors
    /// `InvalidArgument` if the model is not of the aggregator's layout.
    pub fn step(&mut self, model: &mut [Parameter], aggregator: &Aggregator) -> Result<()> {
        aggregator.layout().check(model)?;
        if self.first.len() != model.len() {
            return Err(Error::invalid("an optimizer of another model"));
        }
        for (i, parameter) in model.iter_mut().enumerate() {
            let plain = aggregator.layout().params()[i].role == Role::Statistic;
            for (at, change) in aggregator.mean(i).into_iter().enumerate() {
                let Some(change) = change else { continue };
                let step = if plain { change } else { self.moved(i, at, change) };
                let value = &mut parameter.values[at];
                *value = (f64::from(*value) + step) as f32;
            }
        }
        Ok(())
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
