//! [`Mixing`] on AVX2: eight lanes.

use super::super::mixing::Mixing;
use super::Avx2;
use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

/// For each set of eight lanes their sign bits.
static SIGNS: [[u32; 8]; 256] = {
    let mut signs = [[0; 8]; 256];
    let mut i = 0;
    while i < 8 * 256 {
        signs[i / 8][i % 8] = (((i / 8) >> (i % 8)) as u32) << 31;
        i += 1;
    }
    signs
};

/// Proof that the processor has AVX2.
#[derive(Clone, Copy)]
pub(in super::super) struct Mixer {
    /// 1 in each lane, which the compiler does not know: see [`Mixing::sub_elsewhere`].
    one: __m256,
}

impl Mixer {
    #[inline(always)]
    pub(super) fn new(_: Avx2) -> Self {
        // SAFETY: the argument proves AVX2.
        Self { one: unsafe { _mm256_set1_ps(black_box(1.0)) } }
    }
}

// SAFETY (every block below): the intrinsics need the features that `self` proves; loads and stores stay
// inside references to arrays of a register, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Mixing for Mixer {
    type V = __m256;
    type Row = [f32; 8];
    const WIDTH: usize = 8;
    const RADIX: usize = 8;

    #[inline(always)]
    fn load(self, x: &Self::Row) -> Self::V {
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::V, x: &mut Self::Row) {
        unsafe { _mm256_storeu_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::V {
        unsafe { _mm256_set1_ps(v) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn flip(self, v: Self::V, signs: u64, part: usize) -> Self::V {
        let signs = &SIGNS[usize::from((signs >> (8 * part)) as u8)];
        unsafe { _mm256_xor_ps(v, _mm256_loadu_ps(signs.as_ptr().cast())) }
    }
    /// Processors add and subtract with two of their units, and multiply and add with two of which one at
    /// least is another. A product with 1 is exact, so this rounds the difference only; the 1 is hidden from
    /// the compiler, which knows that as well.
    #[inline(always)]
    fn sub_elsewhere(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_fnmadd_ps(b, self.one, a) }
    }
    // A product with 1 or -1 is exact, so each fused operation rounds the sum only and has the bits of
    // `other + v` or `other - v`.
    #[inline(always)]
    fn mix_first(self, v: Self::V) -> Self::V {
        unsafe { _mm256_fmadd_ps(v, alternating(), _mm256_permute_ps::<0xB1>(v)) }
    }
    #[inline(always)]
    fn mix_middle(self, v: Self::V) -> Self::V {
        unsafe {
            let signs = _mm256_setr_ps(1., 1., -1., -1., 1., 1., -1., -1.);
            _mm256_fmadd_ps(v, signs, _mm256_permute_ps::<0x4E>(v))
        }
    }
    #[inline(always)]
    fn mix_last(self, v: Self::V) -> Self::V {
        unsafe { _mm256_fmadd_ps(v, halves(), _mm256_permute2f128_ps::<1>(v, v)) }
    }
    #[inline(always)]
    fn load_first(self, x: &Self::Row) -> Self::V {
        unsafe {
            let [even, odd] = load_twice(x);
            _mm256_fmadd_ps(odd, alternating(), even)
        }
    }
    /// What loads can do, no other unit has to.
    #[inline(always)]
    fn load_last(self, x: &Self::Row) -> Self::V {
        unsafe {
            // No references to halves, which would have to begin at sixteen bytes.
            let (low, high) = (_mm_loadu_ps(x.as_ptr()), _mm_loadu_ps(x.as_ptr().add(4)));
            let (low, high) = (_mm256_set_m128(low, low), _mm256_set_m128(high, high));
            _mm256_fmadd_ps(high, halves(), low)
        }
    }
}

#[inline(always)]
fn alternating() -> __m256 {
    // SAFETY: AVX; called from above only.
    unsafe { _mm256_setr_ps(1., -1., 1., -1., 1., -1., 1., -1.) }
}

#[inline(always)]
fn halves() -> __m256 {
    // SAFETY: AVX; called from above only.
    unsafe { _mm256_setr_ps(1., 1., 1., 1., -1., -1., -1., -1.) }
}

/// The even lanes and the odd ones, each twice: by two loads, since loads can do that. The compiler would load
/// once, and then move lanes by units that have enough to do.
#[target_feature(enable = "avx")]
#[inline]
fn load_twice(x: &[f32; 8]) -> [__m256; 2] {
    let (even, odd);
    // SAFETY: reads the array only.
    unsafe {
        asm!(
            "vmovsldup {even}, ymmword ptr [{x}]",
            "vmovshdup {odd}, ymmword ptr [{x}]",
            x = in(reg) x.as_ptr(),
            even = out(ymm_reg) even,
            odd = lateout(ymm_reg) odd,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [even, odd]
}
