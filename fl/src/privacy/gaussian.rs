//! [`DiscreteGaussian`]: exact draws of integers (Canonne, Kamath & Steinke 2020, algorithms 1 to 3).
//!
//! Every probability here is a fraction of integers, compared with uniform integers: no rounding of
//! floating-point numbers, whose gaps give noise away (Mironov 2012).

use crate::{Error, Result};
use chacha20::ChaCha20Rng;
use rand_pcg::rand_core::Rng;

/// Bits of the numerator of a standard deviation: the products below then fit in 128.
const BITS: u32 = 26;
/// Most bits behind its binary point.
const FRACTION_BITS: u32 = 12;
/// Candidates further out than so many standard deviations are not looked at. Each would be taken
/// with a probability below exp(-1900).
const REACH: u64 = 64;

/// Integers k with probabilities proportional to exp(-k^2 / (2 sigma^2)), sigma = s / 2^f.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiscreteGaussian {
    /// s, below 2^26.
    numerator: u64,
    /// 2^f.
    denominator: u64,
}

impl DiscreteGaussian {
    /// Of 2^24 steps: on a grid so fine it is as good as a Gaussian.
    pub(crate) const FINE: Self = Self { numerator: 1 << 24, denominator: 1 };

    /// Of the smallest standard deviation of this form that is at least `deviation`.
    ///
    /// # Errors
    /// `InvalidArgument` unless it is above 0 and below 2^26.
    pub(crate) fn new(deviation: f64) -> Result<Self> {
        if !(deviation > 0.0 && deviation <= f64::from((1 << BITS) - 1)) {
            let message = format!("deviation: expected above 0, below 2^{BITS}, found {deviation}");
            return Err(Error::invalid(message));
        }
        // So that the numerator has at most 26 bits, after it was rounded up, too.
        let whole = (deviation + 1.0).log2().ceil().max(0.0) as u32;
        let fraction = FRACTION_BITS.min(BITS.saturating_sub(whole));
        let denominator = 1u64 << fraction;
        let numerator = (deviation * denominator as f64).ceil() as u64;
        Ok(Self { numerator, denominator })
    }

    /// Its standard deviation parameter.
    pub(crate) fn deviation(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// One draw: discrete Laplace candidates, taken with the probability that makes them Gaussian.
    pub(crate) fn draw(self, draws: &mut Draws) -> i64 {
        let (s, d) = (self.numerator, self.denominator);
        let scale = s / d + 1;
        let [s, d, t] = [s, d, scale].map(u128::from);
        loop {
            let candidate = draws.laplace(scale);
            if candidate.unsigned_abs() > REACH * scale {
                continue;
            }
            // With a probability of exp(-(|k| - sigma^2 / t)^2 / (2 sigma^2)).
            let k = u128::from(candidate.unsigned_abs());
            let distance = (k * t * d * d).abs_diff(s * s);
            if draws.exponential(distance * distance, 2 * s * s * t * t * d * d) {
                return candidate;
            }
        }
    }
}

/// Random decisions of exact probability.
pub(crate) struct Draws(pub(crate) ChaCha20Rng);

impl Draws {
    /// Uniform below `n`, which is not 0.
    fn below(&mut self, n: u128) -> u128 {
        let bits = u128::BITS - (n - 1).leading_zeros();
        if bits <= u64::BITS {
            let mask = u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0);
            loop {
                let draw = u128::from(self.0.next_u64() & mask);
                if draw < n {
                    return draw;
                }
            }
        }
        loop {
            let draw = u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64());
            let draw = draw >> (u128::BITS - bits);
            if draw < n {
                return draw;
            }
        }
    }

    /// True with probability exp(-p/q).
    fn exponential(&mut self, p: u128, q: u128) -> bool {
        // exp(-1) once for each whole.
        let (whole, rest) = (p / q, p % q);
        (0..whole).all(|_| self.exponential_below_one(1, 1)) && self.exponential_below_one(rest, q)
    }

    /// True with probability exp(-p/q), p at most q: by whether the first of the events of
    /// probabilities p/q, p/2q, p/3q and so on that fails is of odd number.
    fn exponential_below_one(&mut self, p: u128, q: u128) -> bool {
        let mut number = 1u128;
        // Products that no longer fit mean a chance of 1 in (2^20)!, which is none.
        while q.checked_mul(number).is_some_and(|among| self.below(among) < p) {
            number += 1;
        }
        number % 2 == 1
    }

    /// An integer k with a probability proportional to exp(-|k| / scale).
    fn laplace(&mut self, scale: u64) -> i64 {
        let t = u128::from(scale);
        loop {
            let low = self.below(t);
            if !self.exponential_below_one(low, t) {
                continue;
            }
            let mut wholes = 0;
            while self.exponential_below_one(1, 1) {
                wholes += 1;
            }
            let magnitude = (low + t * wholes) as i64;
            let is_negative = self.0.next_u32() & 1 == 1;
            // Zero has one sign.
            if !(is_negative && magnitude == 0) {
                return if is_negative { -magnitude } else { magnitude };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_pcg::rand_core::SeedableRng;

    fn draws(seed: u8) -> Draws {
        Draws(ChaCha20Rng::from_seed([seed; 32]))
    }

    /// The chi-square statistic of counts against probabilities, within five standard deviations of
    /// its mean.
    #[track_caller]
    fn fits(counts: &[u64], probabilities: &[f64]) {
        let n: u64 = counts.iter().sum();
        let term = |(count, p): (&u64, &f64)| {
            let expected = p * n as f64;
            assert!(expected > 5.0, "a cell of {expected}");
            (*count as f64 - expected).powi(2) / expected
        };
        let statistic: f64 = counts.iter().zip(probabilities).map(term).sum();
        let freedom = (counts.len() - 1) as f64;
        let most = freedom + 5.0 * (2.0 * freedom).sqrt();
        assert!(statistic < most, "chi-square {statistic}, up to {most}");
    }

    #[test]
    fn exponential_decisions_have_their_probability() {
        for (p, q) in [(1, 3), (1, 1), (5, 2), (0, 7), (1 << 100, 3 << 100)] {
            let (mut draws, n) = (draws(1), 20_000);
            let yes = (0..n).filter(|_| draws.exponential(p, q)).count() as u64;
            let probability = (-(p as f64) / q as f64).exp();
            match probability {
                1.0 => assert_eq!(yes, n),
                p => fits(&[yes, n - yes], &[p, 1.0 - p]),
            }
        }
    }

    #[test]
    fn draws_have_the_probabilities_of_the_definition() {
        for deviation in [0.5, 1.0, 2.75, 9.3] {
            let gaussian = DiscreteGaussian::new(deviation).unwrap();
            let sigma = gaussian.deviation();
            let reach = (1.5 * sigma).max(1.0) as i64;
            let weight = |k: i64| (-(k * k) as f64 / (2.0 * sigma * sigma)).exp();
            let all: f64 = (-1000..=1000).map(weight).sum();
            let (mut draws, n) = (draws(2), 20_000u64);
            let mut counts = vec![0; 2 * reach as usize + 2];
            for _ in 0..n {
                // All further out are one cell, the last.
                let k = gaussian.draw(&mut draws);
                let cell = if k.abs() > reach { 2 * reach + 1 } else { k + reach };
                counts[cell as usize] += 1;
            }
            let mut probabilities: Vec<f64> = (-reach..=reach).map(|k| weight(k) / all).collect();
            probabilities.push(1.0 - probabilities.iter().sum::<f64>());
            fits(&counts, &probabilities);
        }
    }

    #[test]
    fn a_fine_grid_has_the_moments_and_tails_of_the_normal_distribution() {
        let (gaussian, mut draws) = (DiscreteGaussian::FINE, draws(3));
        let sigma = gaussian.deviation();
        assert_eq!(sigma, DiscreteGaussian::new(sigma).unwrap().deviation());
        let n = 40_000;
        let drawn: Vec<f64> = (0..n).map(|_| gaussian.draw(&mut draws) as f64 / sigma).collect();
        let moment = |power| drawn.iter().map(|x| x.powi(power)).sum::<f64>() / f64::from(n);
        // Variances of the powers of a normal variable: 1, 2, 15, 96.
        for (power, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let tolerance = 5.0 * f64::sqrt(variance / f64::from(n));
            assert!((moment(power) - expected).abs() < tolerance, "{power}: {}", moment(power));
        }
        let quantiles = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0];
        let cdf = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        let mut counts = [0; 8];
        for x in &drawn {
            counts[quantiles.iter().filter(|q| x >= *q).count()] += 1;
        }
        let edges: Vec<f64> = [0.0].into_iter().chain(quantiles.map(cdf)).chain([1.0]).collect();
        fits(&counts, &edges.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>());
    }

    #[test]
    fn a_deviation_is_rounded_up_by_little() {
        for asked in [1e-4, 0.1, 1.0, 1.0001, 3.3, 4095.99, 1e5 + 0.1, 6e7] {
            let got = DiscreteGaussian::new(asked).unwrap().deviation();
            assert!(
                got >= asked && got - asked <= (asked * 6e-8).max(1.0 / 4096.0),
                "{asked}: {got}"
            );
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 67_108_864.0] {
            assert!(DiscreteGaussian::new(bad).is_err(), "{bad}");
        }
    }
}
