//! [`Rotation`]: whole updates to coefficients that all look alike, and back.

use crate::{Error, Result};
use fedpress::{Coefficients, Seeds, Spec};

/// Most values that are rotated together.
const GROUP: usize = 1 << 20;

/// The rotation that all updates of a round share. Values are dealt out in turn to groups of nearly the same
/// size, so that each has its part of every layer, and all have coefficients of one size.
pub(super) struct Rotation {
    seeds: Seeds,
    n: usize,
}

impl Rotation {
    /// Of updates of `n` values, by the seed of the broadcast.
    pub(super) fn new(seed: u64, round: u64, n: usize) -> Self {
        let shared = fedpress::Rotation::Shared;
        Self { seeds: Seeds::new(seed, 0).in_round(round).with_rotation(shared), n }
    }

    fn groups(&self) -> usize {
        self.n.div_ceil(GROUP)
    }

    fn basis(&self, group: usize) -> Result<Coefficients> {
        let spec: Spec = "rotation".parse()?;
        Ok(Coefficients::new(&spec, &format!("update/{group}"), &self.seeds))
    }

    /// Coefficients, group after group.
    pub(super) fn forward(&self, values: &[f32]) -> Result<Vec<f32>> {
        let mut all = vec![0.0; self.n];
        let mut rest = &mut all[..];
        for group in 0..self.groups() {
            let dealt: Vec<f32> =
                values.iter().skip(group).step_by(self.groups()).copied().collect();
            let (out, left) = rest.split_at_mut(dealt.len());
            self.basis(group)?.of(&dealt, out)?;
            rest = left;
        }
        Ok(all)
    }

    /// Values, in the order of the update.
    pub(super) fn inverse(&self, coefficients: &[f32]) -> Result<Vec<f32>> {
        if coefficients.len() != self.n {
            let (expected, found) = (self.n, coefficients.len());
            return Err(Error::invalid(format!("expected {expected} coefficients, found {found}")));
        }
        let mut all = vec![0.0; self.n];
        let mut rest = coefficients;
        for group in 0..self.groups() {
            let places = all.iter_mut().skip(group).step_by(self.groups());
            let mut dealt = vec![0.0; places.len()];
            let (own, left) = rest.split_at(dealt.len());
            self.basis(group)?.values(own, &mut dealt)?;
            places.zip(&dealt).for_each(|(place, value)| *place = *value);
            rest = left;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One layer of large values and one of none: both groups have half of the energy.
    #[test]
    fn groups_share_what_is_large() {
        let n = GROUP + 1000;
        let mut values = vec![0.0f32; n];
        values[..n / 8].iter_mut().zip(0..).for_each(|(v, i)| *v = ((i % 7) - 3) as f32);
        let rotation = Rotation::new(7, 3, n);
        let coefficients = rotation.forward(&values).unwrap();
        let energy = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let share = energy(&coefficients[..n / 2]) / energy(&values);
        assert!((share - 0.5).abs() < 0.01, "{share}");
        // Of so many Gaussian numbers none is beyond six deviations.
        let peak = coefficients.iter().fold(0.0, |peak: f32, c| peak.max(c.abs()));
        assert!(f64::from(peak) < 6.0 * (energy(&values) / n as f64).sqrt());
        let back = rotation.inverse(&coefficients).unwrap();
        assert!(values.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!(rotation.inverse(&coefficients[1..]).is_err());
    }
}
