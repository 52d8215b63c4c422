//! [`Register`] on AVX-512: sixteen lanes.
#![expect(clippy::incompatible_msrv, reason = "build.rs leaves this module out before Rust 1.89")]

use super::super::avx512::Avx512;
use super::super::lanes::LANES;
use super::super::trellis::STATES;
use super::{BEFORE, LEFT_BY, Register};
use std::arch::x86_64::*;

// SAFETY (every block below): the intrinsics need the features that `self` proves; loads and stores stay
// inside slices of sixteen values and arrays of sixteen bytes, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Register for Avx512 {
    type F = __m512;
    type States = __m512i;
    type Mask = u16;
    type Shorts = Self;
    const WIDTH: usize = LANES;

    #[inline(always)]
    fn shorts(self) -> Self {
        self
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        unsafe { _mm512_loadu_ps(x[..LANES].as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::F, x: &mut [f32]) {
        unsafe { _mm512_storeu_ps(x[..LANES].as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        unsafe { _mm512_set1_ps(v) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn add_exact(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn round(self, v: Self::F) -> Self::F {
        unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(v) }
    }
    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> u16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn look_up(self, table: &[f32; 256], places: Self::F) -> Self::F {
        // In bounds: what is masked is below 256.
        unsafe {
            let places = _mm512_and_si512(_mm512_cvtps_epi32(places), _mm512_set1_epi32(255));
            _mm512_i32gather_ps::<4>(places, table.as_ptr())
        }
    }
    #[inline(always)]
    fn states(self, z: &[u8; LANES]) -> Self::States {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(z.as_ptr().cast())) }
    }
    /// A state is a number of 32 bits, of which shuffles move halves or bytes: those above the lowest are zero,
    /// and so is the first entry of the table of states, which they stand for.
    #[inline(always)]
    fn back(self, second: &[u16; STATES], states: Self::States) -> (Self::States, Self::F) {
        const { assert!(BEFORE[0] == 0) };
        unsafe {
            let masks = _mm512_broadcast_i32x4(_mm_loadu_si128(second.as_ptr().cast()));
            let bits = _mm512_sllv_epi32(
                _mm512_set1_epi32(1),
                _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
            );
            let is_second = _mm512_test_epi32_mask(_mm512_permutexvar_epi16(states, masks), bits);
            let other = _mm512_set1_epi32(STATES as i32);
            let ways = _mm512_mask_or_epi32(states, is_second, states, other);
            let before = _mm512_broadcast_i32x4(_mm_loadu_si128(BEFORE.as_ptr().cast()));
            let left_by =
                _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(LEFT_BY.as_ptr().cast())));
            (_mm512_shuffle_epi8(before, ways), _mm512_permutexvar_ps(ways, left_by))
        }
    }
}
