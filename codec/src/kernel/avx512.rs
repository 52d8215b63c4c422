//! [`Lanes`] on AVX-512 (F, BW, DQ, VL). Compiled where the compiler knows its intrinsics.
#![expect(clippy::incompatible_msrv, reason = "build.rs leaves this module out before Rust 1.89")]

use super::Operation;
use super::lanes::{LANES, Lanes};
use std::arch::x86_64::*;

/// Proof that the processor has the features that [`enter`] enables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("bmi2"))
        .then_some(Self(()))
    }
}

/// Runs an operation compiled for this level.
///
/// # Safety
/// The processor has the features listed; an [`Avx512`] proves it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
pub(super) unsafe fn enter<O: Operation>(lanes: Avx512, operation: O) -> O::Output {
    operation.run(lanes)
}

const INCREMENT: u64 = crate::random::INCREMENT;

#[inline(always)]
fn mix(z: __m512i) -> __m512i {
    // SAFETY: called from the operations below only, which hold an `Avx512`.
    unsafe {
        let z = _mm512_xor_si512(z, _mm512_srli_epi64::<30>(z));
        let z = _mm512_mullo_epi64(z, _mm512_set1_epi64(0xBF58_476D_1CE4_E5B9_u64 as i64));
        let z = _mm512_xor_si512(z, _mm512_srli_epi64::<27>(z));
        let z = _mm512_mullo_epi64(z, _mm512_set1_epi64(0x94D0_49BB_1331_11EB_u64 as i64));
        _mm512_xor_si512(z, _mm512_srli_epi64::<31>(z))
    }
}

// SAFETY (every block below): the intrinsics need the features that `self` proves; loads and
// stores go through references to arrays of exactly the vector's size, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Lanes for Avx512 {
    type F = __m512;
    type U = __m512i;
    const RADIX: usize = 16;

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::F, x: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn prefetch(self, x: &f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(x).cast()) }
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
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn flip(self, v: Self::F, signs: u16) -> Self::F {
        unsafe {
            let v = _mm512_castps_si512(v);
            let sign = _mm512_set1_epi32(i32::MIN);
            _mm512_castsi512_ps(_mm512_mask_xor_epi32(v, signs, v, sign))
        }
    }
    #[inline(always)]
    fn butterfly<const H: usize>(self, v: Self::F) -> Self::F {
        unsafe {
            let (other, upper) = match H {
                1 => (_mm512_permute_ps::<0xB1>(v), 0xAAAA),
                2 => (_mm512_permute_ps::<0x4E>(v), 0xCCCC),
                4 => (_mm512_shuffle_f32x4::<0xB1>(v, v), 0xF0F0),
                _ => (_mm512_shuffle_f32x4::<0x4E>(v, v), 0xFF00),
            };
            // A product with 1 or -1 is exact, so this fused operation rounds the sum only and has
            // the bits of `other + v` or `other - v`.
            let sign = _mm512_mask_blend_ps(upper, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
            _mm512_fmadd_ps(v, sign, other)
        }
    }
    #[inline(always)]
    fn abs_bits(self, v: Self::F) -> Self::U {
        unsafe { _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(i32::MAX)) }
    }
    #[inline(always)]
    fn max_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { _mm512_max_epu32(a, b) }
    }
    #[inline(always)]
    fn splat_u(self, v: u32) -> Self::U {
        unsafe { _mm512_set1_epi32(v as i32) }
    }
    #[inline(always)]
    fn store_u(self, v: Self::U, x: &mut [u32; LANES]) {
        unsafe { _mm512_storeu_si512(x.as_mut_ptr().cast(), v) }
    }
    #[inline(always)]
    fn draws(self, key: u64, first: u64) -> Self::U {
        unsafe {
            let steps = _mm512_setr_epi64(
                INCREMENT as i64,
                INCREMENT.wrapping_mul(2) as i64,
                INCREMENT.wrapping_mul(3) as i64,
                INCREMENT.wrapping_mul(4) as i64,
                INCREMENT.wrapping_mul(5) as i64,
                INCREMENT.wrapping_mul(6) as i64,
                INCREMENT.wrapping_mul(7) as i64,
                INCREMENT.wrapping_mul(8) as i64,
            );
            let base = key.wrapping_add(first.wrapping_mul(INCREMENT));
            let words = mix(_mm512_add_epi64(_mm512_set1_epi64(base as i64), steps));
            _mm512_srli_epi32::<8>(words)
        }
    }
    #[inline(always)]
    fn round_stochastic(self, t: Self::F, draws: Self::U) -> Self::U {
        unsafe {
            let whole = _mm512_cvttps_epi32(t);
            let fraction = _mm512_sub_ps(t, _mm512_cvtepi32_ps(whole));
            let unit = _mm512_set1_ps(1.0 / 16_777_216.0);
            let draw = _mm512_mul_ps(_mm512_cvtepi32_ps(draws), unit);
            let up = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(draw, fraction);
            _mm512_mask_add_epi32(whole, up, whole, _mm512_set1_epi32(1))
        }
    }
    #[inline(always)]
    fn round_nearest(self, t: Self::F) -> Self::U {
        unsafe { _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(t) }
    }
    #[inline(always)]
    fn to_float(self, v: Self::U) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(v) }
    }
    /// Shorter ways for the usual widths.
    #[inline(always)]
    fn pack<const Q: u32>(self, codes: Self::U, out: &mut [u8]) {
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(codes);
            match Q {
                1 => {
                    let bits = _mm512_test_epi32_mask(codes, codes);
                    out[..2].copy_from_slice(&bits.to_le_bytes());
                }
                2 => {
                    let pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x0401));
                    let quads = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0010_0001));
                    let packed = _mm_cvtepi32_epi8(quads);
                    out[..4].copy_from_slice(&_mm_cvtsi128_si32(packed).to_le_bytes());
                }
                4 => {
                    let pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x1001));
                    let packed = _mm_packus_epi16(pairs, pairs);
                    out[..8].copy_from_slice(&_mm_cvtsi128_si64(packed).to_le_bytes());
                }
                8 => {
                    let mut packed = [0; 16];
                    _mm_storeu_si128(packed.as_mut_ptr().cast(), bytes);
                    out[..16].copy_from_slice(&packed);
                }
                _ => {
                    let words = self.join::<Q>(codes);
                    super::lanes::put::<Q>(out, words[0], words[1]);
                    super::lanes::put::<Q>(&mut out[Q as usize..], words[2], words[3]);
                }
            }
        }
    }
    #[inline(always)]
    fn join<const Q: u32>(self, codes: Self::U) -> [u64; 4] {
        unsafe {
            let low = _mm512_and_si512(codes, _mm512_set1_epi64(0xffff_ffff));
            let high = _mm512_srl_epi64(codes, _mm_cvtsi32_si128(32 - Q as i32));
            let pairs = _mm512_or_si512(low, high);
            let upper = _mm512_bsrli_epi128::<8>(pairs);
            let shifted = _mm512_sll_epi64(upper, _mm_cvtsi32_si128(2 * Q as i32));
            let quads = _mm512_or_si512(pairs, shifted);
            let mut words = [0u64; 8];
            _mm512_storeu_si512(words.as_mut_ptr().cast(), quads);
            [words[0], words[2], words[4], words[6]]
        }
    }
    #[inline(always)]
    fn split<const Q: u32>(self, words: [u64; 4]) -> Self::U {
        unsafe {
            let quads = _mm256_loadu_si256(words.as_ptr().cast());
            let twice = _mm512_permutexvar_epi64(
                _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3),
                _mm512_castsi256_si512(quads),
            );
            let shift = 2 * i64::from(Q);
            let pairs =
                _mm512_srlv_epi64(twice, _mm512_setr_epi64(0, shift, 0, shift, 0, shift, 0, shift));
            let mask = (1i64 << Q) - 1;
            let low = _mm512_and_si512(pairs, _mm512_set1_epi64(mask));
            let high = _mm512_sll_epi64(pairs, _mm_cvtsi32_si128(32 - Q as i32));
            _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi64(mask << 32)))
        }
    }
}
