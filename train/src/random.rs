//! Draws for training: one PCG stream for each key, and portable arithmetic on top, so that a seed
//! means the same initial weights, batches and partitions on every platform.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

/// What a stream is for: the last part of its key, so that no two uses share draws.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    InitialWeights = 1,
    Shuffle = 2,
    Partition = 3,
    Procedural = 4,
    View = 5,
    Clock = 6,
}

/// A stream of draws (PCG XSL 128/64 MCG, O'Neill 2014).
pub(crate) struct Draws(Pcg64Mcg);

impl Draws {
    /// The stream of (seed, purpose, part): `part` is a layer, an epoch, an attempt or an example.
    pub(crate) fn new(seed: u64, purpose: Purpose, part: u64) -> Self {
        let half = |n| u128::from(fedpress::derive_key(&[seed, purpose as u64, part, n]));
        Self(Pcg64Mcg::new(half(0) << 64 | half(1)))
    }

    /// From 0..bound: the high half of the product with one 64-bit word.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u32
    }

    /// From [0, 1), in steps of 2^-53.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From [low, high).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Standard normal (polar method, Marsaglia & Bray 1964; the second value is thrown away).
    pub(crate) fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (self.between(-1.0, 1.0), self.between(-1.0, 1.0));
            let s = x * x + y * y;
            if s > 0.0 && s < 1.0 {
                return x * (-2.0 * libm::log(s) / s).sqrt();
            }
        }
    }

    /// The logarithm of a Gamma(shape, 1) variable (Marsaglia & Tsang 2000). A logarithm because
    /// small shapes, which make very uneven shares, leave the range of f64.
    pub(crate) fn log_gamma_variable(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Gamma(a) = Gamma(a + 1) * U^(1/a).
            let log_u = libm::log(1.0 - self.unit());
            return self.log_gamma_variable(shape + 1.0) + log_u / shape;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x) * (1.0 + c * x) * (1.0 + c * x);
            if v > 0.0 {
                let log_u = libm::log(1.0 - self.unit());
                if log_u < 0.5 * x * x + d - d * v + d * libm::log(v) {
                    return libm::log(d * v);
                }
            }
        }
    }

    /// A random order, in place (Fisher-Yates).
    pub(crate) fn shuffle(&mut self, items: &mut [u32]) {
        for i in (1..items.len()).rev() {
            let j = self.below((i + 1) as u32) as usize;
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(part: u64) -> Draws {
        Draws::new(7, Purpose::Partition, part)
    }

    fn moments(n: usize, mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..n).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        (mean, variance)
    }

    // Six standard errors of the mean and of the variance, from 2^16 draws.
    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 1 << 16;
        let error = |sd: f64| 6.0 * sd / (n as f64).sqrt();
        let mut d = draws(1);
        let (mean, variance) = moments(n, || d.unit());
        assert!((mean - 0.5).abs() < error(0.29) && (variance - 1.0 / 12.0).abs() < error(0.075));
        let (mean, variance) = moments(n, || d.normal());
        assert!(mean.abs() < error(1.0) && (variance - 1.0).abs() < error(2f64.sqrt()));
        for shape in [0.2f64, 0.5, 1.0, 3.0] {
            let (mean, variance) = moments(n, || d.log_gamma_variable(shape).exp());
            assert!((mean - shape).abs() < error(shape.sqrt()), "{shape}: {mean}");
            // The fourth central moment of Gamma(a) is 3a^2 + 6a.
            let sd = (2.0 * shape * shape + 6.0 * shape).sqrt();
            assert!((variance - shape).abs() < error(sd), "{shape}: {variance}");
        }
    }

    #[test]
    fn tiny_shapes_stay_finite() {
        let mut d = draws(2);
        assert!((0..1000).all(|_| d.log_gamma_variable(1e-3).is_finite()));
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_depends_on_its_key() {
        let order = |part| {
            let mut items: Vec<u32> = (0..100).collect();
            draws(part).shuffle(&mut items);
            items
        };
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<u32>>());
        assert_eq!(order(3), order(3));
        assert_ne!(order(3), order(4));
    }

    /// Frozen: seeds in papers and configurations keep their meaning.
    #[test]
    fn first_draws_are_pinned() {
        let mut d = draws(0);
        assert_eq!([d.below(1000), d.below(1000), d.below(1000)], [746, 105, 460]);
        assert_eq!(d.normal().to_bits(), 13_830_372_236_563_138_881);
    }
}
