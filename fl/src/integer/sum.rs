//! [`IntegerSum`]: sums of codes modulo 2^b, and what they stand for.

use super::IntegerSpec;
use super::codes::norm;
use super::rotate::Rotation;
use crate::{Error, Result};

/// The sum of the codes of clients, modulo 2^b. Sums are added as codes are.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerSum {
    spec: IntegerSpec,
    /// The seed of the broadcast, and the round.
    shared: (u64, u64),
    sums: Vec<u32>,
}

impl IntegerSum {
    /// Of nothing, of updates of `n` values; `seed` is that of the round's broadcast
    /// ([`Broadcast::seed`](crate::Broadcast)).
    ///
    /// # Errors
    /// Those of [`IntegerSpec::check`].
    pub fn new(spec: IntegerSpec, seed: u64, round: u64, n: usize) -> Result<Self> {
        spec.check()?;
        Ok(Self { spec, shared: (seed, round), sums: vec![0; n] })
    }

    /// How codes are made.
    pub fn spec(&self) -> &IntegerSpec {
        &self.spec
    }

    /// The sums, each below 2^b.
    pub fn sums(&self) -> &[u32] {
        &self.sums
    }

    /// Adds the codes of a client, or of a mask, or sums of them.
    ///
    /// # Errors
    /// `InvalidArgument` where they are more or fewer, or one is not below 2^b; then nothing is added.
    pub fn add(&mut self, codes: &[u32]) -> Result<()> {
        let (expected, found) = (self.sums.len(), codes.len());
        if expected != found {
            return Err(Error::invalid(format!("expected {expected} codes, found {found}")));
        }
        let mask = self.spec.mask();
        if let Some(at) = codes.iter().position(|code| *code > mask) {
            let (code, bits) = (codes[at], self.spec.bits);
            return Err(Error::invalid(format!("code {at}: {code} has more than {bits} bits")));
        }
        for (sum, code) in self.sums.iter_mut().zip(codes) {
            *sum = sum.wrapping_add(*code) & mask;
        }
        Ok(())
    }

    /// The values that the sum stands for, over `divisor`; `noise` is added to each, in steps, before.
    ///
    /// # Errors
    /// None that a spec does not exclude.
    pub fn mean(&self, divisor: f64, mut noise: impl FnMut() -> i64) -> Result<Vec<f32>> {
        let n = self.sums.len();
        let unit = self.spec.step(n) / divisor;
        let mean = |sum: &u32| ((self.spec.centered(*sum) + noise()) as f64 * unit) as f32;
        let coefficients: Vec<f32> = self.sums.iter().map(mean).collect();
        let (seed, round) = self.shared;
        Rotation::new(seed, round, n).inverse(&coefficients)
    }

    /// The first of the codes that no client sends, whether masked or not.
    pub(crate) fn out_of_range(&self, codes: &[u32]) -> Option<usize> {
        let largest = self.spec.largest()?;
        codes.iter().position(|code| self.spec.centered(*code).unsigned_abs() > largest)
    }

    /// The norm of codes, where it is bounded and no noise has gone beyond.
    pub(crate) fn norm_beyond(&self, codes: &[u32]) -> Option<f64> {
        if self.spec.deviation > 0.0 {
            return None;
        }
        let found = norm(codes.iter().map(|code| self.spec.centered(*code)));
        (found > self.spec.norm).then_some(found)
    }
}
