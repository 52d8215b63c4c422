//! Signs and the Walsh-Hadamard transform of one block.
//!
//! The stages run h = 1, 2, 4, ..., each turning (a, b) into (a + b, a - b); that order is part of
//! the format. How many stages one pass over memory takes is not: the first takes the four inside
//! a vector and up to four across vectors, the others up to four across, as many as the
//! instruction set has registers for.

use super::Operation;
use super::lanes::{LANES, Lanes};
use crate::random::word;

/// 2^(-k/2) for a block of 2^k values: exact for even k, otherwise 1/sqrt(2) rounded once and
/// scaled by a power of two.
pub(super) fn norm(len: usize) -> f32 {
    let k = len.trailing_zeros() as i32;
    let half = f32::from_bits(((127 - k / 2) as u32) << 23);
    if k % 2 == 0 { half } else { half * std::f32::consts::FRAC_1_SQRT_2 }
}

pub(super) struct Rotate<'a> {
    pub x: &'a [f32],
    pub y: &'a mut [f32],
    pub key: u64,
}

impl Operation for Rotate<'_> {
    /// Bits of the largest magnitude of `x`.
    type Output = u32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> u32 {
        let Self { x, y, key } = self;
        let n = x.len();
        debug_assert!(n.is_power_of_two() && n == y.len());
        if n < 8 * LANES {
            flip_each(x, y, key);
            walsh_hadamard_small(y);
            y.iter_mut().for_each(|v| *v *= norm(n));
            return x.iter().map(|v| v.to_bits() & 0x7fff_ffff).fold(0, u32::max);
        }
        let finish = Scale { norm: norm(n) };
        let peak = across(l, Some(rows(x)), rows_mut(y), FlipAndMix { key }, finish);
        let mut each = [0; LANES];
        l.store_u(peak, &mut each);
        each.into_iter().fold(0, u32::max)
    }
}

pub(super) struct Unrotate<'a> {
    pub y: &'a mut [f32],
    pub key: u64,
}

impl Operation for Unrotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { y, key } = self;
        let n = y.len();
        debug_assert!(n.is_power_of_two());
        if n < 8 * LANES {
            walsh_hadamard_small(y);
            y.iter_mut().for_each(|v| *v *= norm(n));
            let copy = y.to_vec();
            flip_each(&copy, y, key);
            return;
        }
        across(l, None, rows_mut(y), Mix, ScaleAndFlip { norm: norm(n), key });
    }
}

fn flip_each(x: &[f32], y: &mut [f32], key: u64) {
    for (i, (x, y)) in x.iter().zip(y).enumerate() {
        let sign = (word(key, i as u64 / 64) >> (i % 64)) as u32 & 1;
        *y = f32::from_bits(x.to_bits() ^ (sign << 31));
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

/// What happens to a row before the first of its stages that reach across rows. This and
/// [`Finish`] are traits and not closures: a closure is a function of its own, compiled without
/// the features of the instruction set.
trait Start: Copy {
    /// May note the magnitudes it sees in `peak`.
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F, peak: &mut L::U) -> L::F;
}

/// The stages h = 1, 2, 4, 8.
#[derive(Clone, Copy)]
struct Mix;

impl Start for Mix {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, _: usize, v: L::F, _: &mut L::U) -> L::F {
        let v = l.butterfly::<1>(v);
        let v = l.butterfly::<2>(v);
        let v = l.butterfly::<4>(v);
        l.butterfly::<8>(v)
    }
}

/// Signs, then the stages inside a row.
#[derive(Clone, Copy)]
struct FlipAndMix {
    key: u64,
}

impl Start for FlipAndMix {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F, peak: &mut L::U) -> L::F {
        *peak = l.max_u(*peak, l.abs_bits(v));
        let signs = word(self.key, (row / 4) as u64) >> (16 * (row % 4));
        Mix.apply(l, row, l.flip(v, signs as u16), peak)
    }
}

/// What happens to a row when its last stage is done.
trait Finish: Copy {
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F) -> L::F;
}

/// Stages came before, or follow.
#[derive(Clone, Copy)]
struct Keep;

impl Start for Keep {
    #[inline(always)]
    fn apply<L: Lanes>(self, _: L, _: usize, v: L::F, _: &mut L::U) -> L::F {
        v
    }
}

impl Finish for Keep {
    #[inline(always)]
    fn apply<L: Lanes>(self, _: L, _: usize, v: L::F) -> L::F {
        v
    }
}

#[derive(Clone, Copy)]
struct Scale {
    norm: f32,
}

impl Finish for Scale {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, _: usize, v: L::F) -> L::F {
        l.mul(v, l.splat(self.norm))
    }
}

#[derive(Clone, Copy)]
struct ScaleAndFlip {
    norm: f32,
    key: u64,
}

impl Finish for ScaleAndFlip {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F) -> L::F {
        let signs = word(self.key, (row / 4) as u64) >> (16 * (row % 4));
        l.flip(l.mul(v, l.splat(self.norm)), signs as u16)
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

/// All stages of a block of at least eight rows; the first pass reads `x`, if given. Returns what
/// `start` noted.
#[inline(always)]
fn across<L: Lanes>(
    l: L,
    x: Option<&[[f32; LANES]]>,
    y: &mut [[f32; LANES]],
    start: impl Start,
    finish: impl Finish,
) -> L::U {
    let n = y.len();
    let widest = if n > L::RADIX { L::RADIX } else { n / 2 };
    let peak = match widest {
        16 => pass::<L, 16>(l, x, y, 1, start, Keep),
        8 => pass::<L, 8>(l, x, y, 1, start, Keep),
        _ => pass::<L, 4>(l, x, y, 1, start, Keep),
    };
    let mut h = widest;
    while n / h > L::RADIX {
        match L::RADIX {
            16 => pass::<L, 16>(l, None, y, h, Keep, Keep),
            _ => pass::<L, 4>(l, None, y, h, Keep, Keep),
        };
        h *= L::RADIX;
    }
    match n / h {
        16 => pass::<L, 16>(l, None, y, h, Keep, finish),
        8 => pass::<L, 8>(l, None, y, h, Keep, finish),
        4 => pass::<L, 4>(l, None, y, h, Keep, finish),
        _ => pass::<L, 2>(l, None, y, h, Keep, finish),
    };
    peak
}

/// log2(R) stages at once: h, 2h, ... (in rows), on rows i, i + h, ..., i + (R - 1) h.
#[inline(always)]
fn pass<L: Lanes, const R: usize>(
    l: L,
    x: Option<&[[f32; LANES]]>,
    y: &mut [[f32; LANES]],
    h: usize,
    start: impl Start,
    finish: impl Finish,
) -> L::U {
    let mut peak = l.splat_u(0);
    for (number, block) in y.chunks_exact_mut(R * h).enumerate() {
        let base = number * R * h;
        let source = x.map(|x| &x[base..base + R * h]);
        for i in 0..h {
            let mut v = [l.splat(0.0); R];
            unrolled!(R, r => {
                let row = match source {
                    Some(x) => &x[i + r * h],
                    None => &block[i + r * h],
                };
                v[r] = start.apply(l, base + i + r * h, l.load(row), &mut peak)
            });
            stage::<L, R, 1>(l, &mut v);
            stage::<L, R, 2>(l, &mut v);
            stage::<L, R, 4>(l, &mut v);
            stage::<L, R, 8>(l, &mut v);
            unrolled!(R, r => {
                l.store(finish.apply(l, base + i + r * h, v[r]), &mut block[i + r * h])
            });
        }
    }
    peak
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
