//! [`Client`]: a client as the simulation sees it.

use super::edge::Teacher;
use super::purpose;
use crate::random::{Draws, Purpose};
use crate::{SplitModel, TrainConfig};
use fedpress::derive_key;
use fedpress_fl::Parameter;

/// A client as the simulation sees it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Of the network behind its last upload that has arrived.
    pub(super) parameters: Vec<Parameter>,
    /// What its upload under way was made with.
    pub(super) next: Option<Working>,
    pub(super) teacher: Option<Teacher>,
    /// Multiply-adds a virtual second.
    pub(super) speed: f64,
    /// Uploads that have arrived.
    pub(super) uploads: u64,
    /// Uploads up to the last that the server has answered.
    pub(super) answered: u64,
    /// The turn that could use its last upload first.
    pub(super) arrived: u64,
    /// Since when it waits for an answer.
    pub(super) waits: Option<f64>,
    /// Virtual seconds that it has waited.
    pub(super) idle: f64,
    /// Whether its training has diverged: it is out, and what it sent before is no longer taught from.
    pub(super) lost: bool,
}

/// What a client has when its cycle ends.
#[derive(Debug, Clone)]
pub(super) struct Working {
    pub(super) parameters: Vec<Parameter>,
    pub(super) loss: f64,
    pub(super) multiply_adds: u64,
}

impl Client {
    /// Random, and each its own: there is no common start, and not the pretrained one of the
    /// published code.
    pub(super) fn new(config: &TrainConfig, model: &SplitModel, client: u64) -> Self {
        let clock = &config.gkt.clock;
        let normal = Draws::new(config.seed, Purpose::Clock, client).normal();
        let seed = derive_key(&[config.seed, purpose::WEIGHTS, client]);
        Self {
            parameters: model.client().initial_parameters(seed),
            next: None,
            teacher: None,
            speed: clock.client_speed * libm::exp(clock.spread * normal),
            uploads: 0,
            answered: 0,
            arrived: 0,
            waits: None,
            idle: 0.0,
            lost: false,
        }
    }

    /// Whether it may begin another cycle before the server has answered more.
    pub(super) fn goes_on(&self, lead: u64) -> bool {
        self.uploads - self.answered <= lead
    }

    /// Whether it is never heard of again instead of beginning its next cycle; nobody vanishes
    /// before the first.
    pub(super) fn vanishes(&self, config: &TrainConfig, client: u64) -> bool {
        let seed = derive_key(&[config.seed, client, self.uploads]);
        self.uploads > 0 && Draws::new(seed, Purpose::Clock, 1).unit() < config.gkt.clock.vanish
    }

    /// What it has waited until `now`.
    pub(super) fn idle(&self, now: f64) -> f64 {
        self.idle + self.waits.map_or(0.0, |since| now - since)
    }
}
