//! Whether neighbours tell enough about the multiples of a group, and which neighbours those are. Nothing here
//! is part of the format.

use super::bits::Writer;
use super::classes::{Counts, TOKENS, entropy};
use super::neighbours::{FARTHEST, Plan, Sharing, weights};
use super::step_setting::{rests as bits_of_rests, size};
use crate::kernel::neighbours::{LARGEST, LEVELS};
use crate::kernel::{Kernel, Neighbours, Order, PLACES, Step as Rounding};
use std::ops::Range;

/// Numbers that are looked at.
const SAMPLE: usize = 1 << 15;
/// Numbers of a row that are looked at together, at least; a multiple of sixteen.
const PIECE: usize = 1 << 8;
/// Of what a group takes by classes of blocks, what it has to take at most in the light of neighbours: they
/// cost time.
const PAYS: f64 = 0.95;
/// A lane should hold so many times the distance of the value above.
const LONG: usize = 8;
/// How many values lie side by side at least, and how many one above the other.
const SIDE: u64 = 4;
/// Halvings of what is expected, and levels of differences for each part, of which one is tried after the
/// other.
const SHARED: [(u8, usize); 6] = [(0, 4), (1, 8), (2, 4), (0, 1), (3, 8), (3, 1)];
/// Smaller steps that are tried, 128 to an octave.
const SMALLER: i32 = 384;

/// The distances of the values to the left and above that a shape lets expect: in rows, whether what follows
/// each other in them are values or channels.
fn distances(shape: &[u64]) -> Vec<(usize, usize)> {
    // Dimensions of one value are none; the first may be 0 while it is not known.
    let sides: Vec<u64> = shape.iter().copied().filter(|side| *side != 1).collect();
    let fits = |across: u64, side: u64| -> Option<(usize, usize)> {
        let down = across.checked_mul(side).filter(|down| down + across <= FARTHEST)?;
        (side >= SIDE).then_some((across as usize, down as usize))
    };
    match sides[..] {
        // What stands in a line alone tells less than a sample of it promises.
        [] | [_] => Vec::new(),
        [_, side] => fits(1, side).into_iter().collect(),
        [.., across, side] => fits(1, side).into_iter().chain(fits(side, across)).collect(),
    }
}

/// How often each token occurs at each place: those of even numbers, then those of odd ones, so that the same
/// twice in a row is not counted in the same word.
pub(super) struct Histogram([Vec<u32>; 2]);

/// What a place has room for in a histogram.
const ROOM: usize = 1 << 8;

/// What a group takes, in bits times 2^16, and how tables are shared for that.
pub(super) struct Shared {
    pub(super) sharing: Sharing,
    pub(super) counts: Vec<Counts>,
    pub(super) bits: i64,
}

impl Histogram {
    fn new() -> Self {
        Self([vec![0; PLACES * ROOM], vec![0; PLACES * ROOM]])
    }

    fn clear(&mut self) {
        self.0.iter_mut().for_each(|counts| counts.fill(0));
    }

    /// Counts places, times 2^8, plus tokens.
    fn add(&mut self, placed: &[u32]) {
        let [even, odd] = &mut self.0;
        let (even, odd) = (&mut even[..PLACES * ROOM], &mut odd[..PLACES * ROOM]);
        let pairs = placed.chunks_exact(2);
        pairs.remainder().iter().for_each(|last| even[*last as usize % (PLACES * ROOM)] += 1);
        for pair in pairs {
            even[pair[0] as usize % (PLACES * ROOM)] += 1;
            odd[pair[1] as usize % (PLACES * ROOM)] += 1;
        }
    }

    /// The places that occur, and their tokens.
    fn places(&self) -> Vec<(usize, Counts)> {
        let [even, odd] = &self.0;
        let both = even.chunks_exact(ROOM).zip(odd.chunks_exact(ROOM));
        let counts = both.map(|(even, odd)| std::array::from_fn(|token| even[token] + odd[token]));
        let occurs = |counts: &Counts| counts.iter().fold(0, |any, count| any | count) > 0;
        counts.enumerate().filter(|(_, counts)| occurs(counts)).collect()
    }

    /// The sharing that takes the fewest bits, where every number that was counted stands for `times`.
    fn shared(&self, times: f64) -> Shared {
        let places = self.places();
        let all = SHARED.map(|(halvings, levels)| {
            let sharing = Sharing { halvings, edges: edges(&places, levels) };
            let mut counts = vec![[0; TOKENS]; sharing.n_tables()];
            for (place, of_place) in &places {
                let sums = &mut counts[sharing.table(*place)];
                sums.iter_mut().zip(of_place).for_each(|(sum, count)| *sum += count);
            }
            let coded = counts.iter().map(entropy).sum::<i64>() + bits_of_rests(&counts);
            let mut tables = Writer::default();
            counts.iter().for_each(|counts| weights(counts).put(&mut tables));
            let head = 8 * (16 + sharing.edges.len());
            let bits = (coded as f64 * times) as i64 + (((tables.len() + head) as i64) << 16);
            Shared { sharing, counts, bits }
        });
        let [first, others @ ..] = all;
        others.into_iter().fold(first, |best, one| if one.bits < best.bits { one } else { best })
    }
}

/// Levels that cut what was counted into so many parts alike; no difference at all is one of them where
/// it is not rare.
fn edges(places: &[(usize, Counts)], parts: usize) -> Vec<u8> {
    let mut levels = [0u64; LEVELS];
    for (place, counts) in places {
        levels[place % LEVELS] += counts.iter().map(|count| u64::from(*count)).sum::<u64>();
    }
    let total: u64 = levels.iter().sum();
    let alone = parts > 1 && levels[0] * 2 * parts as u64 > total;
    let (first, parts) = if alone { (1, parts - 1) } else { (0, parts) };
    let left: u64 = levels[first..].iter().sum();
    let mut edges: Vec<u8> = (first == 1).then_some(1).into_iter().collect();
    let (mut below, mut part) = (0, 1);
    for (level, count) in (first as u8 + 1..).zip(&levels[first..LEVELS - 1]) {
        below += count;
        if part < parts && below * parts as u64 >= left * part as u64 && below < left {
            edges.push(level);
            while below * parts as u64 >= left * part as u64 {
                part += 1;
            }
        }
    }
    edges.dedup();
    edges
}

/// Neighbours that pay, and the step at which they do.
pub(crate) struct Found {
    pub(super) size: f32,
    pub(super) neighbours: Neighbours,
}

/// A sample of a group: pieces of rows, each behind the piece of the row above.
struct Sample {
    across: usize,
    down: usize,
    /// Length of a piece, a multiple of sixteen, and where pieces begin.
    piece: usize,
    starts: Vec<usize>,
}

impl Sample {
    fn of(n: usize, (across, down): (usize, usize)) -> Self {
        let piece = (4 * across).next_multiple_of(16).max(PIECE);
        let parts = (SAMPLE.min(n) / piece).max(1);
        // One anywhere in each of equal parts, so that pieces have no period.
        let start = |i: usize| {
            let (first, end) = (down + i * (n - down) / parts, down + (i + 1) * (n - down) / parts);
            let hash = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let room = (end - first).saturating_sub(piece) as u64;
            (first + ((hash * room) >> 32) as usize).min(n - piece)
        };
        Self { across, down, piece, starts: (0..parts).map(start).collect() }
    }

    /// Both pieces as multiples.
    fn divide(
        &self,
        numbers: &[f32],
        start: usize,
        (kernel, rounding, at): (Kernel, Rounding, f32),
        k: &mut [f32],
    ) {
        let (above, here) = k.split_at_mut(self.piece);
        for (from, first, to) in [(start - self.down, 0, above), (start, self.piece, here)] {
            kernel.divide(&numbers[from..from + self.piece], first, 1.0 / at, rounding, to);
        }
    }

    /// Those of a piece whose neighbours stand in it or above.
    fn counted(&self) -> Range<usize> {
        self.piece + self.across..2 * self.piece - self.across
    }

    /// Where neighbours are among the two pieces.
    fn neighbours(&self, weights: [i8; 4]) -> Neighbours {
        Neighbours {
            lanes: 1,
            rows: 2 * self.piece,
            across: self.across,
            down: self.piece,
            weights,
        }
    }
}

/// Finds neighbours that tell enough, and the step that they allow.
pub(crate) struct Search {
    kernel: Kernel,
    rounding: Rounding,
    sample: Sample,
    weights: [i8; 4],
    /// The largest magnitude.
    peak: f32,
    /// Bits that may be taken, times 2^16, where it is for them that a step is looked for.
    most: Option<i64>,
    k: Vec<f32>,
    rests: Vec<f32>,
    placed: Vec<u32>,
    histogram: Histogram,
}

impl Search {
    /// The neighbours that tell most, where they tell enough: at steps of size `at` numbers would take `bits`
    /// without them. Of `most` bits the step makes the best, or it stays.
    pub(super) fn find(
        (kernel, shape): (Kernel, &[u64]),
        numbers: &[f32],
        rounding: Rounding,
        (at, bits): (f32, i64),
        most: Option<i64>,
    ) -> Option<(Self, Found)> {
        let n = numbers.len();
        let fits = |(across, down): &(usize, usize)| {
            let piece = (4 * across).max(PIECE) + 16;
            down + 2 * piece <= n && (across + down) * LONG <= n
        };
        let distances = distances(shape).into_iter().filter(fits);
        let samples = distances.map(|distances| {
            let sample = Sample::of(n, distances);
            let (weights, left) = fit(&sample, numbers, (kernel, rounding, at));
            (left, weights, sample)
        });
        let (_, weights, sample) = samples.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let mut lanes = super::lanes(n);
        while lanes > 1 && n / lanes < LONG * sample.down {
            lanes /= 2;
        }
        let (across, down, pieces) = (sample.across, sample.down, 2 * sample.piece);
        let neighbours = Neighbours { lanes, rows: n / lanes, across, down, weights };
        let mut search = Self {
            kernel,
            rounding,
            sample,
            weights,
            peak: f32::from_bits(kernel.peak_bits(numbers)),
            most,
            k: vec![0.0; pieces],
            rests: vec![0.0; pieces],
            placed: vec![0; pieces],
            histogram: Histogram::new(),
        };
        let found = search.bits(numbers, at).filter(|b| *b as f64 <= PAYS * bits as f64)?;
        let size = match most {
            Some(most) if found <= most => search.smallest(numbers, at, most),
            _ => at,
        };
        Some((search, Found { size, neighbours }))
    }

    /// The smallest step that takes no more than `most`, where `at` does not.
    fn smallest(&mut self, numbers: &[f32], at: f32, most: i64) -> f32 {
        let (mut enough, mut too_small) = (0, SMALLER);
        while too_small - enough > 1 {
            let middle = (enough + too_small) / 2;
            let bits = self.bits(numbers, size(at.into(), -middle));
            match bits.is_some_and(|bits| bits <= most) {
                true => enough = middle,
                false => too_small = middle,
            }
        }
        size(at.into(), -enough)
    }

    /// A step nearer to what is allowed, where the whole group took `bits` at steps of size `at`.
    pub(super) fn corrected(&mut self, numbers: &[f32], at: f32, bits: i64) -> Option<f32> {
        let most = self.most?;
        let ratio = bits as f64 / most as f64;
        if (0.99..=1.004).contains(&ratio) {
            return None;
        }
        let aim = (self.bits(numbers, at)? as f64 / ratio) as i64;
        let larger = size(at.into(), SMALLER / 2);
        Some(self.smallest(numbers, larger, aim))
    }

    /// Bits, times 2^16, that the group takes at a step; `None` where a multiple is too large.
    fn bits(&mut self, numbers: &[f32], at: f32) -> Option<i64> {
        if self.peak > (LARGEST - 1.0) * at {
            return None;
        }
        let Self { kernel, rounding, sample, weights, k, rests, placed, histogram, .. } = self;
        histogram.clear();
        let (neighbours, counted) = (sample.neighbours(*weights), sample.counted());
        for start in &sample.starts {
            sample.divide(numbers, *start, (*kernel, *rounding, at), k);
            kernel.compare((k, counted.start), neighbours, rests, placed);
            histogram.add(&placed[counted.clone()]);
        }
        let n = counted.len() * sample.starts.len();
        Some(histogram.shared(numbers.len() as f64 / n as f64).bits)
    }
}

/// Weights of neighbours, and how much of the energy of multiples they leave.
fn fit(sample: &Sample, numbers: &[f32], by: (Kernel, Rounding, f32)) -> ([i8; 4], f64) {
    let (across, down) = (sample.across, sample.piece);
    let (mut products, mut k) = ([[0.0; 5]; 5], vec![0.0; 2 * sample.piece]);
    for start in &sample.starts {
        sample.divide(numbers, *start, by, &mut k);
        for i in sample.counted().step_by(3) {
            let distances = [across, down, down + across, down - across, 0];
            let values = distances.map(|distance| f64::from(k[i - distance]));
            for (row, x) in products.iter_mut().zip(values) {
                row.iter_mut().zip(values).for_each(|(sum, y)| *sum += x * y);
            }
        }
    }
    let (shares, left) = regression(products);
    (shares.map(|share| (32.0 * share).round_ties_even() as i8), left)
}

/// The shares of four numbers in a fifth that leave the least of its energy, from sums of products, and the
/// part that is left.
fn regression(products: [[f64; 5]; 5]) -> ([f64; 4], f64) {
    let mut rows = products;
    // A little more on the diagonal, for numbers that tell the same.
    let more = 1e-4 * (0..4).map(|i| products[i][i]).sum::<f64>() + f64::MIN_POSITIVE;
    (0..4).for_each(|i| rows[i][i] += more);
    for i in 0..4 {
        let (done, below) = rows.split_at_mut(i + 1);
        let pivot = done[i];
        for row in &mut below[..3 - i] {
            let factor = row[i] / pivot[i];
            row.iter_mut().zip(pivot).for_each(|(x, p)| *x -= factor * p);
        }
    }
    let mut shares = [0.0; 4];
    for i in (0..4).rev() {
        let known: f64 = (i + 1..4).map(|j| rows[i][j] * shares[j]).sum();
        shares[i] = (rows[i][4] - known) / rows[i][i];
    }
    let told: f64 = (0..4).map(|i| shares[i] * products[i][4]).sum();
    let energy = products[4][4];
    (shares, if energy > 0.0 { (energy - told) / energy } else { 1.0 })
}

/// Buffers for the multiples of a group beside what their neighbours let expect.
#[derive(Default)]
pub(crate) struct Work {
    rows: Vec<f32>,
    /// Places, times 2^8, plus tokens.
    placed: Vec<u32>,
}

impl Work {
    /// Of multiples in the order of values; how far they are from what is expected takes their place.
    pub(super) fn compare(
        &mut self,
        kernel: Kernel,
        k: &mut [f32],
        neighbours: Neighbours,
    ) -> Shared {
        self.rows.resize(k.len(), 0.0);
        self.placed.resize(k.len(), 0);
        kernel.reorder(neighbours, Order::Rows, k, &mut self.rows);
        kernel.compare((&self.rows, 0), neighbours, k, &mut self.placed);
        let mut histogram = Histogram::new();
        histogram.add(&self.placed);
        histogram.shared(1.0)
    }

    /// Appends what decodes to them.
    pub(super) fn put(
        &self,
        kernel: Kernel,
        rests: &[f32],
        (neighbours, shared): (Neighbours, Shared),
        words: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let Shared { sharing, counts, .. } = shared;
        let plan = Plan { neighbours, sharing };
        super::neighbours::put(kernel, &plan, &counts, (rests, &self.placed), words, out);
    }
}
