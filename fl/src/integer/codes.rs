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

/// The codes of an update, below 2^b each. `shared` is the seed of the broadcast; `use_of` says what the draws
/// from the client's secret are for: run, round and client.
///
/// # Errors
/// `InvalidArgument` where a value is not finite, or the spec [contradicts itself](IntegerSpec::check).
pub(crate) fn codes_of(
    spec: &IntegerSpec,
    (shared, round): (u64, u64),
    mut delta: Vec<Parameter>,
    secret: &PrivateSeed,
    use_of: &[u64],
) -> Result<Vec<u32>> {
    spec.check()?;
    Parameter::check_finite(&delta)?;
    clip(delta.iter_mut().map(|p| &mut p.values[..]), spec.clip);
    let values: Vec<f32> = delta.into_iter().flat_map(|p| p.values).collect();
    let n = values.len();
    let coefficients = Rotation::new(shared, round, n).forward(&values)?;
    let mut rounding = secret.generator(Purpose::Rounding, use_of, std::iter::empty::<[u8; 0]>());
    let (step, most) = (spec.step(n), f64::from(spec.levels));
    let mut draw = || -> Vec<i64> {
        let round = |c: &f32| {
            let exact = (f64::from(*c) / step).clamp(-most, most);
            // Up with the probability of what is behind the point.
            (exact + f64::from(rounding.next_u32()) / 2f64.powi(32)).floor() as i64
        };
        coefficients.iter().map(round).collect()
    };
    let fits = |codes: &Vec<i64>| norm(codes.iter().copied()) <= spec.norm;
    let Some(mut codes) = (0..TRIES).map(|_| draw()).find(fits) else {
        let message = format!("no rounding of {TRIES} keeps the norm of codes to {}", spec.norm);
        return Err(Error::invalid(message));
    };
    if spec.deviation > 0.0 {
        let gaussian = DiscreteGaussian::new(spec.deviation)?;
        let hidden = codes.iter().map(|code| code.to_le_bytes());
        let mut draws = Draws(secret.generator(Purpose::Noise, use_of, hidden));
        codes.iter_mut().for_each(|code| *code += gaussian.draw(&mut draws));
    }
    Ok(codes.into_iter().map(|code| spec.wrapped(code)).collect())
}

/// The L2 norm of codes, of exact squares.
pub(super) fn norm(codes: impl Iterator<Item = i64>) -> f64 {
    let squares: u128 = codes.map(|code| u128::from(code.unsigned_abs()).pow(2)).sum();
    (squares as f64).sqrt()
}
