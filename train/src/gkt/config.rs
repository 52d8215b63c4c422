//! [`GktConfig`]: what FedGKT is told beside what every training is.

use crate::{Augment, LocalTraining, Optimizer};
use fedpress_fl::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Settings of FedGKT (He et al. 2020). The default is what its text and code have: temperature 3,
/// all weights 1, twenty epochs of Adam on the server (ten in a file whose partition is not IID),
/// everyone waits for everyone. Other than there, what an optimizer accumulates starts anew each
/// turn, and images are not varied unless `augment` says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GktConfig {
    /// What logits are divided by before they are compared.
    pub temperature: f64,
    /// Client: cross-entropy + `client_kl_weight` T^2 KL(server || client). 0: clients learn alone.
    pub client_kl_weight: f64,
    /// Server: `server_ce_weight` cross-entropy + `server_kl_weight` T^2 KL(client || server).
    pub server_ce_weight: f64,
    /// See above.
    pub server_kl_weight: f64,
    /// Whether what a teacher says of an example counts by how sure it is of the example's class, both ways.
    pub confident: bool,
    /// Whether the server trains on a client's sample among the classes alone of which that client has
    /// examples, with labels (as FedRS, Li & Zhan 2021, on clients) and with the client's logits: else it
    /// learns from whose features they are which classes there cannot be.
    pub seen: bool,
    /// Turns, or a client's cycles, over which the weights of distillation rise from 0 to what they are; 0:
    /// they are from the beginning.
    pub ramp: u64,
    /// How the server trains, each turn.
    pub training: LocalTraining,
    /// Turns whose training loss is no lower than the best before, after which the server's
    /// learning rate falls; 0: it stays.
    pub patience: u32,
    /// What the learning rate is then multiplied by.
    pub factor: f64,
    /// How images are varied. A client trains on the view that its teacher has seen, and sends
    /// features of the next; before the first answer, on the view it would then have.
    pub augment: Augment,
    /// How many clients' pairs (extractor and server) are evaluated, the first ones; all if absent.
    pub evaluated_clients: Option<usize>,
    /// Bytes of features that the server's store holds in memory; if the data has more, they go to
    /// files in `folder`. Beside them the simulation holds the encoded messages that are under way,
    /// and, unless everyone waits for everyone, the last of each client, for checkpoints.
    pub memory: u64,
    /// Where features go that memory does not hold. Trainings do not share one.
    pub folder: Option<PathBuf>,
    /// Who waits for whom.
    pub pace: Pace,
    /// How long things take.
    pub clock: Clock,
}

/// Who waits for whom. By default the server waits for all and all wait for the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// New uploads that begin a turn of the server; absent: one of every client.
    pub quorum: Option<usize>,
    /// Virtual seconds after the first new upload in which the turn begins in any case.
    pub deadline: Option<f64>,
    /// Uploads that a client may be ahead of the server's answer; 0: it waits for each.
    pub lead: u64,
    /// Features that were new more turns ago are left out of training; those of clients that have
    /// vanished, too.
    pub staleness: u64,
}

/// How long things take, in virtual seconds: speeds in multiply-adds and bytes a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clock {
    /// Of the median client.
    pub client_speed: f64,
    /// Speeds are log-normal; this is the deviation of their logarithm. 0: all equal.
    pub spread: f64,
    /// Of the server.
    pub server_speed: f64,
    /// From a client to the server.
    pub up: f64,
    /// From the server to a client.
    pub down: f64,
    /// Probability that a client vanishes for good before a cycle.
    pub vanish: f64,
}

impl Default for GktConfig {
    fn default() -> Self {
        let training = LocalTraining {
            epochs: 20,
            batch: 256,
            learning_rate: 1e-3,
            weight_decay: 1e-4,
            optimizer: Optimizer::Adam,
            ..LocalTraining::default()
        };
        Self {
            temperature: 3.0,
            client_kl_weight: 1.0,
            server_ce_weight: 1.0,
            server_kl_weight: 1.0,
            confident: false,
            seen: false,
            ramp: 0,
            training,
            patience: 10,
            factor: 0.1,
            augment: Augment::None,
            evaluated_clients: None,
            memory: 1 << 30,
            folder: None,
            pace: Pace::default(),
            clock: Clock::default(),
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { quorum: None, deadline: None, lead: 0, staleness: 10 }
    }
}

/// A phone's processor, a server's, and a thin link.
impl Default for Clock {
    fn default() -> Self {
        Self { client_speed: 1e9, spread: 0.0, server_speed: 1e12, up: 1e6, down: 1e7, vanish: 0.0 }
    }
}

impl GktConfig {
    pub(crate) fn check(&self, clients: usize) -> Result<()> {
        let wrong = |what: &str, expected: &str| {
            Err(Error::invalid(format!("gkt.{what}: expected {expected}, found {self:?}")))
        };
        let weights = [self.client_kl_weight, self.server_ce_weight, self.server_kl_weight];
        if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) {
            return wrong("weights", "numbers of at least 0");
        }
        if self.server_ce_weight + self.server_kl_weight == 0.0 {
            return wrong("server weights", "one above 0");
        }
        let (clock, pace) = (&self.clock, &self.pace);
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let speeds = [clock.client_speed, clock.server_speed, clock.up, clock.down];
        if !positive(self.temperature) || !speeds.into_iter().all(positive) {
            return wrong("temperature and clock", "numbers above 0");
        }
        if !(0.0..=5.0).contains(&clock.spread) || !(0.0..1.0).contains(&clock.vanish) {
            return wrong("clock", "a spread of 0 to 5, and a chance to vanish below 1");
        }
        if !(self.factor > 0.0 && self.factor <= 1.0) || self.evaluated_clients == Some(0) {
            return wrong("factor and evaluated_clients", "above 0 to 1, and at least one client");
        }
        if pace.quorum.is_some_and(|n| n == 0 || n > clients) {
            return wrong("pace.quorum", "from 1 to all clients");
        }
        if pace.deadline.is_some_and(|d| !positive(d)) {
            return wrong("pace.deadline", "seconds above 0");
        }
        if clock.vanish > 0.0 && pace.deadline.is_none() {
            return wrong("pace.deadline", "one where clients vanish, or the server waits forever");
        }
        self.training.check()
    }

    /// What part of the weights of distillation counts in a turn, from 0 on.
    pub(super) fn risen(&self, turn: u64) -> f64 {
        if turn >= self.ramp { 1.0 } else { turn as f64 / self.ramp as f64 }
    }

    /// Whether every turn begins with a new upload of each client, so that no older one matters.
    pub(crate) fn is_synchronous(&self, clients: usize) -> bool {
        self.quorum(clients) == clients && self.pace.deadline.is_none()
    }

    /// New uploads that begin a turn.
    pub(crate) fn quorum(&self, clients: usize) -> usize {
        self.pace.quorum.unwrap_or(clients)
    }
}
