//! One register of integers of 16 bits: a search that counts in them has twice as many trellises in one as with f32.

use super::super::lanes::{LANES, Portable};
use super::Register;

/// The registers of one instruction set: twice as many lanes as [`Register`] has, in any order, but always the
/// same. Sums and products wrap.
pub(in super::super) trait Shorts: Copy {
    type I: Copy;
    type Floats: Register;

    fn splat(self, v: i16) -> Self::I;
    fn add(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub(self, a: Self::I, b: Self::I) -> Self::I;
    fn mul(self, a: Self::I, b: Self::I) -> Self::I;
    fn min(self, a: Self::I, b: Self::I) -> Self::I;
    fn abs(self, v: Self::I) -> Self::I;
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// `v` without the bits of `mask`.
    fn without(self, v: Self::I, mask: Self::I) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    fn shift_left<const BITS: u32>(self, v: Self::I) -> Self::I;
    /// Keeps the sign.
    fn shift_right<const BITS: u32>(self, v: Self::I) -> Self::I;
    /// Brings zeros in.
    fn shift_right_unsigned<const BITS: u32>(self, v: Self::I) -> Self::I;
    /// `a < b ? yes : no`.
    fn where_less(self, a: Self::I, b: Self::I, yes: Self::I, no: Self::I) -> Self::I;
    /// The entries of a table for both bytes of each lane, which are below 16.
    fn nibble(self, table: &[u8; 16], places: Self::I) -> Self::I;
    /// The lowest 16 bits of numbers below 2^31 in magnitude, rounded to nearest, ties to even.
    fn narrow(self, halves: [F<Self>; 2]) -> Self::I;
    /// Numbers times 2^16; what is added to one is below 2^16.
    fn widen(self, v: Self::I) -> [F<Self>; 2];
}

type F<S> = <<S as Shorts>::Floats as Register>::F;

const WIDTH: usize = 2 * LANES;

/// The portable twin.
impl Shorts for Portable {
    type I = [i16; WIDTH];
    type Floats = Self;

    #[inline(always)]
    fn splat(self, v: i16) -> Self::I {
        [v; WIDTH]
    }
    #[inline(always)]
    fn add(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn mul(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i].wrapping_mul(b[i]))
    }
    #[inline(always)]
    fn min(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i].min(b[i]))
    }
    #[inline(always)]
    fn abs(self, v: Self::I) -> Self::I {
        v.map(i16::wrapping_abs)
    }
    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn without(self, v: Self::I, mask: Self::I) -> Self::I {
        std::array::from_fn(|i| v[i] & !mask[i])
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, v: Self::I) -> Self::I {
        v.map(|v| v << BITS)
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, v: Self::I) -> Self::I {
        v.map(|v| v >> BITS)
    }
    #[inline(always)]
    fn shift_right_unsigned<const BITS: u32>(self, v: Self::I) -> Self::I {
        v.map(|v| (v as u16 >> BITS) as i16)
    }
    #[inline(always)]
    fn where_less(self, a: Self::I, b: Self::I, yes: Self::I, no: Self::I) -> Self::I {
        std::array::from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn nibble(self, table: &[u8; 16], places: Self::I) -> Self::I {
        places
            .map(|v| i16::from_le_bytes(v.to_le_bytes().map(|byte| table[usize::from(byte & 15)])))
    }
    #[inline(always)]
    fn narrow(self, halves: [[f32; LANES]; 2]) -> Self::I {
        std::array::from_fn(|i| halves[i / LANES][i % LANES].round_ties_even() as i32 as i16)
    }
    #[inline(always)]
    fn widen(self, v: Self::I) -> [[f32; LANES]; 2] {
        [0, LANES].map(|first| std::array::from_fn(|i| f32::from(v[first + i]) * 65536.0))
    }
}
