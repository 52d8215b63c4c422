//! Uniform quantization of one block, fused with bit packing.

use super::Operation;
use super::lanes::{LANES, Lanes};
use crate::arrays;
use crate::pack::packed_len;

/// The 2^q levels of a block: `lo + code * step`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    pub(crate) lo: f32,
    pub(crate) step: f32,
    /// `(2^q - 1) / (hi - lo)`: what the encoder multiplies by.
    pub(crate) inverse: f32,
    pub(crate) q: u32,
}

/// Below this range a block counts as constant: the division would leave the f32 range.
pub(crate) const SMALLEST_RANGE: f32 = f32::from_bits((127 - 100) << 23);

impl Grid {
    /// Levels from `lo` to `hi`, both finite; one level when they are (almost) equal.
    pub(crate) fn cover(lo: f32, hi: f32, q: u32) -> Self {
        let range = hi - lo;
        if range < SMALLEST_RANGE {
            return Self { lo, step: 0.0, inverse: 0.0, q };
        }
        let top = ((1u32 << q) - 1) as f32;
        Self { lo, step: range / top, inverse: top / range, q }
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
    pub ahead: &'a [f32],
}

impl Operation for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { x, grid, rounding, out, ahead } = self;
        match rounding {
            Rounding::Stochastic(key) => {
                with_bits!(grid.q, quantize, l, x, grid, Draw { key }, out, ahead)
            }
            Rounding::Nearest => with_bits!(grid.q, quantize, l, x, grid, Nearest, out, ahead),
        }
    }
}

/// How positions on the grid become codes. A trait and not a closure: a closure is a function of
/// its own, compiled without the features of the instruction set.
trait Round: Copy {
    fn round<L: Lanes>(self, l: L, row: usize, t: L::F) -> L::U;
}

#[derive(Clone, Copy)]
struct Draw {
    key: u64,
}

impl Round for Draw {
    #[inline(always)]
    fn round<L: Lanes>(self, l: L, row: usize, t: L::F) -> L::U {
        l.round_stochastic(t, l.draws(self.key, (row * LANES / 2) as u64))
    }
}

#[derive(Clone, Copy)]
struct Nearest;

impl Round for Nearest {
    #[inline(always)]
    fn round<L: Lanes>(self, l: L, _: usize, t: L::F) -> L::U {
        l.round_nearest(t)
    }
}

#[inline(always)]
fn quantize<L: Lanes, const Q: u32>(
    l: L,
    x: &[f32],
    grid: &Grid,
    rounding: impl Round,
    out: &mut [u8],
    ahead: &[f32],
) {
    let (rows, tail) = arrays::split::<_, LANES>(x);
    let width = 2 * Q as usize; // bytes that a row takes
    for (i, row) in rows.iter().enumerate() {
        if let Some(next) = ahead.get(i * LANES) {
            l.prefetch(next);
        }
        let codes = code_row::<L, Q>(l, row, i, grid, rounding);
        l.pack::<Q>(codes, &mut out[i * width..][..width + 16]);
    }
    if !tail.is_empty() {
        // Padded with the lowest value, whose code is always 0.
        let mut row = [grid.lo; LANES];
        row[..tail.len()].copy_from_slice(tail);
        let codes = code_row::<L, Q>(l, &row, rows.len(), grid, rounding);
        let mut packed = [0; 2 * 16 + 16];
        l.pack::<Q>(codes, &mut packed);
        let n = packed_len(tail.len(), Q);
        out[rows.len() * width..][..n].copy_from_slice(&packed[..n]);
    }
}

#[inline(always)]
fn code_row<L: Lanes, const Q: u32>(
    l: L,
    row: &[f32; LANES],
    i: usize,
    grid: &Grid,
    rounding: impl Round,
) -> L::U {
    let top = l.splat(((1u32 << Q) - 1) as f32);
    let t = l.mul(l.sub(l.load(row), l.splat(grid.lo)), l.splat(grid.inverse));
    rounding.round(l, i, l.min(t, top))
}

/// The eight codes at the head of `packed`, four and four, with bits of their neighbours above
/// bit 4Q; zeros past the end.
#[inline(always)]
fn get<const Q: u32>(packed: &[u8]) -> (u64, u64) {
    let mut bytes = [0; 16];
    match packed.first_chunk::<16>() {
        Some(head) => bytes = *head,
        None => bytes[..packed.len()].copy_from_slice(packed),
    }
    let word = u128::from_le_bytes(bytes);
    let high = if Q <= 8 { word as u64 >> (4 * Q) } else { (word >> (4 * Q)) as u64 };
    (word as u64, high)
}

pub(super) struct Dequantize<'a> {
    pub packed: &'a [u8],
    pub grid: &'a Grid,
    pub gain: f32,
    pub out: &'a mut [f32],
}

impl Operation for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { packed, grid, gain, out } = self;
        with_bits!(grid.q, dequantize, l, packed, grid, gain, out)
    }
}

#[inline(always)]
fn dequantize<L: Lanes, const Q: u32>(
    l: L,
    packed: &[u8],
    grid: &Grid,
    gain: f32,
    out: &mut [f32],
) {
    let (rows, tail) = arrays::split_mut::<_, LANES>(out);
    let n_rows = rows.len();
    for (i, row) in rows.iter_mut().enumerate() {
        l.store(value_row::<L, Q>(l, packed, i, grid, gain), row);
    }
    if !tail.is_empty() {
        let mut row = [0.0; LANES];
        l.store(value_row::<L, Q>(l, packed, n_rows, grid, gain), &mut row);
        tail.copy_from_slice(&row[..tail.len()]);
    }
}

#[inline(always)]
fn value_row<L: Lanes, const Q: u32>(
    l: L,
    packed: &[u8],
    i: usize,
    grid: &Grid,
    gain: f32,
) -> L::F {
    let packed = &packed[2 * i * Q as usize..];
    let (a, b) = get::<Q>(packed);
    let (c, d) = get::<Q>(packed.get(Q as usize..).unwrap_or_default());
    let codes = l.to_float(l.split::<Q>([a, b, c, d]));
    l.mul(l.add(l.splat(grid.lo), l.mul(codes, l.splat(grid.step))), l.splat(gain))
}
