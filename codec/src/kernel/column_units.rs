//! The rotation of 256 rows of sixteen columns of a matrix, one column behind the other, where they are.
//!
//! The stages of the transform that reach within a column are those across rows, and a row is a vector: so
//! nothing has to be transposed but the signs, a bit for each value.

use super::Operation;
use super::hadamard::{Finish, Mix, Notes, Row, Start, between, norm, stages, unrolled};
use super::lanes::{LANES, Lanes};
use crate::arrays;
use crate::random::word;

/// Rows of a column.
pub(crate) const ROWS: usize = 256;
/// Columns of a unit: those of a vector.
pub(crate) const COLUMNS: usize = LANES;
/// Values of a unit.
const LEN: usize = ROWS * COLUMNS;

/// Rotates the columns that begin at the first sixteen values of the matrix, or turns them back.
pub(super) struct RotateColumns<'a> {
    pub matrix: &'a mut [f32],
    /// Between the rows.
    pub stride: usize,
    pub key: u64,
    pub inverse: bool,
}

impl Operation for RotateColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { matrix, stride, key, inverse } = self;
        let (signs, norm) = (signs_by_row(key), norm(LEN));
        match inverse {
            false => rotate(l, matrix, stride, (Flip { signs: &signs }, MixAndScale { norm })),
            true => rotate(l, matrix, stride, (AsItIs, MixScaleAndFlip { norm, signs: &signs })),
        }
    }
}

/// For row `16 k + i` of all columns the signs, a bit a column, in place `[i][k]`.
type Signs = [[u16; COLUMNS]; ROWS / COLUMNS];

/// Transposes the signs, which stand column by column: sixteen matrices of sixteen by sixteen bits side by
/// side, whose halves, quarters, eighths and sixteenths that do not lie on the diagonal change places.
#[inline(always)]
fn signs_by_row(key: u64) -> Signs {
    let mut words = [0; LEN / 64];
    for (i, place) in words.iter_mut().enumerate() {
        *place = word(key, i as u64).to_le();
    }
    let mut signs: Signs = bytemuck::cast(words);
    if cfg!(target_endian = "big") {
        signs.iter_mut().flatten().for_each(|bits| *bits = u16::from_le(*bits));
    }
    exchange::<8>(&mut signs, 0x00ff);
    exchange::<4>(&mut signs, 0x0f0f);
    exchange::<2>(&mut signs, 0x3333);
    exchange::<1>(&mut signs, 0x5555);
    signs
}

#[inline(always)]
fn exchange<const H: usize>(signs: &mut Signs, lower: u16) {
    for pair in signs.chunks_exact_mut(2 * H) {
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

#[inline(always)]
fn sign<L: Lanes>(l: L, signs: &Signs, row: usize, v: L::F) -> L::F {
    l.flip(v, signs[row % COLUMNS][row / COLUMNS % COLUMNS].into(), 0)
}

#[derive(Clone, Copy)]
struct Flip<'a> {
    signs: &'a Signs,
}

impl Start for Flip<'_> {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F) -> L::F {
        sign(l, self.signs, row, v)
    }
}

#[derive(Clone, Copy)]
struct AsItIs;

impl Start for AsItIs {
    #[inline(always)]
    fn apply<L: Lanes>(self, _: L, _: usize, v: L::F) -> L::F {
        v
    }
}

#[derive(Clone, Copy)]
struct MixAndScale {
    norm: f32,
}

impl Finish for MixAndScale {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F, _: &mut Notes<L>) -> L::F {
        l.mul(Mix.apply(l, row, v), l.splat(self.norm))
    }
}

#[derive(Clone, Copy)]
struct MixScaleAndFlip<'a> {
    norm: f32,
    signs: &'a Signs,
}

impl Finish for MixScaleAndFlip<'_> {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, row: usize, v: L::F, _: &mut Notes<L>) -> L::F {
        sign(l, self.signs, row, l.mul(Mix.apply(l, row, v), l.splat(self.norm)))
    }
}

#[inline(always)]
fn rotate<L: Lanes>(
    l: L,
    matrix: &mut [f32],
    stride: usize,
    (start, finish): (impl Start, impl Finish),
) {
    let mut unit = Unit([[0.0; LANES]; ROWS]);
    let unit = &mut unit.0;
    match L::RADIX {
        16 => {
            first::<L, 16>(l, matrix, stride, unit, start);
            last::<L, 16>(l, unit, matrix, stride, finish);
        }
        _ => {
            first::<L, 4>(l, matrix, stride, unit, start);
            between::<L, 4>(l, unit, 4, &[]);
            between::<L, 4>(l, unit, 16, &[]);
            last::<L, 4>(l, unit, matrix, stride, finish);
        }
    }
}

/// Begins at a cache line.
#[repr(align(64))]
struct Unit([Row; ROWS]);

/// The first log2(R) stages across rows.
#[inline(always)]
fn first<L: Lanes, const R: usize>(
    l: L,
    matrix: &[f32],
    stride: usize,
    unit: &mut [Row; ROWS],
    start: impl Start,
) {
    for (number, place) in arrays::split_mut::<Row, R>(unit).0.iter_mut().enumerate() {
        let mut v = [l.splat(0.0); R];
        unrolled!(R, r => {
            let row = number * R + r;
            let values = matrix[row * stride..].first_chunk().unwrap_or(&[0.0; LANES]);
            v[r] = start.apply(l, row, l.load(values));
        });
        stages::<L, R>(l, &mut v);
        unrolled!(R, r => l.store(v[r], &mut place[r]));
    }
}

/// The last log2(R) stages across rows. Asks for the columns that follow.
#[inline(always)]
fn last<L: Lanes, const R: usize>(
    l: L,
    unit: &[Row; ROWS],
    matrix: &mut [f32],
    stride: usize,
    finish: impl Finish,
) {
    let h = ROWS / R;
    let mut notes = Notes { lo: l.splat(0.0), hi: l.splat(0.0) };
    for i in 0..h {
        let mut v = [l.splat(0.0); R];
        unrolled!(R, r => v[r] = l.load(&unit[i + r * h]));
        stages::<L, R>(l, &mut v);
        unrolled!(R, r => {
            let row = i + r * h;
            let done = finish.apply(l, row, v[r], &mut notes);
            let rest = &mut matrix[row * stride..];
            if let Some(next) = rest.get(COLUMNS) {
                l.prefetch(next);
            }
            if let Some(place) = rest.first_chunk_mut() {
                l.store(done, place);
            }
        });
    }
}
