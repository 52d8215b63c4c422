//! [`Accountant`]: how much a training has told of a client.

use super::renyi::divergence;
use crate::{Error, Result};

/// Sums what rounds tell, as Renyi differential privacy (Mironov 2017) at many orders: of the Gaussian
/// mechanism with Poisson sampling (Mironov, Talwar & Zhang 2019), for neighbours that differ by one client
/// that is there or not.
///
/// Discrete Gaussian noise tells no more than Gaussian noise of the same deviation (Canonne, Kamath & Steinke
/// 2020); on a sample that holds up to relative terms of exp(-2 pi^2 sigma^2), sigma in units of the grid,
/// which is 2^24 at a server and at least 3 for each client.
///
/// ```
/// // DP-SGD on MNIST: batches of 256, 60 epochs.
/// let mut spent = fedpress_fl::Accountant::new();
/// spent.add(256.0 / 60_000.0, 1.1, 60 * 60_000 / 256)?;
/// assert!((spent.epsilon(1e-5)? - 2.60).abs() < 0.01);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Accountant {
    /// At each of [`orders`].
    spent: Vec<f64>,
}

/// 1.1 to 10.9 by tenths, whole ones to 64, then a few more.
fn orders() -> impl Iterator<Item = f64> {
    let tenths = (11..110).map(|tenths| f64::from(tenths) / 10.0);
    let whole = (11..=64).map(f64::from);
    tenths.chain(whole).chain([80.0, 96.0, 128.0, 192.0, 256.0, 512.0, 1024.0])
}

/// No noise multiplier above this is looked for.
const MOST_NOISE: f64 = (1u64 << 20) as f64;

impl Default for Accountant {
    fn default() -> Self {
        Self::new()
    }
}

impl Accountant {
    /// Nothing told yet.
    pub fn new() -> Self {
        Self { spent: orders().map(|_| 0.0).collect() }
    }

    /// So many rounds more, in each of which a client takes part with probability `rate`, and whose sum
    /// has noise of so many times the sensitivity.
    ///
    /// # Errors
    /// `InvalidArgument` for a rate that is no probability, or noise that is not above 0.
    pub fn add(&mut self, rate: f64, noise_multiplier: f64, rounds: u64) -> Result<()> {
        check_rate(rate)?;
        if !(noise_multiplier > 0.0 && noise_multiplier.is_finite()) {
            let message = format!("noise_multiplier: expected above 0, found {noise_multiplier}");
            return Err(Error::invalid(message));
        }
        for (spent, order) in self.spent.iter_mut().zip(orders()) {
            *spent += rounds as f64 * divergence(rate, noise_multiplier, order);
        }
        Ok(())
    }

    /// The smallest epsilon for which all of it is (epsilon, delta)-differentially private, by the
    /// conversion of Canonne, Kamath & Steinke 2020 (proposition 12; Balle et al. 2020) at the best
    /// of its orders.
    ///
    /// # Errors
    /// `InvalidArgument` for a delta that is not between 0 and 1.
    pub fn epsilon(&self, delta: f64) -> Result<f64> {
        if !(delta > 0.0 && delta < 1.0) {
            let message = format!("delta: expected above 0 and below 1, found {delta}");
            return Err(Error::invalid(message));
        }
        if self.spent.iter().all(|spent| *spent == 0.0) {
            return Ok(0.0);
        }
        let epsilon = |(spent, order): (&f64, f64)| {
            spent + (-1.0 / order).ln_1p() - (delta * order).ln() / (order - 1.0)
        };
        let least = self.spent.iter().zip(orders()).map(epsilon).fold(f64::INFINITY, f64::min);
        Ok(least.max(0.0))
    }

    /// The smallest noise multiplier, to a part in a million and never below, with which so many rounds
    /// stay within (epsilon, delta).
    ///
    /// # Errors
    /// `InvalidArgument` for what is no rate, epsilon or delta, or where no multiplier up to 2^20 is
    /// enough.
    pub fn noise_multiplier(epsilon: f64, delta: f64, rate: f64, rounds: u64) -> Result<f64> {
        check_rate(rate)?;
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(Error::invalid(format!("epsilon: expected above 0, found {epsilon}")));
        }
        let spends = |noise: f64| {
            let mut accountant = Self::new();
            accountant.add(rate, noise, rounds)?;
            accountant.epsilon(delta)
        };
        let (mut low, mut high) = (1.0 / 16.0, 1.0);
        while spends(high)? > epsilon {
            (low, high) = (high, 2.0 * high);
            if high > MOST_NOISE {
                let message = format!("epsilon {epsilon} at delta {delta}: no noise is enough");
                return Err(Error::invalid(message));
            }
        }
        while high / low > 1.0 + 1e-6 {
            let middle = f64::midpoint(low, high);
            if spends(middle)? > epsilon { low = middle } else { high = middle }
        }
        Ok(high)
    }
}

fn check_rate(rate: f64) -> Result<()> {
    match (0.0..=1.0).contains(&rate) {
        true => Ok(()),
        false => Err(Error::invalid(format!("rate: expected 0 to 1, found {rate}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epsilon(rate: f64, noise: f64, rounds: u64, delta: f64) -> f64 {
        let mut accountant = Accountant::new();
        accountant.add(rate, noise, rounds).unwrap();
        accountant.epsilon(delta).unwrap()
    }

    /// Of dp-accounting 0.4.4 (PyPI), at whole orders alone: `RdpAccountant(orders)` with orders 2 to 64, 80,
    /// 96, 128, 192, 256, 512, 1024, its `get_epsilon(delta)`; and what its `PLDAccountant` has, which is
    /// nearly exact. The first is the example of TensorFlow Privacy's tutorial, which the older conversion
    /// puts at 3.01.
    #[test]
    fn budgets_are_those_of_another_implementation() {
        for (rate, noise, rounds, delta, expected, exact) in [
            (256.0 / 60_000.0, 1.1, 14_062, 1e-5, 2.59698, 2.38169),
            (250.0 / 60_000.0, 1.3, 3600, 1e-5, 0.94220, 0.85303),
            (0.01, 1.0, 1000, 1e-5, 2.10775, 1.82824),
            (0.1, 1.0, 200, 1e-5, 11.14415, 9.97128),
            (0.1, 0.7, 30, 1e-5, 12.07129, 8.73305),
            (0.1, 3.0, 50, 1e-5, 1.07728, 0.97082),
            (1.0, 5.0, 20, 1e-6, 4.62243, 4.30584),
            (1.0, 1.0, 1, 1e-5, 4.75273, 4.37718),
            (0.001, 0.6, 10_000, 1e-7, 5.03705, 3.84496),
        ] {
            let mut accountant = Accountant::new();
            accountant.add(rate, noise, rounds).unwrap();
            let all = accountant.epsilon(delta).unwrap();
            for (spent, order) in accountant.spent.iter_mut().zip(orders()) {
                *spent = if order.fract() == 0.0 { *spent } else { f64::INFINITY };
            }
            let whole = accountant.epsilon(delta).unwrap();
            assert!((whole - expected).abs() < 2e-5, "{rate} {noise} {rounds}: {whole}");
            assert!(exact < all && all <= whole, "{rate} {noise} {rounds}: {all}");
        }
    }

    /// What proposition 12 improves on: epsilon + ln(1/delta) / (order - 1), published as 3.01 for this
    /// training (Abadi et al. 2016 by TensorFlow Privacy's tutorial).
    #[test]
    fn the_older_conversion_gives_the_published_value() {
        let mut accountant = Accountant::new();
        accountant.add(256.0 / 60_000.0, 1.1, 14_062).unwrap();
        let old = |(spent, order): (&f64, f64)| spent + 1e5f64.ln() / (order - 1.0);
        let least = accountant.spent.iter().zip(orders()).map(old).fold(f64::INFINITY, f64::min);
        assert!((least - 3.008).abs() < 1e-3, "{least}");
    }

    /// The curve of one Gaussian mechanism is known (Balle & Wang 2018): delta(epsilon) =
    /// P(1/2s - es) - e^epsilon P(-1/2s - es), P the normal distribution.
    #[test]
    fn no_budget_is_below_the_exact_one_of_the_gaussian_mechanism() {
        let normal = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        for (noise, delta) in [(0.5, 1e-5), (1.0, 1e-5), (4.0, 1e-3), (10.0, 1e-6)] {
            let found = epsilon(1.0, noise, 1, delta);
            let [a, b] = [0.5, -0.5].map(|half| normal(half / noise - found * noise));
            let exact = a - found.exp() * b;
            assert!(exact <= delta && exact > delta / 20.0, "{noise}: {exact}");
        }
    }

    #[test]
    fn rounds_add_up_and_less_is_told_by_more_noise_and_fewer() {
        let mut parts = Accountant::new();
        assert_eq!(parts.epsilon(1e-5).unwrap(), 0.0);
        parts.add(0.1, 2.0, 30).unwrap();
        parts.add(0.1, 2.0, 70).unwrap();
        let whole = epsilon(0.1, 2.0, 100, 1e-5);
        assert!((parts.epsilon(1e-5).unwrap() - whole).abs() < 1e-9);
        assert!(epsilon(0.1, 2.1, 100, 1e-5) < whole);
        assert!(epsilon(0.09, 2.0, 100, 1e-5) < whole);
        assert!(epsilon(0.1, 2.0, 99, 1e-5) < whole);
        assert!(epsilon(0.1, 2.0, 100, 1e-6) > whole);
    }

    /// By `calibrate_dp_mechanism` of dp-accounting 0.4.4.
    #[test]
    fn noise_is_found_for_a_budget() {
        for (rate, rounds, budget, expected) in
            [(0.1, 100, 2.0, 2.4224), (0.01, 1000, 1.0, 1.51312), (1.0, 10, 8.0, 2.01649)]
        {
            let noise = Accountant::noise_multiplier(budget, 1e-5, rate, rounds).unwrap();
            assert!((noise - expected).abs() < 1e-4, "{noise}");
            assert!(epsilon(rate, noise, rounds, 1e-5) <= budget);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut accountant = Accountant::new();
        for (rate, noise) in [(-0.1, 1.0), (1.1, 1.0), (f64::NAN, 1.0), (0.1, 0.0), (0.1, f64::NAN)]
        {
            assert!(accountant.add(rate, noise, 1).is_err());
        }
        assert_eq!(accountant, Accountant::new());
        for delta in [0.0, 1.0, f64::NAN] {
            assert!(accountant.epsilon(delta).is_err());
            assert!(Accountant::noise_multiplier(1.0, delta, 0.1, 10).is_err());
        }
        assert!(Accountant::noise_multiplier(0.0, 1e-5, 0.1, 10).is_err());
        assert!(Accountant::noise_multiplier(1e-9, 1e-5, 1.0, u64::MAX).is_err());
    }
}
