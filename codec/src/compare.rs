//! How far a decoded tensor is from the original.

use crate::numbers::numbers;
use crate::{DType, Error, Result};

/// Differences between two tensors, summed up in f64.
///
/// ```
/// let a: Vec<u8> = [3.0f32, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
/// let b: Vec<u8> = [3.0f32, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
/// let mut comparison = fedpress::Comparison::default();
/// comparison.update(fedpress::DType::F32, &a, &b)?;
/// assert_eq!(comparison.nmse(), 1.0 / 25.0);
/// assert_eq!(comparison.max_error(), 1.0);
/// # Ok::<(), fedpress::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Comparison {
    n_values: u64,
    n_different: u64,
    n_zero_signs: u64,
    n_sign_flips: u64,
    n_zeros_lost: u64,
    n_non_finite: u64,
    squared_error: f64,
    squared_a: f64,
    squared_b: f64,
    product: f64,
    max_error: f64,
}

/// Elements compared at a time; whole bytes of every type.
const BLOCK: usize = 4096;

impl Comparison {
    /// Takes in elements of the original `a` and of `b`, little-endian, those of less than a byte packed
    /// as in [`numbers`].
    ///
    /// # Errors
    /// `InvalidArgument` if they are not equally many whole elements, or of a type that is not known.
    pub fn update(&mut self, dtype: DType, a: &[u8], b: &[u8]) -> Result<()> {
        let size = (dtype.bits() / 8).max(1);
        if a.len() != b.len() || a.len() % size != 0 || dtype.bits() == 0 {
            return Err(Error::invalid(format!(
                "cannot compare {} with {} bytes of {dtype}",
                a.len(),
                b.len()
            )));
        }
        let block = dtype.byte_len(BLOCK);
        let (mut xs, mut ys) = (Vec::with_capacity(2 * BLOCK), Vec::with_capacity(2 * BLOCK));
        for (a, b) in a.chunks(block).zip(b.chunks(block)) {
            xs.clear();
            ys.clear();
            numbers(dtype, a, &mut xs);
            numbers(dtype, b, &mut ys);
            self.n_values += xs.len() as u64;
            if a == b {
                self.add_equal(&xs);
            } else if matches!(dtype, DType::I64 | DType::U64) {
                self.add_integers(dtype, [a, b], [&xs, &ys]);
            } else {
                xs.iter().zip(&ys).for_each(|(x, y)| self.add(*x, *y, x - y));
            }
        }
        Ok(())
    }

    fn add_equal(&mut self, xs: &[f64]) {
        let finite = xs.iter().filter(|x| x.is_finite());
        let squared: f64 = finite.map(|x| x * x).sum();
        self.squared_a += squared;
        self.squared_b += squared;
        self.product += squared;
    }

    /// Those of 64 bits may be beyond what f64 tells apart.
    fn add_integers(&mut self, dtype: DType, [a, b]: [&[u8]; 2], [xs, ys]: [&[f64]; 2]) {
        let exact = |bytes: &[u8]| {
            let mut le = [0; 8];
            le.copy_from_slice(bytes);
            match dtype {
                DType::U64 => i128::from(u64::from_le_bytes(le)),
                _ => i128::from(i64::from_le_bytes(le)),
            }
        };
        let pairs = a.chunks_exact(8).zip(b.chunks_exact(8)).zip(xs.iter().zip(ys));
        for ((a, b), (x, y)) in pairs {
            let error = exact(a) - exact(b);
            self.add(*x, *y, error as f64);
        }
    }

    fn add(&mut self, x: f64, y: f64, error: f64) {
        if x.is_nan() && y.is_nan() {
            return;
        }
        if !x.is_finite() || !y.is_finite() {
            if x != y {
                self.n_different += 1;
                self.n_non_finite += 1;
                self.n_sign_flips += u64::from(are_opposite(x, y));
                self.squared_error += error * error;
                self.max_error = if error.is_nan() { f64::NAN } else { f64::INFINITY };
            }
            return;
        }
        self.n_different += u64::from(error != 0.0);
        self.n_zero_signs +=
            u64::from(x == 0.0 && y == 0.0 && x.is_sign_negative() != y.is_sign_negative());
        self.n_sign_flips += u64::from(are_opposite(x, y));
        self.n_zeros_lost += u64::from(x == 0.0 && y != 0.0);
        self.squared_error += error * error;
        self.squared_a += x * x;
        self.squared_b += y * y;
        self.product += x * y;
        if error.abs() > self.max_error {
            self.max_error = error.abs();
        }
    }

    /// Values compared (two for a complex one).
    pub fn n_values(&self) -> u64 {
        self.n_values
    }

    /// Values that are not the same number. NaN is the same as NaN, and -0 the same as 0, which
    /// [`n_zero_signs`](Self::n_zero_signs) counts.
    pub fn n_different(&self) -> u64 {
        self.n_different
    }

    /// Zeros of which one is -0 and the other is not.
    pub fn n_zero_signs(&self) -> u64 {
        self.n_zero_signs
    }

    /// Values above zero in one and below in the other.
    pub fn n_sign_flips(&self) -> u64 {
        self.n_sign_flips
    }

    /// Zeros of the original that are none any more.
    pub fn n_zeros_lost(&self) -> u64 {
        self.n_zeros_lost
    }

    /// Values that are NaN or infinite on one side and not the same on the other.
    pub fn n_non_finite(&self) -> u64 {
        self.n_non_finite
    }

    /// Normalized mean squared error, |a - b|^2 / |a|^2 over finite values; 0 when they are the same,
    /// and NaN or infinite where [`n_non_finite`](Self::n_non_finite) is not 0, or squares are beyond f64.
    pub fn nmse(&self) -> f64 {
        if self.n_different == 0 { 0.0 } else { self.squared_error / self.squared_a }
    }

    /// Cosine of the angle between them, over finite values; 1 when they are the same. NaN where
    /// [`n_non_finite`](Self::n_non_finite) is not 0, or squares are beyond f64, or one has no length.
    pub fn cosine(&self) -> f64 {
        if self.n_non_finite > 0 {
            return f64::NAN;
        }
        if self.n_different == 0 {
            return 1.0;
        }
        // Not of the product, which may be beyond f64 where neither is.
        self.product / (self.squared_a.sqrt() * self.squared_b.sqrt())
    }

    /// Largest absolute difference; NaN or infinite where
    /// [`n_non_finite`](Self::n_non_finite) is not 0.
    pub fn max_error(&self) -> f64 {
        self.max_error
    }
}

/// Whether one is above zero and the other below.
fn are_opposite(x: f64, y: f64) -> bool {
    (x > 0.0 && y < 0.0) || (x < 0.0 && y > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(a: &[f32], b: &[f32]) -> Comparison {
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let mut comparison = Comparison::default();
        comparison.update(DType::F32, &bytes(a), &bytes(b)).unwrap();
        comparison
    }

    #[test]
    fn what_is_the_same_is_the_same_whatever_it_is() {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2.0, 0.0];
        let c = compare(&special, &special);
        assert_eq!((c.n_different(), c.nmse(), c.cosine(), c.max_error()), (0, 0.0, 1.0, 0.0));
        // Beside a difference, too.
        let c = compare(&special, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, 0.0]);
        assert_eq!((c.n_different(), c.nmse(), c.max_error()), (1, 0.25, 1.0));
    }

    #[test]
    fn special_values_that_are_not_the_same_show() {
        for (a, b) in
            [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::INFINITY, 1.0), (1.0, f32::NEG_INFINITY)]
        {
            let c = compare(&[a, 1.0], &[b, 1.0]);
            assert_eq!((c.n_different(), c.n_non_finite()), (1, 1));
            assert!(!c.nmse().is_finite() && !c.max_error().is_finite(), "{a} {b}");
            assert!(c.cosine().is_nan(), "{a} {b}");
            assert_eq!(c.n_sign_flips(), u64::from(b == f32::NEG_INFINITY));
        }
    }

    #[test]
    fn zeros_and_signs_are_told_apart_from_differences() {
        let c = compare(&[0.0, -0.0, 0.0, 1.0, -2.0, 0.0], &[-0.0, 0.0, 0.0, -1.0, -2.0, 3.0]);
        assert_eq!(c.n_different(), 2);
        assert_eq!((c.n_zero_signs(), c.n_sign_flips(), c.n_zeros_lost()), (2, 1, 1));
        assert_eq!(compare(&[0.0], &[-0.0]).nmse(), 0.0);
    }

    #[test]
    fn what_has_no_number_in_f64_is_none_rather_than_equal() {
        let pairs: [(f64, f64); 3] = [(1e300, -1e300), (1e-200, 3e-200), (1e-200, -1e-200)];
        for (a, b) in pairs {
            let mut c = Comparison::default();
            c.update(DType::F64, &a.to_le_bytes(), &b.to_le_bytes()).unwrap();
            assert_eq!((c.n_different(), c.max_error()), (1, (a - b).abs()));
            assert_eq!(c.n_sign_flips(), u64::from(b < 0.0));
            assert!(c.nmse().is_nan() && c.cosine().is_nan(), "{a} {b}");
        }
        // Lengths whose product is beyond f64.
        let mut c = Comparison::default();
        let (a, b) = ([1e140f64, 1e140], [1e140f64, -1e140]);
        let bytes = |v: [f64; 2]| v.map(f64::to_le_bytes).concat();
        c.update(DType::F64, &bytes(a), &bytes(b)).unwrap();
        assert_eq!((c.nmse(), c.cosine()), (2.0, 0.0));
    }

    #[test]
    fn integers_beyond_2_to_53_are_integers() {
        let mut c = Comparison::default();
        let (a, b) = ((1i64 << 60) + 1, 1i64 << 60);
        c.update(DType::I64, &a.to_le_bytes(), &b.to_le_bytes()).unwrap();
        assert_eq!((c.n_different(), c.max_error()), (1, 1.0));
        assert!(c.nmse() > 0.0);
        let mut c = Comparison::default();
        c.update(DType::U64, &u64::MAX.to_le_bytes(), &0u64.to_le_bytes()).unwrap();
        assert_eq!(c.max_error(), u64::MAX as f64);
    }

    #[test]
    fn elements_of_less_than_a_byte_are_counted() {
        let mut c = Comparison::default();
        c.update(DType::F4, &[0x21, 0x43], &[0x21, 0x45]).unwrap();
        assert_eq!((c.n_values(), c.n_different(), c.max_error()), (4, 1, 1.5));
        let mut c = Comparison::default();
        c.update(DType::F6_E2M3, &[0; 3 << 12], &[1; 3 << 12]).unwrap();
        assert_eq!(c.n_values(), 4 << 12);
        assert!(c.update(DType::Unknown(0x77), &[0], &[0]).is_err());
        assert!(c.update(DType::F32, &[0; 6], &[0; 6]).is_err());
    }
}
