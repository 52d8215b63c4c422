//! [`Lanes`] on AVX2: two registers of eight.

use super::Operation;
use super::columns::TILE;
use super::lanes::{LANES, Lanes, byte_of, shift_of};
use super::masks::{PLACES, RANKS};
use super::shuffle::QUADS;
use crate::random::{INCREMENT32, MIX32};
use std::arch::x86_64::*;

/// Proof that the processor has the features that [`enter`] enables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt"))
        .then_some(Self(()))
    }
}

/// Runs an operation compiled for this level.
///
/// # Safety
/// The processor has the features listed; an [`Avx2`] proves it.
#[target_feature(enable = "avx2,fma,bmi2,popcnt")]
pub(super) unsafe fn enter<O: Operation>(lanes: Avx2, operation: O) -> O::Output {
    operation.run(lanes)
}

/// Eight words of a key (FORMAT.md, section 8.3) from the counters they are mixed from.
#[inline(always)]
fn words32(counters: __m256i, high: u32) -> __m256i {
    // SAFETY: called from the operations below only, which hold an `Avx2`.
    unsafe {
        let z = _mm256_xor_si256(counters, _mm256_srli_epi32::<16>(counters));
        let z = _mm256_mullo_epi32(z, _mm256_set1_epi32(MIX32[0] as i32));
        let z = _mm256_xor_si256(z, _mm256_srli_epi32::<13>(z));
        let z = _mm256_add_epi32(z, _mm256_set1_epi32(high as i32));
        let z = _mm256_mullo_epi32(z, _mm256_set1_epi32(MIX32[1] as i32));
        _mm256_xor_si256(z, _mm256_srli_epi32::<16>(z))
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
    type Register = Self;
    const RADIX: usize = 4;

    #[inline(always)]
    fn register(self) -> Self {
        self
    }
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
    fn flip(self, v: Self::F, signs: u64, quarter: usize) -> Self::F {
        // Bit i of 32 moves to the sign position by 31 - i.
        const SHIFTS: [[i32; LANES]; 2] = {
            let mut shifts = [[0; LANES]; 2];
            let mut i = 0;
            while i < 32 {
                shifts[i / LANES][i % LANES] = 31 - i as i32;
                i += 1;
            }
            shifts
        };
        let half = (signs >> (32 * (quarter / 2))) as i32;
        let shifts = &SHIFTS[quarter % 2];
        unsafe {
            let shifts = [
                _mm256_loadu_si256(shifts.as_ptr().cast()),
                _mm256_loadu_si256(shifts.as_ptr().add(8).cast()),
            ];
            let signs = _mm256_set1_epi32(half);
            let mask = _mm256_set1_epi32(i32::MIN);
            each!(v, shifts => {
                let moved = _mm256_and_si256(_mm256_sllv_epi32(signs, shifts), mask);
                _mm256_xor_ps(v, _mm256_castsi256_ps(moved))
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
    fn load_u(self, x: &[u32; LANES]) -> Self::U {
        unsafe {
            [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(8).cast())]
        }
    }
    #[inline(always)]
    fn not_above(self, a: Self::F, b: Self::F) -> Self::U {
        unsafe {
            each!(a, b => {
                let mask = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LE_OQ>(a, b));
                _mm256_srli_epi32::<31>(mask)
            })
        }
    }
    #[inline(always)]
    fn look_up<const N: usize>(self, table: &[f32; N], codes: Self::U) -> Self::F {
        const { assert!(N.is_power_of_two() && N <= 1 << 20) };
        // In bounds: the lowest bits lead to one of N entries.
        unsafe {
            each!(codes => {
                let places = _mm256_and_si256(codes, _mm256_set1_epi32(N as i32 - 1));
                _mm256_i32gather_ps::<4>(table.as_ptr(), places)
            })
        }
    }
    #[inline(always)]
    fn split_quads(self, elements: &[[u8; 4]; QUADS]) -> [[u8; QUADS]; 4] {
        split_quads(elements)
    }
    #[inline(always)]
    fn join_quads(self, planes: [&[u8; QUADS]; 4]) -> [[u8; 4]; QUADS] {
        join_quads(planes)
    }
    #[inline(always)]
    fn transpose(self, from: (&[f32], usize), to: (&mut [f32], usize)) {
        transpose(from, to);
    }
    #[inline(always)]
    fn compress(self, v: Self::F, mask: u16, out: &mut [f32]) {
        let halves = mask.to_le_bytes();
        let out = &mut out[..LANES];
        let places = halves.map(|half| &PLACES[usize::from(half)]);
        let second = halves[0].count_ones() as usize;
        // In bounds: the second half begins behind at most eight values of the sixteen.
        unsafe {
            let [low, high] = each!(v, places => {
                let places = _mm256_cvtepu8_epi32(_mm_loadl_epi64(places.as_ptr().cast()));
                _mm256_permutevar8x32_ps(v, places)
            });
            _mm256_storeu_ps(out.as_mut_ptr(), low);
            _mm256_storeu_ps(out.as_mut_ptr().add(second), high);
        }
    }
    #[inline(always)]
    fn expand(self, x: &[f32], gain: Self::F, mask: u16) -> Self::F {
        // Bit i moves to the sign.
        const SHIFTS: [i32; 8] = [31, 30, 29, 28, 27, 26, 25, 24];
        let halves = mask.to_le_bytes();
        let x = &x[..LANES];
        let ranks = halves.map(|half| &RANKS[usize::from(half)]);
        let second = halves[0].count_ones() as usize;
        // In bounds: the second half begins behind at most eight values of the sixteen.
        unsafe {
            let loaded = [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(second))];
            let shifts = _mm256_loadu_si256(SHIFTS.as_ptr().cast());
            each!(loaded, ranks, halves, gain => {
                let ranks = _mm256_cvtepu8_epi32(_mm_loadl_epi64(ranks.as_ptr().cast()));
                let spread = _mm256_mul_ps(_mm256_permutevar8x32_ps(loaded, ranks), gain);
                let bits = _mm256_sllv_epi32(_mm256_set1_epi32(i32::from(halves)), shifts);
                let chosen = _mm256_castsi256_ps(_mm256_srai_epi32::<31>(bits));
                _mm256_and_ps(spread, chosen)
            })
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
            let words = _mm256_srli_epi16::<1>(words32(counters, (key >> 32) as u32));
            [
                _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words)),
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(words)),
            ]
        }
    }
    #[inline(always)]
    fn add_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { each!(a, b => _mm256_add_epi32(a, b)) }
    }
    #[inline(always)]
    fn sub_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { each!(a, b => _mm256_sub_epi32(a, b)) }
    }
    #[inline(always)]
    fn mul_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { each!(a, b => _mm256_mullo_epi32(a, b)) }
    }
    #[inline(always)]
    fn min_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { each!(a, b => _mm256_min_epu32(a, b)) }
    }
    #[inline(always)]
    fn and_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { each!(a, b => _mm256_and_si256(a, b)) }
    }
    #[inline(always)]
    fn or_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { each!(a, b => _mm256_or_si256(a, b)) }
    }
    #[inline(always)]
    fn xor_u(self, a: Self::U, b: Self::U) -> Self::U {
        unsafe { each!(a, b => _mm256_xor_si256(a, b)) }
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, v: Self::U) -> Self::U {
        unsafe { each!(v => _mm256_srl_epi32(v, _mm_cvtsi32_si128(BITS as i32))) }
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, v: Self::U) -> Self::U {
        unsafe { each!(v => _mm256_sll_epi32(v, _mm_cvtsi32_si128(BITS as i32))) }
    }
    #[inline(always)]
    fn shift_right_by(self, v: Self::U, counts: Self::U) -> Self::U {
        unsafe { each!(v, counts => _mm256_srlv_epi32(v, counts)) }
    }
    #[inline(always)]
    fn advance(self, states: Self::U, frequencies: Self::U, starts: Self::U) -> Self::U {
        unsafe {
            each!(states, frequencies, starts => {
                // A quotient is below 2^20, and what is computed is off by less than an eighth: less a quarter,
                // and that rounded by a 32nd at most, it is rounded down to the quotient or to one less.
                let high = _mm256_cvtepi32_ps(_mm256_srli_epi32::<16>(states));
                let low = _mm256_and_si256(states, _mm256_set1_epi32(0xffff));
                let dividends =
                    _mm256_fmadd_ps(high, _mm256_set1_ps(65536.0), _mm256_cvtepi32_ps(low));
                let ratios = _mm256_div_ps(dividends, _mm256_cvtepi32_ps(frequencies));
                let quotients = _mm256_cvttps_epi32(_mm256_sub_ps(ratios, _mm256_set1_ps(0.25)));
                let rests = _mm256_sub_epi32(states, _mm256_mullo_epi32(quotients, frequencies));
                let is_quotient = _mm256_cmpgt_epi32(frequencies, rests);
                let one_more = _mm256_sub_epi32(_mm256_set1_epi32(1 << 12), frequencies);
                let sum = _mm256_add_epi32(_mm256_slli_epi32::<12>(quotients), rests);
                let missing = _mm256_andnot_si256(is_quotient, one_more);
                _mm256_add_epi32(_mm256_add_epi32(sum, missing), starts)
            })
        }
    }
    #[inline(always)]
    fn where_less(self, a: Self::F, b: Self::F, bits: Self::U) -> Self::U {
        unsafe {
            each!(a, b, bits => {
                let mask = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
                _mm256_and_si256(mask, bits)
            })
        }
    }
    #[inline(always)]
    fn zeros(self, v: Self::U) -> u32 {
        let [low, high] =
            unsafe { each!(v => bits_of(_mm256_cmpeq_epi32(v, _mm256_setzero_si256()))) };
        low | high << 8
    }
    #[inline(always)]
    fn any_at_least(self, v: Self::U, bound: u32) -> bool {
        unsafe {
            let largest = _mm256_max_epu32(v[0], v[1]);
            let below = _mm256_set1_epi32(bound.wrapping_sub(1) as i32);
            bits_of(_mm256_cmpgt_epi32(largest, below)) != 0
        }
    }
    /// Shuffles move bytes: the upper three of a place are zero, and stand for the first entry.
    #[inline(always)]
    fn nibble(self, table: &[u8; 16], places: Self::U) -> Self::U {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            each!(places => _mm256_shuffle_epi8(table, places))
        }
    }
    #[inline(always)]
    fn gather(self, table: &[u32], places: Self::U) -> Self::U {
        assert!(table.len().is_power_of_two());
        // In bounds: what is masked is below the length.
        unsafe {
            each!(places => {
                let places = _mm256_and_si256(places, _mm256_set1_epi32(table.len() as i32 - 1));
                _mm256_i32gather_epi32::<4>(table.as_ptr().cast(), places)
            })
        }
    }
    #[inline(always)]
    fn refill(self, states: Self::U, words: &[u8; 2 * LANES]) -> (Self::U, usize) {
        let (low, first) = refill_eight(states[0], words, 0);
        let (high, second) = refill_eight(states[1], words, first);
        ([low, high], first + second)
    }
    #[inline(always)]
    fn emit(
        self,
        states: Self::U,
        frequencies: Self::U,
        out: &mut [u8],
        end: usize,
    ) -> (Self::U, usize) {
        unsafe {
            // Both are far below 2^31, so signed is unsigned.
            let keeps = each!(states, frequencies => {
                _mm256_cmpgt_epi32(frequencies, _mm256_srli_epi32::<20>(states))
            });
            let lower = each!(states => _mm256_and_si256(states, _mm256_set1_epi32(0xffff)));
            let pairs = _mm256_packus_epi32(lower[0], lower[1]);
            let words = _mm256_permute4x64_epi64::<0xD8>(pairs);
            let upper = _mm256_extracti128_si256::<1>(words);
            let middle = give(upper, !bits_of(keeps[1]) & 0xff, out, end);
            let at = give(_mm256_castsi256_si128(words), !bits_of(keeps[0]) & 0xff, out, middle);
            let states = each!(states, keeps => {
                _mm256_blendv_epi8(_mm256_srli_epi32::<16>(states), states, keeps)
            });
            (states, at)
        }
    }
    #[inline(always)]
    fn round(self, t: Self::F) -> Self::F {
        unsafe {
            each!(t => _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(t))
        }
    }
    #[inline(always)]
    fn round_nearest(self, t: Self::F) -> Self::U {
        // The default rounding of the floating-point environment, which FORMAT.md asks for.
        unsafe { each!(t => _mm256_cvtps_epi32(t)) }
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
    fn unpack<const Q: u32>(self, packed: &[u8]) -> Self::U {
        const { assert!(Q >= 1 && Q <= 16) };
        let eights = [&packed[..16], &packed[Q as usize..Q as usize + 16]];
        let (bytes, shifts) = const { (bytes_of_codes(Q), shifts_of_codes(Q)) };
        unsafe {
            let bytes = _mm256_loadu_si256(bytes.as_ptr().cast());
            let shifts = _mm256_loadu_si256(shifts.as_ptr().cast());
            let mask = _mm256_set1_epi32((1 << Q) - 1);
            each!(eights => {
                let eight = _mm256_broadcastsi128_si256(_mm_loadu_si128(eights.as_ptr().cast()));
                let moved = _mm256_srlv_epi32(_mm256_shuffle_epi8(eight, bytes), shifts);
                _mm256_and_si256(moved, mask)
            })
        }
    }
    /// Shorter ways for codes that fit a byte.
    #[inline(always)]
    fn pack<const Q: u32>(self, codes: Self::U, out: &mut [u8]) {
        if Q > 8 || Q == 7 {
            let words = self.join::<Q>(codes);
            super::lanes::put::<Q>(out, words[0], words[1]);
            super::lanes::put::<Q>(&mut out[Q as usize..], words[2], words[3]);
            return;
        }
        let bytes = unsafe {
            let pairs = _mm256_packus_epi32(codes[0], codes[1]);
            let ordered = _mm256_permute4x64_epi64::<0xD8>(pairs);
            let (low, high) =
                (_mm256_castsi256_si128(ordered), _mm256_extracti128_si256::<1>(ordered));
            _mm_packus_epi16(low, high)
        };
        pack_bytes::<Q>(bytes, out);
    }
}

/// Packs sixteen codes of Q bits, 1 to 6 or 8, a byte each, into the 2Q bytes at the head of `out`; the
/// 16 bytes behind them may be overwritten. For processors with AVX2.
#[inline(always)]
pub(super) fn pack_bytes<const Q: u32>(bytes: __m128i, out: &mut [u8]) {
    // SAFETY: SSE4.1 and less, which every processor with AVX2 has; called by its operations only.
    unsafe {
        if Q == 8 {
            let mut packed = [0; 16];
            _mm_storeu_si128(packed.as_mut_ptr().cast(), bytes);
            out[..16].copy_from_slice(&packed);
            return;
        }
        // Two codes to 16 bits, four to 32, eight to 64.
        let pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(1 | 1 << (8 + Q)));
        let quads = _mm_madd_epi16(pairs, _mm_set1_epi32(1 | 1 << (16 + 2 * Q)));
        let low = _mm_and_si128(quads, _mm_set1_epi64x(0xffff_ffff));
        let high = _mm_srli_epi64::<32>(quads);
        let eights = _mm_or_si128(low, _mm_sll_epi64(high, _mm_cvtsi32_si128(4 * Q as i32)));
        let (first, second) = (_mm_cvtsi128_si64(eights), _mm_extract_epi64::<1>(eights));
        out[..8].copy_from_slice(&first.to_le_bytes());
        out[Q as usize..Q as usize + 8].copy_from_slice(&second.to_le_bytes());
    }
}

/// The places of the bytes of four elements, by plane and back: its own inverse.
#[inline(always)]
fn transposed_quads(v: __m256i) -> __m256i {
    // SAFETY: AVX2; called from the two below only.
    unsafe {
        let order = _mm256_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, //
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
        );
        _mm256_shuffle_epi8(v, order)
    }
}

/// The four numbers of 64 bits of four registers as a matrix, transposed.
#[inline(always)]
fn transposed_words([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: AVX2; called from the two below only.
    unsafe {
        let (low_ab, high_ab) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        let (low_cd, high_cd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
        [
            _mm256_permute2x128_si256::<0x20>(low_ab, low_cd),
            _mm256_permute2x128_si256::<0x20>(high_ab, high_cd),
            _mm256_permute2x128_si256::<0x31>(low_ab, low_cd),
            _mm256_permute2x128_si256::<0x31>(high_ab, high_cd),
        ]
    }
}

/// The bytes of elements of four, by plane. For processors with AVX2.
#[inline(always)]
pub(super) fn split_quads(elements: &[[u8; 4]; QUADS]) -> [[u8; QUADS]; 4] {
    let mut planes = [[0; QUADS]; 4];
    // SAFETY: AVX2, called by operations of processors that have it only; four registers are what the
    // elements take, one is a plane.
    unsafe {
        let from: *const __m256i = elements.as_ptr().cast();
        // Of each eight elements: the eight bytes of a plane together.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let mut rows = [_mm256_setzero_si256(); 4];
        for (i, row) in rows.iter_mut().enumerate() {
            let eight = _mm256_loadu_si256(from.add(i));
            *row = _mm256_permutevar8x32_epi32(transposed_quads(eight), order);
        }
        for (plane, bytes) in planes.iter_mut().zip(transposed_words(rows)) {
            _mm256_storeu_si256(plane.as_mut_ptr().cast(), bytes);
        }
    }
    planes
}

/// The inverse of [`split_quads`]; as it, for processors with AVX2.
#[inline(always)]
pub(super) fn join_quads(planes: [&[u8; QUADS]; 4]) -> [[u8; 4]; QUADS] {
    let mut elements = [[0; 4]; QUADS];
    // SAFETY: as there.
    unsafe {
        let to: *mut __m256i = elements.as_mut_ptr().cast();
        let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        let mut rows = [_mm256_setzero_si256(); 4];
        for (row, plane) in rows.iter_mut().zip(planes) {
            *row = _mm256_loadu_si256(plane.as_ptr().cast());
        }
        for (i, row) in transposed_words(rows).into_iter().enumerate() {
            let eight = transposed_quads(_mm256_permutevar8x32_epi32(row, order));
            _mm256_storeu_si256(to.add(i), eight);
        }
    }
    elements
}

/// The first pairs of both, in each half, and the second ones.
#[inline(always)]
fn quads(low: __m256, high: __m256) -> [__m256; 2] {
    // SAFETY: AVX; called from below only.
    unsafe { [_mm256_shuffle_ps::<0x44>(low, high), _mm256_shuffle_ps::<0xEE>(low, high)] }
}

/// Transposes eight rows of eight values. For processors with AVX2.
#[inline(always)]
pub(super) fn transpose((from, apart): (&[f32], usize), (to, to_apart): (&mut [f32], usize)) {
    // SAFETY: AVX2, called by operations of processors that have it only; each load and store is one of a
    // slice of eight values.
    unsafe {
        let mut rows = [_mm256_setzero_ps(); TILE];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(from[i * apart..][..TILE].as_ptr());
        }
        let [a, b, c, d, e, f, g, h] = rows;
        // Pairs of neighbours, then quads of them, then halves.
        let pairs = [
            _mm256_unpacklo_ps(a, b),
            _mm256_unpackhi_ps(a, b),
            _mm256_unpacklo_ps(c, d),
            _mm256_unpackhi_ps(c, d),
            _mm256_unpacklo_ps(e, f),
            _mm256_unpackhi_ps(e, f),
            _mm256_unpacklo_ps(g, h),
            _mm256_unpackhi_ps(g, h),
        ];
        let [a, b] = quads(pairs[0], pairs[2]);
        let [c, d] = quads(pairs[1], pairs[3]);
        let [e, f] = quads(pairs[4], pairs[6]);
        let [g, h] = quads(pairs[5], pairs[7]);
        let columns = [
            _mm256_permute2f128_ps::<0x20>(a, e),
            _mm256_permute2f128_ps::<0x20>(b, f),
            _mm256_permute2f128_ps::<0x20>(c, g),
            _mm256_permute2f128_ps::<0x20>(d, h),
            _mm256_permute2f128_ps::<0x31>(a, e),
            _mm256_permute2f128_ps::<0x31>(b, f),
            _mm256_permute2f128_ps::<0x31>(c, g),
            _mm256_permute2f128_ps::<0x31>(d, h),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            _mm256_storeu_ps(to[i * to_apart..][..TILE].as_mut_ptr(), column);
        }
    }
}

/// For each of eight lanes the places of the four bytes that its code begins in.
pub(super) const fn bytes_of_codes(q: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i as usize] = (byte_of(q, i / 4) + i % 4) as u8;
        i += 1;
    }
    bytes
}

/// For each of eight lanes how far its code is above the lowest bit of them.
pub(super) const fn shifts_of_codes(q: u32) -> [u32; 8] {
    let mut shifts = [0; 8];
    let mut i = 0;
    while i < 8 {
        shifts[i as usize] = shift_of(q, i);
        i += 1;
    }
    shifts
}

/// A bit for each of eight lanes: its sign.
#[inline(always)]
fn bits_of(mask: __m256i) -> u32 {
    // SAFETY: AVX, which every caller has.
    unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(mask)) as u32 }
}

/// For each set of lanes which bytes of their words go where, so that the last word is that of the last lane
/// of the set.
const GIVEN: [[u8; 16]; 256] = {
    let mut bytes = [[0; 16]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut place) = (8, 8);
        while lane > 0 {
            lane -= 1;
            if set >> lane & 1 == 1 {
                place -= 1;
                bytes[set][2 * place] = 2 * lane as u8;
                bytes[set][2 * place + 1] = 2 * lane as u8 + 1;
            }
        }
        set += 1;
    }
    bytes
};

#[inline(always)]
fn refill_eight(states: __m256i, words: &[u8; 2 * LANES], from: usize) -> (__m256i, usize) {
    let words = &words[2 * from..][..16];
    // SAFETY: AVX2, which every caller has; loads stay inside references.
    unsafe {
        let low = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(states), _mm256_setzero_si256());
        let set = bits_of(low);
        let places = _mm256_cvtepu8_epi32(_mm_loadl_epi64(RANKS[set as usize].as_ptr().cast()));
        let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(words.as_ptr().cast()));
        let taken = _mm256_permutevar8x32_epi32(words, places);
        let filled = _mm256_or_si256(_mm256_slli_epi32::<16>(states), taken);
        (_mm256_blendv_epi8(states, filled, low), set.count_ones() as usize)
    }
}

/// Puts the words of a set of eight before `end`; where they begin.
#[inline(always)]
fn give(words: __m128i, set: u32, out: &mut [u8], end: usize) -> usize {
    let room = &mut out[end - 16..end];
    // SAFETY: AVX2, which every caller has; loads and stores stay inside references.
    unsafe {
        let places = _mm_loadu_si128(GIVEN[set as usize].as_ptr().cast());
        _mm_storeu_si128(room.as_mut_ptr().cast(), _mm_shuffle_epi8(words, places));
    }
    end - 2 * set.count_ones() as usize
}
