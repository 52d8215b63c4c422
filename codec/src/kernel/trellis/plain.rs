//! The search where values cost no more than their error, in integers of 16 bits.
//!
//! Where a number v lies modulo 4 decides what its subsets cost. With r = v mod 4 in -2..2, of all costs r^2 is taken,
//! which every path pays alike: what the subsets 0 to 3 cost then is 0, min(1 - 2r, 9 + 6r), 4 - 4 |r| and
//! min(1 + 2r, 9 - 6r). The costs of subsets 2 and 3 have a bit of their own for each of four steps, below
//! those that tell costs apart: so a metric holds by which ways it came, and the smaller of two metrics takes
//! its ways along.
//!
//! Nothing overflows. Metrics of one step differ by 12 at most, since three steps lead from any state to any, and a
//! step costs at most 4 more by one way than by another. So in [`GROUP`] steps they leave, from one of them at 0 on,
//! neither -28 nor 20, and have room from -32 to 32.

use super::super::Operation;
use super::super::lanes::{LANES, Lanes};
use super::super::register::{Register, Shorts};
use super::walk::{
    BEFORE_STATES, BEFORE_WAYS, GROUP, SUBSETS_OF_STATES, SUBSETS_OF_WAYS, TO_TOP, UPPER,
};
use super::{BLOCK, Found, PAIRS, PREDECESSORS, STATES, STEPS, SUBSETS};

/// The bits of a metric that hold the decisions of [`GROUP`] steps.
const WAYS: i16 = (1 << GROUP) - 1;
/// A square of the step.
const SQUARE: i16 = 1 << 10;
/// More than the ways to any state differ, which three steps later is the end of it.
const UNREACHABLE: i16 = 14 * SQUARE;
/// Places of a number, in units of the step, are rounded to multiples of 1 / this.
const PLACES: f32 = 128.0;
/// What errors, 2^14 a step and widened, are multiplied with.
const UNWIDEN: f32 = 1.0 / (1 << 30) as f32;
/// Most trellises.
const MOST: usize = 64;

type Short<R> = <<R as Register>::Shorts as Shorts>::I;

/// Four steps of the trellises of a register.
#[derive(Clone, Copy)]
struct Record<R: Register> {
    /// Where numbers lie modulo 4, times 2^14.
    places: [Short<R>; GROUP],
    /// The decisions on the way to each state, four bits each, of states 0 to 3 and of 4 to 7.
    ways: [Short<R>; 2],
}

/// On the way forward: what it costs to come to each state.
#[derive(Clone, Copy)]
struct Metrics<R: Register>([Short<R>; STATES]);

/// On the way back: the states in which the trellises are, and the sums of both products of what they passed.
#[derive(Clone, Copy)]
struct Back<R: Register> {
    states: Short<R>,
    product: [R::F; 2],
    energy: [R::F; 2],
}

/// Puts in the place of numbers, times `factor`, the values of the cheapest path.
///
/// `y` are numbers that are below [`LARGEST`](super::LARGEST), times the factor, in magnitude; there are 16 times
/// `width` trellises, at most [`MOST`], and number i belongs to trellis i modulo that.
pub(in super::super) struct Plain<'a> {
    pub y: &'a mut [f32],
    pub factor: f32,
    pub width: usize,
}

impl Operation for Plain<'_> {
    type Output = Found;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Found {
        let Self { y, factor, width } = self;
        let (mut search, mut found) =
            (Search::new(l.register(), factor, width * LANES), Found::default());
        for y in y.chunks_mut(width * LANES * STEPS) {
            found.add(search.unit(y), factor);
        }
        found
    }
}

/// Finds paths, and keeps the room that it takes.
struct Search<R: Register> {
    r: R,
    factor: f32,
    trellises: usize,
    records: Vec<Record<R>>,
}

impl<R: Register> Search<R> {
    #[inline(always)]
    fn new(r: R, factor: f32, trellises: usize) -> Self {
        Self { r, factor, trellises, records: Vec::new() }
    }

    /// What lies between two starts of the trellises.
    #[inline(always)]
    fn unit(&mut self, y: &mut [f32]) -> Found {
        let Self { r, factor, trellises, .. } = *self;
        let stride = trellises.max(2 * R::WIDTH);
        let whole = y.len() / (GROUP * trellises) * (GROUP * trellises);
        let (whole, rest) = y.split_at_mut(whole);
        // What does not fill four steps has zeros behind it, and so has a step of fewer trellises than there are lanes.
        let (mut padded, mut last) = (Vec::new(), [0.0; GROUP * MOST]);
        put_rows(rest, trellises, &mut last, stride);
        let numbers = match trellises < stride {
            true => {
                padded.resize(whole.len() / trellises * stride, 0.0);
                put_rows(whole, trellises, &mut padded, stride);
                &mut padded[..]
            }
            false => &mut *whole,
        };
        let mut found = Found::default();
        for back in self.search(numbers, &mut last, rest.len().div_ceil(trellises), stride) {
            add_lanes(r, &back.product, trellises, &mut found.product);
            add_lanes(r, &back.energy, trellises, &mut found.energy);
        }
        if trellises < stride {
            put_rows(&padded, stride, whole, trellises);
        }
        for (y, x) in rest.chunks_mut(trellises).zip(last.chunks_exact(stride)) {
            for (y, x) in y.iter_mut().zip(x) {
                found.product += f64::from(*y * factor) * f64::from(*x);
                found.energy += f64::from(*x) * f64::from(*x);
                *y = *x;
            }
        }
        found
    }

    /// Puts values in the place of all `numbers` and of those of `rows` steps behind them; the sums over the former.
    #[inline(always)]
    fn search(
        &mut self,
        numbers: &mut [f32],
        last: &mut [f32; GROUP * MOST],
        rows: usize,
        stride: usize,
    ) -> impl Iterator<Item = Back<R>> {
        let Self { r, factor, .. } = *self;
        let way = Way { r, factor, stride };
        let (columns, group) = (stride / (2 * R::WIDTH), GROUP * stride);
        let last = &mut last[..group];
        let zero = r.shorts().splat(0);
        let zeros = Record { places: [zero; GROUP], ways: [zero; 2] };
        self.records.resize((numbers.len() / group + 1) * columns, zeros);
        let (records, of_last) = self.records.split_at_mut(numbers.len() / group * columns);
        let (block, of_block) = (BLOCK / GROUP * group, BLOCK / GROUP * columns);

        let mut metrics = [Metrics::start(r); MOST / LANES];
        for (y, records) in numbers.chunks(block).zip(records.chunks_mut(of_block)) {
            way.forward(&mut metrics[..columns], y, GROUP, records);
        }
        way.forward(&mut metrics[..columns], last, rows, of_last);
        let mut back = [Back::start(r, &metrics[0]); MOST / LANES];
        for (back, metrics) in back.iter_mut().zip(&metrics[..columns]) {
            *back = Back::start(r, metrics);
        }
        way.back(&mut back[..columns], last, rows, of_last);
        for back in &mut back {
            // Zeros behind the last numbers may have become something: the caller counts.
            (back.product, back.energy) = ([r.splat(0.0); 2], [r.splat(0.0); 2]);
        }
        for (y, records) in numbers.chunks_mut(block).zip(records.chunks(of_block)).rev() {
            way.back(&mut back[..columns], y, GROUP, records);
        }
        back.into_iter().take(columns)
    }
}

/// Rows of one length to rows of another.
fn put_rows(from: &[f32], of: usize, to: &mut [f32], of_to: usize) {
    for (from, to) in from.chunks(of).zip(to.chunks_mut(of_to)) {
        let len = from.len().min(to.len());
        to[..len].copy_from_slice(&from[..len]);
    }
}

/// Adds the lanes of at most `count` trellises, one after the other.
fn add_lanes<R: Register>(r: R, halves: &[R::F; 2], count: usize, sum: &mut f64) {
    let mut lanes = [0.0; 2 * LANES];
    for (half, lanes) in halves.iter().zip(lanes.chunks_exact_mut(R::WIDTH)) {
        r.store(*half, lanes);
    }
    for lane in lanes.iter().take(count.min(2 * R::WIDTH)) {
        *sum += f64::from(*lane);
    }
}

/// How to go through numbers in rows of `stride`, a step each.
#[derive(Clone, Copy)]
struct Way<R> {
    r: R,
    factor: f32,
    stride: usize,
}

impl<R: Register> Way<R> {
    /// All columns in turn, each through all groups of four rows; the first `rows` of each hold numbers.
    #[inline(always)]
    fn forward(
        self,
        metrics: &mut [Metrics<R>],
        y: &[f32],
        rows: usize,
        records: &mut [Record<R>],
    ) {
        let groups = records.len() / metrics.len();
        let columns = metrics.iter_mut().zip(records.chunks_exact_mut(groups));
        for (number, (metrics, records)) in columns.enumerate() {
            let mut inner = *metrics;
            for (y, record) in y.chunks_exact(GROUP * self.stride).zip(records) {
                inner.forward(self, &y[number * 2 * R::WIDTH..], rows, record);
            }
            *metrics = inner;
        }
    }

    #[inline(always)]
    fn back(self, back: &mut [Back<R>], y: &mut [f32], rows: usize, records: &[Record<R>]) {
        let groups = records.len() / back.len();
        let columns = back.iter_mut().zip(records.chunks_exact(groups));
        for (number, (back, records)) in columns.enumerate() {
            let mut inner = *back;
            for (y, record) in y.chunks_exact_mut(GROUP * self.stride).zip(records).rev() {
                inner.trace(self, &mut y[number * 2 * R::WIDTH..], rows, record);
            }
            *back = inner;
        }
    }
}

impl<R: Register> Metrics<R> {
    #[inline(always)]
    fn start(r: R) -> Self {
        let mut metrics = [r.shorts().splat(UNREACHABLE); STATES];
        metrics[0] = r.shorts().splat(0);
        Self(metrics)
    }

    /// Four steps, of which the first `rows` have numbers; others cost nothing.
    #[inline(always)]
    fn forward(&mut self, way: Way<R>, y: &[f32], rows: usize, record: &mut Record<R>) {
        let (r, s) = (way.r, way.r.shorts());
        let scale = r.splat(PLACES * way.factor);
        let mut metrics = self.0;
        for step in 0..GROUP {
            let second = 1 << step;
            let mut costs = [s.splat(0), s.splat(second), s.splat(second)];
            if step < rows {
                let (low, high) = y[step * way.stride..][..2 * R::WIDTH].split_at(R::WIDTH);
                let numbers = [r.mul(r.load(low), scale), r.mul(r.load(high), scale)];
                record.places[step] = s.shift_left::<7>(s.narrow(numbers));
                costs = self::costs(s, record.places[step], second);
            }
            let mut next = metrics;
            for z in PAIRS {
                next[z] = s.min(via(s, &metrics, &costs, z, 0), via(s, &metrics, &costs, z, 1));
            }
            metrics = next;
        }
        let ways = s.splat(WAYS);
        for (word, metrics) in record.ways.iter_mut().zip(metrics.chunks_exact(4)) {
            let low = s.or(s.and(metrics[0], ways), s.shift_left::<4>(s.and(metrics[1], ways)));
            let high =
                s.or(s.shift_left::<8>(s.and(metrics[2], ways)), s.shift_left::<12>(metrics[3]));
            *word = s.or(low, high);
        }
        let zero = s.without(metrics[0], ways);
        for metric in &mut metrics {
            *metric = s.sub(s.without(*metric, ways), zero);
        }
        self.0 = metrics;
    }
}

/// The metric of a state by one of two ways.
#[inline(always)]
fn via<S: Shorts>(s: S, metrics: &[S::I; STATES], costs: &[S::I; 3], z: usize, way: usize) -> S::I {
    let metric = metrics[PREDECESSORS[z][way]];
    match SUBSETS[z][way] {
        0 => metric,
        j => s.add(metric, costs[j - 1]),
    }
}

/// What stands in the lower bytes in both.
#[inline(always)]
fn both<S: Shorts>(s: S, v: S::I) -> S::I {
    s.or(v, s.shift_left::<8>(v))
}

/// What subsets 1, 2 and 3 cost more than subset 0 by where numbers lie; the bit of the second way for 2 and 3.
#[inline(always)]
fn costs<S: Shorts>(s: S, places: S::I, second: i16) -> [S::I; 3] {
    let two = s.shift_right::<3>(places);
    let four = s.add(two, two);
    let six = s.add(four, two);
    [
        s.min(s.sub(s.splat(SQUARE), two), s.add(s.splat(9 * SQUARE), six)),
        s.sub(s.splat(4 * SQUARE + second), s.abs(four)),
        s.min(s.add(s.splat(SQUARE + second), two), s.sub(s.splat(9 * SQUARE + second), six)),
    ]
}

impl<R: Register> Back<R> {
    /// From the cheapest states, the first of equals.
    #[inline(always)]
    fn start(r: R, metrics: &Metrics<R>) -> Self {
        let (s, zeros) = (r.shorts(), [r.splat(0.0); 2]);
        let mut least = metrics.0[0];
        for (z, metric) in (1i16..).zip(&metrics.0[1..]) {
            least = s.min(least, s.or(*metric, s.splat(z)));
        }
        let states = both(s, s.and(least, s.splat(STATES as i16 - 1)));
        Self { states: s.or(states, s.splat(UPPER)), product: zeros, energy: zeros }
    }

    /// Back through four steps: the values, in the place of the numbers of the first `rows`, and their sums.
    #[inline(always)]
    fn trace(&mut self, way: Way<R>, y: &mut [f32], rows: usize, record: &Record<R>) {
        let (r, s) = (way.r, way.r.shorts());
        let subsets = self.step_back(s, record.ways);
        let by_step = [
            s.shift_left::<14>(subsets),
            s.shift_left::<12>(subsets),
            s.shift_left::<10>(subsets),
            s.shift_left::<8>(subsets),
        ];
        for step in (0..rows).rev() {
            // What is added lies 0 modulo 4: what a number is too large by stays.
            let opposite = s.and(by_step[step], s.splat(-1 << 14));
            let errors = s.widen(s.add(record.places[step], opposite));
            let row = &mut y[step * way.stride..][..2 * R::WIDTH];
            for (half, y) in row.chunks_exact_mut(R::WIDTH).enumerate() {
                let v = r.mul(r.load(y), r.splat(way.factor));
                let x = r.round(r.add_exact(errors[half], r.splat(-UNWIDEN), v));
                self.product[half] = r.add(self.product[half], r.mul(v, x));
                self.energy[half] = r.add(self.energy[half], r.mul(x, x));
                r.store(x, y);
            }
        }
    }

    /// The states four steps before, and what [`Walk`](super::walk) says of the subsets between.
    #[inline(always)]
    fn step_back<S: Shorts<I = Short<R>>>(&mut self, s: S, ways: [S::I; 2]) -> S::I {
        let four = s.where_less(s.splat(UPPER | 3 << 8 | 0xff), self.states, ways[1], ways[0]);
        let ways = s.shift_right_unsigned::<12>(s.mul(four, s.nibble(&TO_TOP, self.states)));
        let of_states = s.nibble(&SUBSETS_OF_STATES, self.states);
        let before = s.nibble(&BEFORE_STATES, self.states);
        self.states = s.xor(before, s.nibble(&BEFORE_WAYS, both(s, ways)));
        s.xor(of_states, s.nibble(&SUBSETS_OF_WAYS, ways))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::lanes::Portable;
    use super::*;
    use crate::random::word;

    /// The least sum over all paths of squared distances, in steps of 1/128, from a number's place to its value.
    fn least(places: &[i64]) -> i64 {
        let mut metrics = [i64::MAX / 2; STATES];
        metrics[0] = 0;
        for place in places {
            let by = |z: usize, way: usize| {
                metrics[PREDECESSORS[z][way]] + squared(*place, SUBSETS[z][way] as i64)
            };
            metrics = std::array::from_fn(|z| by(z, 0).min(by(z, 1)));
        }
        metrics.into_iter().min().unwrap_or(0)
    }

    /// Of the distance to the nearest integer that is `j` modulo 4.
    fn squared(place: i64, j: i64) -> i64 {
        let beyond = (place - 128 * j).rem_euclid(512);
        beyond.min(512 - beyond).pow(2)
    }

    /// Numbers of all sorts, one after the other and in stretches: those that cost the most by one way and nothing
    /// by another are among them.
    fn number(i: usize, trellis: usize) -> f32 {
        let random =
            |i: usize| (word(5, (i * 16 + trellis) as u64) >> 40) as f32 / (1 << 24) as f32;
        match trellis {
            0 => 0.0,
            1 => 2.0,
            2 => 1.0,
            3 => (i / 5 % 4) as f32,
            4..8 => (random(i) * 8.0).floor() - 4.0,
            8..12 => (random(i / 7) * 8.0).floor() / 2.0 + random(i) / 64.0,
            _ => random(i) * 40.0 - 20.0,
        }
    }

    #[test]
    fn no_path_is_cheaper_than_the_one_that_is_found() {
        for steps in [1, 2, 3, 5, 64, STEPS] {
            let y: Vec<f32> = (0..16 * steps).map(|i| number(i / 16, i % 16)).collect();
            let mut x = y.clone();
            Plain { y: &mut x, factor: 1.0, width: 1 }.run(Portable);
            for trellis in 0..16 {
                let of = |values: &[f32]| -> Vec<i64> {
                    let scaled = values.iter().skip(trellis).step_by(16).map(|v| v * PLACES);
                    scaled.map(|v| v.round_ties_even() as i64).collect()
                };
                let (places, values) = (of(&y), of(&x));
                let found = places.iter().zip(&values).map(|(y, x)| squared(*y, x / 128));
                assert_eq!(found.sum::<i64>(), least(&places), "trellis {trellis}, {steps} steps");
                assert!(places.iter().zip(&values).all(|(y, x)| (y - x).abs() <= 256));
            }
        }
    }
}
