//! Codes of numbers between any thresholds, and the numbers that codes stand for.

use super::Operation;
use super::lanes::{LANES, Lanes};
use super::packed::{Codes, pack_rows};
use super::uniform::{unpack_rows, with_bits};
use crate::arrays;

/// Numbers between which codes change, ascending.
pub(crate) struct Thresholds {
    all: Vec<f32>,
    /// Where there are more than are compared one by one.
    slices: Option<Box<Slices>>,
}

/// The line from -8 to 8 in slices that hold one threshold at most: so a number's slice tells its code but
/// for one comparison.
struct Slices {
    /// How many thresholds lie in slices before.
    before: [f32; N_SLICES],
    /// The one in the slice, or NaN, which is above nothing and below nothing.
    within: [f32; N_SLICES],
}

const N_SLICES: usize = 1024;
const PER_UNIT: f32 = 64.0;
const LOWEST: f32 = -8.0;
/// So many comparisons take no longer than two looks into tables.
const MOST_COMPARED: usize = 15;

impl Thresholds {
    /// Of ascending thresholds; where they are more than 15, they lie between -8 and 8, no two closer than
    /// 1/64.
    pub(crate) fn new(all: Vec<f32>) -> Self {
        let slices = (all.len() > MOST_COMPARED).then(|| Box::new(Slices::of(&all)));
        Self { all, slices }
    }
}

impl Slices {
    fn of(thresholds: &[f32]) -> Self {
        let mut slices = Self { before: [0.0; N_SLICES], within: [f32::NAN; N_SLICES] };
        for threshold in thresholds {
            let slice = slice_of(*threshold);
            debug_assert!(slices.within[slice].is_nan(), "two thresholds in a slice");
            slices.within[slice] = *threshold;
            slices.before[slice + 1..].iter_mut().for_each(|count| *count += 1.0);
        }
        slices
    }
}

/// The slice of a number, by the arithmetic of [`count_row`]: it never falls where numbers rise, however
/// they are rounded, so a threshold of an earlier slice is below and one of a later slice is above.
fn slice_of(number: f32) -> usize {
    let place = (number - LOWEST) * PER_UNIT;
    place.max(0.0).min((N_SLICES - 1) as f32).round_ties_even() as usize
}

/// The code of a number is how many thresholds are not above it, times `factor`.
pub(super) struct CountBelow<'a> {
    pub x: &'a [f32],
    pub factor: f32,
    pub thresholds: &'a Thresholds,
    pub q: u32,
    pub out: &'a mut [u8],
}

impl Operation for CountBelow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { x, factor, thresholds, q, out } = self;
        with_bits!(q, count_below, l, x, factor, thresholds, out)
    }
}

#[inline(always)]
fn count_below<L: Lanes, const Q: u32>(
    l: L,
    x: &[f32],
    factor: f32,
    thresholds: &Thresholds,
    out: &mut [u8],
) {
    pack_rows::<L, _, Q>(l, x, Below { factor, thresholds }, out);
}

#[derive(Clone, Copy)]
struct Below<'a> {
    factor: f32,
    thresholds: &'a Thresholds,
}

impl Codes for Below<'_> {
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, _: usize, v: L::F) -> L::U {
        count_row(l, v, self.factor, self.thresholds)
    }
}

#[inline(always)]
fn count_row<L: Lanes>(l: L, v: L::F, factor: f32, thresholds: &Thresholds) -> L::U {
    let scaled = l.mul(v, l.splat(factor));
    let Some(slices) = &thresholds.slices else {
        let mut count = l.splat_u(0);
        for threshold in &thresholds.all {
            count = l.add_u(count, l.not_above(l.splat(*threshold), scaled));
        }
        return count;
    };
    // NaN, which only refused groups hold, goes to the first slice.
    let place = l.mul(l.sub(scaled, l.splat(LOWEST)), l.splat(PER_UNIT));
    let place = l.min(l.max(place, l.splat(0.0)), l.splat((N_SLICES - 1) as f32));
    let slice = l.round_nearest(place);
    let before = l.round_nearest(l.look_up(&slices.before, slice));
    l.add_u(before, l.not_above(l.look_up(&slices.within, slice), scaled))
}

/// What codes stand for.
pub(super) struct LookUp<'a> {
    pub packed: &'a [u8],
    pub q: u32,
    pub table: &'a [f32; 256],
    pub out: &'a mut [f32],
}

impl Operation for LookUp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { packed, q, table, out } = self;
        with_bits!(q, look_up, l, packed, table, out)
    }
}

#[inline(always)]
fn look_up<L: Lanes, const Q: u32>(l: L, packed: &[u8], table: &[f32; 256], out: &mut [f32]) {
    unpack_rows::<L, _, Q>(l, packed, Table { table }, out);
}

/// Codes as places in a table.
#[derive(Clone, Copy)]
struct Table<'a> {
    table: &'a [f32; 256],
}

impl super::uniform::Meaning for Table<'_> {
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, codes: L::U) -> L::F {
        l.look_up(self.table, codes)
    }
}

/// The lowest bits of integers, behind those that `shift` takes away.
pub(super) struct PackLow<'a> {
    pub x: &'a [f32],
    pub shift: u32,
    pub q: u32,
    pub out: &'a mut [u8],
}

impl Operation for PackLow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { x, shift, q, out } = self;
        with_bits!(q, pack_low, l, x, shift, out)
    }
}

#[inline(always)]
fn pack_low<L: Lanes, const Q: u32>(l: L, x: &[f32], shift: u32, out: &mut [u8]) {
    pack_rows::<L, _, Q>(l, x, Low { shift, mask: (1 << Q) - 1 }, out);
}

#[derive(Clone, Copy)]
struct Low {
    shift: u32,
    mask: u32,
}

impl Codes for Low {
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, _: usize, v: L::F) -> L::U {
        let moved = l.shift_right_by(l.round_nearest(v), l.splat_u(self.shift));
        l.and_u(moved, l.splat_u(self.mask))
    }
}

/// Adds the products `a[i] * b[i]` in f64, where they are exact, to sixteen sums, of those whose number is
/// i modulo 16, each from the first on (FORMAT.md, section 9).
pub(super) struct AddProducts<'a> {
    pub sums: &'a mut [f64; LANES],
    pub a: &'a [f32],
    pub b: &'a [f32],
}

/// The sum of all products: the sixteen in their order.
#[cfg(test)]
pub(crate) fn sum_of_products(a: &[f32], b: &[f32]) -> f64 {
    super::Kernel::new(super::Simd::Auto).sum_of_products(a, b)
}

impl Operation for AddProducts<'_> {
    type Output = ();

    /// Plain loops: what they become is vectors of the instruction set they are compiled for.
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let (a_rows, a_tail) = arrays::split::<_, LANES>(self.a);
        let (b_rows, b_tail) = arrays::split::<_, LANES>(self.b);
        let mut sums = *self.sums;
        for (a, b) in a_rows.iter().zip(b_rows) {
            for i in 0..LANES {
                sums[i] += f64::from(a[i]) * f64::from(b[i]);
            }
        }
        for i in 0..a_tail.len().min(b_tail.len()) {
            sums[i] += f64::from(a_tail[i]) * f64::from(b_tail[i]);
        }
        *self.sums = sums;
    }
}
