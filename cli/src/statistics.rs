//! What the values of a tensor are like, in one pass.

use fedpress::{DType, numbers};
use serde::Serialize;

/// Values whose moments are taken together, about their own mean.
const BLOCK: usize = 4096;

/// Counts and central moments, of finite values; the others are counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    n: f64,
    mean: f64,
    /// Sums of powers of the distance to the mean.
    second: f64,
    third: f64,
    fourth: f64,
    zeros: u64,
    nan: u64,
    infinite: u64,
}

/// The same as people know them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Described {
    /// None where there are no finite values.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub deviation: Option<f64>,
    /// Fourth central moment over the squared variance: 3 for a Gaussian, more with outliers. None
    /// where all values are the same.
    pub kurtosis: Option<f64>,
    pub zeros: u64,
    pub nan: u64,
    pub infinite: u64,
}

impl Statistics {
    /// Takes in whole elements; false for a type that is not known.
    pub fn update(&mut self, dtype: DType, bytes: &[u8]) -> bool {
        let mut values = Vec::with_capacity(2 * BLOCK);
        let size = dtype.byte_len(BLOCK).max(1);
        bytes.chunks(size).all(|block| {
            values.clear();
            let known = numbers(dtype, block, &mut values);
            self.add(&mut values);
            known
        })
    }

    fn add(&mut self, values: &mut Vec<f64>) {
        self.nan += values.iter().filter(|v| v.is_nan()).count() as u64;
        self.infinite += values.iter().filter(|v| v.is_infinite()).count() as u64;
        values.retain(|v| v.is_finite());
        self.zeros += values.iter().filter(|v| **v == 0.0).count() as u64;
        if values.is_empty() {
            return;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let mut block = Self { n, mean, ..Self::default() };
        for value in values.iter() {
            let d = value - mean;
            let square = d * d;
            block.second += square;
            block.third += square * d;
            block.fourth += square * square;
        }
        self.merge(&block);
    }

    /// Moments of both about their common mean (Chan, Golub and LeVeque 1979; Pebay 2008).
    fn merge(&mut self, b: &Self) {
        let n = self.n + b.n;
        let d = b.mean - self.mean;
        let (p, q) = (self.n / n, b.n / n);
        self.fourth += b.fourth
            + d.powi(4) * self.n * q * (p * p - p * q + q * q)
            + 6.0 * d * d * (p * p * b.second + q * q * self.second)
            + 4.0 * d * (p * b.third - q * self.third);
        self.third +=
            b.third + d.powi(3) * self.n * q * (p - q) + 3.0 * d * (p * b.second - q * self.second);
        self.second += b.second + d * d * self.n * q;
        self.mean += d * q;
        self.n = n;
    }

    /// Mean, deviation and so on.
    pub fn described(&self) -> Described {
        let some = |value: f64| (self.n > 0.0 && value.is_finite()).then_some(value);
        let variance = self.second / self.n;
        Described {
            mean: some(self.mean),
            deviation: some(variance.sqrt()),
            kurtosis: some(self.fourth / self.n / (variance * variance)),
            zeros: self.zeros,
            nan: self.nan,
            infinite: self.infinite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32], pieces: usize) -> Described {
        let mut statistics = Statistics::default();
        for piece in values.chunks(values.len().div_ceil(pieces).max(1)) {
            let bytes: Vec<u8> = piece.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert!(statistics.update(DType::F32, &bytes));
        }
        statistics.described()
    }

    #[test]
    fn moments_are_those_of_the_textbook_in_any_split() {
        // Far from zero, where sums of powers lose all digits.
        let values: Vec<f32> =
            (0..50_000u32).map(|i| 1000.0 + ((i * 7919) % 1009) as f32 / 1009.0).collect();
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let moment = |k| values.iter().map(|v| (f64::from(*v) - mean).powi(k)).sum::<f64>() / n;
        for pieces in [1, 3, 10] {
            let d = of(&values, pieces);
            let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9 * b.abs();
            assert!(near(d.mean, mean) && near(d.deviation, moment(2).sqrt()), "{d:?}");
            assert!(near(d.kurtosis, moment(4) / moment(2).powi(2)), "{d:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_counted_apart() {
        let d = of(&[f32::NAN, f32::INFINITY, 1.0, 3.0, -0.0, 0.0], 1);
        assert_eq!((d.nan, d.infinite, d.zeros, d.mean), (1, 1, 2, Some(1.0)));
        let none = of(&[f32::NAN, f32::NAN, f32::NEG_INFINITY], 3);
        assert_eq!((none.nan, none.infinite, none.mean, none.deviation), (2, 1, None, None));
        let same = of(&[2.0; 10], 2);
        assert_eq!((same.deviation, same.kurtosis), (Some(0.0), None));
        assert_eq!(of(&[], 1).mean, None);
    }
}
