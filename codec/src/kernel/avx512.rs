//! [`Lanes`] on AVX-512 (F, BW, DQ, VL). Compiled where the compiler knows its intrinsics.
#![expect(clippy::incompatible_msrv, reason = "build.rs leaves this module out before Rust 1.89")]

mod mixing;
mod packing;

use super::Operation;
use super::avx2::packing::{bytes_of_codes, shifts_of_codes};
use super::avx2::tiles;
use super::lanes::{LANES, Lanes};
use super::shuffle::QUADS;
use crate::random::{INCREMENT32, MIX32};
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
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt"))
        .then_some(Self(()))
    }
}

/// Runs an operation compiled for this level.
///
/// # Safety
/// The processor has the features listed; an [`Avx512`] proves it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2,popcnt")]
pub(super) unsafe fn enter<O: Operation>(lanes: Avx512, operation: O) -> O::Output {
    operation.run(lanes)
}

/// Eight words of a key (FORMAT.md, section 8.3) from the counters they are mixed from.
#[inline(always)]
fn words32(counters: __m256i, high: u32) -> __m256i {
    // SAFETY: called from the operations below only, which hold an `Avx512`.
    unsafe {
        let z = _mm256_xor_si256(counters, _mm256_srli_epi32::<16>(counters));
        let z = _mm256_mullo_epi32(z, _mm256_set1_epi32(MIX32[0] as i32));
        let z = _mm256_xor_si256(z, _mm256_srli_epi32::<13>(z));
        let z = _mm256_add_epi32(z, _mm256_set1_epi32(high as i32));
        let z = _mm256_mullo_epi32(z, _mm256_set1_epi32(MIX32[1] as i32));
        _mm256_xor_si256(z, _mm256_srli_epi32::<16>(z))
    }
}

/// Draws of two rows, from words `first .. first + 16`.
#[inline(always)]
fn draws_of_two(key: u64, first: u32) -> [__m512i; 2] {
    let base = (key as u32).wrapping_add(first.wrapping_add(1).wrapping_mul(INCREMENT32));
    // SAFETY: called from the operations below only, which hold an `Avx512`.
    unsafe {
        // The order in which halves of words, unpacked within each quarter of a register, are in order.
        let steps = _mm512_mullo_epi32(
            _mm512_setr_epi32(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15),
            _mm512_set1_epi32(INCREMENT32 as i32),
        );
        let z = _mm512_add_epi32(_mm512_set1_epi32(base as i32), steps);
        let z = _mm512_xor_si512(z, _mm512_srli_epi32::<16>(z));
        let z = _mm512_mullo_epi32(z, _mm512_set1_epi32(MIX32[0] as i32));
        let z = _mm512_xor_si512(z, _mm512_srli_epi32::<13>(z));
        let z = _mm512_add_epi32(z, _mm512_set1_epi32((key >> 32) as i32));
        let z = _mm512_mullo_epi32(z, _mm512_set1_epi32(MIX32[1] as i32));
        let z = _mm512_srli_epi16::<1>(_mm512_xor_si512(z, _mm512_srli_epi32::<16>(z)));
        let zero = _mm512_setzero_si512();
        [_mm512_unpacklo_epi16(z, zero), _mm512_unpackhi_epi16(z, zero)]
    }
}

// SAFETY (every block below): the intrinsics need the features that `self` proves; loads and
// stores go through references to arrays of exactly the vector's size, unaligned.
#[expect(clippy::undocumented_unsafe_blocks, reason = "the note above covers each of them")]
impl Lanes for Avx512 {
    type F = __m512;
    type U = __m512i;
    type Register = Self;
    type Mixing = Self;

    #[inline(always)]
    fn register(self) -> Self {
        self
    }
    #[inline(always)]
    fn mixing(self) -> Self {
        self
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::F, x: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
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
    fn load_u(self, x: &[u32; LANES]) -> Self::U {
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn not_above(self, a: Self::F, b: Self::F) -> Self::U {
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b);
            _mm512_maskz_set1_epi32(mask, 1)
        }
    }
    #[inline(always)]
    fn look_up<const N: usize>(self, table: &[f32; N], codes: Self::U) -> Self::F {
        const { assert!(N.is_power_of_two() && N <= 1 << 20) };
        // In bounds: the lowest bits lead to one of N entries.
        unsafe {
            let places = _mm512_and_si512(codes, _mm512_set1_epi32(N as i32 - 1));
            _mm512_i32gather_ps::<4>(places, table.as_ptr())
        }
    }
    #[inline(always)]
    fn split_quads(self, elements: &[[u8; 4]; QUADS]) -> [[u8; QUADS]; 4] {
        tiles::split_quads(elements)
    }
    #[inline(always)]
    fn join_quads(self, planes: [&[u8; QUADS]; 4]) -> [[u8; 4]; QUADS] {
        tiles::join_quads(planes)
    }
    #[inline(always)]
    fn transpose(self, from: (&[f32], usize), to: (&mut [f32], usize)) {
        tiles::transpose(from, to);
    }
    #[inline(always)]
    fn compress(self, v: Self::F, mask: u16, out: &mut [f32]) {
        let out = &mut out[..LANES];
        // Into a register first: to memory the instruction is many times slower on some processors.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_maskz_compress_ps(mask, v)) }
    }
    #[inline(always)]
    fn expand(self, x: &[f32], gain: Self::F, mask: u16) -> Self::F {
        let x = &x[..LANES];
        unsafe {
            let spread = _mm512_maskz_expand_ps(mask, _mm512_loadu_ps(x.as_ptr()));
            _mm512_maskz_mul_ps(mask, spread, gain)
        }
    }
    #[inline(always)]
    fn draws(self, key: u64, first: u32) -> Self::U {
        let base = (key as u32).wrapping_add(first.wrapping_add(1).wrapping_mul(INCREMENT32));
        unsafe {
            let steps = _mm256_mullo_epi32(
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                _mm256_set1_epi32(INCREMENT32 as i32),
            );
            let counters = _mm256_add_epi32(_mm256_set1_epi32(base as i32), steps);
            let words = words32(counters, (key >> 32) as u32);
            _mm512_cvtepu16_epi32(_mm256_srli_epi16::<1>(words))
        }
    }
    /// Thirty-two at a time.
    #[inline(always)]
    fn draws_of_four(self, key: u64, first: u32) -> [Self::U; 4] {
        let [a, b] = draws_of_two(key, first);
        let [c, d] = draws_of_two(key, first.wrapping_add(LANES as u32));
        [a, b, c, d]
    }
    #[inline(always)]
    fn add_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn mul_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    fn min_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { _mm512_min_epu32(a, b) }
    }
    #[inline(always)]
    fn and_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn or_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn xor_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, v: Self::U) -> Self::U {
        unsafe { _mm512_srl_epi32(v, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, v: Self::U) -> Self::U {
        unsafe { _mm512_sll_epi32(v, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn shift_right_by(self, v: Self::U, counts: Self::U) -> Self::U {
        unsafe { _mm512_srlv_epi32(v, counts) }
    }
    #[inline(always)]
    fn advance(self, states: Self::U, frequencies: Self::U, starts: Self::U) -> Self::U {
        unsafe {
            // Division would take half of the time of an encoder's words. A reciprocal within 2^-14 is one within
            // 2^-28 by a step of Newton, before it is rounded. A quotient is below 2^20, and all roundings are off
            // by less than a third: the nearest integer is the quotient or one more.
            let divisors = _mm512_cvtepi32_ps(frequencies);
            let near = _mm512_rcp14_ps(divisors);
            let correction = _mm512_fnmadd_ps(divisors, near, _mm512_set1_ps(2.0));
            let dividends = _mm512_mul_ps(_mm512_cvtepu32_ps(states), near);
            let quotients = _mm512_cvtps_epi32(_mm512_mul_ps(dividends, correction));
            let rests = _mm512_sub_epi32(states, _mm512_mullo_epi32(quotients, frequencies));
            let is_more = _mm512_movepi32_mask(rests);
            let one_less = _mm512_sub_epi32(frequencies, _mm512_set1_epi32(1 << 12));
            let sum = _mm512_add_epi32(_mm512_slli_epi32::<12>(quotients), rests);
            _mm512_add_epi32(_mm512_mask_add_epi32(sum, is_more, sum, one_less), starts)
        }
    }
    #[inline(always)]
    fn where_less(self, a: Self::F, b: Self::F, bits: Self::U) -> Self::U {
        unsafe { _mm512_maskz_mov_epi32(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), bits) }
    }
    #[inline(always)]
    fn zeros(self, v: Self::U) -> u32 {
        unsafe { _mm512_testn_epi32_mask(v, v).into() }
    }
    #[inline(always)]
    fn any_at_least(self, v: Self::U, bound: u32) -> bool {
        unsafe { _mm512_cmpge_epu32_mask(v, _mm512_set1_epi32(bound as i32)) != 0 }
    }
    /// Shuffles move bytes: the upper three of a place are zero, and stand for the first entry.
    #[inline(always)]
    fn nibble(self, table: &[u8; 16], places: Self::U) -> Self::U {
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, places)
        }
    }
    #[inline(always)]
    fn gather(self, table: &[u32], places: Self::U) -> Self::U {
        assert!(table.len().is_power_of_two());
        // In bounds: what is masked is below the length.
        unsafe {
            let places = _mm512_and_si512(places, _mm512_set1_epi32(table.len() as i32 - 1));
            _mm512_i32gather_epi32::<4>(places, table.as_ptr().cast())
        }
    }
    #[inline(always)]
    fn refill(self, states: Self::U, words: &[u8; 2 * LANES]) -> (Self::U, usize) {
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(words.as_ptr().cast()));
            let low = _mm512_cmplt_epu32_mask(states, _mm512_set1_epi32(1 << 16));
            let taken = _mm512_maskz_expand_epi32(low, words);
            let shifted = _mm512_slli_epi32::<16>(states);
            (_mm512_mask_or_epi32(states, low, shifted, taken), low.count_ones() as usize)
        }
    }
    #[inline(always)]
    fn emit(
        self,
        states: Self::U,
        frequencies: Self::U,
        out: &mut [u8],
        end: usize,
    ) -> (Self::U, usize) {
        let room: &mut [u8] = &mut out[end - 2 * LANES..end];
        unsafe {
            let full = _mm512_cmpge_epu32_mask(_mm512_srli_epi32::<20>(states), frequencies);
            let n = full.count_ones();
            // The words of the lanes go to the last places.
            let first = _mm512_maskz_compress_epi32(full, states);
            let places = _mm512_add_epi32(
                _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                _mm512_set1_epi32(n as i32),
            );
            let last = _mm512_permutexvar_epi32(places, first);
            _mm256_storeu_si256(room.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(last));
            (_mm512_mask_srli_epi32::<16>(states, full, states), end - 2 * n as usize)
        }
    }
    #[inline(always)]
    fn round(self, t: Self::F) -> Self::F {
        unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(t) }
    }
    #[inline(always)]
    fn round_nearest(self, t: Self::F) -> Self::U {
        unsafe { _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(t) }
    }
    #[inline(always)]
    fn to_float(self, v: Self::U) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(v) }
    }
    #[inline(always)]
    fn pack_four<const Q: u32>(self, codes: [Self::U; 4], out: &mut [u8]) {
        packing::pack_four::<Q>(codes, out);
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
    fn unpack<const Q: u32>(self, packed: &[u8]) -> Self::U {
        const { assert!(Q >= 1 && Q <= 16) };
        let (low, high) = (&packed[..16], &packed[Q as usize..Q as usize + 16]);
        let (bytes, shifts) = const { (bytes_of_codes(Q), shifts_of_codes(Q)) };
        unsafe {
            let bytes = _mm512_broadcast_i64x4(_mm256_loadu_si256(bytes.as_ptr().cast()));
            let shifts = _mm512_broadcast_i64x4(_mm256_loadu_si256(shifts.as_ptr().cast()));
            let low = _mm256_broadcastsi128_si256(_mm_loadu_si128(low.as_ptr().cast()));
            let high = _mm256_broadcastsi128_si256(_mm_loadu_si128(high.as_ptr().cast()));
            let eights = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            let moved = _mm512_srlv_epi32(_mm512_shuffle_epi8(eights, bytes), shifts);
            _mm512_and_si512(moved, _mm512_set1_epi32((1 << Q) - 1))
        }
    }
}
