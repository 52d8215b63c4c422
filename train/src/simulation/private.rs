//! Trainings that keep their clients private, and sums of integers: settings, and what follows from them.

use super::TrainConfig;
use fedpress_fl::{
    Accountant, ClientPrivacy, Cohort, Error, IntegerOptions, NoiseBy, Privacy, PrivateSeed,
    Result, RoundOptions,
};
use serde::{Deserialize, Serialize};

/// Differential privacy of clients, as a budget for all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Of all rounds together, at `delta`; the noise follows from it.
    pub epsilon: f64,
    /// The chance that it does not hold.
    #[serde(default = "one_in_hundred_thousand")]
    pub delta: f64,
    /// The L2 norm that each update is held to.
    pub clip: f64,
}

fn one_in_hundred_thousand() -> f64 {
    1e-5
}

/// Updates as integers that are summed modulo 2^bits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integers {
    /// Of each value.
    pub bits: u8,
    /// The L2 norm that each update is held to.
    pub clip: f64,
}

impl Budget {
    /// The noise of each round, by clients that are asked with the probability `rate`.
    ///
    /// # Errors
    /// `InvalidArgument` for a budget that no noise keeps.
    pub(super) fn noise_multiplier(&self, rate: f64, rounds: u64) -> Result<f64> {
        Accountant::noise_multiplier(self.epsilon, self.delta, rate, rounds)
    }
}

impl TrainConfig {
    /// Puts both into the options of rounds.
    pub(super) fn make_private(&self, options: &mut RoundOptions) -> Result<()> {
        let population = self.clients as u64;
        if let Some(budget) = &self.privacy {
            let rate = self.clients_per_round as f64 / self.clients as f64;
            let noise_multiplier = budget.noise_multiplier(rate, self.rounds)?;
            options.cohort = Cohort::Poisson { population };
            options.min_updates = 0;
            options.privacy =
                Some(Privacy { clip: budget.clip, noise_multiplier, noise: NoiseBy::Server });
        }
        if let Some(integers) = &self.integers {
            // A Poisson cohort may be everyone.
            let most = if self.privacy.is_some() { self.clients } else { self.clients_per_round };
            let most =
                u32::try_from(most).map_err(|_| Error::invalid("integers: too many clients"))?;
            options.integers = Some(IntegerOptions::new(integers.bits, most, integers.clip));
        }
        Ok(())
    }

    /// What a client does before it encodes, if anything; its secret is `seed`'s.
    pub(super) fn client_privacy(&self, seed: u64) -> Option<ClientPrivacy> {
        let clip = self.privacy.map(|budget| budget.clip);
        let clip = clip.or(self.integers.map(|integers| integers.clip))?;
        Some(ClientPrivacy::new(PrivateSeed::from_number(seed)).with_clip(clip))
    }

    pub(super) fn check_private(&self) -> Result<()> {
        if (self.privacy.is_some() || self.integers.is_some()) && self.feedback {
            return Err(Error::invalid("feedback: what it adds would be beyond the clip"));
        }
        Ok(())
    }
}
