//! Uniform quantization of one block, fused with bit packing.

use super::Operation;
use super::lanes::{LANES, Lanes};
use super::packed::{Codes, pack_rows};
use crate::arrays;

/// The 2^q levels of a block: `lo + code * step`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    pub(crate) lo: f32,
    pub(crate) step: f32,
    /// `(2^q - 1) / (hi - lo)`: what the encoder multiplies by.
    pub(crate) inverse: f32,
    pub(crate) q: u32,
}

/// Below this range a block counts as constant: the inverse, and 2^15 times that, would leave the f32
/// range.
pub(crate) const SMALLEST_RANGE: f32 = f32::from_bits((127 - 96) << 23);

impl Grid {
    /// Codes of `q` bits as they are.
    pub(crate) fn integers(q: u32) -> Self {
        Self { lo: 0.0, step: 1.0, inverse: 1.0, q }
    }

    /// Levels from `lo` to `hi`, both finite; one level when they are (almost) equal.
    pub(crate) fn cover(lo: f32, hi: f32, q: u32) -> Self {
        let range = hi - lo;
        if range < SMALLEST_RANGE {
            return Self { lo, step: 0.0, inverse: 0.0, q };
        }
        let top = ((1u32 << q) - 1) as f32;
        Self { lo, step: range / top, inverse: top / range, q }
    }

    /// The largest code.
    fn top(&self) -> f32 {
        ((1u32 << self.q) - 1) as f32
    }

    /// The same, but zero is exactly one of the levels if it lies between: the level whose place is
    /// nearest, from which the longer side decides the step (FORMAT.md, section 9).
    pub(crate) fn through_zero(lo: f32, hi: f32, q: u32) -> Self {
        let plain = Self::cover(lo, hi, q);
        if plain.step == 0.0 || lo > 0.0 || hi < 0.0 {
            return plain;
        }
        let top = ((1u32 << q) - 1) as f32;
        let below = (-lo * plain.inverse).round_ties_even().min(top);
        let above = top - below;
        let step_below = if below > 0.0 { -lo / below } else { 0.0 };
        let step_above = if above > 0.0 { hi / above } else { 0.0 };
        let step = step_below.max(step_above);
        // As the decoder multiplies, so that its sum is zero.
        Self { lo: -(below * step), step, inverse: 1.0 / step, q }
    }
}

/// Runs the code for a number of bits that is known when it is compiled.
macro_rules! with_bits {
    ($q:expr, $function:ident, $($argument:expr),*) => {
        match $q {
            1 => $function::<L, 1>($($argument),*),
            2 => $function::<L, 2>($($argument),*),
            3 => $function::<L, 3>($($argument),*),
            4 => $function::<L, 4>($($argument),*),
            5 => $function::<L, 5>($($argument),*),
            6 => $function::<L, 6>($($argument),*),
            7 => $function::<L, 7>($($argument),*),
            8 => $function::<L, 8>($($argument),*),
            9 => $function::<L, 9>($($argument),*),
            10 => $function::<L, 10>($($argument),*),
            11 => $function::<L, 11>($($argument),*),
            12 => $function::<L, 12>($($argument),*),
            13 => $function::<L, 13>($($argument),*),
            14 => $function::<L, 14>($($argument),*),
            15 => $function::<L, 15>($($argument),*),
            _ => $function::<L, 16>($($argument),*),
        }
    };
}

pub(super) use with_bits;

/// How a value between two levels picks one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rounding {
    /// Up with the probability of the fraction, draws of this key: unbiased.
    Stochastic(u64),
    /// The nearer level, ties to the even code.
    Nearest,
}

pub(super) struct Quantize<'a> {
    pub x: &'a [f32],
    pub grid: &'a Grid,
    pub rounding: Rounding,
    pub out: &'a mut [u8],
}

impl Operation for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { x, grid, rounding, out } = self;
        match rounding {
            Rounding::Stochastic(key) => {
                with_bits!(grid.q, quantize, l, x, Drawn::on(grid, key), out)
            }
            Rounding::Nearest => with_bits!(grid.q, quantize, l, x, Nearest::on(grid), out),
        }
    }
}

/// Bits behind the point of a position that is rounded by a draw.
const FRACTION: u32 = 15;

/// Positions on a grid, times 2^[`FRACTION`], that are rounded by draws.
#[derive(Clone, Copy)]
struct Drawn {
    lo: f32,
    inverse: f32,
    top: f32,
    key: u64,
}

impl Drawn {
    fn on(grid: &Grid, key: u64) -> Self {
        const SCALE: f32 = (1 << FRACTION) as f32;
        // Both products with the power of two are exact.
        Self { lo: grid.lo, inverse: grid.inverse * SCALE, top: grid.top() * SCALE, key }
    }

    #[inline(always)]
    fn position<L: Lanes>(self, l: L, v: L::F) -> L::F {
        l.mul(l.sub(v, l.splat(self.lo)), l.splat(self.inverse))
    }

    /// The number of the first word that is drawn for a row.
    fn first(row: usize) -> u32 {
        (row * LANES / 2) as u32
    }
}

impl Codes for Drawn {
    /// In integers, where the sum with a draw is exact: it carries into the code with a probability
    /// that is the fraction itself.
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, row: usize, v: L::F) -> L::U {
        let fixed = l.round_nearest(l.min(self.position(l, v), l.splat(self.top)));
        l.shift_right::<FRACTION>(l.add_u(fixed, l.draws(self.key, Self::first(row))))
    }

    /// A position above the last level, by its rounding, gives a code of one more at most, which counts as the
    /// last.
    #[inline(always)]
    fn of_four<L: Lanes>(self, l: L, row: usize, mut v: [L::F; 4]) -> [L::U; 4] {
        let mut codes = l.draws_of_four(self.key, Self::first(row));
        for (code, v) in codes.iter_mut().zip(&mut v) {
            let fixed = l.round_nearest(self.position(l, *v));
            *code = l.shift_right::<FRACTION>(l.add_u(fixed, *code));
        }
        codes
    }
}

/// Positions on a grid that are rounded to the nearest level.
#[derive(Clone, Copy)]
struct Nearest {
    lo: f32,
    inverse: f32,
    top: f32,
}

impl Nearest {
    fn on(grid: &Grid) -> Self {
        Self { lo: grid.lo, inverse: grid.inverse, top: grid.top() }
    }
}

impl Codes for Nearest {
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, _: usize, v: L::F) -> L::U {
        let t = l.mul(l.sub(v, l.splat(self.lo)), l.splat(self.inverse));
        // Below zero lie values that a grid through zero leaves out.
        l.round_nearest(l.max(l.min(t, l.splat(self.top)), l.splat(0.0)))
    }
}

#[inline(always)]
fn quantize<L: Lanes, const Q: u32>(l: L, x: &[f32], codes: impl Codes, out: &mut [u8]) {
    pack_rows::<L, _, Q>(l, x, codes, out);
}

pub(super) struct Dequantize<'a> {
    pub packed: &'a [u8],
    pub grid: &'a Grid,
    pub out: &'a mut [f32],
}

impl Operation for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { packed, grid, out } = self;
        with_bits!(grid.q, dequantize, l, packed, grid, out)
    }
}

#[inline(always)]
fn dequantize<L: Lanes, const Q: u32>(l: L, packed: &[u8], grid: &Grid, out: &mut [f32]) {
    unpack_rows::<L, _, Q>(l, packed, OnGrid { lo: grid.lo, step: grid.step }, out);
}

/// What codes stand for.
pub(super) trait Meaning: Copy {
    fn of<L: Lanes>(self, l: L, codes: L::U) -> L::F;
}

/// `lo + code * step`.
#[derive(Clone, Copy)]
struct OnGrid {
    lo: f32,
    step: f32,
}

impl Meaning for OnGrid {
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, codes: L::U) -> L::F {
        l.add(l.splat(self.lo), l.mul(l.to_float(codes), l.splat(self.step)))
    }
}

/// What the packed codes stand for, row by row.
#[inline(always)]
pub(super) fn unpack_rows<L: Lanes, M: Meaning, const Q: u32>(
    l: L,
    packed: &[u8],
    meaning: M,
    out: &mut [f32],
) {
    let (rows, tail) = arrays::split_mut::<_, LANES>(out);
    let width = 2 * Q as usize; // bytes that a row takes
    // Rows near the end are unpacked from a copy with room behind it.
    let n_direct = (packed.len() / width).saturating_sub(16usize.div_ceil(width)).min(rows.len());
    let (direct, rest) = rows.split_at_mut(n_direct);
    for (row, packed) in direct.iter_mut().zip((0..).step_by(width).map(|at| &packed[at..])) {
        l.store(meaning.of(l, l.unpack::<Q>(packed)), row);
    }
    let mut packed = &packed[n_direct * width..];
    for row in rest {
        let room = room_for::<Q>(&mut packed);
        l.store(meaning.of(l, l.unpack::<Q>(&room)), row);
    }
    if !tail.is_empty() {
        let mut row = [0.0; LANES];
        let room = room_for::<Q>(&mut packed);
        l.store(meaning.of(l, l.unpack::<Q>(&room)), &mut row);
        tail.copy_from_slice(&row[..tail.len()]);
    }
}

/// The codes of the next row, with zeros behind them.
fn room_for<const Q: u32>(packed: &mut &[u8]) -> [u8; 2 * 16 + 16] {
    let mut room = [0; 2 * 16 + 16];
    let (head, rest) = packed.split_at(packed.len().min(2 * Q as usize));
    room[..head.len()].copy_from_slice(head);
    *packed = rest;
    room
}
