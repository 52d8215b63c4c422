//! Uniform quantization of one block, fused with bit packing.

use super::Operation;
use super::lanes::{LANES, Lanes};

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
        let (lo, inverse) = (l.splat(grid.lo), l.splat(grid.inverse));
        let top = l.splat(((1u32 << grid.q) - 1) as f32);
        let codes = |row: &[f32; LANES], i: usize| {
            let t = l.min(l.mul(l.sub(l.load(row), lo), inverse), top);
            match rounding {
                Rounding::Stochastic(key) => l.round_stochastic(t, l.draws(key, (i * 8) as u64)),
                Rounding::Nearest => l.round_nearest(t),
            }
        };
        let (rows, tail) = x.as_chunks::<LANES>();
        let q = grid.q;
        let width = q as usize; // bytes that eight codes take
        for (i, row) in rows.iter().enumerate() {
            let words = l.join(codes(row, i), q);
            put(out, 2 * i * width, words[0], words[1], q);
            put(out, (2 * i + 1) * width, words[2], words[3], q);
        }
        if !tail.is_empty() {
            // Padded with the lowest value, whose code is always 0.
            let mut row = [grid.lo; LANES];
            row[..tail.len()].copy_from_slice(tail);
            let i = rows.len();
            let words = l.join(codes(&row, i), q);
            put(out, 2 * i * width, words[0], words[1], q);
            if tail.len() > 8 {
                put(out, (2 * i + 1) * width, words[2], words[3], q);
            }
        }
    }
}

/// Eight codes in q bytes; the bytes after them, up to 16, are overwritten with zeros.
#[inline(always)]
fn put(out: &mut [u8], at: usize, low: u64, high: u64, q: u32) {
    let word = u128::from(low) | u128::from(high) << (4 * q);
    out[at..at + 16].copy_from_slice(&word.to_le_bytes());
}

/// The 4q low bits of each half of the eight codes at `at`; zeros past the end.
#[inline(always)]
fn get(packed: &[u8], at: usize, q: u32) -> (u64, u64) {
    let word = match packed.get(at..at + 16) {
        Some(bytes) => {
            let (low, high) = bytes.split_at(8);
            u128::from(le64(low)) | u128::from(le64(high)) << 64
        }
        None => {
            let mut bytes = [0; 16];
            let rest = packed.get(at..).unwrap_or_default();
            bytes[..rest.len()].copy_from_slice(rest);
            u128::from_le_bytes(bytes)
        }
    };
    (word as u64, (word >> (4 * q)) as u64)
}

#[inline(always)]
fn le64(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
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
        let (lo, step, gain) = (l.splat(grid.lo), l.splat(grid.step), l.splat(gain));
        let q = grid.q;
        let width = q as usize;
        let values = |i: usize| {
            let (a, b) = get(packed, 2 * i * width, q);
            let (c, d) = get(packed, (2 * i + 1) * width, q);
            let codes = l.to_float(l.split([a, b, c, d], q));
            l.mul(l.add(lo, l.mul(codes, step)), gain)
        };
        let (rows, tail) = out.as_chunks_mut::<LANES>();
        let n_rows = rows.len();
        for (i, row) in rows.iter_mut().enumerate() {
            l.store(values(i), row);
        }
        if !tail.is_empty() {
            let mut row = [0.0; LANES];
            l.store(values(n_rows), &mut row);
            tail.copy_from_slice(&row[..tail.len()]);
        }
    }
}
