//! [`Noise`]: discrete Gaussian noise in the sums of a round.

use super::sums::{Sums, UNITS};
use crate::privacy::{DiscreteGaussian, Draws};
use crate::seed::Purpose;
use crate::{Error, IntegerSum, PrivateSeed, Result};

/// Noise in the sums of a round, drawn when their mean is: multiples of a grid of integers, exactly (Canonne,
/// Kamath & Steinke 2020).
///
/// It is a function of the seed, the round and the sums: the same sums get the same noise however often
/// they are asked for, after a restart, too; other sums get other noise, so that no two can be
/// subtracted.
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// The standard deviation in the sum; of [integers](crate::IntegerSpec) in steps of their codes.
    pub deviation: f64,
    /// What it derives from.
    pub seed: PrivateSeed,
}

impl Noise {
    pub(super) fn check(&self) -> Result<()> {
        let deviation = self.deviation;
        match deviation > 0.0 && deviation < 2f64.powi(60) {
            true => Ok(()),
            false => Err(Error::invalid(format!("noise: expected above 0, found {deviation}"))),
        }
    }

    /// The grid of sums of values, in their units, at least one: 2^24 steps of it are at least the deviation.
    pub(super) fn grid(&self) -> i128 {
        ((self.deviation * UNITS / DiscreteGaussian::FINE.deviation()).ceil() as i128).max(1)
    }

    /// The noise for what `data` says.
    fn draws<const N: usize>(
        &self,
        use_of: [u64; 3],
        data: impl Iterator<Item = [u8; N]>,
    ) -> Draws {
        Draws(self.seed.generator(Purpose::Noise, &use_of, data))
    }

    /// The means of sums on that grid over `divisor`, with noise, of the coordinates in the runs `noisy`; of
    /// the others none.
    pub(super) fn means(
        &self,
        sums: &Sums,
        use_of: [u64; 3],
        divisor: u64,
        noisy: impl Iterator<Item = (usize, usize)>,
    ) -> Vec<Option<f64>> {
        let mut draws = self.draws(use_of, sums.values().map(i128::to_le_bytes));
        let mut means = vec![None; sums.len()];
        for at in noisy.flat_map(|(start, len)| start..start + len) {
            let steps = DiscreteGaussian::FINE.draw(&mut draws);
            means[at] = Some(sums.noisy_mean(at, steps, divisor));
        }
        means
    }

    /// The values that a sum of codes stands for, over `divisor`, with noise in every code.
    pub(super) fn mean_of_integers(
        &self,
        sum: &IntegerSum,
        use_of: [u64; 3],
        divisor: f64,
    ) -> Result<Vec<f32>> {
        let gaussian = DiscreteGaussian::new(self.deviation)?;
        let mut draws = self.draws(use_of, sum.sums().iter().map(|sum| sum.to_le_bytes()));
        sum.mean(divisor, || gaussian.draw(&mut draws))
    }
}
