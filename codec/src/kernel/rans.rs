//! Interleaved rANS (Duda 2013; Giesen 2014) of integers in up to 64 lanes: FORMAT.md, section 7.5.
//!
//! Integer i belongs to state i modulo the number of lanes. Vectors of sixteen states go together; where
//! there are fewer lanes, and at the ragged end, one integer goes after the other.

use super::Operation;
use super::lanes::{LANES, Lanes};
use crate::arrays;

/// Bits of a frequency: those of a table add up to `1 << PROBABILITY_BITS`.
pub(crate) const PROBABILITY_BITS: u32 = 12;
/// States between symbols are at least this; it is where they begin and end.
pub(crate) const LOWEST_STATE: u32 = 1 << 16;
/// Most lanes.
pub(crate) const MOST_LANES: usize = 64;
/// Tokens of small values of a trellis stand for themselves, less this.
pub(crate) const MIDDLE: i32 = 112;
/// First token that is not a small value of a trellis.
pub(crate) const FIRST_WIDE: u32 = 224;
/// Tokens of small multiples stand for themselves, less this.
pub(crate) const MIDDLE_MULTIPLE: i32 = 15;
/// First token that is not a small multiple: from there on two for each quarter of an octave from 16 on,
/// one for each sign.
pub(crate) const FIRST_WIDE_MULTIPLE: u32 = 31;
/// Multiples that share a class.
pub(crate) const CLASS_BLOCK: usize = 256;
/// What an integer has that no table holds.
pub(crate) const NO_TOKEN: u32 = 254;
/// The token before an integer that follows elsewhere.
pub(crate) const ESCAPE: u32 = 255;
/// What the encoder's table has for a token without a frequency.
pub(crate) const MISSING: u32 = 1 << 30;
/// Bytes behind the words that the decoder may read.
pub(crate) const SLACK: usize = 2 * MOST_LANES;
/// Added to signed integers, so that unsigned operations do.
const BIAS: u32 = 1 << 24;

/// Where in the tables the entry of an integer of the coded sequence stands.
pub(super) trait Contexts: Copy {
    /// Of sixteen neighbours from `at` on; of one without a token, any place where none has one.
    fn of<L: Lanes>(self, l: L, at: usize, x: L::U) -> L::U;
    /// Of one.
    fn of_one(self, at: usize, x: i32) -> u32;
    /// Of the escape from the table that holds this place.
    fn escape(self, place: u32) -> u32 {
        place | ESCAPE
    }
}

/// Values of a trellis, `2 k + table`; of k the lowest bits go elsewhere. Entries of the two tables stand in
/// turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values {
    pub(crate) low: u32,
    /// What decoded values are multiplied with.
    pub(crate) scale: f32,
}

impl Contexts for Values {
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, _: usize, x: L::U) -> L::U {
        // What is below the first token is above the last; of which table it is without one, its own place says.
        if self.low == 0 {
            let tokens = l.add_u(x, l.splat_u(2 * MIDDLE as u32));
            return l.min_u(tokens, l.splat_u(2 * NO_TOKEN));
        }
        let upper = l.shift_right_by(l.add_u(x, l.splat_u(2 * BIAS)), l.splat_u(1 + self.low));
        let tokens = l.sub_u(upper, l.splat_u((BIAS >> self.low) - MIDDLE as u32));
        let table = l.and_u(x, l.splat_u(1));
        l.or_u(l.shift_left::<1>(l.min_u(tokens, l.splat_u(NO_TOKEN))), table)
    }
    fn of_one(self, _: usize, x: i32) -> u32 {
        let k = ((x >> 1) + BIAS as i32) as u32;
        let token = (k >> self.low).wrapping_sub((BIAS >> self.low) - MIDDLE as u32);
        (token.min(NO_TOKEN) << 1) | (x & 1) as u32
    }
    fn escape(self, place: u32) -> u32 {
        (ESCAPE << 1) | (place & 1)
    }
}

/// Multiples of a step, by the class of their block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Multiples<'a> {
    pub(crate) classes: &'a [u8],
}

impl Multiples<'_> {
    fn class(self, at: usize) -> u32 {
        self.classes[at / CLASS_BLOCK].into()
    }
}

/// The token of a multiple: itself if it is small, else the highest three bits of its magnitude, and
/// their place, and the sign.
pub(crate) fn token(k: i32) -> u32 {
    let small = k.wrapping_add(MIDDLE_MULTIPLE) as u32;
    if small < FIRST_WIDE_MULTIPLE {
        return small;
    }
    let magnitude = k.unsigned_abs();
    let octave = magnitude.ilog2();
    let quarter = magnitude >> (octave - 2) & 3;
    FIRST_WIDE_MULTIPLE + 2 * (4 * (octave - 4) + quarter) + u32::from(k < 0)
}

/// The tokens of sixteen.
#[inline(always)]
pub(super) fn tokens<L: Lanes>(l: L, x: L::U) -> L::U {
    let small = l.add_u(x, l.splat_u(MIDDLE_MULTIPLE as u32));
    let tokens = l.min_u(small, l.splat_u(FIRST_WIDE_MULTIPLE));
    if l.zeros(l.xor_u(tokens, l.splat_u(FIRST_WIDE_MULTIPLE))) == 0 {
        return tokens;
    }
    let mut row = [0; LANES];
    l.store_u(x, &mut row);
    for k in &mut row {
        *k = token(*k as i32);
    }
    l.load_u(&row)
}

impl Contexts for Multiples<'_> {
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, at: usize, x: L::U) -> L::U {
        l.or_u(l.splat_u(self.class(at) << 8), tokens(l, x))
    }
    fn of_one(self, at: usize, x: i32) -> u32 {
        self.class(at) << 8 | token(x)
    }
}

/// Encodes integers, from the last to the first, those before what was encoded with these states.
pub(super) struct Encode<'a, C> {
    /// The integers, as f32; the first of all, and those that others follow, are at multiples of
    /// [`MOST_LANES`].
    pub x: &'a [f32],
    pub contexts: C,
    /// For each place: where the token starts, times 2^16, plus its frequency, or [`MISSING`] where it has none.
    pub tables: &'a [u32],
    pub lanes: usize,
    pub states: &'a mut States,
    /// Takes words before this place.
    pub out: &'a mut [u8],
    pub end: usize,
    /// Places of integers without a token, in descending order.
    pub escaped: &'a mut Vec<u32>,
}

/// Those of an encoder.
#[derive(Debug, Clone)]
pub(crate) struct States([u32; MOST_LANES]);

impl States {
    /// Before the last integer.
    pub(crate) fn start() -> Self {
        Self([LOWEST_STATE; MOST_LANES])
    }

    /// Puts the first `lanes` of them before `end`; where that starts.
    pub(crate) fn put(&self, lanes: usize, out: &mut [u8], mut end: usize) -> usize {
        for state in self.0[..lanes].iter().rev() {
            end -= 4;
            out[end..end + 4].copy_from_slice(&state.to_le_bytes());
        }
        end
    }
}

impl<C: Contexts> Operation for Encode<'_, C> {
    /// Where in `out` the words start.
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) -> usize {
        let mut states = self.states.0;
        let n = self.x.len();
        let whole = if self.lanes < LANES { 0 } else { n / self.lanes * self.lanes };
        let mut end = self.end;
        for at in (whole..n).rev() {
            end = self.one(at, &mut states[at % self.lanes], end);
        }
        end = match self.lanes / LANES {
            1 => self.rows::<L, 1>(l, &mut states, whole, end),
            2 => self.rows::<L, 2>(l, &mut states, whole, end),
            4 => self.rows::<L, 4>(l, &mut states, whole, end),
            _ => end,
        };
        self.states.0 = states;
        end
    }
}

impl<C: Contexts> Encode<'_, C> {
    fn one(&mut self, at: usize, state: &mut u32, mut end: usize) -> usize {
        let place = self.contexts.of_one(at, self.x[at] as i32);
        let mut entry = self.tables[place as usize];
        if entry >= MISSING {
            self.escaped.push(at as u32);
            entry = self.tables[self.contexts.escape(place) as usize];
        }
        let (start, frequency) = (entry >> 16, entry & 0xffff);
        if *state >> (32 - PROBABILITY_BITS) >= frequency {
            end -= 2;
            self.out[end..end + 2].copy_from_slice(&(*state as u16).to_le_bytes());
            *state >>= 16;
        }
        *state = ((*state / frequency) << PROBABILITY_BITS) + *state % frequency + start;
        end
    }

    #[inline(always)]
    fn rows<L: Lanes, const W: usize>(
        &mut self,
        l: L,
        states: &mut [u32; MOST_LANES],
        whole: usize,
        mut end: usize,
    ) -> usize {
        let Self { x, contexts, tables, out, escaped, .. } = self;
        let (x, contexts, tables) = (*x, *contexts, *tables);
        let mut vectors = [l.splat_u(LOWEST_STATE); W];
        let (states, _) = arrays::split_mut::<_, LANES>(states);
        for w in 0..W {
            vectors[w] = l.load_u(&states[w]);
        }
        for row in (0..whole / (W * LANES)).rev() {
            for w in (0..W).rev() {
                let at = (row * W + w) * LANES;
                let integers = x[at..].first_chunk().unwrap_or(&[0.0; LANES]);
                let places = contexts.of(l, at, l.round_nearest(l.load(integers)));
                let mut entries = l.gather(tables, places);
                if l.any_at_least(entries, MISSING) {
                    let mut found = [0; LANES];
                    l.store_u(entries, &mut found);
                    escape(contexts, integers, at, tables, &mut found, escaped);
                    entries = l.load_u(&found);
                }
                let frequencies = l.and_u(entries, l.splat_u(0xffff));
                let state;
                (state, end) = l.emit(vectors[w], frequencies, out, end);
                vectors[w] = l.advance(state, frequencies, l.shift_right::<16>(entries));
            }
        }
        for w in 0..W {
            l.store_u(vectors[w], &mut states[w]);
        }
        end
    }
}

/// Puts the entries of escapes in the place of those that are missing, of integers from `at` on.
#[cold]
fn escape<C: Contexts>(
    contexts: C,
    integers: &[f32; LANES],
    at: usize,
    tables: &[u32],
    entries: &mut [u32; LANES],
    escaped: &mut Vec<u32>,
) {
    for (lane, entry) in entries.iter_mut().enumerate().rev() {
        if *entry >= MISSING {
            let place = contexts.of_one(at + lane, integers[lane] as i32);
            escaped.push((at + lane) as u32);
            *entry = tables[contexts.escape(place) as usize];
        }
    }
}

/// How the table of an integer follows from those before it.
pub(super) trait Walk: Copy {
    /// Tokens of small integers stand for themselves, less this.
    const MIDDLE: i32;
    /// First token whose integer follows elsewhere.
    const FIRST_WIDE: u32;
    /// The table for integers from `at` on, and what is expected of them, from what was decoded `before`.
    fn table<L: Lanes>(self, l: L, at: usize, lane: L::U, before: &[f32]) -> (L::U, L::F);
    fn table_of_one(self, at: usize, lane: u32, before: &[f32]) -> (u32, f32);
    /// What is decoded from the integer k and the state of the lane behind it.
    fn step<L: Lanes>(self, l: L, lane: L::U, k: L::U, expected: L::F) -> (L::F, L::U);
    fn step_one(self, lane: u32, k: i32, expected: f32) -> (f32, u32);
    /// Low bits of an integer that stand elsewhere.
    fn low(self) -> u32;
    /// Integers of a lane after which it starts anew.
    fn restart(self) -> usize;
}

/// The state of the trellis behind `state`, by the lowest bit of an index.
const fn next(state: u32, branch: u32) -> u32 {
    (state >> 1) ^ (5 * (state & 1)) ^ (branch << 1)
}

/// The states behind all of them by either branch.
const NEXT: [u8; 16] = {
    let (mut all, mut i) = ([0; 16], 0);
    while i < 16 {
        all[i] = next(i as u32 / 2, i as u32 % 2) as u8;
        i += 1;
    }
    all
};

impl Walk for Values {
    const MIDDLE: i32 = MIDDLE;
    const FIRST_WIDE: u32 = FIRST_WIDE;

    #[inline(always)]
    fn table<L: Lanes>(self, l: L, _: usize, lane: L::U, _: &[f32]) -> (L::U, L::F) {
        (l.and_u(lane, l.splat_u(1)), l.splat(0.0))
    }
    fn table_of_one(self, _: usize, lane: u32, _: &[f32]) -> (u32, f32) {
        (lane & 1, 0.0)
    }
    #[inline(always)]
    fn step<L: Lanes>(self, l: L, lane: L::U, k: L::U, _: L::F) -> (L::F, L::U) {
        let value = l.add_u(l.add_u(k, k), l.and_u(lane, l.splat_u(1)));
        let next = l.nibble(&NEXT, l.or_u(l.add_u(lane, lane), l.and_u(k, l.splat_u(1))));
        (l.mul(l.to_float(value), l.splat(self.scale)), next)
    }
    fn step_one(self, lane: u32, k: i32, _: f32) -> (f32, u32) {
        let odd = lane & 1;
        (
            (2 * k + odd as i32) as f32 * self.scale,
            (lane >> 1) ^ (5 * odd) ^ (((k & 1) as u32) << 1),
        )
    }
    fn low(self) -> u32 {
        self.low
    }
    fn restart(self) -> usize {
        super::trellis::STEPS
    }
}

impl Walk for Multiples<'_> {
    const MIDDLE: i32 = MIDDLE_MULTIPLE;
    const FIRST_WIDE: u32 = FIRST_WIDE_MULTIPLE;

    #[inline(always)]
    fn table<L: Lanes>(self, l: L, at: usize, _: L::U, _: &[f32]) -> (L::U, L::F) {
        (l.splat_u(self.class(at)), l.splat(0.0))
    }
    fn table_of_one(self, at: usize, _: u32, _: &[f32]) -> (u32, f32) {
        (self.class(at), 0.0)
    }
    #[inline(always)]
    fn step<L: Lanes>(self, l: L, lane: L::U, k: L::U, _: L::F) -> (L::F, L::U) {
        (l.to_float(k), lane)
    }
    fn step_one(self, lane: u32, k: i32, _: f32) -> (f32, u32) {
        (k as f32, lane)
    }
    fn low(self) -> u32 {
        0
    }
    fn restart(self) -> usize {
        usize::MAX
    }
}

/// Integers that follow elsewhere, in their order.
pub(crate) trait Elsewhere {
    /// The next one, of this token under this table; `None` where it is not valid.
    fn next(&mut self, table: u32, token: u32) -> Option<i32>;
}

/// Decodes integers, from where it was left on.
pub(super) struct Decode<'a, W, E> {
    /// For each table and each slot of 12 bits: the distance from the start of its token, the frequency
    /// times 2^12, the token times 2^24.
    pub tables: &'a [u32],
    pub walk: W,
    pub lanes: usize,
    /// States and words, with [`SLACK`] behind them.
    pub words: &'a [u8],
    pub elsewhere: &'a mut E,
    pub progress: &'a mut Progress,
    /// Holds the low bits of every integer, where there are any; what they become. A walk that looks at what
    /// was decoded before sees no more of it than this.
    pub out: &'a mut [f32],
}

/// How far a decoder is: states of rANS and of the walk, where the next word is, and how many integers
/// there were.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    rans: [u32; MOST_LANES],
    walk: [u32; MOST_LANES],
    at: usize,
    done: usize,
}

impl Progress {
    /// At the first integer, if the words begin with states.
    pub(crate) fn start(words: &[u8], lanes: usize) -> Option<Self> {
        let mut start = Self { rans: [0; MOST_LANES], walk: [0; MOST_LANES], at: 0, done: 0 };
        for rans in &mut start.rans[..lanes] {
            let bytes = words.get(start.at..start.at + 4)?;
            *rans = u32::from_le_bytes(bytes.try_into().ok()?);
            start.at += 4;
            if *rans < LOWEST_STATE {
                return None;
            }
        }
        Some(start)
    }

    /// Where the words end, if the states are as they have to be behind the last integer.
    pub(crate) fn end(&self, lanes: usize) -> Option<usize> {
        self.rans[..lanes].iter().all(|rans| *rans == LOWEST_STATE).then_some(self.at)
    }
}

impl<W: Walk, E: Elsewhere> Operation for Decode<'_, W, E> {
    /// `None` where the words are not valid.
    type Output = Option<()>;

    /// Begins at a multiple of [`MOST_LANES`] integers.
    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) -> Option<()> {
        let mut state = self.progress.clone();
        let first = state.done;
        // Lanes of the walk: as many, but never fewer than a vector has.
        let unit = self.lanes.max(LANES).saturating_mul(self.walk.restart());
        let mut from = 0;
        while from < self.out.len() {
            let place = (first + from) % unit;
            if place == 0 {
                state.walk = [0; MOST_LANES];
            }
            let to = self.out.len().min(from.saturating_add(unit - place));
            self.unit(l, &mut state, from, to)?;
            from = to;
        }
        state.done += self.out.len();
        *self.progress = state;
        Some(())
    }
}

impl<W: Walk, E: Elsewhere> Decode<'_, W, E> {
    /// What lies between two starts of the walk, or a part of it.
    #[inline(always)]
    fn unit<L: Lanes>(&mut self, l: L, state: &mut Progress, from: usize, to: usize) -> Option<()> {
        let rows = (to - from) / self.lanes;
        let whole = match self.lanes / LANES {
            1 => self.rows::<L, 1>(l, state, from, rows),
            2 => self.rows::<L, 2>(l, state, from, rows),
            4 => self.rows::<L, 4>(l, state, from, rows),
            _ => Some(0),
        }?;
        (from + whole..to).try_for_each(|at| self.one(state, from, at))
    }

    fn one(&mut self, state: &mut Progress, from: usize, at: usize) -> Option<()> {
        let lane = &mut state.walk[(at - from) % self.lanes.max(LANES)];
        let rans = &mut state.rans[at % self.lanes];
        let (table, expected) = self.walk.table_of_one(at, *lane, self.out);
        let entry = *self.tables.get((table << PROBABILITY_BITS | *rans & 0xfff) as usize)?;
        *rans = (entry >> 12 & 0xfff) * (*rans >> PROBABILITY_BITS) + (entry & 0xfff);
        if *rans < LOWEST_STATE {
            let bytes = self.words.get(state.at..state.at + 2)?;
            *rans = *rans << 16 | u32::from(u16::from_le_bytes(bytes.try_into().ok()?));
            state.at += 2;
        }
        let token = entry >> 24;
        let upper = match token < W::FIRST_WIDE {
            true => token as i32 - W::MIDDLE,
            false => self.elsewhere.next(table, token)?,
        };
        let low = if self.walk.low() > 0 { self.out[at] as i32 } else { 0 };
        (self.out[at], *lane) =
            self.walk.step_one(*lane, (upper << self.walk.low()) + low, expected);
        Some(())
    }

    /// Rows of W vectors; says how many integers those were.
    #[inline(always)]
    fn rows<L: Lanes, const V: usize>(
        &mut self,
        l: L,
        state: &mut Progress,
        from: usize,
        rows: usize,
    ) -> Option<usize> {
        let mut rans = [l.splat_u(0); V];
        let mut lane = [l.splat_u(0); V];
        for v in 0..V {
            rans[v] = l.load_u(state.rans[v * LANES..].first_chunk()?);
            lane[v] = l.load_u(state.walk[v * LANES..].first_chunk()?);
        }
        let mut next = state.at;
        let one = l.splat_u(1 << self.walk.low());
        let middle = l.splat_u((W::MIDDLE as u32) << self.walk.low());
        for row in 0..rows {
            for v in 0..V {
                let at = from + (row * V + v) * LANES;
                let (table, expected) = self.walk.table(l, at, lane[v], self.out);
                let slot = l.and_u(rans[v], l.splat_u(0xfff));
                let place = l.or_u(l.shift_left::<PROBABILITY_BITS>(table), slot);
                let entry = l.gather(self.tables, place);
                let frequency = l.and_u(l.shift_right::<12>(entry), l.splat_u(0xfff));
                let upper = l.mul_u(frequency, l.shift_right::<PROBABILITY_BITS>(rans[v]));
                let low = l.add_u(upper, l.and_u(entry, l.splat_u(0xfff)));
                let words = self.words.get(next..)?.first_chunk()?;
                let taken;
                (rans[v], taken) = l.refill(low, words);
                next += 2 * taken;
                let mut token = l.shift_right::<24>(entry);
                if l.any_at_least(token, W::FIRST_WIDE) {
                    token = self.wide(l, table, token)?;
                }
                let out = self.out[at..].first_chunk_mut()?;
                let mut k = l.sub_u(token, middle);
                if self.walk.low() > 0 {
                    let low = l.round_nearest(l.load(out));
                    k = l.sub_u(l.add_u(l.mul_u(token, one), low), middle);
                }
                let value;
                (value, lane[v]) = self.walk.step(l, lane[v], k, expected);
                l.store(value, out);
            }
        }
        for v in 0..V {
            l.store_u(rans[v], state.rans[v * LANES..].first_chunk_mut()?);
            l.store_u(lane[v], state.walk[v * LANES..].first_chunk_mut()?);
        }
        state.at = next;
        Some(rows * V * LANES)
    }

    /// The tokens of sixteen integers some of which follow elsewhere, as if they had tokens, too.
    #[cold]
    fn wide<L: Lanes>(&mut self, l: L, tables: L::U, tokens: L::U) -> Option<L::U> {
        let (mut numbers, mut found) = ([0; LANES], [0; LANES]);
        l.store_u(tables, &mut numbers);
        l.store_u(tokens, &mut found);
        for (token, table) in found.iter_mut().zip(numbers) {
            if *token >= W::FIRST_WIDE {
                *token = self.elsewhere.next(table, *token)?.wrapping_add(W::MIDDLE) as u32;
            }
        }
        Some(l.load_u(&found))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, Simd};
    use super::*;

    /// The states that come after sixteen by their frequencies, and starts of 1: no more than 4096 with any frequency.
    struct Advance([u32; LANES], [u32; LANES]);

    impl Operation for Advance {
        type Output = [u32; LANES];

        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> [u32; LANES] {
            let Self(mut states, frequencies) = self;
            let after = l.advance(l.load_u(&states), l.load_u(&frequencies), l.splat_u(1));
            l.store_u(after, &mut states);
            states
        }
    }

    #[test]
    fn states_advance_exactly_by_every_frequency() {
        for simd in [Simd::Scalar, Simd::Avx2, Simd::Auto].map(Kernel::new) {
            for frequency in 1..1u32 << PROBABILITY_BITS {
                // Quotients at either end and between, with the least and the largest rest.
                let state = |i: usize| {
                    let quotients = [1, 2, 255, 4096, 0x7ffff, 0x80000, 0xffffe, 0xfffff];
                    quotients[i / 2] * frequency + [0, frequency - 1][i % 2]
                };
                let states: [u32; LANES] = std::array::from_fn(state);
                let after = simd.run(Advance(states, [frequency; LANES]));
                for (state, after) in states.into_iter().zip(after) {
                    let exact = ((state / frequency) << PROBABILITY_BITS) + state % frequency + 1;
                    assert_eq!(after, exact, "{state} by {frequency}");
                }
            }
        }
    }
}
