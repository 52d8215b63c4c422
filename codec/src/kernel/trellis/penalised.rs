//! The search where values cost something besides their error, in f32: a step's costs are looked up.

use super::super::Operation;
use super::super::lanes::{LANES, Lanes};
use super::super::register::Register;
use super::{BLOCK, Found, LARGEST, PAIRS, PREDECESSORS, Penalty, STATES, STEPS, SUBSETS};

/// More than any path costs.
const UNREACHABLE: f32 = 1e30;

/// Puts in the place of numbers, times `factor`, the values of the cheapest path. There are 16 times `width` trellises,
/// and number i belongs to trellis i modulo that.
pub(in super::super) struct Penalised<'a> {
    pub y: &'a mut [f32],
    pub factor: f32,
    pub width: usize,
    pub penalty: &'a Penalty,
}

impl Operation for Penalised<'_> {
    type Output = Found;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Found {
        let Self { y, factor, width, penalty } = self;
        let mut found = Found::default();
        for y in y.chunks_mut(width * LANES * STEPS) {
            found.add(Unit { y, factor, width, penalty }.search(l.register()), factor);
        }
        found
    }
}

/// What lies between two starts of the trellises.
struct Unit<'a> {
    y: &'a mut [f32],
    factor: f32,
    width: usize,
    penalty: &'a Penalty,
}

impl Unit<'_> {
    #[inline(always)]
    fn search<R: Register>(self, r: R) -> Found {
        let Self { y, factor, width, penalty } = self;
        let (stride, per_vector) = (width * LANES, LANES / R::WIDTH);
        let registers = y.len().min(stride).div_ceil(LANES) * per_vector;
        let blocks = y.len().div_ceil(BLOCK * stride);
        let mut all = vec![Paths::start(r); registers];
        let mut decisions = vec![[[R::Mask::default(); STATES]; BLOCK]; blocks * registers];
        let parts = y.chunks_mut(BLOCK * stride).zip(decisions.chunks_exact_mut(registers));
        for (y, decisions) in parts {
            for (number, (paths, decisions)) in all.iter_mut().zip(decisions).enumerate() {
                let mut column = Column::new::<R>(y, number, stride);
                paths.forward(r, penalty, &mut column, factor, decisions);
            }
        }
        all.iter_mut().for_each(|paths| paths.states = cheapest(r, &paths.metrics));
        let parts = y.chunks_mut(BLOCK * stride).zip(decisions.chunks_exact(registers));
        for (y, decisions) in parts.rev() {
            for (number, (paths, decisions)) in all.iter_mut().zip(decisions).enumerate() {
                let mut column = Column::new::<R>(y, number, stride);
                paths.trace(r, &mut column, decisions);
            }
        }
        let mut found = Found::default();
        for paths in all.chunks_exact(per_vector) {
            found.product += sum(r, paths, |paths| paths.product);
            found.energy += sum(r, paths, |paths| paths.energy);
        }
        found
    }
}

/// The sum of sixteen lanes, in their order, however many registers they are.
fn sum<R: Register>(r: R, paths: &[Paths<R>], of: impl Fn(&Paths<R>) -> R::F) -> f64 {
    let mut lanes = [0.0; LANES];
    for (paths, lanes) in paths.iter().zip(lanes.chunks_exact_mut(R::WIDTH)) {
        r.store(of(paths), lanes);
    }
    lanes.iter().map(|lane| f64::from(*lane)).sum()
}

/// What the points of the four subsets cost that a number may become: the squares of the distances, and what the
/// points cost.
#[inline(always)]
fn costs<R: Register>(r: R, v: R::F, penalty: &Penalty) -> [R::F; 4] {
    let mut costs = [v; 4];
    for (cost, j) in costs.iter_mut().zip([0.0, 1.0, 2.0, 3.0]) {
        let x = nearest(r, v, r.splat(j));
        let error = r.sub(v, x);
        let inside = r.max(r.min(x, r.splat(127.0)), r.splat(-128.0));
        let penalty = r.look_up(&penalty.costs, r.add(inside, r.splat(128.0)));
        *cost = r.add(r.mul(error, error), penalty);
    }
    costs
}

/// The point of 4 Z + j that is nearest to `v`.
#[inline(always)]
fn nearest<R: Register>(r: R, v: R::F, j: R::F) -> R::F {
    let quarter = r.round(r.mul(r.sub(v, j), r.splat(0.25)));
    r.add_exact(quarter, r.splat(4.0), j)
}

/// The numbers of neighbouring trellises, as many as a register holds, in a block: those from `first` on, every
/// `stride`.
struct Column<'a> {
    y: &'a mut [f32],
    first: usize,
    stride: usize,
    steps: usize,
}

impl<'a> Column<'a> {
    fn new<R: Register>(y: &'a mut [f32], number: usize, stride: usize) -> Self {
        let first = number * R::WIDTH;
        // The trellises of a vector of sixteen take as many steps as the first of them.
        let steps = y.len().saturating_sub(first / LANES * LANES).div_ceil(stride);
        Self { y, first, stride, steps }
    }

    /// The numbers of a step; zeros where there are none.
    #[inline(always)]
    fn get<R: Register>(&self, r: R, step: usize) -> R::F {
        let rest = self.y.get(self.first + step * self.stride..).unwrap_or_default();
        if rest.len() >= R::WIDTH {
            return r.load(rest);
        }
        let mut row = [0.0; LANES];
        row[..rest.len()].copy_from_slice(rest);
        r.load(&row)
    }

    #[inline(always)]
    fn put<R: Register>(&mut self, r: R, step: usize, x: R::F) {
        let rest = self.y.get_mut(self.first + step * self.stride..).unwrap_or_default();
        if rest.len() >= R::WIDTH {
            return r.store(x, rest);
        }
        let mut row = [0.0; LANES];
        r.store(x, &mut row);
        rest.copy_from_slice(&row[..rest.len()]);
    }
}

/// The trellises of a register: on the way forward the metrics of their states; on the way back the states they
/// are in, and the sums of both products of what they passed.
#[derive(Clone, Copy)]
struct Paths<R: Register> {
    metrics: [R::F; STATES],
    states: R::States,
    product: R::F,
    energy: R::F,
}

impl<R: Register> Paths<R> {
    fn start(r: R) -> Self {
        let mut metrics = [r.splat(UNREACHABLE); STATES];
        metrics[0] = r.splat(0.0);
        let states = r.states(&[0; LANES]);
        Self { metrics, states, product: r.splat(0.0), energy: r.splat(0.0) }
    }

    /// The metrics of all states from step to step. Puts the numbers in units of the step size in their place.
    #[inline(always)]
    fn forward(
        &mut self,
        r: R,
        penalty: &Penalty,
        column: &mut Column<'_>,
        factor: f32,
        decisions: &mut [[R::Mask; STATES]; BLOCK],
    ) {
        let mut metrics = self.metrics;
        for (step, decisions) in decisions[..column.steps].iter_mut().enumerate() {
            let v = r.mul(column.get(r, step), r.splat(factor));
            let v = r.max(r.min(v, r.splat(LARGEST)), r.splat(-LARGEST));
            column.put(r, step, v);
            let costs = costs(r, v, penalty);
            let mut next = metrics;
            for z in PAIRS {
                let a = r.add(metrics[PREDECESSORS[z][0]], costs[SUBSETS[z][0]]);
                let b = r.add(metrics[PREDECESSORS[z][1]], costs[SUBSETS[z][1]]);
                decisions[z] = r.less(b, a);
                next[z] = r.min(b, a);
            }
            metrics = next;
        }
        if column.steps == BLOCK {
            let mut least = metrics[0];
            for metric in &metrics {
                least = r.min(*metric, least);
            }
            for metric in &mut metrics {
                *metric = r.sub(*metric, least);
            }
        }
        self.metrics = metrics;
    }

    /// Back: the values, in the place of the numbers, and their sums.
    #[inline(always)]
    fn trace(&mut self, r: R, column: &mut Column<'_>, decisions: &[[R::Mask; STATES]; BLOCK]) {
        let Self { mut states, mut product, mut energy, .. } = *self;
        for (step, decisions) in decisions[..column.steps].iter().enumerate().rev() {
            let subsets;
            (states, subsets) = r.back(decisions, states);
            let v = column.get(r, step);
            let x = nearest(r, v, subsets);
            product = r.add(product, r.mul(v, x));
            energy = r.add(energy, r.mul(x, x));
            column.put(r, step, x);
        }
        (self.states, self.product, self.energy) = (states, product, energy);
    }
}

/// The state of the smallest metric of each lane, the first of equals.
#[inline(always)]
fn cheapest<R: Register>(r: R, metrics: &[R::F; STATES]) -> R::States {
    let mut rows = [[0.0; LANES]; STATES];
    for (metric, row) in metrics.iter().zip(&mut rows) {
        r.store(*metric, row);
    }
    let mut states = [0; LANES];
    for (lane, state) in states.iter_mut().enumerate() {
        for z in 1..STATES {
            if rows[z][lane] < rows[usize::from(*state)][lane] {
                *state = z as u8;
            }
        }
    }
    r.states(&states)
}
