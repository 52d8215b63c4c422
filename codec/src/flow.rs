//! The core: numbers flow in runs that fit the first-level cache, from a source to a sink.
//!
//! | use | source | sink |
//! |---|---|---|
//! | encode | basis, forward: values to coefficients | coder |
//! | decode, decode and add | coder | basis, inverse: coefficients to values |
//! | sum of coefficients | coder | a weighted sum |
//! | statistics, error measures | either | what it measures |
//!
//! A subsampled pipeline puts one more source between ([`crate::select`]). Sources and sinks own the
//! state of one group and borrow buffers of a [`Worker`](crate::group::Worker); both are generic, so
//! a pair compiles to one loop.

use crate::Result;
use crate::kernel::Kernel;

/// Consecutive numbers.
pub(crate) struct Run<'a> {
    pub(crate) values: &'a [f32],
    /// Smallest and largest, -0 counted as +0, where the source noted them on its way.
    pub(crate) range: Option<(f32, f32)>,
}

/// Where numbers come from.
pub(crate) trait Source {
    /// Length of the shortest runs it makes, a power of two.
    fn unit(&self) -> usize;

    /// The next `len` numbers, `len` a multiple of the [unit](Self::unit); all that are left where
    /// there are fewer than twice as many; none at the end. So runs are the blocks of
    /// [`crate::blocks`].
    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>>;
}

/// Where numbers go.
pub(crate) trait Sink {
    /// Length of the shortest runs it takes, a power of two; the last run may be longer.
    fn unit(&self) -> usize;

    /// Takes a run.
    fn put(&mut self, run: Run<'_>) -> Result<()>;

    /// There are no more.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Everything from `from` to `to`, in the shortest runs that neither reaches across.
pub(crate) fn flow(from: &mut impl Source, to: &mut impl Sink) -> Result<()> {
    let len = from.unit().max(to.unit());
    while let Some(run) = from.next(len)? {
        to.put(run)?;
    }
    to.finish()
}

/// How many of `left` numbers the next run of `len` takes.
pub(crate) fn run_len(left: usize, len: usize) -> usize {
    if left < 2 * len { left } else { len }
}

/// Collects all numbers of a group, for coders that need them all before they begin, and what their scale
/// depends on: the sum of their squares.
pub(crate) struct Gather<'a, F> {
    kernel: Kernel,
    numbers: &'a mut [f32],
    /// Sums of squares, by places modulo 16.
    squares: [f64; 16],
    at: usize,
    then: F,
}

impl<'a, F: FnMut(&mut [f32], f64) -> Result<()>> Gather<'a, F> {
    /// As many as `numbers` has room for; `then` takes them and the sum of their squares.
    pub(crate) fn new(kernel: Kernel, numbers: &'a mut [f32], then: F) -> Self {
        Self { kernel, numbers, squares: [0.0; 16], at: 0, then }
    }
}

impl<F: FnMut(&mut [f32], f64) -> Result<()>> Sink for Gather<'_, F> {
    fn unit(&self) -> usize {
        RUN
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        // A run starts at a multiple of 4,096 numbers.
        self.kernel.add_products(&mut self.squares, run.values, run.values);
        self.numbers[self.at..self.at + run.values.len()].copy_from_slice(run.values);
        self.at += run.values.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        (self.then)(self.numbers, self.squares.iter().sum())
    }
}

/// Numbers of a group that are all there; a last step is left for each run of them.
pub(crate) struct Held<'a, F> {
    numbers: &'a mut [f32],
    at: usize,
    last: F,
}

impl<'a, F: FnMut(usize, &mut [f32])> Held<'a, F> {
    /// `last` takes the place of a run among the numbers, a multiple of 64, and the run.
    pub(crate) fn new(numbers: &'a mut [f32], last: F) -> Self {
        Self { numbers, at: 0, last }
    }
}

impl<F: FnMut(usize, &mut [f32])> Source for Held<'_, F> {
    fn unit(&self) -> usize {
        RUN
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.numbers.len() - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        let at = self.at;
        let values = &mut self.numbers[at..at + n];
        (self.last)(at, values);
        self.at += n;
        Ok(Some(Run { values, range: None }))
    }
}

/// Length of the runs of what holds a whole group.
const RUN: usize = 1 << 12;
