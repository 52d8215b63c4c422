//! Signs and the Walsh-Hadamard transform of one block.

use super::Operation;
use super::lanes::{LANES, Lanes};
use super::mixing::Mixing;
use super::passes::{
    Ahead, Finish, Start, USUAL, across, first_stages, last_stages, rows, rows_mut,
};
use super::scan::{pick_max, pick_min};
use crate::random::word;
use bytemuck::Zeroable;

/// 2^(-k/2) for a block of 2^k values: exact for even k, otherwise 1/sqrt(2) rounded once and
/// scaled by a power of two.
pub(super) fn norm(len: usize) -> f32 {
    let k = len.trailing_zeros() as i32;
    let half = f32::from_bits(((127 - k / 2) as u32) << 23);
    if k % 2 == 0 { half } else { half * std::f32::consts::FRAC_1_SQRT_2 }
}

/// Smallest and largest of what a rotation makes, -0 counted as +0; of NaN neither says anything,
/// and where all is NaN the smallest is infinite.
pub(crate) type Range = (f32, f32);

pub(super) struct Rotate<'a> {
    pub x: &'a [f32],
    pub y: &'a mut [f32],
    pub key: u64,
    pub ahead: &'a [f32],
}

impl Operation for Rotate<'_> {
    type Output = Range;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Range {
        let Self { x, y, key, ahead } = self;
        let n = x.len();
        debug_assert!(n.is_power_of_two() && n == y.len());
        if n < 8 * LANES {
            return rotate_small(x, y, key);
        }
        let (ahead, m) = (&ahead[..ahead.len().min(n)], l.mixing());
        let signs = Signs::of(key, n);
        let ends = (FlipAndMix { signs: signs.words() }, Scale { norm: norm(n) });
        let notes = across(m, Some(rows(x)), rows_mut(y), None, Ahead::of(l, ahead), ends);
        let mut ends = [[<L::Mixing as Mixing>::Row::zeroed()]; 2];
        m.store(notes.lo, &mut ends[0][0]);
        m.store(notes.hi, &mut ends[1][0]);
        range_of(bytemuck::cast_slice(&ends[0]), bytemuck::cast_slice(&ends[1]))
    }
}

pub(super) struct RotateInPlace<'a> {
    pub y: &'a mut [f32],
    pub key: u64,
}

impl Operation for RotateInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { y, key } = self;
        let n = y.len();
        debug_assert!(n.is_power_of_two());
        if n < 8 * LANES {
            flip_in_place(y, key);
            walsh_hadamard_small(y);
            let norm = norm(n);
            return y.iter_mut().for_each(|v| *v *= norm);
        }
        let signs = Signs::of(key, n);
        let ends = (FlipAndMix { signs: signs.words() }, Scale { norm: norm(n) });
        across(l.mixing(), None, rows_mut(y), None, Ahead::none(l), ends);
    }
}

fn range_of(lows: &[f32], highs: &[f32]) -> Range {
    // The sum makes +0 of either zero.
    let lo = lows.iter().copied().fold(f32::INFINITY, pick_min) + 0.0;
    (lo, highs.iter().copied().fold(f32::NEG_INFINITY, pick_max) + 0.0)
}

fn rotate_small(x: &[f32], y: &mut [f32], key: u64) -> Range {
    let norm = norm(x.len());
    flip_each(x, y, key);
    walsh_hadamard_small(y);
    y.iter_mut().for_each(|v| *v *= norm);
    range_of(y, y)
}

pub(super) struct Unrotate<'a> {
    pub x: &'a [f32],
    /// As long, or empty where `y` begins at a cache line.
    pub work: &'a mut [f32],
    pub y: &'a mut [f32],
    pub key: u64,
}

impl Operation for Unrotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { x, work, y, key } = self;
        let n = x.len();
        debug_assert!(n.is_power_of_two() && n == y.len());
        if n < 8 * LANES {
            y.copy_from_slice(x);
            return unrotate_small(y, key);
        }
        let signs = Signs::of(key, n);
        let finish = ScaleAndFlip { norm: norm(n), signs: signs.words() };
        let (x, y) = (Some(rows(x)), rows_mut(y));
        let (m, ahead) = (l.mixing(), Ahead::none(l));
        match work {
            [] => across(m, x, y, None, ahead, (Mix, finish)),
            work => across(m, x, rows_mut(work), Some(y), ahead, (Mix, finish)),
        };
    }
}

pub(super) struct UnrotateInPlace<'a> {
    pub y: &'a mut [f32],
    /// As long, or empty where `y` begins at a cache line; where it is shorter, that many values at the end of
    /// `y` go to its head.
    pub work: &'a mut [f32],
    pub key: u64,
}

impl Operation for UnrotateInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { y, work, key } = self;
        let n = if work.is_empty() { y.len() } else { work.len() };
        let from = y.len() - n;
        debug_assert!(n.is_power_of_two());
        if n < 8 * LANES {
            y.copy_within(from.., 0);
            return unrotate_small(&mut y[..n], key);
        }
        let signs = Signs::of(key, n);
        let finish = ScaleAndFlip { norm: norm(n), signs: signs.words() };
        if work.is_empty() {
            across(l.mixing(), None, rows_mut(y), None, Ahead::none(l), (Mix, finish));
            return;
        }
        // With a length that the compiler sees, as in `across`.
        match rows_mut(work) {
            work if n == USUAL => {
                through(l, y, from, &mut work[..USUAL / L::Mixing::WIDTH], finish);
            }
            work => through(l, y, from, work, finish),
        }
    }
}

/// The end of `y` from value `from` on, over `work`, to the head of `y`.
#[inline(always)]
fn through<L: Lanes>(
    l: L,
    y: &mut [f32],
    from: usize,
    work: &mut [<L::Mixing as Mixing>::Row],
    finish: impl Finish,
) {
    let (m, n) = (l.mixing(), work.len() * L::Mixing::WIDTH);
    let h = first_stages(m, Some(rows(&y[from..from + n])), work, Mix);
    last_stages(m, work, h, Some(rows_mut(&mut y[..n])), Ahead::none(l), finish);
}

fn unrotate_small(y: &mut [f32], key: u64) {
    let norm = norm(y.len());
    walsh_hadamard_small(y);
    for (i, y) in y.iter_mut().enumerate() {
        *y = flipped(*y * norm, key, i);
    }
}

fn flipped(v: f32, key: u64, i: usize) -> f32 {
    let sign = (word(key, i as u64 / 64) >> (i % 64)) as u32 & 1;
    f32::from_bits(v.to_bits() ^ (sign << 31))
}

fn flip_each(x: &[f32], y: &mut [f32], key: u64) {
    for (i, (x, y)) in x.iter().zip(y).enumerate() {
        *y = flipped(*x, key, i);
    }
}

fn flip_in_place(y: &mut [f32], key: u64) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = flipped(*y, key, i);
    }
}

fn walsh_hadamard_small(y: &mut [f32]) {
    let mut h = 1;
    while h < y.len() {
        for pair in y.chunks_exact_mut(2 * h) {
            let (low, high) = pair.split_at_mut(h);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        h *= 2;
    }
}

/// The stages inside a row but the last.
#[derive(Clone, Copy)]
struct Mix;

impl Start for Mix {
    #[inline(always)]
    fn apply<M: Mixing>(self, m: M, _: usize, x: &M::Row) -> M::V {
        m.mix_middle(m.load_first(x))
    }
}

/// Words of signs of the longest block, and of those that most have.
const MOST_WORDS: usize = (1 << 15) / 64;
const WORDS: usize = (1 << 12) / 64;

/// The signs of a block.
#[expect(clippy::large_enum_variant, reason = "lives for a block, on the stack")]
enum Signs {
    Few([u64; WORDS]),
    Many([u64; MOST_WORDS]),
}

impl Signs {
    /// Of `n` values.
    #[inline(always)]
    fn of(key: u64, n: usize) -> Self {
        match n / 64 <= WORDS {
            true => Self::Few(words_of(key, n)),
            false => Self::Many(words_of(key, n)),
        }
    }

    #[inline(always)]
    fn words(&self) -> &[u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(words) => words,
        }
    }
}

#[inline(always)]
fn words_of<const N: usize>(key: u64, n: usize) -> [u64; N] {
    let mut words = [0; N];
    for (i, place) in words[..n / 64].iter_mut().enumerate() {
        *place = word(key, i as u64);
    }
    words
}

/// Signs, then the stages inside a row but the last.
#[derive(Clone, Copy)]
struct FlipAndMix<'a> {
    signs: &'a [u64],
}

impl Start for FlipAndMix<'_> {
    #[inline(always)]
    fn apply<M: Mixing>(self, m: M, row: usize, x: &M::Row) -> M::V {
        m.mix_middle(m.mix_first(flip(m, m.load(x), self.signs, row)))
    }
}

/// By the signs of that row.
#[inline(always)]
fn flip<M: Mixing>(m: M, v: M::V, signs: &[u64], row: usize) -> M::V {
    let per_word = 64 / M::WIDTH;
    let signs = signs.get(row / per_word).copied().unwrap_or_default();
    m.flip(v, signs, row % per_word)
}

/// The norm; notes the range.
#[derive(Clone, Copy)]
struct Scale {
    norm: f32,
}

impl Finish for Scale {
    const NOTES: bool = true;

    #[inline(always)]
    fn apply<M: Mixing>(self, m: M, _: usize, v: M::V) -> M::V {
        m.mul(v, m.splat(self.norm))
    }
}

#[derive(Clone, Copy)]
struct ScaleAndFlip<'a> {
    norm: f32,
    signs: &'a [u64],
}

impl Finish for ScaleAndFlip<'_> {
    const NOTES: bool = false;

    #[inline(always)]
    fn apply<M: Mixing>(self, m: M, row: usize, v: M::V) -> M::V {
        flip(m, m.mul(v, m.splat(self.norm)), self.signs, row)
    }
}
