//! [`Lanes`] on AVX2: two registers of eight.

mod mixing;
pub(super) mod packing;
pub(super) mod tiles;

use super::Operation;
use super::lanes::{LANES, Lanes};
use super::masks::{PLACES, RANKS};
use super::shuffle::QUADS;
use crate::random::{INCREMENT32, MIX32};
use mixing::Mixer;
use packing::{bytes_of_codes, pack_four, shifts_of_codes};
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

/// What counters of words rise by in a row.
const ROW_OF_COUNTERS: u32 = INCREMENT32.wrapping_mul(LANES as u32 / 2);

/// Counters of the words of a row (FORMAT.md, section 8.3), from word `first` on, in the order in which their
/// halves, unpacked within each half of a register, are in order.
#[inline(always)]
fn counter(key: u64, first: u32) -> __m256i {
    let base = (key as u32).wrapping_add(first.wrapping_add(1).wrapping_mul(INCREMENT32));
    // SAFETY: called from the operations below only, which hold an `Avx2`.
    unsafe {
        let steps = _mm256_mullo_epi32(
            _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7),
            _mm256_set1_epi32(INCREMENT32 as i32),
        );
        _mm256_add_epi32(_mm256_set1_epi32(base as i32), steps)
    }
}

/// The draws of a row from its counters.
#[inline(always)]
fn draws(counters: __m256i, key: u64) -> [__m256i; 2] {
    // SAFETY: called from the operations below only, which hold an `Avx2`.
    unsafe {
        let z = _mm256_xor_si256(counters, _mm256_srli_epi32::<16>(counters));
        let z = _mm256_mullo_epi32(z, _mm256_set1_epi32(MIX32[0] as i32));
        let z = _mm256_xor_si256(z, _mm256_srli_epi32::<13>(z));
        let z = _mm256_add_epi32(z, _mm256_set1_epi32((key >> 32) as i32));
        let z = _mm256_mullo_epi32(z, _mm256_set1_epi32(MIX32[1] as i32));
        let words = _mm256_srli_epi16::<1>(_mm256_xor_si256(z, _mm256_srli_epi32::<16>(z)));
        let zero = _mm256_setzero_si256();
        [_mm256_unpacklo_epi16(words, zero), _mm256_unpackhi_epi16(words, zero)]
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
    type Mixing = Mixer;

    #[inline(always)]
    fn register(self) -> Self {
        self
    }
    #[inline(always)]
    fn mixing(self) -> Mixer {
        Mixer::new(self)
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
    fn prefetch(self, x: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
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
        draws(counter(key, first), key)
    }
    /// With the counter in a register once.
    #[inline(always)]
    fn draws_of_four(self, key: u64, first: u32) -> [Self::U; 4] {
        unsafe {
            let a = counter(key, first);
            let b = _mm256_add_epi32(a, _mm256_set1_epi32(ROW_OF_COUNTERS as i32));
            let c = _mm256_add_epi32(a, _mm256_set1_epi32(ROW_OF_COUNTERS.wrapping_mul(2) as i32));
            let d = _mm256_add_epi32(a, _mm256_set1_epi32(ROW_OF_COUNTERS.wrapping_mul(3) as i32));
            [draws(a, key), draws(b, key), draws(c, key), draws(d, key)]
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
                // A quotient is below 2^20, and three roundings are off by less than a fifth. Of a state with its lowest
                // bit set that is too large by at most one frequency in the dividend: the nearest integer is the
                // quotient or one more.
                let halves = _mm256_cvtepi32_ps(_mm256_srli_epi32::<1>(states));
                let dividends = _mm256_fmadd_ps(halves, _mm256_set1_ps(2.0), _mm256_set1_ps(1.0));
                let ratios = _mm256_div_ps(dividends, _mm256_cvtepi32_ps(frequencies));
                let quotients = _mm256_cvtps_epi32(ratios);
                let rests = _mm256_sub_epi32(states, _mm256_mullo_epi32(quotients, frequencies));
                let is_more = _mm256_srai_epi32::<31>(rests);
                let one_less = _mm256_sub_epi32(frequencies, _mm256_set1_epi32(1 << 12));
                let sum = _mm256_add_epi32(_mm256_slli_epi32::<12>(quotients), rests);
                let less = _mm256_and_si256(is_more, one_less);
                _mm256_add_epi32(_mm256_add_epi32(sum, less), starts)
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
    #[inline(always)]
    fn pack_four<const Q: u32>(self, codes: [Self::U; 4], out: &mut [u8]) {
        pack_four::<Q>(codes, out);
    }
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
