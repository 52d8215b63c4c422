//! Numbers to multiples of one step, and back.

use super::Operation;
use super::lanes::{LANES, Lanes};
use super::rans::{token, tokens};
use crate::arrays;
use crate::dither::{Dither, ORDERS};

/// No multiple is larger in magnitude.
pub(crate) const LARGEST_MULTIPLE: f32 = ((1 << 22) - 1) as f32;

/// How a number becomes a multiple of the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// Added before it is rounded and subtracted afterwards (FORMAT.md, section 8.5): the error is as large for
    /// any number, and right in the mean.
    Dithered(Dither),
    /// Rounded up only from `.5 + dead` on, and decoded nearer to zero by the first of `shifts` if it is 1
    /// or -1, by the second if it is larger.
    Nearest { dead: f32, shifts: [f32; 2] },
}

/// Multiples of the numbers, as f32, into `out`. The first of them is number `first`, a multiple of
/// sixteen.
pub(super) struct Divide<'a> {
    pub x: &'a [f32],
    pub first: usize,
    /// One over the step.
    pub inverse: f32,
    pub step: Step,
    pub out: &'a mut [f32],
}

impl Operation for Divide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { x, first, inverse, step, out } = self;
        let first = first / LANES;
        let (rows, tail) = arrays::split::<_, LANES>(x);
        let (out, out_tail) = arrays::split_mut::<_, LANES>(out);
        for (i, (row, out)) in rows.iter().zip(out).enumerate() {
            l.store(divide(l, l.load(row), inverse, &step, first + i), out);
        }
        if !tail.is_empty() {
            let mut row = [0.0; LANES];
            row[..tail.len()].copy_from_slice(tail);
            let k = divide(l, l.load(&row), inverse, &step, first + rows.len());
            l.store(k, &mut row);
            out_tail.copy_from_slice(&row[..tail.len()]);
        }
    }
}

#[inline(always)]
fn divide<L: Lanes>(l: L, x: L::F, inverse: f32, step: &Step, row: usize) -> L::F {
    let t = l.mul(x, l.splat(inverse));
    let t = match step {
        Step::Dithered(numbers) => l.add(t, dither(l, numbers, row)),
        Step::Nearest { dead, .. } => l.sub(t, l.max(l.min(t, l.splat(*dead)), l.splat(-dead))),
    };
    let largest = l.splat(LARGEST_MULTIPLE);
    l.round(l.max(l.min(t, largest), l.sub(l.splat(0.0), largest)))
}

/// Sixteen numbers between -1/2 and 1/2: the draws of a row, in the middle of their 2^15 equal parts, moved
/// round by the offset of the row. All of it is exact.
#[inline(always)]
fn dither<L: Lanes>(l: L, dither: &Dither, row: usize) -> L::F {
    const PART: f32 = 1.0 / (1 << 15) as f32;
    let draws = l.draws(dither.key, (row * LANES / 2) as u32);
    let offset = dither.offsets[row % ORDERS] + (0.5 * PART - 0.5);
    let moved = l.add(l.mul(l.to_float(draws), l.splat(PART)), l.splat(offset));
    l.sub(moved, l.round(moved))
}

/// How often each token occurs: of multiples at even places, then of those at odd ones, so that the same twice
/// in a row is not counted in the same word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tally([[u32; 256]; 2]);

impl Tally {
    pub(crate) fn new() -> Self {
        Self([[0; 256]; 2])
    }

    /// How often, wherever.
    pub(crate) fn of(&self, token: usize) -> u32 {
        self.0[0][token] + self.0[1][token]
    }
}

/// Counts the tokens of multiples.
pub(super) struct Count<'a> {
    pub k: &'a [f32],
    pub tally: &'a mut Tally,
}

impl Operation for Count<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { k, tally: Tally([even, odd]) } = self;
        let (rows, tail) = arrays::split::<_, LANES>(k);
        for row in rows {
            let mut found = [0; LANES];
            l.store_u(tokens(l, l.round_nearest(l.load(row))), &mut found);
            for i in (0..LANES).step_by(2) {
                even[found[i] as usize % 256] += 1;
                odd[found[i + 1] as usize % 256] += 1;
            }
        }
        tail.iter().for_each(|k| even[token(*k as i32) as usize % 256] += 1);
    }
}

/// Numbers that become a multiple other than zero: how many, and the sums of their magnitudes and of those of
/// their multiples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Magnitudes {
    pub(crate) n: f64,
    pub(crate) numbers: f64,
    pub(crate) multiples: f64,
}

/// Those of numbers that become 1 or -1, and of those that become more, where no draws are added.
pub(super) struct Measure<'a> {
    pub x: &'a [f32],
    pub inverse: f32,
    pub step: Step,
}

impl Operation for Measure<'_> {
    type Output = [Magnitudes; 2];

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> [Magnitudes; 2] {
        let Self { x, inverse, step } = self;
        let mut sums = Sums::default();
        let (rows, tail) = arrays::split::<_, LANES>(x);
        for row in rows {
            sums.add(l, row, inverse, &step);
        }
        if !tail.is_empty() {
            let mut row = [0.0; LANES];
            row[..tail.len()].copy_from_slice(tail);
            sums.add(l, &row, inverse, &step);
        }
        let n_ones: f64 = sums.n_ones.iter().sum();
        let ones = Magnitudes { n: n_ones, numbers: sums.ones.iter().sum(), multiples: n_ones };
        let n = sums.n_more.iter().sum();
        let numbers = sums.more.iter().sum();
        [ones, Magnitudes { n, numbers, multiples: sums.multiples.iter().sum() }]
    }
}

/// By lanes.
#[derive(Default)]
struct Sums {
    n_ones: [f64; LANES],
    ones: [f64; LANES],
    n_more: [f64; LANES],
    more: [f64; LANES],
    multiples: [f64; LANES],
}

impl Sums {
    /// Plain loops over the lanes: what they become is vectors of the instruction set they are compiled for.
    #[inline(always)]
    fn add<L: Lanes>(&mut self, l: L, x: &[f32; LANES], inverse: f32, step: &Step) {
        let multiples = divide(l, l.load(x), inverse, step, 0);
        let (sign, large) = signs(l, multiples);
        let (mut k, mut one, mut more) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        l.store(multiples, &mut k);
        l.store(l.sub(sign, large), &mut one);
        l.store(large, &mut more);
        for i in 0..LANES {
            self.n_ones[i] += f64::from(one[i] * one[i]);
            self.ones[i] += f64::from(x[i] * one[i]);
            self.n_more[i] += f64::from(more[i] * more[i]);
            self.more[i] += f64::from(x[i] * more[i]);
            self.multiples[i] += f64::from(k[i] * more[i]);
        }
    }
}

/// The sign of multiples, or 0; and the sign where one is larger than 1, else 0.
#[inline(always)]
fn signs<L: Lanes>(l: L, k: L::F) -> (L::F, L::F) {
    let sign = l.max(l.min(k, l.splat(1.0)), l.splat(-1.0));
    (sign, l.sub(l.max(l.min(k, l.splat(2.0)), l.splat(-2.0)), sign))
}

/// What multiples stand for, in their place. The first of them is number `first`, a multiple of
/// sixteen.
pub(super) struct Multiply<'a> {
    pub k: &'a mut [f32],
    pub size: f32,
    pub step: Step,
    pub first: usize,
}

impl Operation for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { k, size, step, first } = self;
        let (rows, tail) = arrays::split_mut::<_, LANES>(k);
        let first = first / LANES;
        let n = rows.len();
        for (i, row) in rows.iter_mut().enumerate() {
            let x = multiply(l, l.load(row), size, &step, first + i);
            l.store(x, row);
        }
        if !tail.is_empty() {
            let mut row = [0.0; LANES];
            row[..tail.len()].copy_from_slice(tail);
            let x = multiply(l, l.load(&row), size, &step, first + n);
            l.store(x, &mut row);
            tail.copy_from_slice(&row[..tail.len()]);
        }
    }
}

#[inline(always)]
fn multiply<L: Lanes>(l: L, k: L::F, size: f32, step: &Step, row: usize) -> L::F {
    let inner = match step {
        Step::Dithered(numbers) => l.sub(k, dither(l, numbers, row)),
        Step::Nearest { shifts: [one, more], .. } => {
            let (sign, large) = signs(l, k);
            let shift = l.add(l.mul(sign, l.splat(*one)), l.mul(large, l.splat(more - one)));
            l.sub(k, shift)
        }
    };
    l.mul(inner, l.splat(size))
}
