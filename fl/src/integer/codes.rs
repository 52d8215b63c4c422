//! From the update of a client to its codes.

use super::IntegerSpec;
use super::rotate::Rotation;
use crate::aggregate::clip;
use crate::privacy::{DiscreteGaussian, Draws};
use crate::seed::Purpose;
use crate::{Error, Parameter, PrivateSeed, Result};
use rand_pcg::rand_core::Rng;

/// How often rounding is drawn at most until the norm is kept, which it is more often than not.
const TRIES: usize = 200;

impl IntegerSpec {
    /// The codes of an update, below 2^b each: for who has another transport than the messages here. `seed` and
    /// `round` are those of [`IntegerSum::new`](crate::IntegerSum::new), the same for all; `use_of` says what the
    /// draws from the client's secret are for, such as run, round and client, and is never used again with that secret.
    ///
    /// # Errors
    /// `InvalidArgument` where a value is not finite, or the spec [contradicts itself](IntegerSpec::check).
    pub fn codes(
        &self,
        seed: u64,
        round: u64,
        mut delta: Vec<Parameter>,
        secret: &PrivateSeed,
        use_of: &[u64],
    ) -> Result<Vec<u32>> {
        self.check()?;
        Parameter::check_finite(&delta)?;
        clip(delta.iter_mut().map(|p| &mut p.values[..]), self.clip);
        let values: Vec<f32> = delta.into_iter().flat_map(|p| p.values).collect();
        let coefficients = Rotation::new(seed, round, values.len()).forward(&values)?;
        let mut codes = self.rounded(&coefficients, secret, use_of)?;
        if self.deviation > 0.0 {
            let gaussian = DiscreteGaussian::new(self.deviation)?;
            let hidden = codes.iter().map(|code| code.to_le_bytes());
            let mut draws = Draws(secret.generator(Purpose::Noise, use_of, hidden));
            codes.iter_mut().for_each(|code| *code += gaussian.draw(&mut draws));
        }
        Ok(codes.into_iter().map(|code| self.wrapped(code)).collect())
    }

    /// Multiples of the step beside coefficients, drawn until they keep the norm.
    fn rounded(
        &self,
        coefficients: &[f32],
        secret: &PrivateSeed,
        use_of: &[u64],
    ) -> Result<Vec<i64>> {
        let mut draws = secret.generator(Purpose::Rounding, use_of, std::iter::empty::<[u8; 0]>());
        let (step, most) = (self.step(coefficients.len()), f64::from(self.levels));
        let mut draw = || -> Vec<i64> {
            let round = |c: &f32| {
                let exact = (f64::from(*c) / step).clamp(-most, most);
                // Up with the probability of what is behind the point.
                (exact + f64::from(draws.next_u32()) / 2f64.powi(32)).floor() as i64
            };
            coefficients.iter().map(round).collect()
        };
        let fits = |codes: &Vec<i64>| norm(codes.iter().copied()) <= self.norm;
        (0..TRIES).map(|_| draw()).find(fits).ok_or_else(|| {
            let norm = self.norm;
            Error::invalid(format!("no rounding of {TRIES} keeps the norm of codes to {norm}"))
        })
    }
}

/// The L2 norm of codes, of exact squares.
pub(super) fn norm(codes: impl Iterator<Item = i64>) -> f64 {
    let squares: u128 = codes.map(|code| u128::from(code.unsigned_abs()).pow(2)).sum();
    (squares as f64).sqrt()
}
