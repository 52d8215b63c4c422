//! How rounds are run.

use crate::{
    AggregatorOptions, ClientSpecs, DeltaOptions, Error, IntegerOptions, Limit, NoiseBy, Policy,
    Privacy, PrivateSeed, Result, Scope, ServerRule, Specs, Strategy,
};
use fedpress::Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a round draws the clients it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cohort {
    /// As many as are needed, without replacement.
    #[default]
    Fixed,
    /// Each with the same probability, whatever becomes of the others: the sample that
    /// [privacy](Privacy) counts with. So many as `n_updates` are expected, of a population in which all are
    /// there; a round may have more, or nobody. It ends when all who are asked have answered.
    Poisson {
        /// How many clients there are in all, those included that are not there today.
        population: u64,
    },
}

/// How rounds are run. Times are in whatever unit the caller's clock has.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundOptions {
    /// Which training this is; travels in every message.
    pub run: u64,
    /// What rotations and subsampling derive from. Public: it travels.
    pub seed: u64,
    /// What the choice of clients and of submodels and the rounding of broadcasts derive from. Who
    /// knows it knows in which rounds which clients are asked.
    pub private: PrivateSeed,
    /// Updates that complete a round; of a [Poisson](Cohort::Poisson) cohort, how many are expected.
    pub n_updates: usize,
    /// How the clients of a round are drawn.
    pub cohort: Cohort,
    /// Clients asked beyond that, as a fraction of it, for those that will not answer in time.
    pub over_selection: f64,
    /// Updates without which a round is abandoned at its deadline. 0 is for a [Poisson](Cohort::Poisson) cohort
    /// alone.
    pub min_updates: usize,
    /// How long a round may take.
    pub deadline: u64,
    /// How long one update may take from its first bytes to its last, at least 1; then it loses its
    /// place among those on their way, and its client is told to begin again.
    pub patience: u64,
    /// Which submodel each client gets.
    pub policy: Policy,
    /// How broadcasts are encoded. Of deltas it only says which tensors are exact: those that a rule
    /// names with a lossless spec.
    pub down: Specs,
    /// Whether clients that hold a version of the model are sent what changed since, and how coarsely: their
    /// side is a [`Replica`](crate::Replica).
    pub deltas: Option<DeltaOptions>,
    /// How updates are to be encoded.
    pub up: Specs,
    /// Clients for whom both are others, as behind a thin link; those of a tier share theirs. Deltas are
    /// the same for all, and so is what they say of `down`.
    pub client_specs: BTreeMap<u64, Arc<ClientSpecs>>,
    /// Whether clients are told to multiply sums over inputs by full over kept inputs in training
    /// ([`Broadcast::gains`](crate::Broadcast), Diao et al. 2021).
    pub scaled: bool,
    /// What clients have to know beside the model, in the words of the training code.
    pub task: String,
    /// How updates are checked and averaged. Of the bounds on norms here and below, the smaller holds.
    pub aggregator: AggregatorOptions,
    /// How far the update of one client may move the weights: its L2 norm.
    /// [`AggregatorOptions::excess_norm`] says what becomes of more, and
    /// [`RoundSummary::n_clipped`](crate::RoundSummary) how often that was. The default, once the norm
    /// of the model, keeps one client from replacing it and is far from what training does to a network
    /// in a round; who knows more about the task bounds more. Where weights begin at or near zero, as
    /// half of those of an adapter do (LoRA), the norm of the model says nothing: give an absolute one.
    /// It is the change that is bounded, before the server's rule: momentum goes on along it, and Adam
    /// makes steps of its own size of it.
    pub max_norm: Limit,
    /// The same of running statistics, by default ten times their norm: these go far in the first
    /// rounds. It does not keep a variance from becoming negative.
    pub max_statistic_norm: Limit,
    /// How the server moves along their mean.
    pub rule: ServerRule,
    /// What may be told of a client. With it updates weigh the same, are clipped and summed, and what they
    /// lack counts as zero, whatever `aggregator` says of averaging and weighting.
    pub privacy: Option<Privacy>,
    /// Whether updates are integers that can be summed before anyone sees them, for one submodel for all of a
    /// round. Updates then weigh the same, and `up` says nothing.
    pub integers: Option<IntegerOptions>,
}

impl RoundOptions {
    /// Ten updates a round, all of them needed, no deadline, the full model, lossless both ways,
    /// FedAvg, updates clipped to the norm of the model.
    pub fn new(run: u64, seed: u64, private: PrivateSeed) -> Self {
        Self {
            run,
            seed,
            private,
            n_updates: 10,
            cohort: Cohort::Fixed,
            over_selection: 0.0,
            min_updates: 10,
            deadline: u64::MAX,
            patience: u64::MAX,
            policy: Policy::full(),
            down: Spec::lossless().into(),
            deltas: None,
            up: Spec::lossless().into(),
            client_specs: BTreeMap::new(),
            scaled: false,
            task: String::new(),
            aggregator: AggregatorOptions::default(),
            max_norm: Limit::Relative(1.0),
            max_statistic_norm: Limit::Relative(10.0),
            rule: ServerRule::default(),
            privacy: None,
            integers: None,
        }
    }

    /// Of a [Poisson](Cohort::Poisson) cohort: the probability with which a client is asked.
    pub fn sampling_rate(&self) -> Option<f64> {
        match self.cohort {
            Cohort::Fixed => None,
            Cohort::Poisson { population } => Some(self.n_updates as f64 / population as f64),
        }
    }

    /// Whether all clients of a round have one submodel.
    pub(super) fn is_one_for_all(&self) -> bool {
        let Policy { scope, clients, masks, .. } = &self.policy;
        *scope == Scope::Round && clients.is_empty() && masks.is_empty()
    }

    /// Clients to ask for a round.
    pub(super) fn n_asked(&self) -> usize {
        // A tenth of ten is one, although 0.1 is a little more than a tenth.
        let beyond = (self.n_updates as f64 * self.over_selection - 1e-6).ceil();
        self.n_updates.saturating_add(beyond as usize)
    }

    pub(super) fn check(&self) -> Result<()> {
        let at_least = if self.cohort == Cohort::Fixed { 1 } else { 0 };
        if self.n_updates == 0 || !(at_least..=self.n_updates).contains(&self.min_updates) {
            let (least, most) = (self.min_updates, self.n_updates);
            return Err(Error::invalid(format!(
                "min_updates {least} and n_updates {most}: expected {at_least} <= min <= n, 1 <= n"
            )));
        }
        self.check_private()?;
        if !(0.0..=100.0).contains(&self.over_selection) {
            let found = self.over_selection;
            return Err(Error::invalid(format!(
                "over_selection: expected 0 to 100, found {found}"
            )));
        }
        if self.patience == 0 {
            return Err(Error::invalid("patience: expected at least 1"));
        }
        self.max_norm.check("max_norm")?;
        self.max_statistic_norm.check("max_statistic_norm")?;
        if let Some(deltas) = &self.deltas {
            deltas.check()?;
        }
        self.aggregator.check()?;
        self.rule.check()
    }

    /// Whether cohort, privacy and integers go together.
    fn check_private(&self) -> Result<()> {
        let need = |what: &str, holds: bool| match holds {
            true => Ok(()),
            false => Err(Error::invalid(what)),
        };
        if let Cohort::Poisson { population } = self.cohort {
            need("a Poisson cohort: expected n_updates of its population", {
                self.n_updates as u64 <= population
            })?;
            need("a Poisson cohort: expected no over-selection", self.over_selection == 0.0)?;
        }
        if let Some(integers) = &self.integers {
            let most = integers.clients as usize;
            need("integers: expected headroom for n_updates clients", self.n_updates <= most)?;
            need("integers: expected one submodel for all clients of a round", {
                self.is_one_for_all()
            })?;
            need("integers: expected a mean", !self.aggregator.averaging.is_robust())?;
        }
        let Some(privacy) = &self.privacy else { return Ok(()) };
        privacy.check()?;
        need("privacy: expected a Poisson cohort", self.cohort != Cohort::Fixed)?;
        need("privacy: expected a mean", !self.aggregator.averaging.is_robust())?;
        // Else one client more or less changes what the others send.
        need("privacy: the submodel of a client may not follow from who else is asked", {
            self.policy.strategy != Strategy::Balanced || self.policy.scope == Scope::Round
        })?;
        match privacy.noise {
            // Whether a round has enough clients would tell of each.
            NoiseBy::Server => {
                need("privacy: every round is committed, min_updates is 0", self.min_updates == 0)
            }
            NoiseBy::Clients => {
                need("privacy: only integers have noise of clients", self.integers.is_some())?;
                need("privacy: min_updates share the noise, at least 1", self.min_updates > 0)
            }
        }
    }
}
