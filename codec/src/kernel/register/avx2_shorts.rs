//! [`Shorts`] on AVX2: sixteen lanes. Those at even places are the first half of numbers, those at odd ones
//! the second.

use super::super::avx2::Avx2;
use super::Shorts;
use std::arch::x86_64::*;

// SAFETY (every block below): the intrinsics need the features that `self` proves; the one load is of an
// array of sixteen bytes, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Shorts for Avx2 {
    type I = __m256i;
    type Floats = Self;

    #[inline(always)]
    fn splat(self, v: i16) -> Self::I {
        unsafe { _mm256_set1_epi16(v) }
    }
    #[inline(always)]
    fn add(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_add_epi16(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_sub_epi16(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_mullo_epi16(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_min_epi16(a, b) }
    }
    #[inline(always)]
    fn abs(self, v: Self::I) -> Self::I {
        unsafe { _mm256_abs_epi16(v) }
    }
    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    fn without(self, v: Self::I, mask: Self::I) -> Self::I {
        unsafe { _mm256_andnot_si256(mask, v) }
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm256_xor_si256(a, b) }
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, v: Self::I) -> Self::I {
        unsafe { _mm256_sll_epi16(v, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, v: Self::I) -> Self::I {
        unsafe { _mm256_sra_epi16(v, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn shift_right_unsigned<const BITS: u32>(self, v: Self::I) -> Self::I {
        unsafe { _mm256_srl_epi16(v, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn where_less(self, a: Self::I, b: Self::I, yes: Self::I, no: Self::I) -> Self::I {
        unsafe { _mm256_blendv_epi8(no, yes, _mm256_cmpgt_epi16(b, a)) }
    }
    #[inline(always)]
    fn nibble(self, table: &[u8; 16], places: Self::I) -> Self::I {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, places)
        }
    }
    #[inline(always)]
    fn narrow(self, halves: [__m256; 2]) -> Self::I {
        unsafe {
            let (even, odd) = (_mm256_cvtps_epi32(halves[0]), _mm256_cvtps_epi32(halves[1]));
            _mm256_blend_epi16::<0xaa>(even, _mm256_slli_epi32::<16>(odd))
        }
    }
    #[inline(always)]
    fn widen(self, v: Self::I) -> [__m256; 2] {
        unsafe { [_mm256_cvtepi32_ps(_mm256_slli_epi32::<16>(v)), _mm256_cvtepi32_ps(v)] }
    }
}
