//! [`DeltaOptions`]: how coarse the versions of a model are, and how many a client may be behind.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the server keeps the versions that clients hold. The table in `fl/README.md` says what
/// it costs; the defaults take less than a bit a value for a client that has the version before, at a squared
/// error of about 10^-4 of the model's energy where a round changes .012 of its norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeltaOptions {
    /// The quantum of a tensor in a round is the greatest power of two that is at most so many times the
    /// root mean square of what the round before changed in it. Above 0, up to 64.
    pub step: f64,
    /// What differs from the version before by no more than this part of a quantum is not sent, and waits:
    /// .5 rounds to nearest, more sends less. At least .5 and below 1.
    pub dead_zone: f64,
    /// How many rounds a version is kept for clients to come back from, at least 1. The server holds, in
    /// f32, those of them that a client has; a client that was away for longer gets the model whole.
    pub versions: u64,
}

impl Default for DeltaOptions {
    fn default() -> Self {
        Self { step: 3.5, dead_zone: 0.75, versions: 32 }
    }
}

impl DeltaOptions {
    /// Whether each number is in its range.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the number.
    pub fn check(&self) -> Result<()> {
        let Self { step, dead_zone, versions } = *self;
        if !(step > 0.0 && step <= 64.0) {
            return Err(Error::invalid(format!("step: expected above 0, up to 64, found {step}")));
        }
        if !(0.5..1.0).contains(&dead_zone) {
            let message = format!("dead_zone: expected at least .5, below 1, found {dead_zone}");
            return Err(Error::invalid(message));
        }
        if versions == 0 {
            return Err(Error::invalid("versions: expected at least 1"));
        }
        Ok(())
    }
}
