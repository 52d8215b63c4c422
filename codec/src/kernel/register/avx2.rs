//! [`Register`] on AVX2: eight lanes.

use super::super::avx2::Avx2;
use super::super::lanes::LANES;
use super::super::trellis::STATES;
use super::{BEFORE, LEFT_BY, Register};
use std::arch::x86_64::*;

// SAFETY (every block below): the intrinsics need the features that `self` proves; loads and stores stay
// inside slices of eight values and arrays of eight or sixteen bytes, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Register for Avx2 {
    type F = __m256;
    type States = __m256i;
    type Mask = u8;
    type Shorts = Self;
    const WIDTH: usize = 8;

    #[inline(always)]
    fn shorts(self) -> Self {
        self
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        unsafe { _mm256_loadu_ps(x[..8].as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::F, x: &mut [f32]) {
        unsafe { _mm256_storeu_ps(x[..8].as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        unsafe { _mm256_set1_ps(v) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn add_exact(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn round(self, v: Self::F) -> Self::F {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> u8 {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) as u8 }
    }
    #[inline(always)]
    fn look_up(self, table: &[f32; 256], places: Self::F) -> Self::F {
        // In bounds: what is masked is below 256.
        unsafe {
            let places = _mm256_and_si256(_mm256_cvtps_epi32(places), _mm256_set1_epi32(255));
            _mm256_i32gather_ps::<4>(table.as_ptr(), places)
        }
    }
    #[inline(always)]
    fn states(self, z: &[u8; LANES]) -> Self::States {
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(z.as_ptr().cast())) }
    }
    /// A state is a number of 32 bits, and shuffles move bytes: the upper three of a state are zero, and so
    /// is the first entry of either table, which they stand for.
    #[inline(always)]
    fn back(self, second: &[u8; STATES], states: Self::States) -> (Self::States, Self::F) {
        const { assert!(BEFORE[0] == 0 && LEFT_BY[0] == 0) };
        unsafe {
            let masks = _mm256_set1_epi64x(i64::from_le_bytes(*second));
            let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let chosen = _mm256_and_si256(_mm256_shuffle_epi8(masks, states), bits);
            let is_second = _mm256_cmpeq_epi32(chosen, bits);
            let other = _mm256_and_si256(is_second, _mm256_set1_epi32(STATES as i32));
            let ways = _mm256_or_si256(states, other);
            let before = _mm_loadu_si128(BEFORE.as_ptr().cast());
            let left_by = _mm_loadu_si128(LEFT_BY.as_ptr().cast());
            let subsets = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(left_by), ways);
            (
                _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(before), ways),
                _mm256_cvtepi32_ps(subsets),
            )
        }
    }
}
