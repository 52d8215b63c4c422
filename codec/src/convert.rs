//! Element bytes to f32 and back, for the element types that lossy stages accept.

use crate::{DType, arrays};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Widens `bytes` into `out`; exact. Lengths match.
pub(crate) fn to_f32(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F16 => widen::<f16>(bytes, out),
        DType::BF16 => widen::<bf16>(bytes, out),
        _ => {
            for (out, bytes) in out.iter_mut().zip(arrays::split::<_, 4>(bytes).0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
    }
}

/// Narrows finite `values` into `bytes`: round to nearest even, saturating at the largest finite
/// value of the element type.
pub(crate) fn from_f32(dtype: DType, values: &[f32], bytes: &mut [u8]) {
    match dtype {
        DType::F16 => narrow::<f16>(values, f16::MAX.to_f32(), bytes),
        DType::BF16 => narrow::<bf16>(values, bf16::MAX.to_f32(), bytes),
        _ => {
            for (value, bytes) in values.iter().zip(arrays::split_mut::<_, 4>(bytes).0) {
                *bytes = value.to_le_bytes();
            }
        }
    }
}

/// Rounds values to what the element type holds, in place: [`from_f32`], then [`to_f32`].
pub(crate) fn round_to(dtype: DType, values: &mut [f32]) {
    match dtype {
        DType::F16 => round::<f16>(values, f16::MAX.to_f32()),
        DType::BF16 => round::<bf16>(values, bf16::MAX.to_f32()),
        _ => {}
    }
}

trait Half: Copy + Default {
    fn from_bits(bits: u16) -> Self;
    fn to_bits(self) -> u16;
    fn widen(halves: &[Self], out: &mut [f32]);
    fn narrow(values: &[f32], halves: &mut [Self]);
}

macro_rules! half {
    ($type:ty) => {
        impl Half for $type {
            fn from_bits(bits: u16) -> Self {
                <$type>::from_bits(bits)
            }
            fn to_bits(self) -> u16 {
                <$type>::to_bits(self)
            }
            fn widen(halves: &[Self], out: &mut [f32]) {
                halves.convert_to_f32_slice(out);
            }
            fn narrow(values: &[f32], halves: &mut [Self]) {
                halves.convert_from_f32_slice(values);
            }
        }
    };
}
half!(f16);
half!(bf16);

/// Values converted at a time, on the stack.
const STRIP: usize = 256;

fn widen<H: Half>(bytes: &[u8], out: &mut [f32]) {
    let mut strip = [H::default(); STRIP];
    for (bytes, out) in bytes.chunks(2 * STRIP).zip(out.chunks_mut(STRIP)) {
        let halves = &mut strip[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(arrays::split::<_, 2>(bytes).0) {
            *half = H::from_bits(u16::from_le_bytes(*bytes));
        }
        H::widen(halves, out);
    }
}

fn narrow<H: Half>(values: &[f32], max: f32, bytes: &mut [u8]) {
    let mut clamped = [0.0; STRIP];
    let mut strip = [H::default(); STRIP];
    for (values, bytes) in values.chunks(STRIP).zip(bytes.chunks_mut(2 * STRIP)) {
        for (clamped, value) in clamped.iter_mut().zip(values) {
            *clamped = value.clamp(-max, max);
        }
        let halves = &mut strip[..values.len()];
        H::narrow(&clamped[..values.len()], halves);
        for (half, bytes) in halves.iter().zip(arrays::split_mut::<_, 2>(bytes).0) {
            *bytes = half.to_bits().to_le_bytes();
        }
    }
}

fn round<H: Half>(values: &mut [f32], max: f32) {
    let mut strip = [H::default(); STRIP];
    for values in values.chunks_mut(STRIP) {
        values.iter_mut().for_each(|v| *v = v.clamp(-max, max));
        let halves = &mut strip[..values.len()];
        H::narrow(values, halves);
        H::widen(halves, values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_saturates_instead_of_overflowing() {
        let mut bytes = [0; 4];
        from_f32(DType::F16, &[1e6, -1e6], &mut bytes);
        assert_eq!(bytes, [0xff, 0x7b, 0xff, 0xfb]);
        from_f32(DType::BF16, &[f32::MAX, f32::MIN], &mut bytes);
        assert_eq!(bytes, [0x7f, 0x7f, 0x7f, 0xff]);
    }

    #[test]
    fn every_half_survives_widening_and_narrowing() {
        for dtype in [DType::F16, DType::BF16] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let mut values = vec![0.0; 1 << 16];
            to_f32(dtype, &bytes, &mut values);
            let mut back = vec![0; bytes.len()];
            from_f32(dtype, &values, &mut back);
            for (i, value) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                assert_eq!(bytes[2 * i..2 * i + 2], back[2 * i..2 * i + 2], "{value}");
            }
            let mut rounded = values.clone();
            round_to(dtype, &mut rounded);
            for (a, b) in values.iter().zip(&rounded).filter(|(v, _)| v.is_finite()) {
                assert_eq!(a.to_bits(), b.to_bits());
            }
        }
    }
}
