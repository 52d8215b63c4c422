//! The rotation of 256 rows of sixteen columns of a matrix, one column behind the other, where they are.
//!
//! The stages of the transform that reach within a column are those across rows, and a row is a register or
//! two: so nothing has to be transposed but the signs, a bit for each value.

use super::Operation;
use super::hadamard::norm;
use super::lanes::{LANES, Lanes};
use super::mixing::Mixing;
use super::passes::{Ahead, between, stage, stages, unrolled};
use crate::random::word;

/// Rows of a column.
pub(crate) const ROWS: usize = 256;
/// Columns of a unit.
pub(crate) const COLUMNS: usize = LANES;
/// Values of a unit.
const LEN: usize = ROWS * COLUMNS;

/// Rotates the columns that begin at the first sixteen values of the matrix, or turns them back.
pub(super) struct RotateColumns<'a> {
    pub matrix: &'a mut [f32],
    /// Between the rows.
    pub stride: usize,
    /// Values of a unit, and best begins at a cache line.
    pub work: &'a mut [f32],
    pub key: u64,
    pub inverse: bool,
}

impl Operation for RotateColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { matrix, stride, work, key, inverse } = self;
        let work = &mut work[..LEN];
        let (signs, norm) = (signs_by_row(key), norm(LEN));
        match inverse {
            false => rotate(l, matrix, stride, work, (Flip { signs: &signs }, Scale { norm })),
            true => rotate(l, matrix, stride, work, (AsItIs, ScaleAndFlip { norm, signs: &signs })),
        }
    }
}

/// The signs of a row, a bit a column, at its [`place`]; zeros behind them.
type Signs = [u16; 2 * ROWS];

/// Row `16 k + i` has place `16 i + k`. Places add up where rows do, but for those whose lower halves carry.
#[inline(always)]
const fn place(row: usize) -> usize {
    (row % COLUMNS * COLUMNS + row / COLUMNS) % ROWS
}

/// Transposes the signs, which stand column by column: sixteen matrices of sixteen by sixteen bits side by
/// side, whose halves, quarters, eighths and sixteenths that do not lie on the diagonal change places.
#[inline(always)]
fn signs_by_row(key: u64) -> Signs {
    let mut words = [0; 2 * LEN / 64];
    for (i, place) in words[..LEN / 64].iter_mut().enumerate() {
        *place = word(key, i as u64).to_le();
    }
    let mut signs: Signs = bytemuck::cast(words);
    if cfg!(target_endian = "big") {
        signs.iter_mut().for_each(|bits| *bits = u16::from_le(*bits));
    }
    let matrices = bytemuck::cast_slice_mut(&mut signs[..ROWS]);
    exchange::<8>(matrices, 0x00ff);
    exchange::<4>(matrices, 0x0f0f);
    exchange::<2>(matrices, 0x3333);
    exchange::<1>(matrices, 0x5555);
    signs
}

#[inline(always)]
fn exchange<const H: usize>(rows: &mut [[u16; COLUMNS]], lower: u16) {
    for pair in rows.chunks_exact_mut(2 * H) {
        let (low, high) = pair.split_at_mut(H);
        for (low, high) in low.iter_mut().zip(high) {
            for (a, b) in low.iter_mut().zip(high) {
                let differ = (*a >> H ^ *b) & lower;
                *b ^= differ;
                *a ^= differ << H;
            }
        }
    }
}

/// What happens to a row of a part of the columns, before their stages or behind them. A trait and not a
/// closure: a closure is a function of its own, compiled without the features of the instruction set.
trait Touch: Copy {
    /// The row is the sum of two, whose [`place`]s add up to its place.
    fn apply<M: Mixing>(self, m: M, row: [usize; 2], part: usize, v: M::V) -> M::V;
}

#[derive(Clone, Copy)]
struct AsItIs;

impl Touch for AsItIs {
    #[inline(always)]
    fn apply<M: Mixing>(self, _: M, _: [usize; 2], _: usize, v: M::V) -> M::V {
        v
    }
}

#[derive(Clone, Copy)]
struct Flip<'a> {
    signs: &'a Signs,
}

impl Touch for Flip<'_> {
    #[inline(always)]
    fn apply<M: Mixing>(self, m: M, row: [usize; 2], part: usize, v: M::V) -> M::V {
        m.flip(v, self.signs[place(row[0]) + place(row[1])].into(), part)
    }
}

#[derive(Clone, Copy)]
struct Scale {
    norm: f32,
}

impl Touch for Scale {
    #[inline(always)]
    fn apply<M: Mixing>(self, m: M, _: [usize; 2], _: usize, v: M::V) -> M::V {
        m.mul(v, m.splat(self.norm))
    }
}

#[derive(Clone, Copy)]
struct ScaleAndFlip<'a> {
    norm: f32,
    signs: &'a Signs,
}

impl Touch for ScaleAndFlip<'_> {
    #[inline(always)]
    fn apply<M: Mixing>(self, m: M, row: [usize; 2], part: usize, v: M::V) -> M::V {
        let v = Scale { norm: self.norm }.apply(m, row, part, v);
        Flip { signs: self.signs }.apply(m, row, part, v)
    }
}

/// Registers that a row takes.
const fn parts<M: Mixing>() -> usize {
    COLUMNS / M::WIDTH
}

#[inline(always)]
fn rotate<L: Lanes>(
    l: L,
    matrix: &mut [f32],
    stride: usize,
    unit: &mut [f32],
    (start, finish): (impl Touch, impl Touch),
) {
    let (m, unit) = (l.mixing(), bytemuck::cast_slice_mut(unit));
    let parts = parts::<L::Mixing>();
    match L::Mixing::RADIX {
        16 => {
            first::<L::Mixing, 16>(m, matrix, stride, unit, start);
            last::<L, 16>(l, unit, matrix, stride, finish);
        }
        _ => {
            first::<L::Mixing, 8>(m, matrix, stride, unit, start);
            between::<L::Mixing, L, 8>(m, unit, 8 * parts, Ahead::none(l));
            last::<L, 8>(l, unit, matrix, stride, finish);
        }
    }
}

/// The first log2(R) stages across rows.
#[inline(always)]
fn first<M: Mixing, const R: usize>(
    m: M,
    matrix: &[f32],
    stride: usize,
    unit: &mut [M::Row],
    start: impl Touch,
) {
    let parts = parts::<M>();
    for (number, place) in unit.chunks_exact_mut(R * parts).enumerate() {
        for part in 0..parts {
            let mut v = [m.splat(0.0); R];
            unrolled!(R, r => {
                let values = &matrix[(number * R + r) * stride + part * M::WIDTH..][..M::WIDTH];
                let loaded = m.load(bytemuck::from_bytes(bytemuck::cast_slice(values)));
                v[r] = start.apply(m, [number * R, r], part, loaded);
            });
            stages::<M, R, 1>(m, &mut v);
            unrolled!(R, r => m.store(v[r], &mut place[r * parts + part]));
        }
    }
}

/// The last stages across rows, on N registers, and then all across columns. Asks for the columns that follow.
#[inline(always)]
fn last<L: Lanes, const N: usize>(
    l: L,
    unit: &[<L::Mixing as Mixing>::Row],
    matrix: &mut [f32],
    stride: usize,
    finish: impl Touch,
) {
    let (m, parts) = (l.mixing(), parts::<L::Mixing>());
    let width = COLUMNS / parts;
    let h = ROWS * parts / N;
    let unit = &unit[..ROWS * parts];
    for i in 0..h {
        let mut v = [m.splat(0.0); N];
        unrolled!(N, r => v[r] = m.load(&unit[(i + r / parts * h) * parts + r % parts]));
        match parts {
            1 => stages::<L::Mixing, N, 1>(m, &mut v),
            _ => stages::<L::Mixing, N, 2>(m, &mut v),
        }
        unrolled!(N, r => v[r] = m.mix_last(m.mix_middle(m.mix_first(v[r]))));
        if parts == 2 {
            stage::<L::Mixing, N, 1>(m, &mut v);
        }
        unrolled!(N, r => {
            let (before, part) = (r / parts * h, r % parts);
            let done = finish.apply(m, [i, before], part, v[r]);
            let place = &mut matrix[(i + before) * stride + part * width..][..width];
            if part == 0 {
                l.prefetch(place.as_ptr().wrapping_add(COLUMNS));
            }
            m.store(done, bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(place)));
        });
    }
}
