//! Reductions over a slice, and the weighted sum.

use super::Operation;
use super::lanes::{LANES, Lanes};
use crate::arrays;

pub(super) struct MinMax<'a> {
    pub x: &'a [f32],
}

impl Operation for MinMax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (f32, f32) {
        let (rows, tail) = arrays::split::<_, LANES>(self.x);
        let zero = l.splat(0.0);
        // Four of each: a single one would wait for its own latency at every row.
        let mut low = [l.splat(f32::INFINITY); 4];
        let mut high = [l.splat(f32::NEG_INFINITY); 4];
        let (quads, rest) = rows.split_at(rows.len() / 4 * 4);
        for quad in quads.chunks_exact(4) {
            for i in 0..4 {
                let v = l.add(l.load(&quad[i]), zero);
                low[i] = l.min(v, low[i]);
                high[i] = l.max(v, high[i]);
            }
        }
        for row in rest {
            let v = l.add(l.load(row), zero);
            low[0] = l.min(v, low[0]);
            high[0] = l.max(v, high[0]);
        }
        let low = l.min(l.min(low[0], low[1]), l.min(low[2], low[3]));
        let high = l.max(l.max(high[0], high[1]), l.max(high[2], high[3]));
        let mut lows = [0.0; LANES];
        let mut highs = [0.0; LANES];
        l.store(low, &mut lows);
        l.store(high, &mut highs);
        let low =
            lows.into_iter().chain(tail.iter().map(|v| v + 0.0)).fold(f32::INFINITY, pick_min);
        let high =
            highs.into_iter().chain(tail.iter().map(|v| v + 0.0)).fold(f32::NEG_INFINITY, pick_max);
        (low, high)
    }
}

pub(super) fn pick_min(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

pub(super) fn pick_max(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

pub(super) struct PeakBits<'a> {
    pub x: &'a [f32],
}

impl Operation for PeakBits<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> u32 {
        let (rows, tail) = arrays::split::<_, LANES>(self.x);
        let (quads, rest) = rows.split_at(rows.len() / 4 * 4);
        let mut peaks = [l.splat_u(0); 4];
        for quad in quads.chunks_exact(4) {
            for (peak, row) in peaks.iter_mut().zip(quad) {
                *peak = l.max_u(*peak, l.abs_bits(l.load(row)));
            }
        }
        let mut peak = l.max_u(l.max_u(peaks[0], peaks[1]), l.max_u(peaks[2], peaks[3]));
        for row in rest {
            peak = l.max_u(peak, l.abs_bits(l.load(row)));
        }
        let mut each = [0; LANES];
        l.store_u(peak, &mut each);
        each.into_iter().chain(tail.iter().map(|v| v.to_bits() & 0x7fff_ffff)).fold(0, u32::max)
    }
}

pub(super) struct AddScaled<'a> {
    pub out: &'a mut [f32],
    pub x: &'a [f32],
    pub weight: f32,
}

impl Operation for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let weight = l.splat(self.weight);
        let (rows, tail) = arrays::split::<_, LANES>(self.x);
        let (outs, out_tail) = arrays::split_mut::<_, LANES>(self.out);
        for (out, row) in outs.iter_mut().zip(rows) {
            let sum = l.add(l.load(out), l.mul(l.load(row), weight));
            l.store(sum, out);
        }
        for (out, x) in out_tail.iter_mut().zip(tail) {
            *out += x * self.weight;
        }
    }
}
