//! Sixteen lanes of f32 and u32: the operations an instruction set has to offer.

use super::columns::TILE;
use super::mixing::Mixing;
use super::register::Register;
use super::shuffle::QUADS;
use crate::random::word32;

/// How many values a vector holds, at every level.
pub(super) const LANES: usize = 16;

/// One instruction set. A value of the implementing type proves that the processor has it.
///
/// Every operation rounds once, to nearest even, and never merges with another one.
pub(super) trait Lanes: Copy {
    type F: Copy;
    type U: Copy;
    /// Vectors of one register.
    type Register: Register;
    /// What mixes registers of values.
    type Mixing: Mixing;

    fn register(self) -> Self::Register;
    fn mixing(self) -> Self::Mixing;

    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, v: Self::F, x: &mut [f32; LANES]);
    /// Asks for the cache line of a value that will be needed soon, if there is one.
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
    fn splat(self, v: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a > b ? a : b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// Bits of the absolute values.
    fn abs_bits(self, v: Self::F) -> Self::U;
    fn max_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn splat_u(self, v: u32) -> Self::U;
    fn store_u(self, v: Self::U, x: &mut [u32; LANES]);
    fn load_u(self, x: &[u32; LANES]) -> Self::U;
    /// 1 where `a <= b`, else 0.
    fn not_above(self, a: Self::F, b: Self::F) -> Self::U;
    /// The entries of a table, of a power of two entries, at the lowest bits of the codes.
    fn look_up<const N: usize>(self, table: &[f32; N], codes: Self::U) -> Self::F;
    /// The first bytes of elements of four, their second bytes, and so on.
    fn split_quads(self, elements: &[[u8; 4]; QUADS]) -> [[u8; QUADS]; 4] {
        std::array::from_fn(|p| elements.map(|element| element[p]))
    }
    /// The inverse.
    fn join_quads(self, planes: [&[u8; QUADS]; 4]) -> [[u8; 4]; QUADS] {
        std::array::from_fn(|i| planes.map(|plane| plane[i]))
    }
    /// Transposes eight rows of eight values; each side says how far apart its rows are.
    fn transpose(self, (from, apart): (&[f32], usize), (to, to_apart): (&mut [f32], usize)) {
        for row in 0..TILE {
            let values = &from[row * apart..][..TILE];
            for (i, value) in values.iter().enumerate() {
                to[i * to_apart + row] = *value;
            }
        }
    }
    /// The values of the lanes whose bits are set, to the head of `out`; the 16 values from there on may be
    /// overwritten.
    fn compress(self, v: Self::F, mask: u16, out: &mut [f32]);
    /// Values from the head of `x` times `gain` in the lanes whose bits are set, zeros in the others; the 16
    /// values from there on may be read.
    fn expand(self, x: &[f32], gain: Self::F, mask: u16) -> Self::F;
    /// Sixteen 15-bit draws (FORMAT.md, section 8.3): the upper bits of each half of words
    /// `first .. first + 8` of `key`, low half before high half.
    fn draws(self, key: u64, first: u32) -> Self::U;
    /// Those of four rows, from words `first .. first + 32`.
    #[inline(always)]
    fn draws_of_four(self, key: u64, first: u32) -> [Self::U; 4] {
        const WORDS: u32 = LANES as u32 / 2;
        // No closure: it would be a function of its own, compiled without the features.
        [
            self.draws(key, first),
            self.draws(key, first.wrapping_add(WORDS)),
            self.draws(key, first.wrapping_add(2 * WORDS)),
            self.draws(key, first.wrapping_add(3 * WORDS)),
        ]
    }
    fn add_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn sub_u(self, a: Self::U, b: Self::U) -> Self::U;
    /// The lower half of the product.
    fn mul_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn min_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn and_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn or_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn xor_u(self, a: Self::U, b: Self::U) -> Self::U;
    /// Shifts right, zeros from above.
    fn shift_right<const BITS: u32>(self, v: Self::U) -> Self::U;
    /// Shifts left, zeros from below.
    fn shift_left<const BITS: u32>(self, v: Self::U) -> Self::U;
    /// Shifts each lane right by its own count, below 32.
    fn shift_right_by(self, v: Self::U, counts: Self::U) -> Self::U;
    /// States of rANS behind a symbol: `(s / f << 12) + s % f + start`, for states `s` of at least `16 * f` and
    /// below `2^20 * f`, and frequencies `f` of 1 to 4095.
    fn advance(self, states: Self::U, frequencies: Self::U, starts: Self::U) -> Self::U;
    /// `bits` where `a < b`, else 0.
    fn where_less(self, a: Self::F, b: Self::F, bits: Self::U) -> Self::U;
    /// Bit i of the result where lane i is 0.
    fn zeros(self, v: Self::U) -> u32;
    /// Whether any of values below 2^31 is at least `bound`, which is from 1 to 2^31.
    fn any_at_least(self, v: Self::U, bound: u32) -> bool;
    /// The entries of a table, the first of which is 0, at places below 16.
    fn nibble(self, table: &[u8; 16], places: Self::U) -> Self::U;
    /// The entries of a table, whose length is a power of two, at the lowest bits of `places`.
    fn gather(self, table: &[u32], places: Self::U) -> Self::U;
    /// States of rANS below 2^16 take a word of 16 bits each, in the order of lanes; says how many
    /// did.
    fn refill(self, states: Self::U, words: &[u8; 2 * LANES]) -> (Self::U, usize);
    /// States of rANS of at least `2^20 * frequency` give up their lower 16 bits, in the order of
    /// lanes, to what ends at `end` and begins where the result says. What stands up to 32 bytes
    /// before `end` may be overwritten.
    fn emit(
        self,
        states: Self::U,
        frequencies: Self::U,
        out: &mut [u8],
        end: usize,
    ) -> (Self::U, usize);
    /// Rounds to the nearest integer, ties to even.
    fn round(self, t: Self::F) -> Self::F;
    /// Rounds values in (-2^31, 2^31) to the nearest integer, ties to even.
    fn round_nearest(self, t: Self::F) -> Self::U;
    /// Converts signed integers below 2^24 in magnitude.
    fn to_float(self, v: Self::U) -> Self::F;
    /// Packs sixteen codes of Q <= 16 bits into the 2Q bytes at the head of `out`; the 16 bytes
    /// behind them may be overwritten.
    #[inline(always)]
    fn pack<const Q: u32>(self, codes: Self::U, out: &mut [u8]) {
        let words = self.join::<Q>(codes);
        put::<Q>(out, words[0], words[1]);
        put::<Q>(&mut out[Q as usize..], words[2], words[3]);
    }
    /// Packs 64 codes, those above the largest of Q <= 8 bits as that, into the 8Q bytes at the head of
    /// `out`; the 16 bytes behind them may be overwritten. Codes are below 2^15.
    #[inline(always)]
    fn pack_four<const Q: u32>(self, codes: [Self::U; 4], out: &mut [u8]) {
        let largest = self.splat_u((1 << Q) - 1);
        for (i, codes) in codes.into_iter().enumerate() {
            self.pack::<Q>(self.min_u(codes, largest), &mut out[2 * Q as usize * i..]);
        }
    }
    /// Joins codes of Q <= 16 bits, four to a word, the first in the lowest bits.
    fn join<const Q: u32>(self, codes: Self::U) -> [u64; 4];
    /// The sixteen codes of Q <= 16 bits at the head of `packed`, which has 16 bytes to spare behind
    /// them.
    fn unpack<const Q: u32>(self, packed: &[u8]) -> Self::U;
}

/// Where, and how far right, lane i finds its code among eight packed ones: the four bytes from byte
/// `Q * i / 8` on, shifted right by the rest.
pub(super) const fn byte_of(q: u32, lane: u32) -> u32 {
    q * lane / 8
}

/// See [`byte_of`].
pub(super) const fn shift_of(q: u32, lane: u32) -> u32 {
    q * lane % 8
}

/// Eight codes in Q bytes; bytes after them, up to 16 in all, may be overwritten.
#[inline(always)]
pub(super) fn put<const Q: u32>(out: &mut [u8], low: u64, high: u64) {
    if Q <= 8 {
        out[..8].copy_from_slice(&(low | high << (4 * Q)).to_le_bytes());
    } else {
        let word = u128::from(low) | u128::from(high) << (4 * Q);
        out[..16].copy_from_slice(&word.to_le_bytes());
    }
}

/// The portable twin: plain loops over arrays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

fn map2<T: Copy, R>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> R) -> [R; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Lanes for Portable {
    type F = [f32; LANES];
    type U = [u32; LANES];
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
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::F, x: &mut [f32; LANES]) {
        *x = v;
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        [v; LANES]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn abs_bits(self, v: Self::F) -> Self::U {
        v.map(|v| v.to_bits() & 0x7fff_ffff)
    }
    #[inline(always)]
    fn max_u(self, a: Self::U, b: Self::U) -> Self::U {
        map2(a, b, u32::max)
    }
    #[inline(always)]
    fn splat_u(self, v: u32) -> Self::U {
        [v; LANES]
    }
    #[inline(always)]
    fn store_u(self, v: Self::U, x: &mut [u32; LANES]) {
        *x = v;
    }
    #[inline(always)]
    fn load_u(self, x: &[u32; LANES]) -> Self::U {
        *x
    }
    #[inline(always)]
    fn not_above(self, a: Self::F, b: Self::F) -> Self::U {
        map2(a, b, |a, b| u32::from(a <= b))
    }
    #[inline(always)]
    fn look_up<const N: usize>(self, table: &[f32; N], codes: Self::U) -> Self::F {
        codes.map(|code| table[code as usize % N])
    }
    #[inline(always)]
    fn compress(self, v: Self::F, mask: u16, out: &mut [f32]) {
        let chosen = v.into_iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
        for ((_, v), out) in chosen.zip(out) {
            *out = v;
        }
    }
    #[inline(always)]
    fn expand(self, x: &[f32], gain: Self::F, mask: u16) -> Self::F {
        let mut at = 0;
        std::array::from_fn(|i| {
            if mask >> i & 1 == 0 {
                return 0.0;
            }
            at += 1;
            x[at - 1] * gain[i]
        })
    }
    #[inline(always)]
    fn draws(self, key: u64, first: u32) -> Self::U {
        let words: [u32; 8] = std::array::from_fn(|i| word32(key, first.wrapping_add(i as u32)));
        std::array::from_fn(|i| words[i / 2] >> (16 * (i % 2) + 1) & 0x7fff)
    }
    #[inline(always)]
    fn add_u(self, a: Self::U, b: Self::U) -> Self::U {
        map2(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    fn sub_u(self, a: Self::U, b: Self::U) -> Self::U {
        map2(a, b, u32::wrapping_sub)
    }
    #[inline(always)]
    fn mul_u(self, a: Self::U, b: Self::U) -> Self::U {
        map2(a, b, u32::wrapping_mul)
    }
    #[inline(always)]
    fn min_u(self, a: Self::U, b: Self::U) -> Self::U {
        map2(a, b, u32::min)
    }
    #[inline(always)]
    fn and_u(self, a: Self::U, b: Self::U) -> Self::U {
        map2(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or_u(self, a: Self::U, b: Self::U) -> Self::U {
        map2(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn xor_u(self, a: Self::U, b: Self::U) -> Self::U {
        map2(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, v: Self::U) -> Self::U {
        v.map(|v| v >> BITS)
    }
    #[inline(always)]
    fn shift_left<const BITS: u32>(self, v: Self::U) -> Self::U {
        v.map(|v| v << BITS)
    }
    #[inline(always)]
    fn shift_right_by(self, v: Self::U, counts: Self::U) -> Self::U {
        map2(v, counts, |v, count| v >> (count & 31))
    }
    #[inline(always)]
    fn advance(self, states: Self::U, frequencies: Self::U, starts: Self::U) -> Self::U {
        let rests = map2(states, frequencies, |s, f| ((s / f.max(1)) << 12) + s % f.max(1));
        map2(rests, starts, |rest, start| rest + start)
    }
    #[inline(always)]
    fn where_less(self, a: Self::F, b: Self::F, bits: Self::U) -> Self::U {
        std::array::from_fn(|i| if a[i] < b[i] { bits[i] } else { 0 })
    }
    #[inline(always)]
    fn zeros(self, v: Self::U) -> u32 {
        (0..LANES).fold(0, |mask, i| mask | u32::from(v[i] == 0) << i)
    }
    #[inline(always)]
    fn any_at_least(self, v: Self::U, bound: u32) -> bool {
        v.iter().any(|v| *v >= bound)
    }
    #[inline(always)]
    fn nibble(self, table: &[u8; 16], places: Self::U) -> Self::U {
        places.map(|place| table[place as usize & 15].into())
    }
    #[inline(always)]
    fn gather(self, table: &[u32], places: Self::U) -> Self::U {
        places.map(|place| table[place as usize & (table.len() - 1)])
    }
    #[inline(always)]
    fn refill(self, states: Self::U, words: &[u8; 2 * LANES]) -> (Self::U, usize) {
        let mut taken = 0;
        let states = states.map(|state| {
            if state >> 16 != 0 {
                return state;
            }
            taken += 1;
            let word = [words[2 * taken - 2], words[2 * taken - 1]];
            state << 16 | u32::from(u16::from_le_bytes(word))
        });
        (states, taken)
    }
    #[inline(always)]
    fn emit(
        self,
        mut states: Self::U,
        frequencies: Self::U,
        out: &mut [u8],
        end: usize,
    ) -> (Self::U, usize) {
        let mut at = end;
        for (state, frequency) in states.iter_mut().zip(frequencies).rev() {
            if *state >> 20 >= frequency {
                at -= 2;
                out[at..at + 2].copy_from_slice(&(*state as u16).to_le_bytes());
                *state >>= 16;
            }
        }
        (states, at)
    }
    #[inline(always)]
    fn round(self, t: Self::F) -> Self::F {
        t.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn round_nearest(self, t: Self::F) -> Self::U {
        t.map(|t| t.round_ties_even() as i32 as u32)
    }
    #[inline(always)]
    fn to_float(self, v: Self::U) -> Self::F {
        v.map(|v| v as i32 as f32)
    }
    #[inline(always)]
    fn join<const Q: u32>(self, codes: Self::U) -> [u64; 4] {
        std::array::from_fn(|j| {
            (0..4).fold(0, |word, i| word | u64::from(codes[4 * j + i]) << (Q * i as u32))
        })
    }
    #[inline(always)]
    fn unpack<const Q: u32>(self, packed: &[u8]) -> Self::U {
        std::array::from_fn(|i| {
            let eight = &packed[i / 8 * Q as usize..];
            let at = byte_of(Q, i as u32 % 8) as usize;
            let bytes = eight[at..at + 4].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            bytes >> shift_of(Q, i as u32 % 8) & ((1 << Q) - 1)
        })
    }
}
