//! [`IntegerOptions`]: how a server lets its clients' updates be summed as integers.

use super::IntegerSpec;
use crate::{Error, NoiseBy, Privacy, Result};
use serde::{Deserialize, Serialize};

/// How a server lets its clients' updates be summed as integers. How many levels a code has follows: as many as
/// fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegerOptions {
    /// Bits of a code on the wire, and of the sum: 2 to 32.
    pub bits: u8,
    /// Most clients of a sum. A round asks no more: a Poisson cohort is cut there, and how likely that is adds to
    /// the delta of its privacy. Leave room for several times the root of how many are expected.
    pub clients: u32,
    /// The L2 norm that updates are held to, all parameters together; that of the [privacy](Privacy), where
    /// there is one. What is shorter is coded as coarsely, so it should be what honest updates have.
    pub clip: f64,
    /// Where coefficients are cut off, in their standard deviations in an update of norm `clip`.
    pub range: f64,
}

impl IntegerOptions {
    /// Cut off at five standard deviations, which is one coefficient in two million.
    pub fn new(bits: u8, clients: u32, clip: f64) -> Self {
        Self { bits, clients, clip, range: 5.0 }
    }

    /// What they mean for updates of `n` values, with the privacy asked for, whose noise clients make up
    /// from `sharers` on: the most levels for which there is headroom.
    ///
    /// # Errors
    /// `InvalidArgument` where not one fits, or as [`IntegerSpec::check`].
    pub fn spec(&self, n: usize, privacy: Option<&Privacy>, sharers: usize) -> Result<IntegerSpec> {
        let with = |levels: u32| {
            let (norm, deviation) = self.private(levels, n, privacy, sharers);
            let Self { bits, clients, clip, range } = *self;
            IntegerSpec { bits, levels, clients, clip, range, norm, deviation }
        };
        if let Some(privacy) = privacy.filter(|privacy| privacy.clip != self.clip) {
            let (expected, found) = (privacy.clip, self.clip);
            let message =
                format!("integers: expected the clip of the privacy, {expected}, found {found}");
            return Err(Error::invalid(message));
        }
        // Needed headroom grows with the levels.
        let fits = |levels| {
            let (needed, has) = with(levels).headroom();
            needed <= has
        };
        let (mut most, mut too_many) = (1, 1 << 31);
        while too_many - most > 1 {
            let middle = most + (too_many - most) / 2;
            if fits(middle) { most = middle } else { too_many = middle }
        }
        let spec = with(most);
        spec.check().map(|()| spec)
    }

    /// The bound on the norm of codes, and the noise of a client.
    fn private(
        &self,
        levels: u32,
        n: usize,
        privacy: Option<&Privacy>,
        sharers: usize,
    ) -> (f64, f64) {
        let Some(privacy) = privacy else { return (f64::INFINITY, 0.0) };
        let root = (n as f64).sqrt();
        let clip = f64::from(levels) * root / self.range;
        // What rounding can add to a norm, and what it does not add more often than not (Kairouz, Liu &
        // Steinke 2021, with beta = exp(-1/2)).
        let likely = (clip * clip + n as f64 / 4.0 + clip + root / 2.0).sqrt();
        let norm = likely.min(clip + root);
        let deviation = match privacy.noise {
            NoiseBy::Server => 0.0,
            NoiseBy::Clients => privacy.noise_multiplier * norm / (sharers.max(1) as f64).sqrt(),
        };
        (norm, deviation)
    }
}
