//! How updates are averaged, and how much is taken from whom.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What becomes of coordinates that not every client trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Averaging {
    /// A client that lacks a coordinate counts as one that did not change it (Caldas et al. 2018):
    /// trained by m of C clients, it moves by m/C of their mean.
    ZeroFilled = 0,
    /// The mean of those who trained it.
    #[default]
    Counted = 1,
}

/// What an update weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Weighting {
    /// Its number of examples (McMahan et al. 2017).
    #[default]
    Samples = 0,
    /// The same as any other.
    Uniform = 1,
}

/// How to aggregate, and how much to take from whom.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregatorOptions {
    /// What becomes of coordinates that not every client trained.
    pub averaging: Averaging,
    /// What an update weighs.
    pub weighting: Weighting,
    /// Most bytes of one update, whatever the size of the model. Never more are taken than its shapes
    /// can need: 9 bytes a value, 4 KiB and three times the name for each parameter, and 64 KiB.
    pub max_update_bytes: u64,
    /// Most updates on their way at the same time. One keeps its place until it is complete, rejected
    /// or [forgotten](crate::Aggregator::forget).
    pub max_in_flight: usize,
    /// Most examples that a client may claim, below 2^32.
    pub max_samples: u32,
    /// Most memory that decoding one update may take beside its values, in bytes.
    pub decode_memory: u64,
}

impl Default for AggregatorOptions {
    /// Counted, by samples; 1 GiB and a million examples a client, 64 on their way, 256 MiB.
    fn default() -> Self {
        Self {
            averaging: Averaging::default(),
            weighting: Weighting::default(),
            max_update_bytes: 1 << 30,
            max_in_flight: 64,
            max_samples: 1_000_000,
            decode_memory: 256 << 20,
        }
    }
}

impl AggregatorOptions {
    /// Whether anything can be received.
    ///
    /// # Errors
    /// `InvalidArgument` if `max_in_flight` or `max_samples` is zero.
    pub fn check(&self) -> Result<()> {
        match self.max_in_flight == 0 || self.max_samples == 0 {
            true => Err(Error::invalid("max_in_flight and max_samples: at least 1 each")),
            false => Ok(()),
        }
    }
}
