//! [`Sums`]: exact weighted sums of f32 values.

/// Bits behind the binary point of a sum.
const FRACTION_BITS: i32 = 60;

/// Units of a sum in 1.
pub(crate) const UNITS: f64 = (1i64 << FRACTION_BITS) as f64;

/// Values at and above this magnitude are refused: with weights below 2^35 in all, no sum of
/// smaller ones overflows 127 bits.
pub(crate) const MAX_VALUE: f32 = 2147483648.0;

/// Highest sum of weights.
pub(crate) const MAX_WEIGHT: u64 = 1 << 35;

/// A product of an f32 with a weight up to this is exact in f64.
const MAX_SMALL_WEIGHT: u32 = (1 << 29) - 1;

/// Products of fewer half units than this are added as integers of 64 bits.
const MAX_SMALL_HALVES: f64 = (1u64 << 63) as f64;

/// For each coordinate of one parameter: the sum of weight times value in units of 2^-60, and the
/// sum of the weights of those who had it. Exact where |value| >= 2^-36, to 2^-61 below; adding
/// integers, so no order shows.
///
/// Either sum is in two parts, of which the upper one is touched only when the lower one overflows: what is
/// read and written for each value of an update is what bounds how fast updates are folded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sums {
    /// A sum of values is `upper * 2^64 + lower`.
    lower: Vec<i64>,
    upper: Vec<i64>,
    /// A sum of weights is `upper_weights * 2^32 + lower_weights`.
    lower_weights: Vec<u32>,
    upper_weights: Vec<u8>,
    /// What is added is a multiple of so many units; products go to the next one towards zero.
    grid: i128,
}

impl Sums {
    pub(crate) fn zeros(n: usize) -> Self {
        let (lower, upper) = (vec![0; n], vec![0; n]);
        Self { lower, upper, lower_weights: vec![0; n], upper_weights: vec![0; n], grid: 1 }
    }

    /// From sums, with as many weights, each at most [`MAX_WEIGHT`].
    pub(crate) fn new(values: &[i128], weights: &[u64]) -> Self {
        let (lower, upper) = values.iter().map(|value| parted(*value)).unzip();
        let weights = weights.iter().map(|weight| (*weight as u32, (*weight >> 32) as u8));
        let (lower_weights, upper_weights) = weights.unzip();
        Self { lower, upper, lower_weights, upper_weights, grid: 1 }
    }

    /// The same on a grid of so many units.
    pub(crate) fn on_grid(self, grid: i128) -> Self {
        Self { grid, ..self }
    }

    /// How many coordinates there are.
    pub(crate) fn len(&self) -> usize {
        self.lower.len()
    }

    /// The sum of values of each coordinate.
    pub(crate) fn values(&self) -> impl Iterator<Item = i128> {
        self.lower.iter().zip(&self.upper).map(|(lower, upper)| joined(*lower, *upper))
    }

    /// The sum of weights of each.
    pub(crate) fn weights(&self) -> impl Iterator<Item = u64> {
        let parts = self.lower_weights.iter().zip(&self.upper_weights);
        parts.map(|(lower, upper)| u64::from(*upper) << 32 | u64::from(*lower))
    }

    fn value(&self, i: usize) -> i128 {
        joined(self.lower[i], self.upper[i])
    }

    /// Adds consecutive values. The caller has checked them against [`MAX_VALUE`] and the weights
    /// against [`MAX_WEIGHT`].
    pub(crate) fn add(&mut self, at: usize, values: &[f32], weight: u32) {
        if self.grid > 1 || weight > MAX_SMALL_WEIGHT {
            self.add_large(at, values, weight);
        } else {
            self.add_small(at, values, weight);
        }
        let range = at..at + values.len();
        let upper = &mut self.upper_weights[range.clone()];
        for (lower, upper) in self.lower_weights[range].iter_mut().zip(upper) {
            let overflows;
            (*lower, overflows) = lower.overflowing_add(weight);
            *upper += u8::from(overflows);
        }
    }

    /// Of a weight up to [`MAX_SMALL_WEIGHT`]: nearly all products are small, and those are integers of 64 bits.
    fn add_small(&mut self, at: usize, values: &[f32], weight: u32) {
        let halves_of = f64::from(weight) * (2.0 * UNITS);
        for (lower, upper, value) in self.parts(at, values) {
            // Exact, as 24 bits times 29 are.
            let halves = f64::from(value) * halves_of;
            if halves.abs() >= MAX_SMALL_HALVES {
                (*lower, *upper) = parted(joined(*lower, *upper) + fixed(value, weight));
                continue;
            }
            let halves = halves as i64;
            // To the nearest unit, halves away from zero.
            let product = (halves + 1 + (halves >> 63)) >> 1;
            let overflows;
            (*lower, overflows) = lower.overflowing_add(product);
            if overflows {
                *upper += product.signum();
            }
        }
    }

    fn add_large(&mut self, at: usize, values: &[f32], weight: u32) {
        let grid = self.grid;
        for (lower, upper, value) in self.parts(at, values) {
            let product = fixed(value, weight);
            let beyond = if grid > 1 { product % grid } else { 0 };
            (*lower, *upper) = parted(joined(*lower, *upper) + product - beyond);
        }
    }

    /// Both parts of the sums of values from `at` on, each with what is to be added.
    fn parts<'a>(
        &'a mut self,
        at: usize,
        values: &'a [f32],
    ) -> impl Iterator<Item = (&'a mut i64, &'a mut i64, f32)> {
        let range = at..at + values.len();
        let sums = self.lower[range.clone()].iter_mut().zip(&mut self.upper[range]);
        sums.zip(values).map(|((lower, upper), value)| (lower, upper, *value))
    }

    /// Adds other sums. The caller has checked that all weights together stay within
    /// [`MAX_WEIGHT`], so nothing overflows.
    pub(crate) fn merge(&mut self, other: &Self) {
        let sums = self.lower.iter_mut().zip(&mut self.upper);
        for ((lower, upper), more) in sums.zip(other.values()) {
            (*lower, *upper) = parted(joined(*lower, *upper) + more);
        }
        let weights = self.lower_weights.iter_mut().zip(&mut self.upper_weights);
        for ((lower, upper), more) in weights.zip(other.weights()) {
            let weight = (u64::from(*upper) << 32 | u64::from(*lower)) + more;
            (*lower, *upper) = (weight as u32, (weight >> 32) as u8);
        }
    }

    /// The mean over `weight`; zero where nobody added.
    pub(crate) fn mean(&self, i: usize, weight: u64) -> f64 {
        if weight == 0 { 0.0 } else { self.value(i) as f64 / UNITS / weight as f64 }
    }

    /// The same with so many steps of the grid added to the sum.
    pub(crate) fn noisy_mean(&self, i: usize, steps: i64, weight: u64) -> f64 {
        (self.value(i) + i128::from(steps) * self.grid) as f64 / UNITS / weight as f64
    }
}

fn joined(lower: i64, upper: i64) -> i128 {
    (i128::from(upper) << 64) + i128::from(lower)
}

fn parted(sum: i128) -> (i64, i64) {
    let lower = sum as i64;
    (lower, ((sum - i128::from(lower)) >> 64) as i64)
}

/// `weight * value` in units of 2^-60, rounded half away from zero.
#[inline]
fn fixed(value: f32, weight: u32) -> i128 {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32;
    let hidden = if exponent == 0 { 0 } else { 1 << 23 };
    let mantissa = u64::from(bits & 0x7f_ffff | hidden) * u64::from(weight);
    // value = mantissa * 2^(exponent - 150), or 2^-149 for subnormal ones.
    let shift = exponent.max(1) - 150 + FRACTION_BITS;
    let magnitude = if shift >= 0 {
        i128::from(mantissa) << shift
    } else {
        let shift = (-shift).min(63) as u32;
        i128::from((mantissa >> (shift - 1)).div_ceil(2))
    };
    if bits >> 31 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_arithmetic() {
        let one = 1i128 << 60;
        assert_eq!(fixed(1.0, 1), one);
        assert_eq!(fixed(-1.5, 3), -one * 9 / 2);
        assert_eq!(fixed(0.0, 7), 0);
        assert_eq!(fixed(-0.0, 7), 0);
        assert_eq!(fixed(2f32.powi(-36), u32::MAX), (one >> 36) * i128::from(u32::MAX));
        // The smallest value that is exact, and one below: 24 bits down to 2^-60.
        assert_eq!(fixed(2f32.powi(-60), 1), 1);
        assert_eq!(fixed(2f32.powi(-61), 1), 1);
        assert_eq!(fixed(2f32.powi(-62), 1), 0);
        assert_eq!(fixed(-2f32.powi(-61) * 3.0, 1), -2);
        assert_eq!(fixed(f32::from_bits(1), u32::MAX), 0);
        assert_eq!(fixed(f32::MIN_POSITIVE, u32::MAX), 0);
    }

    #[test]
    fn the_largest_sum_fits() {
        let largest = f32::from_bits(MAX_VALUE.to_bits() - 1);
        let each = fixed(largest, u32::MAX);
        let times = i128::from(MAX_WEIGHT / u64::from(u32::MAX) + 1);
        assert!(each.checked_mul(times).is_some());
        assert!(each > i128::MAX / times / 4, "the bound is not loose");
    }

    /// So that noise on the grid hides them, and no norm grows.
    #[test]
    fn products_go_to_the_grid_towards_zero() {
        let grid = 1i128 << 50 | 12_345;
        for value in [0.3f32, -0.3, 1e-4, -1e-4, 7e-5, 0.0, 123.456] {
            let mut sums = Sums::zeros(1).on_grid(grid);
            sums.add(0, &[value], 1);
            let (found, exact) = (sums.value(0), fixed(value, 1));
            assert_eq!(found % grid, 0);
            assert!(found.abs() <= exact.abs() && (exact - found).abs() < grid);
            assert!(found.signum() == exact.signum() || found == 0);
        }
    }

    #[test]
    fn the_mean_of_equal_values_is_the_value() {
        let mut sums = Sums::zeros(1);
        let value = 0.123_456_79_f32;
        (1..100).for_each(|weight| sums.add(0, &[value], weight));
        assert_eq!(sums.mean(0, sums.weights().sum()) as f32, value);
    }

    /// Sums of any values and weights, however many of them carry, are those of integers of 128 bits.
    #[test]
    fn parts_add_up_to_the_sums_of_integers() {
        let draw = |i: u64, part: u64| fedpress::derive_key(&[i, part]);
        let (mut sums, mut values, mut weights) = (Sums::zeros(64), [0i128; 64], [0u64; 64]);
        for i in 0..20_000u64 {
            // Of all exponents below that of the bound, of both signs.
            let exponent = (draw(i, 0) % (127 + 31)) as u32;
            let bits = exponent << 23 | (draw(i, 1) as u32 & 0x807f_ffff);
            let value = f32::from_bits(bits);
            let weight = (draw(i, 2) as u32 >> (draw(i, 3) % 32)).max(1) >> 8;
            let at = (draw(i, 4) % 64) as usize;
            sums.add(at, &[value], weight);
            values[at] += fixed(value, weight);
            weights[at] += u64::from(weight);
        }
        assert!(sums.values().eq(values));
        assert!(sums.weights().eq(weights));
        assert!(sums.upper.iter().any(|upper| *upper < 0) && sums.upper.iter().any(|u| *u > 0));
        assert_eq!(sums, Sums::new(&values, &weights));
        let mut twice = Sums::zeros(64);
        twice.merge(&sums);
        twice.merge(&sums);
        assert!(twice.values().eq(values.map(|value| 2 * value)));
        assert!(twice.weights().eq(weights.map(|weight| 2 * weight)));
    }

    /// The two ways of adding agree, halves of a unit and both sides of what is small included.
    #[test]
    fn small_products_are_those_of_arithmetic() {
        for exponent in -149..31 {
            for mantissa in [1.0, 1.5, 1.25, 1.999_999_9, 1.000_000_1] {
                for weight in [1, 2, 3, 5, 301, MAX_SMALL_WEIGHT, MAX_SMALL_WEIGHT + 1, u32::MAX] {
                    for value in [mantissa, -mantissa].map(|m| (m * 2f64.powi(exponent)) as f32) {
                        let mut sums = Sums::zeros(1);
                        sums.add(0, &[value], weight);
                        assert_eq!(sums.value(0), fixed(value, weight), "{value:e} times {weight}");
                    }
                }
            }
        }
    }

    /// Weights beyond 32 bits are counted.
    #[test]
    fn weights_carry() {
        let mut sums = Sums::zeros(1);
        (0..8).for_each(|_| sums.add(0, &[1.0], u32::MAX));
        assert_eq!(sums.weights().sum::<u64>(), 8 * u64::from(u32::MAX));
        assert_eq!(sums.value(0), (8 * i128::from(u32::MAX)) << 60);
    }
}
