//! Multiples of a step in the light of their neighbours: what is expected of each, and which table its
//! difference from that has (FORMAT.md, section 7.7).
//!
//! Each lane of rANS has a stretch of consecutive values, and rows hold a value of each lane: so the neighbours
//! of a row stand in rows before it, and sixteen values go together.

use super::Operation;
use super::columns::TILE;
use super::lanes::{LANES, Lanes};
use super::rans::{Contexts, Walk, token, tokens};
use crate::arrays;

/// Where neighbours are, and how much each tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Neighbours {
    pub(crate) lanes: usize,
    /// Values of a lane.
    pub(crate) rows: usize,
    /// Distance of the value to the left.
    pub(crate) across: usize,
    /// Distance of the value above.
    pub(crate) down: usize,
    /// Of the values to the left, above, above to the left, above to the right: 32 times their share in what
    /// is expected.
    pub(crate) weights: [i8; 4],
}

/// Places: what is expected in 8 parts, times 64 levels of how much neighbours differ.
pub(crate) const PLACES: usize = PARTS * LEVELS;
pub(crate) const PARTS: usize = 8;
pub(crate) const LEVELS: usize = 64;
/// Levels that integers of up to 2^21 have.
pub(crate) const LAST_LEVEL: u8 = 48;
/// No multiple is larger in magnitude, so that no difference has more than 22 bits.
pub(crate) const LARGEST: f32 = ((1 << 21) - 1) as f32;

/// Parts of a step that weights count.
const UNIT: f32 = 32.0;
/// Where parts begin, in units; beyond the last there are two, by which way the rounding went.
const EDGES: [f32; 6] = [1.0, 10.0, 16.0, 32.0, 48.0, 80.0];
/// Level 1 begins at a difference of 1.
const BELOW_ONE: u32 = (127 << 1) - 1;

impl Neighbours {
    /// Numbers that lanes hold; those beyond have no neighbours.
    pub(crate) fn whole(self) -> usize {
        self.lanes * self.rows
    }

    /// Distances in the order of rows of lanes.
    #[inline(always)]
    fn distances(self) -> [usize; 4] {
        let Self { lanes, across, down, .. } = self;
        [across * lanes, down * lanes, (down + across) * lanes, (down - across) * lanes]
    }

    // No closures here nor below: what they call is not compiled for the instruction set.
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, at: usize, k: &[f32]) -> (L::F, L::U) {
        let [left, up, up_left, up_right] = self.distances();
        let values = [
            before(l, k, at, left),
            before(l, k, at, up),
            before(l, k, at, up_left),
            before(l, k, at, up_right),
        ];
        judge(l, values, self.weights)
    }

    fn of_one(self, at: usize, k: &[f32]) -> (f32, u32) {
        if at >= self.whole() {
            return (0.0, 0);
        }
        let value = |distance| at.checked_sub(distance).map_or(0.0, |at| k[at]);
        judge_one(self.distances().map(value), self.weights)
    }
}

/// The sixteen values at a distance before `at`, or zeros.
#[inline(always)]
fn before<L: Lanes>(l: L, k: &[f32], at: usize, distance: usize) -> L::F {
    if at < distance {
        return l.splat(0.0);
    }
    match k[at - distance..].first_chunk() {
        Some(row) => l.load(row),
        None => l.splat(0.0),
    }
}

/// What is expected, in units, and the place.
#[inline(always)]
fn judge<L: Lanes>(l: L, values: [L::F; 4], weights: [i8; 4]) -> (L::F, L::U) {
    let [left, up, up_left, up_right] = values;
    let mut sum = l.mul(left, l.splat(weights[0].into()));
    sum = l.add(sum, l.mul(up, l.splat(weights[1].into())));
    sum = l.add(sum, l.mul(up_left, l.splat(weights[2].into())));
    sum = l.add(sum, l.mul(up_right, l.splat(weights[3].into())));
    let unit = l.splat(UNIT);
    let least = l.mul(l.min(l.min(left, up), up_right), unit);
    let most = l.mul(l.max(l.max(left, up), up_right), unit);
    let expected = l.min(l.max(sum, least), most);
    let size = magnitude(l, expected);
    let mut part = l.splat_u(0);
    for edge in EDGES {
        part = l.add_u(part, l.not_above(l.splat(edge), size));
    }
    let whole = l.mul(l.round(l.mul(size, l.splat(1.0 / UNIT))), unit);
    let rounded_down = l.where_less(whole, size, l.splat_u(1));
    let last = l.not_above(l.splat(EDGES[5]), size);
    part = l.add_u(part, l.and_u(rounded_down, last));
    let one = magnitude(l, l.sub(left, up_left));
    let two = magnitude(l, l.sub(up, up_left));
    let three = magnitude(l, l.sub(up, up_right));
    let bits = l.shift_right::<22>(l.abs_bits(l.add(l.add(one, two), three)));
    let below = l.splat_u(BELOW_ONE);
    let level = l.sub_u(l.max_u(bits, below), below);
    (expected, l.add_u(l.shift_left::<6>(part), level))
}

#[inline(always)]
fn magnitude<L: Lanes>(l: L, v: L::F) -> L::F {
    l.max(v, l.sub(l.splat(0.0), v))
}

/// The same for one: not by vectors of which one value counts.
fn judge_one([left, up, up_left, up_right]: [f32; 4], weights: [i8; 4]) -> (f32, u32) {
    let [a, b, c, d] = weights.map(f32::from);
    let sum = left * a + up * b + up_left * c + up_right * d;
    let (least, most) = (left.min(up).min(up_right) * UNIT, left.max(up).max(up_right) * UNIT);
    let expected = sum.max(least).min(most);
    let size = expected.abs();
    let reached = EDGES.iter().filter(|edge| **edge <= size).count() as u32;
    let rounded_down = (size * (1.0 / UNIT)).round_ties_even() * UNIT < size;
    let part = reached + u32::from(rounded_down && EDGES[5] <= size);
    let differences = (left - up_left).abs() + (up - up_left).abs() + (up - up_right).abs();
    (expected, (part << 6) + (differences.to_bits() >> 22).max(BELOW_ONE) - BELOW_ONE)
}

/// How far multiples exceed what is expected of them, away from zero; and for each its place, times 2^8, plus
/// the token of that.
pub(super) struct Compare<'a> {
    pub k: &'a [f32],
    /// Those before this place are left out.
    pub from: usize,
    pub neighbours: Neighbours,
    pub rests: &'a mut [f32],
    pub placed: &'a mut [u32],
}

impl Operation for Compare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { k, from: first, neighbours, rests, placed } = self;
        // Lanes that are no whole vectors go by vectors from where all of one have all neighbours.
        let reach = neighbours.distances()[2].next_multiple_of(LANES).min(k.len());
        let whole_rows = neighbours.lanes % LANES == 0;
        let from = if whole_rows { first } else { first.max(reach) };
        let whole = neighbours.whole().max(from);
        let to = from + (whole - from) / LANES * LANES;
        let rows = arrays::split::<_, LANES>(&k[from..to]).0;
        let out = arrays::split_mut::<_, LANES>(&mut rests[from..to]).0;
        let out_placed = arrays::split_mut::<_, LANES>(&mut placed[from..to]).0;
        for (i, ((row, out), placed)) in rows.iter().zip(out).zip(out_placed).enumerate() {
            let (expected, place) = neighbours.of(l, from + i * LANES, k);
            let size = l.round(l.mul(magnitude(l, expected), l.splat(1.0 / UNIT)));
            let rest = l.sub(l.mul(sign(l, expected), l.load(row)), size);
            let token = tokens(l, l.round_nearest(rest));
            l.store(rest, out);
            l.store_u(l.or_u(l.shift_left::<8>(place), token), placed);
        }
        for at in (first..from).chain(to..k.len()) {
            let (expected, place) = neighbours.of_one(at, k);
            rests[at] = signed(expected, k[at]) - (expected.abs() / UNIT).round_ties_even();
            placed[at] = place << 8 | token(rests[at] as i32);
        }
    }
}

/// -1 where a number is below zero, else 1.
#[inline(always)]
fn sign<L: Lanes>(l: L, of: L::F) -> L::F {
    let two = l.where_less(of, l.splat(0.0), l.splat_u(2));
    l.to_float(l.sub_u(l.splat_u(1), two))
}

fn signed(by: f32, value: f32) -> f32 {
    if by < 0.0 { -value } else { value }
}

/// The tables of integers whose places are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    /// Places, times 2^8, plus tokens.
    pub(super) placed: &'a [u32],
    /// The table of each place.
    pub(super) tables: &'a [u32],
}

impl Contexts for Placed<'_> {
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, at: usize, _: L::U) -> L::U {
        let placed = l.load_u(self.placed[at..].first_chunk().unwrap_or(&[0; LANES]));
        let table = l.gather(self.tables, l.shift_right::<8>(placed));
        l.or_u(l.shift_left::<8>(table), l.and_u(placed, l.splat_u(0xff)))
    }
    fn of_one(self, at: usize, _: i32) -> u32 {
        let placed = self.placed[at];
        self.tables[(placed >> 8) as usize % PLACES] << 8 | placed & 0xff
    }
}

/// The tables that follow from what was decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed<'a> {
    pub(super) neighbours: Neighbours,
    pub(super) tables: &'a [u32],
}

impl Walk for Followed<'_> {
    const MIDDLE: i32 = super::rans::MIDDLE_MULTIPLE;
    const FIRST_WIDE: u32 = super::rans::FIRST_WIDE_MULTIPLE;

    #[inline(always)]
    fn table<L: Lanes>(self, l: L, at: usize, _: L::U, before: &[f32]) -> (L::U, L::F) {
        let (expected, place) = self.neighbours.of(l, at, before);
        (l.gather(self.tables, place), expected)
    }
    fn table_of_one(self, at: usize, _: u32, before: &[f32]) -> (u32, f32) {
        let (expected, place) = self.neighbours.of_one(at, before);
        (self.tables[place as usize % PLACES], expected)
    }
    #[inline(always)]
    fn step<L: Lanes>(self, l: L, lane: L::U, k: L::U, expected: L::F) -> (L::F, L::U) {
        let size = l.round(l.mul(magnitude(l, expected), l.splat(1.0 / UNIT)));
        let value = l.mul(sign(l, expected), l.add(size, l.to_float(k)));
        // There is no -0 among integers.
        (l.add(value, l.splat(0.0)), lane)
    }
    fn step_one(self, lane: u32, k: i32, expected: f32) -> (f32, u32) {
        let size = (expected.abs() * (1.0 / UNIT)).round_ties_even();
        (signed(expected, size + k as f32) + 0.0, lane)
    }
    fn low(self) -> u32 {
        0
    }
    fn restart(self) -> usize {
        usize::MAX
    }
}

/// Values to rows of lanes, or back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Order {
    Rows,
    Values,
}

/// Values into the order in which they are coded, or coded ones back.
pub(super) struct Reorder<'a> {
    pub by: Neighbours,
    pub to: Order,
    pub from: &'a [f32],
    pub out: &'a mut [f32],
}

/// Rows that are moved together: what a cache line holds of a lane.
const TOGETHER: usize = 2 * TILE;

impl Operation for Reorder<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { by: Neighbours { lanes, rows, .. }, to, from, out } = self;
        let whole = lanes * rows;
        out[whole..].copy_from_slice(&from[whole..]);
        if lanes < TILE || rows < TOGETHER {
            for i in 0..whole {
                let coded = i % rows * lanes + i / rows;
                match to {
                    Order::Rows => out[coded] = from[i],
                    Order::Values => out[i] = from[coded],
                }
            }
            return;
        }
        // Lanes are a power of two; of rows the last tiles may overlap those before.
        for row in (0..rows).step_by(TOGETHER).map(|row| row.min(rows - TOGETHER)) {
            for lane in (0..lanes).step_by(TILE) {
                for row in [row, row + TILE] {
                    let (values, coded) = (lane * rows + row, row * lanes + lane);
                    match to {
                        Order::Rows => {
                            l.transpose((&from[values..], rows), (&mut out[coded..], lanes));
                        }
                        Order::Values => {
                            l.transpose((&from[coded..], lanes), (&mut out[values..], rows));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Kernel, Simd};
    use crate::random::word;

    fn multiples(key: u64, n: usize) -> Vec<f32> {
        let magnitude = |i: u64| 1i64 << ((word(key, i) >> 32) % 21);
        let k = |i: u64| (word(key, i) as i64 >> 33) % magnitude(i / 50);
        (0..n as u64).map(|i| k(i) as f32).collect()
    }

    #[test]
    fn every_level_expects_the_same_and_order_comes_back() {
        for (key, lanes, n) in [(1, 1, 300), (2, 8, 1000), (3, 16, 5000), (4, 64, 20_000)] {
            let neighbours = Neighbours {
                lanes,
                rows: n / lanes,
                across: 1 + key as usize % 2,
                down: 17,
                weights: [23, 25, -16, 1],
            };
            let values = multiples(key, n);
            let (mut k, mut back) = (vec![0.0; n], vec![0.0; n]);
            for kernel in [Simd::Scalar, Simd::Avx2, Simd::Auto].map(Kernel::new) {
                kernel.reorder(neighbours, Order::Rows, &values, &mut k);
                let rows = neighbours.rows;
                let coded = |i: usize| i % rows * lanes + i / rows;
                assert!((0..lanes * rows).all(|i| k[coded(i)] == values[i]));
                kernel.reorder(neighbours, Order::Values, &k, &mut back);
                assert_eq!(values, back);
            }
            let found = [Simd::Scalar, Simd::Avx2, Simd::Auto].map(|simd| {
                let (mut rests, mut placed) = (vec![0.0; n], vec![0; n]);
                Kernel::new(simd).compare((&k, 0), neighbours, &mut rests, &mut placed);
                (rests, placed)
            });
            assert!(found[0] == found[1] && found[0] == found[2]);
            for at in 0..n {
                let (expected, place) = neighbours.of_one(at, &k);
                let rest = signed(expected, k[at]) - (expected.abs() / UNIT).round_ties_even();
                let placed = place << 8 | token(rest as i32);
                assert_eq!((found[0].0[at], found[0].1[at]), (rest, placed), "{at} of {lanes}");
                assert!((place as usize) < PLACES && place % 64 <= LAST_LEVEL.into());
            }
        }
    }
}
