//! [`Shorts`] on AVX-512: 32 lanes. Those at even places are the first half of numbers, those at odd ones
//! the second.
#![expect(clippy::incompatible_msrv, reason = "build.rs leaves this module out before Rust 1.89")]

use super::super::avx512::Avx512;
use super::Shorts;
use std::arch::x86_64::*;

// SAFETY (every block below): the intrinsics need the features that `self` proves; the one load is of an
// array of sixteen bytes, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Shorts for Avx512 {
    type I = __m512i;
    type Floats = Self;

    #[inline(always)]
    fn splat(self, v: i16) -> Self::I {
        unsafe { _mm512_set1_epi16(v) }
    }
    #[inline(always)]
    fn add(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_add_epi16(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_sub_epi16(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_mullo_epi16(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_min_epi16(a, b) }
    }
    #[inline(always)]
    fn abs(self, v: Self::I) -> Self::I {
        unsafe { _mm512_abs_epi16(v) }
    }
    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn without(self, v: Self::I, mask: Self::I) -> Self::I {
        unsafe { _mm512_andnot_si512(mask, v) }
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, v: Self::I) -> Self::I {
        unsafe { _mm512_sll_epi16(v, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, v: Self::I) -> Self::I {
        unsafe { _mm512_sra_epi16(v, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn shift_right_unsigned<const BITS: u32>(self, v: Self::I) -> Self::I {
        unsafe { _mm512_srl_epi16(v, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn where_less(self, a: Self::I, b: Self::I, yes: Self::I, no: Self::I) -> Self::I {
        unsafe { _mm512_mask_blend_epi16(_mm512_cmplt_epi16_mask(a, b), no, yes) }
    }
    #[inline(always)]
    fn nibble(self, table: &[u8; 16], places: Self::I) -> Self::I {
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, places)
        }
    }
    #[inline(always)]
    fn narrow(self, halves: [__m512; 2]) -> Self::I {
        unsafe {
            let (even, odd) = (_mm512_cvtps_epi32(halves[0]), _mm512_cvtps_epi32(halves[1]));
            _mm512_mask_blend_epi16(0xaaaa_aaaa, even, _mm512_slli_epi32::<16>(odd))
        }
    }
    #[inline(always)]
    fn widen(self, v: Self::I) -> [__m512; 2] {
        unsafe { [_mm512_cvtepi32_ps(_mm512_slli_epi32::<16>(v)), _mm512_cvtepi32_ps(v)] }
    }
}
