//! [`Privacy`]: what the model of a training may tell of one client.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Differential privacy of every client: what comes of all rounds would be almost as likely without it
/// ([`Accountant`](crate::Accountant) says how likely).
///
/// Each update is held to an L2 norm of `clip`, weighs the same as any other, and the sum over a Poisson
/// sample of clients gets Gaussian noise. What it is divided by is how many clients were *expected*
/// ([`RoundOptions::n_updates`](crate::RoundOptions)), never how many answered: their number tells of
/// each, and a mean over few of them would be moved further by one. For the same reason every round is
/// committed, however few answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// The L2 norm that the update of a client is held to, all its parameters together.
    pub clip: f64,
    /// The standard deviation of the noise in the sum, over what one client can change of it.
    pub noise_multiplier: f64,
    /// Who adds it.
    pub noise: NoiseBy,
}

/// Who adds the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseBy {
    /// The server, which clients have to trust: it sees their updates.
    Server,
    /// Clients, each a share that makes up all of it with those of
    /// [`min_updates`](crate::RoundOptions::min_updates) clients, before their integers are summed (Kairouz,
    /// Liu & Steinke 2021). Under a secure aggregation the server sees the noisy sum alone; it knows whom
    /// it asked, so against the server itself nothing is gained by sampling.
    Clients,
}

impl Privacy {
    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the number: the clip is between 2^-20 and 2^30, the noise from 2^-10 to
    /// 2^20 times that.
    pub fn check(&self) -> Result<()> {
        let Self { clip, noise_multiplier, .. } = *self;
        // Below that, steps of 2^-60 of the sums show in norms.
        if !(2f64.powi(-20)..=2f64.powi(30)).contains(&clip) {
            return Err(Error::invalid(format!("clip: expected 2^-20 to 2^30, found {clip}")));
        }
        if !(2f64.powi(-10)..=2f64.powi(20)).contains(&noise_multiplier) {
            let message = format!("noise_multiplier: 2^-10 to 2^20, found {noise_multiplier}");
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}
