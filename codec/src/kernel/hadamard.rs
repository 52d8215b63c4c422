//! Signs and the Walsh-Hadamard transform of one block.
//!
//! The stages run h = 1, 2, 4, ..., each turning (a, b) into (a + b, a - b); that order is part of
//! the format. How many stages one pass over memory takes is not: seven in the first pass (four
//! inside a vector, three across eight of them), then up to three a pass.

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
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { x, y, key } = self;
        let n = x.len();
        debug_assert!(n.is_power_of_two() && n == y.len());
        if n < 8 * LANES {
            flip_each(x, y, key);
            walsh_hadamard_small(y);
            y.iter_mut().for_each(|v| *v *= norm(n));
            return;
        }
        for (half, (x, y)) in x.chunks_exact(64).zip(y.chunks_exact_mut(64)).enumerate() {
            let signs = word(key, half as u64);
            for (j, (x, y)) in rows(x).iter().zip(rows_mut(y)).enumerate() {
                let flipped = l.flip(l.load(x), (signs >> (16 * j)) as u16);
                let v = l.butterfly::<1>(flipped);
                let v = l.butterfly::<2>(v);
                let v = l.butterfly::<4>(v);
                l.store(l.butterfly::<8>(v), y);
            }
        }
        across(l, y, l.splat(norm(n)), |_, v| v);
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
        for y in rows_mut(y) {
            let v = l.butterfly::<1>(l.load(y));
            let v = l.butterfly::<2>(v);
            let v = l.butterfly::<4>(v);
            l.store(l.butterfly::<8>(v), y);
        }
        across(l, y, l.splat(norm(n)), |row, v| {
            let signs = word(key, (row / 4) as u64);
            l.flip(v, (signs >> (16 * (row % 4))) as u16)
        });
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

/// The stages h = 16 and up; the last pass multiplies by `norm` and hands each row, with its
/// number, through `last`.
#[inline(always)]
fn across<L: Lanes>(l: L, y: &mut [f32], norm: L::F, last: impl Fn(usize, L::F) -> L::F) {
    let y = rows_mut(y);
    let n = y.len();
    let mut h = 1;
    // Radix 8 while it leaves a last pass, which then takes the remaining one to three stages.
    while n / h > 8 {
        pass::<L, 8>(l, y, h, |_, v| v);
        h *= 8;
    }
    let finish = |row, v| last(row, l.mul(v, norm));
    match n / h {
        8 => pass::<L, 8>(l, y, h, finish),
        4 => pass::<L, 4>(l, y, h, finish),
        _ => pass::<L, 2>(l, y, h, finish),
    }
}

/// log2(R) stages at once: h, 2h, ... (in rows), on rows i, i + h, ..., i + (R - 1) h.
#[inline(always)]
fn pass<L: Lanes, const R: usize>(
    l: L,
    y: &mut [[f32; LANES]],
    h: usize,
    last: impl Fn(usize, L::F) -> L::F,
) {
    for base in (0..y.len()).step_by(R * h) {
        let block = &mut y[base..base + R * h];
        for i in 0..h {
            let mut v: [L::F; R] = std::array::from_fn(|r| l.load(&block[i + r * h]));
            let mut stage = 1;
            while stage < R {
                let mut r = 0;
                while r < R {
                    if r & stage == 0 {
                        let (a, b) = (v[r], v[r + stage]);
                        v[r] = l.add(a, b);
                        v[r + stage] = l.sub(a, b);
                    }
                    r += 1;
                }
                stage *= 2;
            }
            for r in 0..R {
                l.store(last(base + i + r * h, v[r]), &mut block[i + r * h]);
            }
        }
    }
}
