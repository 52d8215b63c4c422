//! The search of trellis-coded quantization (Marcellin & Fischer 1990): which path through the trellis of
//! FORMAT.md, section 7.4, lies nearest to the numbers.
//!
//! Sixteen trellises side by side, one a lane: eight metrics in eight vectors, a decision a state and
//! step (Viterbi 1967), then back from the cheapest end.

use super::Operation;
use super::lanes::{LANES, Lanes};

/// States of the trellis.
const STATES: usize = 8;
/// Steps after which every trellis starts anew in state 0.
pub(crate) const STEPS: usize = 1024;
/// Steps whose decisions share a word.
const STEPS_PER_WORD: usize = 4;
/// Steps after which the smallest metric is taken from all, so that they keep their precision.
const STEPS_PER_LEVELING: usize = 64;
/// More than any path costs.
const UNREACHABLE: f32 = 1e30;
/// Numbers in units of the step are cut to this magnitude: what they become then fits an f32.
const LARGEST: f32 = (1 << 22) as f32;

/// For each state the subsets by which its two predecessors reach it.
const SUBSETS: [[usize; 2]; STATES] =
    [[0, 2], [0, 2], [2, 0], [2, 0], [1, 3], [1, 3], [3, 1], [3, 1]];
/// For each state its two predecessors.
const PREDECESSORS: [[usize; 2]; STATES] =
    [[0, 4], [2, 6], [0, 4], [2, 6], [3, 7], [1, 5], [3, 7], [1, 5]];

/// For the first or the second predecessor four bits a state: its number, and above it bit 1 of the
/// subset.
const fn back(which: usize) -> u32 {
    let (mut word, mut z) = (0, 0);
    while z < STATES {
        let nibble = PREDECESSORS[z][which] | (SUBSETS[z][which] >> 1) << 3;
        word |= (nibble as u32) << (4 * z);
        z += 1;
    }
    word
}

/// What a value costs besides its error.
#[derive(Debug, Clone)]
pub(crate) struct Penalty {
    /// For -128 to 127, in squares of the step.
    pub(crate) costs: [f32; 256],
}

/// Sums over what a search found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Found {
    /// Of products of numbers, times the factor, with their values.
    pub(crate) product: f64,
    /// Of squares of values.
    pub(crate) energy: f64,
}

/// Puts in the place of numbers, times `factor`, the values of the cheapest path.
///
/// `y` are the numbers between two starts of the trellises, of which there are 16 times `width`; number
/// i belongs to trellis i modulo that.
pub(super) struct Search<'a> {
    pub y: &'a mut [f32],
    pub factor: f32,
    pub width: usize,
    pub penalty: Option<&'a Penalty>,
}

impl Operation for Search<'_> {
    type Output = Found;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Found {
        let Self { y, factor, width, penalty } = self;
        let mut found = Found::default();
        for first in (0..y.len().min(width * LANES)).step_by(LANES) {
            let mut lanes = Column { y, first, stride: width * LANES, factor };
            let sums = match penalty {
                None => lanes.search(l, Nearest),
                Some(penalty) => lanes.search(l, penalty),
            };
            found.product += sums.product;
            found.energy += sums.energy;
        }
        found
    }
}

/// Which point of a subset a number becomes, and what that costs.
trait Choice: Copy {
    /// The point of 4 Z + j for `v`, and its cost.
    fn choose<L: Lanes>(self, l: L, v: L::F, j: L::F) -> (L::F, L::F);
}

#[derive(Clone, Copy)]
struct Nearest;

impl Choice for Nearest {
    #[inline(always)]
    fn choose<L: Lanes>(self, l: L, v: L::F, j: L::F) -> (L::F, L::F) {
        let x = nearest(l, v, j);
        let error = l.sub(v, x);
        (x, l.mul(error, error))
    }
}

impl Choice for &Penalty {
    #[inline(always)]
    fn choose<L: Lanes>(self, l: L, v: L::F, j: L::F) -> (L::F, L::F) {
        let x = nearest(l, v, j);
        let error = l.sub(v, x);
        let inside = l.max(l.min(x, l.splat(127.0)), l.splat(-128.0));
        let place = l.add_u(l.round_nearest(inside), l.splat_u(128));
        (x, l.add(l.mul(error, error), l.look_up(&self.costs, place)))
    }
}

#[inline(always)]
fn nearest<L: Lanes>(l: L, v: L::F, j: L::F) -> L::F {
    let quarter = l.round(l.mul(l.sub(v, j), l.splat(0.25)));
    l.add(l.mul(quarter, l.splat(4.0)), j)
}

/// The numbers of sixteen neighbouring trellises: those from `first` on, every `stride`.
struct Column<'a> {
    y: &'a mut [f32],
    first: usize,
    stride: usize,
    factor: f32,
}

impl Column<'_> {
    fn steps(&self) -> usize {
        (self.y.len() - self.first).div_ceil(self.stride)
    }

    /// The numbers of a step in units of the step size; zeros where there are none.
    #[inline(always)]
    fn numbers<L: Lanes>(&self, l: L, step: usize) -> L::F {
        let rest = &self.y[self.first + step * self.stride..];
        let row = match rest.first_chunk() {
            Some(row) => l.load(row),
            None => {
                let mut row = [0.0; LANES];
                row[..rest.len()].copy_from_slice(rest);
                l.load(&row)
            }
        };
        let v = l.mul(row, l.splat(self.factor));
        l.max(l.min(v, l.splat(LARGEST)), l.splat(-LARGEST))
    }

    #[inline(always)]
    fn search<L: Lanes>(&mut self, l: L, choice: impl Choice) -> Found {
        let mut decisions = [[0; LANES]; STEPS / STEPS_PER_WORD];
        let end = self.forward(l, choice, &mut decisions);
        self.trace(l, choice, &decisions, end)
    }

    /// The metrics of all states from step to step; the cheapest state of each lane at the end.
    #[inline(always)]
    fn forward<L: Lanes>(
        &self,
        l: L,
        choice: impl Choice,
        decisions: &mut [[u32; LANES]; STEPS / STEPS_PER_WORD],
    ) -> L::U {
        let subsets = [l.splat(0.0), l.splat(1.0), l.splat(2.0), l.splat(3.0)];
        let mut metrics = [l.splat(UNREACHABLE); STATES];
        metrics[0] = l.splat(0.0);
        let mut word = l.splat_u(0);
        for step in 0..self.steps() {
            let v = self.numbers(l, step);
            let mut costs = [v; 4];
            for j in 0..4 {
                costs[j] = choice.choose(l, v, subsets[j]).1;
            }
            let mut next = metrics;
            word = l.shift_left::<8>(word);
            for z in 0..STATES {
                let a = l.add(metrics[PREDECESSORS[z][0]], costs[SUBSETS[z][0]]);
                let b = l.add(metrics[PREDECESSORS[z][1]], costs[SUBSETS[z][1]]);
                word = l.or_u(word, l.where_less(b, a, l.splat_u(1 << z)));
                next[z] = l.min(b, a);
            }
            metrics = next;
            if step % STEPS_PER_LEVELING == STEPS_PER_LEVELING - 1 {
                let mut least = metrics[0];
                for metric in &metrics {
                    least = l.min(*metric, least);
                }
                for metric in &mut metrics {
                    *metric = l.sub(*metric, least);
                }
            }
            l.store_u(word, &mut decisions[step / STEPS_PER_WORD]);
        }
        let mut best = metrics[0];
        let mut state = l.splat_u(0);
        for (z, metric) in metrics.into_iter().enumerate().skip(1) {
            let less = l.where_less(metric, best, l.splat_u(!0));
            state = l.xor_u(state, l.and_u(less, l.xor_u(state, l.splat_u(z as u32))));
            best = l.min(metric, best);
        }
        state
    }

    /// Back from the cheapest ends: the values, in the place of the numbers, and their sums.
    #[inline(always)]
    fn trace<L: Lanes>(
        &mut self,
        l: L,
        choice: impl Choice,
        decisions: &[[u32; LANES]; STEPS / STEPS_PER_WORD],
        mut state: L::U,
    ) -> Found {
        let steps = self.steps();
        let (mut product, mut energy) = (l.splat(0.0), l.splat(0.0));
        for step in (0..steps).rev() {
            // The last step of a word stands lowest; the last word may be of fewer steps.
            let last = (step / STEPS_PER_WORD * STEPS_PER_WORD + STEPS_PER_WORD).min(steps) - 1;
            let word = l.load_u(&decisions[step / STEPS_PER_WORD]);
            let place = l.add_u(state, l.splat_u(8 * (last - step) as u32));
            let bit = l.and_u(l.shift_right_by(word, place), l.splat_u(1));
            let second = l.sub_u(l.splat_u(0), bit);
            let (a, b) = const { (back(0), back(1)) };
            let back = l.xor_u(l.splat_u(a), l.and_u(second, l.splat_u(a ^ b)));
            let nibble = l.shift_right_by(back, l.shift_left::<2>(state));
            state = l.and_u(nibble, l.splat_u(7));
            let upper = l.and_u(l.shift_right::<2>(nibble), l.splat_u(2));
            let subset = l.to_float(l.or_u(upper, l.and_u(nibble, l.splat_u(1))));
            let v = self.numbers(l, step);
            let x = choice.choose(l, v, subset).0;
            product = l.add(product, l.mul(v, x));
            energy = l.add(energy, l.mul(x, x));
            self.put(l, step, x);
        }
        Found { product: sum(l, product), energy: sum(l, energy) }
    }

    #[inline(always)]
    fn put<L: Lanes>(&mut self, l: L, step: usize, x: L::F) {
        let rest = &mut self.y[self.first + step * self.stride..];
        match rest.first_chunk_mut() {
            Some(row) => l.store(x, row),
            None => {
                let mut row = [0.0; LANES];
                l.store(x, &mut row);
                rest.copy_from_slice(&row[..rest.len()]);
            }
        }
    }
}

/// The sum of all lanes, in their order.
#[inline(always)]
fn sum<L: Lanes>(l: L, v: L::F) -> f64 {
    let mut lanes = [0.0; LANES];
    l.store(v, &mut lanes);
    lanes.iter().map(|lane| f64::from(*lane)).sum()
}
