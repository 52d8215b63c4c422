//! [`Lanes`] on AVX2: two registers of eight.

use super::Operation;
use super::lanes::{LANES, Lanes};
use std::arch::x86_64::*;

/// Proof that the processor has the features that [`enter`] enables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi2"))
        .then_some(Self(()))
    }
}

/// Runs an operation compiled for this level.
///
/// # Safety
/// The processor has the features listed; an [`Avx2`] proves it.
#[target_feature(enable = "avx2,fma,bmi2")]
pub(super) unsafe fn enter<O: Operation>(lanes: Avx2, operation: O) -> O::Output {
    operation.run(lanes)
}

const INCREMENT: u64 = crate::random::INCREMENT;

/// Low 64 bits of a product with a constant; AVX2 multiplies 32 by 32 bits only.
#[inline(always)]
fn mul64(z: __m256i, constant: u64) -> __m256i {
    // SAFETY: called from the operations below only, which hold an `Avx2`.
    unsafe {
        let low = _mm256_set1_epi64x((constant & 0xffff_ffff) as i64);
        let high = _mm256_set1_epi64x((constant >> 32) as i64);
        let cross = _mm256_add_epi64(
            _mm256_mul_epu32(_mm256_srli_epi64::<32>(z), low),
            _mm256_mul_epu32(z, high),
        );
        _mm256_add_epi64(_mm256_mul_epu32(z, low), _mm256_slli_epi64::<32>(cross))
    }
}

#[inline(always)]
fn mix(z: __m256i) -> __m256i {
    // SAFETY: called from the operations below only, which hold an `Avx2`.
    unsafe {
        let z = _mm256_xor_si256(z, _mm256_srli_epi64::<30>(z));
        let z = mul64(z, 0xBF58_476D_1CE4_E5B9);
        let z = _mm256_xor_si256(z, _mm256_srli_epi64::<27>(z));
        let z = mul64(z, 0x94D0_49BB_1331_11EB);
        _mm256_xor_si256(z, _mm256_srli_epi64::<31>(z))
    }
}

/// An expression for each of the two registers of its operands. A macro and not a closure: a
/// closure is a function of its own, compiled without the features.
macro_rules! each {
    ($($v:ident),+ => $result:expr) => {{
        let low = {
            $(let $v = $v[0];)+
            $result
        };
        let high = {
            $(let $v = $v[1];)+
            $result
        };
        [low, high]
    }};
}

// SAFETY (every block below): the intrinsics need the features that `self` proves; loads and
// stores stay inside references to arrays of exactly two registers, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Lanes for Avx2 {
    type F = [__m256; 2];
    type U = [__m256i; 2];
    const RADIX: usize = 4;

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
    }
    #[inline(always)]
    fn store(self, v: Self::F, x: &mut [f32; LANES]) {
        unsafe {
            _mm256_storeu_ps(x.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(x.as_mut_ptr().add(8), v[1]);
        }
    }
    #[inline(always)]
    fn prefetch(self, x: &f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(x).cast()) }
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(v); 2] }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(a, b => _mm256_add_ps(a, b)) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(a, b => _mm256_sub_ps(a, b)) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(a, b => _mm256_mul_ps(a, b)) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(a, b => _mm256_min_ps(a, b)) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(a, b => _mm256_max_ps(a, b)) }
    }
    #[inline(always)]
    fn flip(self, v: Self::F, signs: u16) -> Self::F {
        let signs = [i32::from(signs & 0xff), i32::from(signs >> 8)];
        unsafe {
            // Lane i moves bit i to the sign position.
            let shifts = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
            let mask = _mm256_set1_epi32(i32::MIN);
            each!(v, signs => {
                let moved = _mm256_sllv_epi32(_mm256_set1_epi32(signs), shifts);
                _mm256_xor_ps(v, _mm256_castsi256_ps(_mm256_and_si256(moved, mask)))
            })
        }
    }
    #[inline(always)]
    fn butterfly<const H: usize>(self, v: Self::F) -> Self::F {
        unsafe {
            if H == 8 {
                return [_mm256_add_ps(v[0], v[1]), _mm256_sub_ps(v[0], v[1])];
            }
            each!(v => {
                let (other, sign) = match H {
                    1 => (
                        _mm256_permute_ps::<0xB1>(v),
                        _mm256_setr_ps(1., -1., 1., -1., 1., -1., 1., -1.),
                    ),
                    2 => (
                        _mm256_permute_ps::<0x4E>(v),
                        _mm256_setr_ps(1., 1., -1., -1., 1., 1., -1., -1.),
                    ),
                    _ => (
                        _mm256_permute2f128_ps::<1>(v, v),
                        _mm256_setr_ps(1., 1., 1., 1., -1., -1., -1., -1.),
                    ),
                };
                // A product with 1 or -1 is exact, so this fused operation rounds the sum only and
                // has the bits of `other + v` or `other - v`.
                _mm256_fmadd_ps(v, sign, other)
            })
        }
    }
    #[inline(always)]
    fn abs_bits(self, v: Self::F) -> Self::U {
        unsafe { each!(v => _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(i32::MAX))) }
    }
    #[inline(always)]
    fn max_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { each!(a, b => _mm256_max_epu32(a, b)) }
    }
    #[inline(always)]
    fn splat_u(self, v: u32) -> Self::U {
        unsafe { [_mm256_set1_epi32(v as i32); 2] }
    }
    #[inline(always)]
    fn store_u(self, v: Self::U, x: &mut [u32; LANES]) {
        unsafe {
            _mm256_storeu_si256(x.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(x.as_mut_ptr().add(8).cast(), v[1]);
        }
    }
    #[inline(always)]
    fn draws(self, key: u64, first: u64) -> Self::U {
        let base = key.wrapping_add(first.wrapping_mul(INCREMENT));
        let base = [base, base.wrapping_add(INCREMENT.wrapping_mul(4))];
        unsafe {
            let steps = _mm256_setr_epi64x(
                INCREMENT as i64,
                INCREMENT.wrapping_mul(2) as i64,
                INCREMENT.wrapping_mul(3) as i64,
                INCREMENT.wrapping_mul(4) as i64,
            );
            each!(base => {
                let words = mix(_mm256_add_epi64(_mm256_set1_epi64x(base as i64), steps));
                _mm256_srli_epi32::<8>(words)
            })
        }
    }
    #[inline(always)]
    fn round_stochastic(self, t: Self::F, draws: Self::U) -> Self::U {
        unsafe {
            let unit = _mm256_set1_ps(1.0 / 16_777_216.0);
            each!(t, draws => {
                let whole = _mm256_cvttps_epi32(t);
                let fraction = _mm256_sub_ps(t, _mm256_cvtepi32_ps(whole));
                let draw = _mm256_mul_ps(_mm256_cvtepi32_ps(draws), unit);
                // All ones is -1, so subtracting the mask adds one.
                let up = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(draw, fraction));
                _mm256_sub_epi32(whole, up)
            })
        }
    }
    #[inline(always)]
    fn round_nearest(self, t: Self::F) -> Self::U {
        const TO_NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe { each!(t => _mm256_cvttps_epi32(_mm256_round_ps::<TO_NEAREST>(t))) }
    }
    #[inline(always)]
    fn to_float(self, v: Self::U) -> Self::F {
        unsafe { each!(v => _mm256_cvtepi32_ps(v)) }
    }
    #[inline(always)]
    fn join<const Q: u32>(self, codes: Self::U) -> [u64; 4] {
        unsafe {
            let halves = each!(codes => {
                let low = _mm256_and_si256(codes, _mm256_set1_epi64x(0xffff_ffff));
                let high = _mm256_srl_epi64(codes, _mm_cvtsi32_si128(32 - Q as i32));
                let pairs = _mm256_or_si256(low, high);
                let upper = _mm256_bsrli_epi128::<8>(pairs);
                let shifted = _mm256_sll_epi64(upper, _mm_cvtsi32_si128(2 * Q as i32));
                let quads = _mm256_or_si256(pairs, shifted);
                [_mm256_extract_epi64::<0>(quads) as u64, _mm256_extract_epi64::<2>(quads) as u64]
            });
            [halves[0][0], halves[0][1], halves[1][0], halves[1][1]]
        }
    }
    #[inline(always)]
    fn split<const Q: u32>(self, words: [u64; 4]) -> Self::U {
        let words = [[words[0] as i64, words[1] as i64], [words[2] as i64, words[3] as i64]];
        unsafe {
            let shift = 2 * i64::from(Q);
            let shifts = _mm256_setr_epi64x(0, shift, 0, shift);
            let mask = (1i64 << Q) - 1;
            each!(words => {
                let twice = _mm256_setr_epi64x(words[0], words[0], words[1], words[1]);
                let pairs = _mm256_srlv_epi64(twice, shifts);
                let low = _mm256_and_si256(pairs, _mm256_set1_epi64x(mask));
                let high = _mm256_sll_epi64(pairs, _mm_cvtsi32_si128(32 - Q as i32));
                _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi64x(mask << 32)))
            })
        }
    }
}
