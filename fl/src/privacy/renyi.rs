//! The Renyi divergence of the Gaussian mechanism on a Poisson sample (Mironov, Talwar & Zhang 2019,
//! section 3.3), in units of the natural logarithm.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// Terms of the series of a fractional order below this logarithm are left out.
const NEGLIGIBLE: f64 = -40.0;

/// Rates above this count as 1, which tells more: the series would take very many terms.
const NEARLY_ALL: f64 = 0.99;

/// What one round tells, at this order above 1: of clients that are each in it with probability `rate`,
/// sensitivity 1, and noise of deviation `sigma`.
pub(super) fn divergence(rate: f64, sigma: f64, order: f64) -> f64 {
    if rate == 0.0 {
        return 0.0;
    }
    if rate > NEARLY_ALL {
        return order / (2.0 * sigma * sigma);
    }
    let log_moment = match order.fract() == 0.0 {
        true => whole(rate, sigma, order as u32),
        false => fractional(rate, sigma, order),
    };
    // Rounding may leave a little below nothing.
    (log_moment / (order - 1.0)).max(0.0)
}

/// The binomial sum of an integer order.
fn whole(q: f64, sigma: f64, order: u32) -> f64 {
    let mut log_binomial = 0.0;
    let mut sum = f64::NEG_INFINITY;
    for k in 0..=order {
        let (i, n) = (f64::from(k), f64::from(order));
        let log_weight = log_binomial + i * q.ln() + (n - i) * (-q).ln_1p();
        sum = add(sum, log_weight + (i * i - i) / (2.0 * sigma * sigma));
        log_binomial += (n - i).ln() - (i + 1.0).ln();
    }
    sum
}

/// The two series of an order that is none, split at z0, where both densities are equal.
fn fractional(q: f64, sigma: f64, order: f64) -> f64 {
    let z0 = sigma * sigma * (1.0 / q - 1.0).ln() + 0.5;
    let spread = SQRT_2 * sigma;
    let (mut positive, mut negative) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    // The generalized binomial coefficient, its magnitude and its sign.
    let (mut log_binomial, mut is_positive) = (0.0, true);
    let mut i = 0.0;
    loop {
        let j = order - i;
        let side = |power: f64, other: f64, distance: f64| {
            let gaussian = (power * power - power) / (2.0 * sigma * sigma);
            let tail = log_erfc(distance / spread) - LN_2;
            log_binomial + power * q.ln() + other * (-q).ln_1p() + gaussian + tail
        };
        let (below, above) = (side(i, j, i - z0), side(j, i, z0 - j));
        let sum = if is_positive { &mut positive } else { &mut negative };
        *sum = add(add(*sum, below), above);
        // Behind the order, terms shrink and change signs.
        if i > order && below.max(above) < NEGLIGIBLE {
            return subtract(positive, negative);
        }
        log_binomial += j.abs().ln() - (i + 1.0).ln();
        is_positive ^= j < 0.0;
        i += 1.0;
    }
}

/// ln(e^a + e^b).
fn add(a: f64, b: f64) -> f64 {
    let (high, low) = (a.max(b), a.min(b));
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// ln(e^a - e^b), a at least b.
fn subtract(a: f64, b: f64) -> f64 {
    if b == f64::NEG_INFINITY { a } else { a + (-(b - a).exp()).ln_1p() }
}

/// ln(erfc(x)).
fn log_erfc(x: f64) -> f64 {
    if x < 20.0 {
        return libm::erfc(x).ln();
    }
    // The asymptotic series; its next term is below 10^-10.
    let square = 1.0 / (2.0 * x * x);
    let series = 1.0 - square * (1.0 - 3.0 * square * (1.0 - 5.0 * square));
    -x * x - (x * PI.sqrt()).ln() + series.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of dp-accounting 0.4.4 (PyPI), `RdpAccountant(orders).compose(PoissonSampledDpEvent(q,
    /// GaussianDpEvent(sigma)))`, its `_rdp`. Of fractional orders it adds all terms of the series, whatever their
    /// sign, and so has more than the integral.
    #[test]
    fn whole_orders_are_those_of_another_implementation() {
        for (q, sigma, order, expected) in [
            (0.01, 1.5, 2.0, 5.596078392680444e-05),
            (0.01, 1.5, 4.0, 0.0001134103842810976),
            (0.01, 1.5, 8.0, 0.00023316833171760603),
            (0.01, 1.5, 32.0, 2.3574932607812142),
            (0.1, 0.7, 2.0, 0.06482182297604114),
            (0.1, 0.7, 4.0, 1.055932052887462),
            (0.1, 0.7, 8.0, 5.531745913672812),
            (0.1, 0.7, 256.0, 258.9128749574616),
        ] {
            let found = divergence(q, sigma, order);
            assert!((found / expected - 1.0).abs() < 1e-9, "{q} {sigma} {order}: {found}");
        }
    }

    /// The definition: the moment of the ratio of densities, by the trapezoid rule, which of such
    /// integrals has all digits.
    #[test]
    fn divergences_are_those_of_the_integral() {
        for (q, sigma) in [(0.01, 1.5), (0.1, 0.7), (0.5, 2.0), (0.9, 1.0)] {
            for order in [1.1, 1.5, 2.0, 2.5, 6.3, 9.9, 12.0] {
                let (step, reach) = (sigma / 64.0, 30.0 * sigma);
                let term = |i: i32| {
                    let z = f64::from(i) * step;
                    let density =
                        (-z * z / (2.0 * sigma * sigma)).exp() / (2.0 * PI).sqrt() / sigma;
                    let ratio = 1.0 - q + q * ((2.0 * z - 1.0) / (2.0 * sigma * sigma)).exp();
                    density * ratio.powf(order) * step
                };
                let reach = (reach / step) as i32;
                let moment: f64 = (-reach..=reach).map(term).sum();
                let (found, expected) = (divergence(q, sigma, order), moment.ln() / (order - 1.0));
                // The logarithm of a number so near 1 loses digits.
                let tolerance = 1e-12 / (order - 1.0) + 1e-7 * expected;
                assert!(
                    (found - expected).abs() < tolerance,
                    "{q} {sigma} {order}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn fractional_orders_lie_between_whole_ones() {
        for (q, sigma) in [(0.004, 1.1), (0.1, 1.0), (0.5, 2.0), (0.9, 0.8), (0.99, 5.0)] {
            for order in 2..40 {
                let at = |offset| divergence(q, sigma, f64::from(order) + offset);
                let [low, middle, high] = [0.0, 0.5, 1.0].map(at);
                assert!(
                    low <= middle && middle <= high,
                    "{q} {sigma} {order}: {low} {middle} {high}"
                );
            }
        }
    }

    #[test]
    fn a_sample_of_all_is_the_gaussian_mechanism() {
        assert_eq!(divergence(1.0, 2.0, 8.0), 1.0);
        let nearly = whole(1.0 - 1e-9, 2.0, 8) / 7.0;
        assert!((nearly - 1.0).abs() < 1e-6, "{nearly}");
        assert!(divergence(NEARLY_ALL, 2.0, 8.0) < 1.0);
        assert_eq!(divergence(0.0, 2.0, 8.0), 0.0);
    }

    #[test]
    fn tails_join() {
        let (below, above) = (log_erfc(20.0 - 1e-9), log_erfc(20.0));
        assert!((below - above).abs() < 1e-6, "{below} {above}");
    }
}
