//! The exponent of a group: a power of two that keeps arithmetic inside the f32 range.
//!
//! Sums of a transform or the range of a block can overflow f32 when values are huge, and lose
//! their precision when values are subnormal. So a group whose largest magnitude lies outside
//! 2^-64..2^64 is scaled by a power of two before anything else and scaled back at the very end.

use crate::{Error, Result, arrays};

/// No coefficient of a valid stream is larger in magnitude.
pub(crate) const LARGEST: f32 = f32::from_bits((127 + 80) << 23);

const COMFORTABLE: std::ops::Range<i32> = -64..64;
/// The smallest exponent; subnormal peaks count as this.
const SMALLEST: i32 = -126;

/// The exponent for a group with this peak (bits of its largest magnitude, finite): 0, or
/// floor(log2(peak)) where that is outside -64..64.
pub(crate) fn exponent(peak_bits: u32) -> i8 {
    let exponent = (peak_bits >> 23) as i32 - 127;
    if peak_bits == 0 || COMFORTABLE.contains(&exponent) { 0 } else { exponent.max(SMALLEST) as i8 }
}

/// Whether a group with this peak has the exponent 0, and is finite.
pub(crate) fn is_ordinary(peak_bits: u32) -> bool {
    peak_bits < f32::INFINITY.to_bits() && exponent(peak_bits) == 0
}

/// Exponents that no encoder writes are corrupt.
pub(crate) fn check_exponent(exponent: i8) -> Result<()> {
    let e = i32::from(exponent);
    if e == 0 || (e >= SMALLEST && !COMFORTABLE.contains(&e)) {
        return Ok(());
    }
    Err(Error::corrupt(format!("group exponent {e} is reserved")))
}

/// Coefficients that travel as f32 are finite and at most 2^80 in magnitude.
pub(crate) fn check_coefficients(coded: &[u8]) -> Result<()> {
    let magnitudes = arrays::split::<_, 4>(coded).0.iter().map(|b| u32::from_le_bytes(*b) << 1);
    if magnitudes.fold(0, u32::max) > LARGEST.to_bits() << 1 {
        return Err(Error::corrupt("coefficient out of range"));
    }
    Ok(())
}

fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << 23)
}

/// Two factors, each a normal number, whose product is 2^exponent.
fn factors(exponent: i32) -> [f32; 2] {
    [power_of_two(exponent / 2), power_of_two(exponent - exponent / 2)]
}

/// Times 2^-exponent.
pub(crate) fn scale_down(values: &mut [f32], exponent: i8) {
    let [a, b] = factors(-i32::from(exponent));
    values.iter_mut().for_each(|v| *v = *v * a * b);
}

/// Times 2^exponent, saturating at the largest finite value.
pub(crate) fn scale_up(values: &mut [f32], exponent: i8) {
    let [a, b] = factors(i32::from(exponent));
    values.iter_mut().for_each(|v| *v = (*v * a * b).clamp(f32::MIN, f32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_brings_every_peak_into_range_and_back() {
        for bits in (0..0x7f80_0000u32).step_by(0x3_1415).chain([1, 0x7f7f_ffff, 0x007f_ffff]) {
            let e = exponent(bits);
            check_exponent(e).unwrap();
            let mut value = [f32::from_bits(bits)];
            scale_down(&mut value, e);
            let scaled = value[0];
            assert!(
                scaled == 0.0 || (2f32.powi(-65)..2f32.powi(65)).contains(&scaled),
                "{bits:#x}"
            );
            scale_up(&mut value, e);
            assert_eq!(value[0].to_bits(), bits);
        }
    }
}
