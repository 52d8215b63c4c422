//! Signs and the Walsh-Hadamard transform of one block.
//!
//! The stages run h = 1, 2, 4, ..., each turning (a, b) into (a + b, a - b); that order is part of
//! the format. How many stages one pass over memory takes is not: the first takes the four inside
//! a vector and up to four across vectors, the others up to four across, as many as the
//! instruction set has registers for.

use super::Operation;
use super::lanes::{LANES, Lanes};
use super::scan::{pick_max, pick_min};
use crate::arrays;
use crate::random::word;

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
        let ahead = rows(&ahead[..ahead.len().min(n)]);
        let ends = (FlipAndMix { key }, Scale { norm: norm(n) });
        let notes = across(l, Some(rows(x)), rows_mut(y), None, ahead, ends);
        let (mut lows, mut highs) = ([0.0; LANES], [0.0; LANES]);
        l.store(notes.lo, &mut lows);
        l.store(notes.hi, &mut highs);
        range_of(&lows, &highs)
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
        let ends = (FlipAndMix { key }, Scale { norm: norm(n) });
        across(l, None, rows_mut(y), None, &[], ends);
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
        match work {
            [] => across(l, x, y, None, &[], (Mix, finish)),
            work => across(l, x, rows_mut(work), Some(y), &[], (Mix, finish)),
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
            across(l, None, rows_mut(y), None, &[], (Mix, finish));
            return;
        }
        let work = rows_mut(work);
        let h = first_stages(l, Some(rows(&y[from..])), work, Mix);
        last_stages(l, work, h, Some(rows_mut(&mut y[..n])), &[], finish);
    }
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

#[inline(always)]
fn rows(x: &[f32]) -> &[[f32; LANES]] {
    bytemuck::cast_slice(&x[..x.len() / LANES * LANES])
}

#[inline(always)]
fn rows_mut(x: &mut [f32]) -> &mut [[f32; LANES]] {
    let whole = x.len() / LANES * LANES;
    bytemuck::cast_slice_mut(&mut x[..whole])
}

/// What the last pass notes of the rows it makes.
#[derive(Clone, Copy)]
pub(super) struct Notes<L: Lanes> {
    pub(super) lo: L::F,
    pub(super) hi: L::F,
}

/// What happens to a row before the first of its stages that reach across rows. This and
/// [`Finish`] are traits and not closures: a closure is a function of its own, compiled without
/// the features of the instruction set.
pub(super) trait Start: Copy {
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F) -> L::F;
}

/// The stages h = 1, 2, 4, 8.
#[derive(Clone, Copy)]
pub(super) struct Mix;

impl Start for Mix {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, _: usize, v: L::F) -> L::F {
        let v = l.butterfly::<1>(v);
        let v = l.butterfly::<2>(v);
        let v = l.butterfly::<4>(v);
        l.butterfly::<8>(v)
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

/// Signs, then the stages inside a row.
#[derive(Clone, Copy)]
struct FlipAndMix {
    key: u64,
}

impl Start for FlipAndMix {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F) -> L::F {
        let signs = word(self.key, (row / 4) as u64);
        Mix.apply(l, row, l.flip(v, signs, row % 4))
    }
}

/// What happens to a row when its last stage is done.
pub(super) trait Finish: Copy {
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F, notes: &mut Notes<L>) -> L::F;
}

/// The norm; notes the range.
#[derive(Clone, Copy)]
struct Scale {
    norm: f32,
}

impl Finish for Scale {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, _: usize, v: L::F, notes: &mut Notes<L>) -> L::F {
        let v = l.mul(v, l.splat(self.norm));
        notes.lo = l.min(v, notes.lo);
        notes.hi = l.max(v, notes.hi);
        v
    }
}

#[derive(Clone, Copy)]
struct ScaleAndFlip<'a> {
    norm: f32,
    signs: &'a [u64],
}

impl Finish for ScaleAndFlip<'_> {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F, _: &mut Notes<L>) -> L::F {
        let signs = self.signs.get(row / 4).copied().unwrap_or_default();
        l.flip(l.mul(v, l.splat(self.norm)), signs, row % 4)
    }
}

/// Sixteen copies of a statement, the number of each a constant, those up to R of them in use:
/// loops over an array of registers have to be unrolled before the compiler sees registers.
macro_rules! unrolled {
    ($R:expr, $r:ident => $body:expr) => {
        unrolled!(@ $R, $r => $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $R:expr, $r:ident => $body:expr; $($number:literal)+) => {
        $(
            if $number < $R {
                let $r: usize = $number;
                $body;
            }
        )+
    };
}

pub(super) use unrolled;

pub(super) type Row = [f32; LANES];

/// All stages of a block of at least eight rows; the first pass reads `x`, if given, and the last
/// one writes `out`, if given, where `y` is then used up. The passes between ask for the rows `ahead`.
#[inline(always)]
fn across<L: Lanes>(
    l: L,
    x: Option<&[Row]>,
    y: &mut [Row],
    out: Option<&mut [Row]>,
    ahead: &[Row],
    (start, finish): (impl Start, impl Finish),
) -> Notes<L> {
    let h = first_stages(l, x, y, start);
    last_stages(l, y, h, out, ahead, finish)
}

/// The first pass; how many rows the stages reach across that come next.
#[inline(always)]
fn first_stages<L: Lanes>(l: L, x: Option<&[Row]>, y: &mut [Row], start: impl Start) -> usize {
    let n = y.len();
    let widest = if n > L::RADIX { L::RADIX } else { n / 2 };
    match widest {
        16 => first::<L, 16>(l, x, y, start),
        8 => first::<L, 8>(l, x, y, start),
        _ => first::<L, 4>(l, x, y, start),
    }
    widest
}

/// All passes but the first.
#[inline(always)]
fn last_stages<L: Lanes>(
    l: L,
    y: &mut [Row],
    mut h: usize,
    out: Option<&mut [Row]>,
    mut ahead: &[Row],
    finish: impl Finish,
) -> Notes<L> {
    let n = y.len();
    while n / h > L::RADIX {
        let asked;
        (asked, ahead) = ahead.split_at(ahead.len().min(n / 2));
        match L::RADIX {
            16 => between::<L, 16>(l, y, h, asked),
            _ => between::<L, 4>(l, y, h, asked),
        }
        h *= L::RADIX;
    }
    let last = Last { h, ahead, finish };
    match (n / h, out) {
        (16, None) => last.run::<L, 16, false>(l, y, &mut []),
        (8, None) => last.run::<L, 8, false>(l, y, &mut []),
        (4, None) => last.run::<L, 4, false>(l, y, &mut []),
        (_, None) => last.run::<L, 2, false>(l, y, &mut []),
        (16, Some(out)) => last.run::<L, 16, true>(l, y, out),
        (8, Some(out)) => last.run::<L, 8, true>(l, y, out),
        (4, Some(out)) => last.run::<L, 4, true>(l, y, out),
        (_, Some(out)) => last.run::<L, 2, true>(l, y, out),
    }
}

/// The first log2(R) stages that reach across rows, on R neighbours at a time.
#[inline(always)]
fn first<L: Lanes, const R: usize>(l: L, x: Option<&[Row]>, y: &mut [Row], start: impl Start) {
    let source = x.map(|x| arrays::split::<Row, R>(x).0);
    for (number, place) in arrays::split_mut::<Row, R>(y).0.iter_mut().enumerate() {
        let rows = match source {
            Some(source) => &source[number],
            None => &*place,
        };
        let mut v = [l.splat(0.0); R];
        unrolled!(R, r => v[r] = start.apply(l, number * R + r, l.load(&rows[r])));
        stages::<L, R>(l, &mut v);
        unrolled!(R, r => l.store(v[r], &mut place[r]));
    }
}

/// log2(R) stages at once: h, 2h, ... (in rows), on rows i, i + h, ..., i + (R - 1) h.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "an index into R parts at once")]
pub(super) fn between<L: Lanes, const R: usize>(l: L, y: &mut [Row], h: usize, ahead: &[Row]) {
    let mut asked = 0;
    for block in y.chunks_exact_mut(R * h) {
        let parts = parts_of::<R>(block, h);
        for i in 0..h {
            ask::<L, R>(l, ahead, asked);
            asked += R / 2;
            let mut v = [l.splat(0.0); R];
            unrolled!(R, r => v[r] = l.load(&parts[r][i]));
            stages::<L, R>(l, &mut v);
            unrolled!(R, r => l.store(v[r], &mut parts[r][i]));
        }
    }
}

/// Asks for R / 2 rows that are read next: half of all in one pass.
#[inline(always)]
fn ask<L: Lanes, const R: usize>(l: L, ahead: &[Row], from: usize) {
    if let Some(rows) = ahead.get(from..from + R / 2) {
        rows.iter().for_each(|row| l.prefetch(&row[0]));
    }
}

/// The R parts of a block, of h rows each.
#[inline(always)]
fn parts_of<const R: usize>(block: &mut [Row], h: usize) -> [&mut [Row]; R] {
    let mut parts = block.chunks_exact_mut(h);
    // Cut to h where the compiler sees it, so that it checks no index below h.
    std::array::from_fn(|_| &mut parts.next().unwrap_or_default()[..h])
}

/// The last stages, of which there is one block.
struct Last<'a, F> {
    h: usize,
    ahead: &'a [Row],
    finish: F,
}

impl<F: Finish> Last<'_, F> {
    #[inline(always)]
    fn run<L: Lanes, const R: usize, const OUT: bool>(
        self,
        l: L,
        y: &mut [Row],
        out: &mut [Row],
    ) -> Notes<L> {
        let Self { h, ahead, finish } = self;
        let mut notes = Notes { lo: l.splat(f32::INFINITY), hi: l.splat(f32::NEG_INFINITY) };
        let parts = parts_of::<R>(y, h);
        let places = if OUT { parts_of::<R>(out, h) } else { std::array::from_fn(|_| &mut [][..]) };
        for i in 0..h {
            ask::<L, R>(l, ahead, i * (R / 2));
            let mut v = [l.splat(0.0); R];
            unrolled!(R, r => v[r] = l.load(&parts[r][i]));
            stages::<L, R>(l, &mut v);
            unrolled!(R, r => {
                let done = finish.apply(l, i + r * h, v[r], &mut notes);
                l.store(done, if OUT { &mut places[r][i] } else { &mut parts[r][i] });
            });
        }
        notes
    }
}

#[inline(always)]
pub(super) fn stages<L: Lanes, const R: usize>(l: L, v: &mut [L::F; R]) {
    stage::<L, R, 1>(l, v);
    stage::<L, R, 2>(l, v);
    stage::<L, R, 4>(l, v);
    stage::<L, R, 8>(l, v);
}

/// One stage across the registers, if there are enough of them.
#[inline(always)]
fn stage<L: Lanes, const R: usize, const H: usize>(l: L, v: &mut [L::F; R]) {
    if H < R {
        unrolled!(R, r => {
            if r & H == 0 {
                let (a, b) = (v[r], v[r + H]);
                v[r] = l.add(a, b);
                v[r + H] = l.sub(a, b);
            }
        });
    }
}
