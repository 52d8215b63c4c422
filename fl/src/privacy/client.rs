//! [`ClientPrivacy`]: what a client does to its update before anything else sees it.

use super::{DiscreteGaussian, Draws};
use crate::aggregate::clip;
use crate::seed::Purpose;
use crate::{Error, Parameter, PrivateSeed, Result};

/// What a client does to its update before it is compressed, and the secret it draws from. Noise behind a
/// quantizer would have to hide its steps, and a norm that was bounded before noise is bounded no more.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientPrivacy {
    /// The L2 norm that the update is held to, all parameters together; infinity bounds nothing.
    pub clip: f64,
    /// The standard deviation of the Gaussian noise that every value of the update gets; 0 adds none. Noise of
    /// `clip` times a multiplier makes the update itself private, whoever sees it (local privacy): far more
    /// than a sum needs. The server's bound on norms has to leave room for it.
    pub deviation: f64,
    /// What noise and rounding derive from.
    pub seed: PrivateSeed,
}

impl ClientPrivacy {
    /// Neither clipped nor noisy.
    pub fn new(seed: PrivateSeed) -> Self {
        Self { clip: f64::INFINITY, deviation: 0.0, seed }
    }

    /// The same, held to a norm.
    #[must_use]
    pub fn with_clip(self, clip: f64) -> Self {
        Self { clip, ..self }
    }

    /// The same, with noise on every value.
    #[must_use]
    pub fn with_deviation(self, deviation: f64) -> Self {
        Self { deviation, ..self }
    }

    /// Clips, then adds noise: values go to the next of a grid of deviation / 2^24 towards zero, so that no
    /// norm grows, and get discrete Gaussian multiples of it.
    ///
    /// # Errors
    /// `InvalidArgument` for a clip that is not above 0, a deviation that is not finite and at least 0, or an update
    /// with NaN or infinity, whose norm nothing bounds.
    pub(crate) fn apply(&self, delta: &mut [Parameter], use_of: &[u64]) -> Result<()> {
        let Self { clip: most, deviation, seed } = self;
        if !(*most > 0.0 && *deviation >= 0.0 && deviation.is_finite()) {
            let message = format!("clip {most}, deviation {deviation}: above 0, and at least 0");
            return Err(Error::invalid(message));
        }
        if *most == f64::INFINITY && *deviation == 0.0 {
            return Ok(());
        }
        Parameter::check_finite(delta)?;
        clip(delta.iter_mut().map(|p| &mut p.values[..]), *most);
        if *deviation == 0.0 {
            return Ok(());
        }
        let step = deviation / DiscreteGaussian::FINE.deviation();
        let gaussian = DiscreteGaussian::FINE;
        let data = delta.iter().flat_map(|p| &p.values).map(|v| v.to_le_bytes());
        let mut draws = Draws(seed.generator(Purpose::Noise, use_of, data));
        for value in delta.iter_mut().flat_map(|p| &mut p.values) {
            let on_grid = (f64::from(*value) / step).trunc();
            *value = ((on_grid + gaussian.draw(&mut draws) as f64) * step) as f32;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(values: &[f32]) -> Vec<Parameter> {
        let (a, b) = values.split_at(values.len() / 2);
        let part = |name: &str, values: &[f32]| Parameter {
            name: name.into(),
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        vec![part("a", a), part("b", b)]
    }

    fn values(delta: &[Parameter]) -> Vec<f32> {
        delta.iter().flat_map(|p| p.values.clone()).collect()
    }

    fn norm(values: &[f32]) -> f64 {
        values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
    }

    fn privacy() -> ClientPrivacy {
        ClientPrivacy::new(PrivateSeed::from_number(1))
    }

    #[test]
    fn all_parameters_are_clipped_together_and_keep_their_direction() {
        let given = [3.0f32, 0.0, 0.0, 4.0];
        let mut clipped = delta(&given);
        privacy().with_clip(1.0).apply(&mut clipped, &[]).unwrap();
        let found = values(&clipped);
        assert!(norm(&found) <= 1.0 && norm(&found) > 1.0 - 1e-6);
        assert!((found[3] / found[0] - 4.0 / 3.0).abs() < 1e-6);
        let mut below = delta(&given);
        privacy().with_clip(5.0).apply(&mut below, &[]).unwrap();
        assert_eq!(below, delta(&given));
        privacy().apply(&mut below, &[]).unwrap();
        assert_eq!(below, delta(&given));
    }

    #[test]
    fn noise_has_its_deviation_and_no_direction() {
        let n = 20_000;
        let mut noisy = delta(&vec![0.25; n]);
        privacy().with_clip(100.0).with_deviation(0.5).apply(&mut noisy, &[1]).unwrap();
        let noise: Vec<f64> = values(&noisy).iter().map(|v| (f64::from(*v) - 0.25) / 0.5).collect();
        let mean = noise.iter().sum::<f64>() / n as f64;
        let square = noise.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!(mean.abs() < 5.0 / (n as f64).sqrt(), "{mean}");
        assert!((square - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(), "{square}");
    }

    #[test]
    fn noise_differs_by_update_and_use() {
        let noise = |value: f32, use_of: u64, seed: u64| {
            let mut noisy = delta(&[value; 64]);
            let privacy = ClientPrivacy::new(PrivateSeed::from_number(seed)).with_deviation(1.0);
            privacy.apply(&mut noisy, &[use_of]).unwrap();
            values(&noisy).iter().map(|v| (v - value).round()).collect::<Vec<_>>()
        };
        let first = noise(0.0, 1, 1);
        assert_eq!(first, noise(0.0, 1, 1));
        // A value close by, another round, another secret: nothing of the noise is the same.
        for other in [noise(1e-3, 1, 1), noise(0.0, 2, 1), noise(0.0, 1, 2)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn what_cannot_be_bounded_is_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(privacy().with_clip(1.0).apply(&mut delta(&[0.0, bad]), &[]).is_err());
        }
        for bad in [0.0, -1.0, f64::NAN] {
            assert!(privacy().with_clip(bad).apply(&mut delta(&[1.0, 1.0]), &[]).is_err());
        }
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(privacy().with_deviation(bad).apply(&mut delta(&[1.0, 1.0]), &[]).is_err());
        }
    }
}
