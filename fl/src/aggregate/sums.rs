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

/// For each coordinate of one parameter: the sum of weight times value in units of 2^-60, and the
/// sum of the weights of those who had it. Exact where |value| >= 2^-36, to 2^-61 below; adding
/// integers, so no order shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sums {
    pub(crate) values: Vec<i128>,
    pub(crate) weights: Vec<u64>,
    /// What is added is a multiple of so many units; products go to the next one towards zero.
    grid: i128,
}

impl Sums {
    pub(crate) fn zeros(n: usize) -> Self {
        Self::new(vec![0; n], vec![0; n])
    }

    pub(crate) fn new(values: Vec<i128>, weights: Vec<u64>) -> Self {
        Self { values, weights, grid: 1 }
    }

    /// The same on a grid of so many units.
    pub(crate) fn on_grid(self, grid: i128) -> Self {
        Self { grid, ..self }
    }

    /// Adds consecutive values. The caller has checked them against [`MAX_VALUE`] and the weights
    /// against [`MAX_WEIGHT`].
    pub(crate) fn add(&mut self, at: usize, values: &[f32], weight: u32) {
        let range = at..at + values.len();
        for (sum, value) in self.values[range.clone()].iter_mut().zip(values) {
            let product = fixed(*value, weight);
            *sum += product - if self.grid > 1 { product % self.grid } else { 0 };
        }
        self.weights[range].iter_mut().for_each(|w| *w += u64::from(weight));
    }

    /// Adds other sums. The caller has checked that all weights together stay within
    /// [`MAX_WEIGHT`], so nothing overflows.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.values.iter_mut().zip(&other.values).for_each(|(sum, more)| *sum += more);
        self.weights.iter_mut().zip(&other.weights).for_each(|(sum, more)| *sum += more);
    }

    /// The mean over `weight`; zero where nobody added.
    pub(crate) fn mean(&self, i: usize, weight: u64) -> f64 {
        if weight == 0 { 0.0 } else { self.values[i] as f64 / UNITS / weight as f64 }
    }

    /// The same with so many steps of the grid added to the sum.
    pub(crate) fn noisy_mean(&self, i: usize, steps: i64, weight: u64) -> f64 {
        (self.values[i] + i128::from(steps) * self.grid) as f64 / UNITS / weight as f64
    }
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
            let (found, exact) = (sums.values[0], fixed(value, 1));
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
        assert_eq!(sums.mean(0, sums.weights[0]) as f32, value);
    }
}
