//! Elements of every type as the numbers they stand for: for comparing, and for statistics.

use crate::DType;
use half::{bf16, f16};

/// Appends the numbers that elements stand for, little-endian, to `out`: exact but for i64 and u64 beyond
/// 2^53. A complex number is two, its real part first; elements of less than a byte lie one behind the
/// other, lowest bits first, and what is left of the last byte counts as one if it is as long.
/// Returns false, and appends nothing, for a type that is not known.
///
/// ```
/// use fedpress::{DType, numbers};
/// let mut out = Vec::new();
/// assert!(numbers(DType::F4, &[0x21], &mut out));
/// assert_eq!(out, [0.5, 1.0]);
/// ```
pub fn numbers(dtype: DType, bytes: &[u8], out: &mut Vec<f64>) -> bool {
    macro_rules! whole {
        ($type:ty) => {
            out.extend(bytes.chunks_exact(size_of::<$type>()).map(|element| {
                let mut le = [0; size_of::<$type>()];
                le.copy_from_slice(element);
                <$type>::from_le_bytes(le) as f64
            }))
        };
    }
    match dtype {
        DType::Bool | DType::U8 => whole!(u8),
        DType::I8 => whole!(i8),
        DType::U16 => whole!(u16),
        DType::I16 => whole!(i16),
        DType::U32 => whole!(u32),
        DType::I32 => whole!(i32),
        DType::U64 => whole!(u64),
        DType::I64 => whole!(i64),
        DType::F32 | DType::C64 => whole!(f32),
        DType::F64 => whole!(f64),
        DType::F16 => halves(bytes, out, |bits| f16::from_bits(bits).to_f64()),
        DType::BF16 => halves(bytes, out, |bits| bf16::from_bits(bits).to_f64()),
        _ => return small(dtype, bytes, out),
    }
    true
}

fn halves(bytes: &[u8], out: &mut Vec<f64>, number: impl Fn(u16) -> f64) {
    out.extend(bytes.chunks_exact(2).map(|two| number(u16::from_le_bytes([two[0], two[1]]))));
}

/// Floats of a byte or less: their bits, those of the mantissa, the bias of the exponent, and what the
/// largest codes mean.
struct Small {
    bits: u32,
    mantissa: u32,
    bias: i32,
    special: Special,
}

enum Special {
    /// Every code is a number.
    None,
    /// Infinity and NaN as in IEEE 754.
    Ieee,
    /// The code of all ones is NaN, with either sign.
    AllOnes,
    /// Minus zero is NaN.
    MinusZero,
}

fn small(dtype: DType, bytes: &[u8], out: &mut Vec<f64>) -> bool {
    let (bits, mantissa, bias, special) = match dtype {
        DType::F8_E4M3 => (8, 3, 7, Special::AllOnes),
        DType::F8_E5M2 => (8, 2, 15, Special::Ieee),
        DType::F8_E4M3FNUZ => (8, 3, 8, Special::MinusZero),
        DType::F8_E5M2FNUZ => (8, 2, 16, Special::MinusZero),
        DType::F4 => (4, 1, 1, Special::None),
        DType::F6_E2M3 => (6, 3, 1, Special::None),
        DType::F6_E3M2 => (6, 2, 3, Special::None),
        DType::F8_E8M0 => {
            out.extend(bytes.iter().map(|code| match code {
                255 => f64::NAN,
                code => f64::from(*code as i16 - 127).exp2(),
            }));
            return true;
        }
        _ => return false,
    };
    let float = Small { bits, mantissa, bias, special };
    let table: Vec<f64> = (0..1 << bits).map(|code| float.number(code)).collect();
    let (mut held, mut n_held) = (0, 0);
    for byte in bytes {
        held |= u32::from(*byte) << n_held;
        n_held += 8;
        while n_held >= bits {
            out.push(table[(held & ((1 << bits) - 1)) as usize]);
            held >>= bits;
            n_held -= bits;
        }
    }
    true
}

impl Small {
    fn number(&self, code: u32) -> f64 {
        let magnitude = code & ((1 << (self.bits - 1)) - 1);
        let (exponent, fraction) =
            (magnitude >> self.mantissa, magnitude & ((1 << self.mantissa) - 1));
        let is_negative = code >> (self.bits - 1) == 1;
        let sign = if is_negative { -1.0 } else { 1.0 };
        let largest = (1 << (self.bits - 1 - self.mantissa)) - 1;
        match self.special {
            Special::Ieee if exponent == largest && fraction == 0 => return sign * f64::INFINITY,
            Special::Ieee if exponent == largest => return f64::NAN,
            Special::AllOnes if magnitude + 1 == 1 << (self.bits - 1) => return f64::NAN,
            Special::MinusZero if is_negative && magnitude == 0 => return f64::NAN,
            _ => {}
        }
        let unit = f64::from(exponent.max(1) as i32 - self.bias - self.mantissa as i32).exp2();
        let hidden = u32::from(exponent > 0) << self.mantissa;
        sign * f64::from(hidden + fraction) * unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(dtype: DType, bytes: &[u8]) -> Vec<f64> {
        let mut out = Vec::new();
        assert!(numbers(dtype, bytes, &mut out));
        out
    }

    #[test]
    fn small_floats_have_the_values_of_their_formats() {
        assert_eq!(
            all(DType::F4, &[0x10, 0x32, 0x54, 0x76, 0xf8]),
            [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -6.0]
        );
        // Four codes of six bits in three bytes: 1, 2, 0x1f, 0x20.
        let packed = 1u32 | 2 << 6 | 0x1f << 12 | 0x20 << 18;
        let packed = &packed.to_le_bytes()[..3];
        assert_eq!(all(DType::F6_E2M3, packed), [0.125, 0.25, 7.5, -0.0]);
        assert_eq!(all(DType::F6_E3M2, packed), [0.0625, 0.125, 28.0, -0.0]);
        let e4m3 = all(DType::F8_E4M3, &[0x38, 0x7e, 0x01, 0xc0]);
        assert_eq!(e4m3, [1.0, 448.0, 1.0 / 512.0, -2.0]);
        assert!(all(DType::F8_E4M3, &[0x7f, 0xff]).iter().all(|v| v.is_nan()));
        assert_eq!(all(DType::F8_E5M2, &[0x3c, 0x7b, 0xfc]), [1.0, 57344.0, f64::NEG_INFINITY]);
        assert!(all(DType::F8_E5M2, &[0x7d])[0].is_nan());
        assert_eq!(all(DType::F8_E4M3FNUZ, &[0x40, 0x7f]), [1.0, 240.0]);
        assert_eq!(all(DType::F8_E5M2FNUZ, &[0x40, 0x7f]), [1.0, 57344.0]);
        assert!(all(DType::F8_E4M3FNUZ, &[0x80])[0].is_nan());
        assert_eq!(all(DType::F8_E8M0, &[127, 128, 0]), [1.0, 2.0, (-127f64).exp2()]);
        assert!(all(DType::F8_E8M0, &[255])[0].is_nan());
    }

    #[test]
    fn e5m2_is_the_upper_half_of_f16() {
        for code in 0..=255u8 {
            let (ours, theirs) =
                (all(DType::F8_E5M2, &[code])[0], f16::from_bits(u16::from(code) << 8).to_f64());
            assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{code:#x}");
        }
    }

    #[test]
    fn every_known_type_stands_for_numbers() {
        for dtype in DType::ALL {
            let expected = 192 / dtype.bits() * if dtype == DType::C64 { 2 } else { 1 };
            assert_eq!(all(dtype, &[0; 24]).len(), expected, "{dtype}");
        }
        assert!(!numbers(DType::Unknown(0x77), &[0; 24], &mut Vec::new()));
    }
}
