//! Codes of numbers between any thresholds, and the numbers that codes stand for.

use super::Operation;
use super::lanes::{LANES, Lanes};
use super::uniform::{unpack_rows, with_bits};
use crate::arrays;
use crate::code::packed_len;

/// The code of a number is how many thresholds are not above it, times `factor`.
pub(super) struct CountBelow<'a> {
    pub x: &'a [f32],
    pub factor: f32,
    pub thresholds: &'a [f32],
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
    thresholds: &[f32],
    out: &mut [u8],
) {
    let width = 2 * Q as usize; // bytes that a row takes
    let starts = Starts::of(thresholds);
    let (rows, tail) = arrays::split::<_, LANES>(x);
    for (i, row) in rows.iter().enumerate() {
        let codes = count_row::<L, Q>(l, row, factor, thresholds, &starts);
        l.pack::<Q>(codes, &mut out[i * width..][..width + 16]);
    }
    if !tail.is_empty() {
        let mut row = [0.0; LANES];
        row[..tail.len()].copy_from_slice(tail);
        let mut counts = [0; LANES];
        l.store_u(count_row::<L, Q>(l, &row, factor, thresholds, &starts), &mut counts);
        // Codes that are not there are zeros.
        counts[tail.len()..].fill(0);
        let mut packed = [0; 2 * 16 + 16];
        l.pack::<Q>(l.load_u(&counts), &mut packed);
        let n = packed_len(tail.len(), Q);
        out[rows.len() * width..][..n].copy_from_slice(&packed[..n]);
    }
}

/// Up to four bits each threshold is compared with sixteen numbers at once; where there are more, each
/// number is looked up.
#[inline(always)]
fn count_row<L: Lanes, const Q: u32>(
    l: L,
    row: &[f32; LANES],
    factor: f32,
    thresholds: &[f32],
    starts: &Starts,
) -> L::U {
    let scaled = l.mul(l.load(row), l.splat(factor));
    if Q <= 4 {
        let mut count = l.splat_u(0);
        for threshold in thresholds {
            count = l.add_u(count, l.not_above(l.splat(*threshold), scaled));
        }
        return count;
    }
    let (mut numbers, mut counts) = ([0.0; LANES], [0; LANES]);
    l.store(scaled, &mut numbers);
    for (count, number) in counts.iter_mut().zip(numbers) {
        *count = starts.count(number, thresholds);
    }
    l.load_u(&counts)
}

/// Where to begin to count: for each of 512 slices of -8..8 the thresholds that are clearly below it,
/// however a number was rounded into its slice.
struct Starts([u8; 512]);

impl Starts {
    const PER_UNIT: f32 = 32.0;

    fn of(thresholds: &[f32]) -> Self {
        let mut starts = [0; 512];
        if thresholds.len() > 15 {
            for (i, start) in starts.iter_mut().enumerate() {
                let slice = (i as f32 - 0.01) / Self::PER_UNIT - 8.0;
                *start = thresholds.partition_point(|t| *t < slice) as u8;
            }
        }
        Self(starts)
    }

    #[inline(always)]
    fn count(&self, number: f32, thresholds: &[f32]) -> u32 {
        // Saturates, and takes NaN, which only refused groups hold, for 0.
        let slice = ((number + 8.0) * Self::PER_UNIT) as usize;
        let mut count = usize::from(self.0[slice.min(511)]);
        while thresholds.get(count).is_some_and(|t| *t <= number) {
            count += 1;
        }
        count as u32
    }
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
    let width = 2 * Q as usize; // bytes that a row takes
    let (rows, tail) = arrays::split::<_, LANES>(x);
    let mask = l.splat_u((1 << Q) - 1);
    for (i, row) in rows.iter().enumerate() {
        let moved = l.shift_right_by(l.round_nearest(l.load(row)), l.splat_u(shift));
        l.pack::<Q>(l.and_u(moved, mask), &mut out[i * width..][..width + 16]);
    }
    if !tail.is_empty() {
        let mut row = [0.0; LANES];
        row[..tail.len()].copy_from_slice(tail);
        let moved = l.shift_right_by(l.round_nearest(l.load(&row)), l.splat_u(shift));
        let mut packed = [0; 2 * 16 + 16];
        l.pack::<Q>(l.and_u(moved, mask), &mut packed);
        let n = packed_len(tail.len(), Q);
        out[rows.len() * width..][..n].copy_from_slice(&packed[..n]);
    }
}

/// The sum of `a[i] * b[i]` in f64, in the order of FORMAT.md, section 9: sixteen sums, of the products
/// whose number is i modulo 16, each from the first on; then these in their order. Every product is
/// exact.
pub(crate) fn sum_of_products(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (a_rows, a_tail) = arrays::split::<_, LANES>(a);
    let (b_rows, b_tail) = arrays::split::<_, LANES>(b);
    for (a, b) in a_rows.iter().zip(b_rows) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_tail).zip(b_tail) {
        *sum += f64::from(*a) * f64::from(*b);
    }
    sums.iter().sum()
}
