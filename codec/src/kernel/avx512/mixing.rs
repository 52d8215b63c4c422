//! [`Mixing`] on AVX-512: sixteen lanes.
#![expect(clippy::incompatible_msrv, reason = "build.rs leaves this module out before Rust 1.89")]

use super::super::lanes::{LANES, Lanes};
use super::super::mixing::Mixing;
use super::Avx512;
use std::arch::asm;
use std::arch::x86_64::*;

// SAFETY (every block below): the intrinsics need the features that `self` proves; loads stay inside
// references to arrays of sixteen values, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Mixing for Avx512 {
    type V = __m512;
    type Row = [f32; LANES];
    const WIDTH: usize = LANES;
    const RADIX: usize = 16;

    #[inline(always)]
    fn load(self, x: &Self::Row) -> Self::V {
        Lanes::load(self, x)
    }
    #[inline(always)]
    fn store(self, v: Self::V, x: &mut Self::Row) {
        Lanes::store(self, v, x);
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::V {
        Lanes::splat(self, v)
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        Lanes::add(self, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        Lanes::sub(self, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        Lanes::mul(self, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        Lanes::min(self, a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        Lanes::max(self, a, b)
    }
    #[inline(always)]
    fn flip(self, v: Self::V, signs: u64, part: usize) -> Self::V {
        let signs = (signs >> (16 * part)) as u16;
        unsafe {
            let v = _mm512_castps_si512(v);
            let sign = _mm512_set1_epi32(i32::MIN);
            _mm512_castsi512_ps(_mm512_mask_xor_epi32(v, signs, v, sign))
        }
    }
    #[inline(always)]
    fn mix_first(self, v: Self::V) -> Self::V {
        unsafe { butterfly(v, _mm512_permute_ps::<0xB1>(v), ODD) }
    }
    #[inline(always)]
    fn mix_middle(self, v: Self::V) -> Self::V {
        unsafe {
            let v = butterfly(v, _mm512_permute_ps::<0x4E>(v), 0xCCCC);
            butterfly(v, _mm512_shuffle_f32x4::<0xB1>(v, v), 0xF0F0)
        }
    }
    #[inline(always)]
    fn mix_last(self, v: Self::V) -> Self::V {
        unsafe { butterfly(v, _mm512_shuffle_f32x4::<0x4E>(v, v), UPPER) }
    }
    #[inline(always)]
    fn load_first(self, x: &Self::Row) -> Self::V {
        unsafe {
            let [even, odd] = load_twice(x);
            butterfly(odd, even, ODD)
        }
    }
    /// What loads can do, no other unit has to.
    #[inline(always)]
    fn load_last(self, x: &Self::Row) -> Self::V {
        unsafe {
            let low = _mm512_broadcast_f32x8(_mm256_loadu_ps(x.as_ptr()));
            let high = _mm512_broadcast_f32x8(_mm256_loadu_ps(x.as_ptr().add(8)));
            butterfly(high, low, UPPER)
        }
    }
}

/// The odd lanes.
const ODD: u16 = 0xAAAA;
/// The upper half.
const UPPER: u16 = 0xFF00;

/// `other + v`, and in the lanes of a mask `other - v`.
#[inline(always)]
fn butterfly(v: __m512, other: __m512, minus: u16) -> __m512 {
    // SAFETY: called from above only, with an `Avx512`. A product with 1 or -1 is exact, so this fused operation
    // rounds the sum only and has the bits of the sum or the difference.
    unsafe {
        let sign = _mm512_mask_blend_ps(minus, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
        _mm512_fmadd_ps(v, sign, other)
    }
}

/// As on AVX2: the even lanes and the odd ones, each twice, by two loads.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_twice(x: &[f32; LANES]) -> [__m512; 2] {
    let (even, odd);
    // SAFETY: reads the array only.
    unsafe {
        asm!(
            "vmovsldup {even}, zmmword ptr [{x}]",
            "vmovshdup {odd}, zmmword ptr [{x}]",
            x = in(reg) x.as_ptr(),
            even = out(zmm_reg) even,
            odd = lateout(zmm_reg) odd,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [even, odd]
}
