//! [`TrainConfig`]: everything a training depends on, as TOML.

use crate::{Averaging, Error, Keep, Policy, Result, Scope, ServerRule, Strategy, Weighting};
use fedpress::Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::{LocalTraining, Partition};

/// Everything a training depends on but the number of threads. The default is McMahan's MNIST
/// setting on the embedded images, uncompressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// `demo` (embedded), `mnist`, `fashion-mnist`, `cifar10`, `cifar100` or `folders`.
    pub dataset: String,
    /// Where its files lie.
    pub data: Option<PathBuf>,
    /// Training examples used, the first ones; all if absent.
    pub train_examples: Option<usize>,
    /// Test examples used, the first ones; all if absent.
    pub test_examples: Option<usize>,
    /// `mnist-cnn`, `emnist-cnn`, `all-cnn-c` or `small-cnn`; by the data set if absent.
    pub model: Option<String>,
    /// Widths of an `all-cnn-c` as a fraction of the paper's.
    pub width: f64,
    /// Rounds in all.
    pub rounds: u64,
    /// Clients in all.
    pub clients: usize,
    /// Updates a round.
    pub clients_per_round: usize,
    /// How examples are dealt out.
    pub partition: Partition,
    /// How a client trains.
    pub local: LocalTraining,
    /// Fraction of units kept by Federated Dropout; 1: the full model.
    pub keep: f64,
    /// The same for single groups of units.
    pub keep_groups: BTreeMap<String, f64>,
    /// `random`, `ordered` or `rolling`.
    pub strategy: Strategy,
    /// `client`: a submodel for each; `round`: one for all.
    pub scope: Scope,
    /// Whether submodels' weights are multiplied by full over kept inputs.
    pub scaled: bool,
    /// Spec of the broadcasts; `none` is raw f32.
    pub down: String,
    /// Spec of the updates.
    pub up: String,
    /// Whether clients keep what the encoding of their updates loses; for specs that round to nearest.
    pub feedback: bool,
    /// `counted` or `zero-filled`.
    pub averaging: Averaging,
    /// `samples` or `uniform`.
    pub weighting: Weighting,
    /// `sgd` with rate and momentum, or `adam`.
    pub server: ServerRule,
    /// Rounds between evaluations; the last round is always evaluated.
    pub evaluate_every: u64,
    /// What everything random derives from.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            dataset: "demo".into(),
            data: None,
            train_examples: None,
            test_examples: None,
            model: None,
            width: 1.0,
            rounds: 20,
            clients: 100,
            clients_per_round: 10,
            partition: Partition::Iid,
            local: LocalTraining::default(),
            keep: 1.0,
            keep_groups: BTreeMap::new(),
            strategy: Strategy::Random,
            scope: Scope::Client,
            scaled: false,
            down: "none".into(),
            up: "none".into(),
            feedback: false,
            averaging: Averaging::default(),
            weighting: Weighting::default(),
            server: ServerRule::default(),
            evaluate_every: 1,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// Reads TOML; what it leaves out is the default.
    ///
    /// # Errors
    /// `InvalidArgument` that names line and key.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::invalid(format!("training configuration: {e}")))
    }

    /// As TOML, every key.
    pub fn to_toml(&self) -> String {
        // A struct of plain fields always serializes.
        toml::to_string(self).unwrap_or_default()
    }

    /// How broadcasts and updates are encoded.
    ///
    /// # Errors
    /// `InvalidArgument` from the parser of specs.
    pub fn specs(&self) -> Result<(Spec, Spec)> {
        let parse = |what: &str, text: &str| {
            text.parse::<Spec>().map_err(|e| Error::invalid(format!("{what} {text:?}: {e}")))
        };
        Ok((parse("down", &self.down)?, parse("up", &self.up)?))
    }

    pub(super) fn policy(&self) -> Policy {
        let keep = Keep { default: self.keep, groups: self.keep_groups.clone() };
        let (strategy, scope) = (self.strategy, self.scope);
        Policy { strategy, scope, keep, clients: BTreeMap::new() }
    }

    pub(super) fn check(&self) -> Result<()> {
        let (_, up) = self.specs()?;
        let up = up.to_string();
        if self.feedback && (!up.contains(",nearest") || up.contains("subsample")) {
            return Err(Error::invalid(format!(
                "feedback: {up:?} draws at random, and may lose more than there is: what feedback \
                 holds would grow without end; it needs q=Q,nearest and no subsample"
            )));
        }
        let counts = [
            ("rounds", self.rounds as usize),
            ("clients", self.clients),
            ("clients_per_round", self.clients_per_round),
            ("evaluate_every", self.evaluate_every as usize),
        ];
        if let Some((what, _)) = counts.iter().find(|(_, n)| *n == 0) {
            return Err(Error::invalid(format!("{what}: at least 1")));
        }
        if self.clients_per_round > self.clients {
            let (some, all) = (self.clients_per_round, self.clients);
            return Err(Error::invalid(format!("{some} clients a round, there are {all}")));
        }
        if !(self.width > 0.0 && self.width <= 16.0) {
            return Err(Error::invalid(format!("width: expected up to 16, found {}", self.width)));
        }
        Ok(())
    }
}
