//! The search of trellis-coded quantization (Marcellin & Fischer 1990): which path through the trellis of
//! FORMAT.md, section 7.4, lies nearest to the numbers.
//!
//! Trellises side by side, one a lane: eight metrics in eight registers, a decision a state and
//! step (Viterbi 1967), then back from the cheapest end. [`plain`] counts distances alone, in integers of 16
//! bits; [`penalised`] what values cost as well, in f32.

mod penalised;
mod plain;
mod walk;

pub(super) use penalised::Penalised;
pub(super) use plain::Plain;

/// States of the trellis.
pub(super) const STATES: usize = 8;
/// Steps after which every trellis starts anew in state 0.
pub(crate) const STEPS: usize = 1024;
/// Steps that all trellises take in turn, so that numbers are read and written in their order.
const BLOCK: usize = 64;
/// Numbers in units of the step, of which no values become that an f32 does not hold, are below this.
pub(crate) const LARGEST: f32 = (1 << 22) as f32;

/// For each state the subsets by which its two predecessors reach it.
pub(super) const SUBSETS: [[usize; 2]; STATES] =
    [[0, 2], [0, 2], [2, 0], [2, 0], [1, 3], [1, 3], [3, 1], [3, 1]];
/// For each state its two predecessors.
pub(super) const PREDECESSORS: [[usize; 2]; STATES] =
    [[0, 4], [2, 6], [0, 4], [2, 6], [3, 7], [1, 5], [3, 7], [1, 5]];

/// States two and two that have the same predecessors: behind either pair those are needed no more.
const PAIRS: [usize; STATES] = [0, 2, 1, 3, 4, 6, 5, 7];

/// What a value costs besides its error.
#[derive(Debug, Clone)]
pub(crate) struct Penalty {
    /// For -128 to 127, in squares of the step.
    pub(crate) costs: [f32; 256],
}

/// Sums over what a search found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Found {
    /// Of products of numbers with their values.
    pub(crate) product: f64,
    /// Of squares of values.
    pub(crate) energy: f64,
}

impl Found {
    /// Adds sums over numbers times a factor.
    fn add(&mut self, sums: Self, factor: f32) {
        self.product += sums.product / f64::from(factor);
        self.energy += sums.energy;
    }
}
