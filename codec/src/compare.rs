//! How far a decoded tensor is from the original.

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
    squared_error: f64,
    squared_a: f64,
    squared_b: f64,
    product: f64,
    max_error: f64,
}

impl Comparison {
    /// Takes in elements of the original `a` and of `b`, little-endian.
    pub fn update(&mut self, dtype: DType, a: &[u8], b: &[u8]) -> Result<()> {
        // A complex number is two real ones.
        // Those of less than a byte are compared by the byte.
        let dtype = if dtype == DType::C64 { DType::F32 } else { dtype };
        let size = dtype.byte_len(1).max(1);
        if a.len() != b.len() || a.len() % size != 0 {
            return Err(Error::invalid(format!(
                "cannot compare {} with {} bytes of {dtype}",
                a.len(),
                b.len()
            )));
        }
        for (a, b) in a.chunks_exact(size).zip(b.chunks_exact(size)) {
            self.n_values += 1;
            self.n_different += u64::from(a != b);
            if let (Some(a), Some(b)) = (to_f64(dtype, a), to_f64(dtype, b)) {
                let error = a - b;
                // Equal infinities differ by nothing; NaN against a number shows as NaN.
                let error = if a == b { 0.0 } else { error };
                self.squared_error += error * error;
                self.squared_a += a * a;
                self.squared_b += b * b;
                self.product += a * b;
                if error.abs() > self.max_error || error.is_nan() {
                    self.max_error = error.abs();
                }
            }
        }
        Ok(())
    }

    /// Values compared (two for a complex one).
    pub fn n_values(&self) -> u64 {
        self.n_values
    }

    /// Values whose bytes differ.
    pub fn n_different(&self) -> u64 {
        self.n_different
    }

    /// Normalized mean squared error, |a - b|^2 / |a|^2; 0 when both are zero. Eight-bit floats
    /// count as different or not ([`n_different`](Self::n_different)), not as numbers.
    pub fn nmse(&self) -> f64 {
        if self.squared_error == 0.0 { 0.0 } else { self.squared_error / self.squared_a }
    }

    /// Cosine of the angle between them; 1 when both are zero.
    pub fn cosine(&self) -> f64 {
        if self.squared_a == 0.0 && self.squared_b == 0.0 {
            return 1.0;
        }
        self.product / (self.squared_a * self.squared_b).sqrt()
    }

    /// Largest absolute difference.
    pub fn max_error(&self) -> f64 {
        self.max_error
    }
}

/// The number an element stands for, where it stands for one.
fn to_f64(dtype: DType, bytes: &[u8]) -> Option<f64> {
    macro_rules! from_bytes {
        ($type:ty) => {
            <$type>::from_le_bytes(bytes.try_into().ok()?) as f64
        };
    }
    Some(match dtype {
        DType::Bool | DType::U8 => from_bytes!(u8),
        DType::I8 => from_bytes!(i8),
        DType::U16 => from_bytes!(u16),
        DType::I16 => from_bytes!(i16),
        DType::U32 => from_bytes!(u32),
        DType::I32 => from_bytes!(i32),
        DType::U64 => from_bytes!(u64),
        DType::I64 => from_bytes!(i64),
        DType::F32 => from_bytes!(f32),
        DType::F64 => from_bytes!(f64),
        DType::F16 => half::f16::from_le_bytes(bytes.try_into().ok()?).to_f64(),
        DType::BF16 => half::bf16::from_le_bytes(bytes.try_into().ok()?).to_f64(),
        _ => return None,
    })
}
