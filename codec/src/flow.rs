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
use crate::aligned::Aligned;
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

    /// Asks it, before the first run, to keep all of them one behind the other; whether it does.
    fn keep(&mut self) -> bool {
        false
    }

    /// Where all numbers are, behind the last run, if it was to keep them.
    fn kept(&mut self) -> &mut [f32] {
        &mut []
    }
}

/// Where numbers go.
pub(crate) trait Sink {
    /// Length of the shortest runs it takes, a power of two; the last run may be longer.
    fn unit(&self) -> usize;

    /// Whether an error of the source after some runs spoils nothing.
    fn bears_errors(&self) -> bool {
        false
    }

    /// Takes a run.
    fn put(&mut self, run: Run<'_>) -> Result<()>;

    /// There are no more.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether it needs all numbers before it begins, so that it can do with those that the source keeps: then
    /// it looks at each run, and changes all at the end as it likes.
    fn gathers(&self) -> bool {
        false
    }

    /// Looks at a run that the source keeps.
    fn look(&mut self, _: &[f32]) {}

    /// All numbers that it looked at.
    fn finish_with(&mut self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }
}

/// One of two sources.
pub(crate) enum Either<A, B> {
    First(A),
    Second(B),
}

impl<A: Source, B: Source> Source for Either<A, B> {
    fn unit(&self) -> usize {
        match self {
            Self::First(source) => source.unit(),
            Self::Second(source) => source.unit(),
        }
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        match self {
            Self::First(source) => source.next(len),
            Self::Second(source) => source.next(len),
        }
    }
}

/// Everything from `from` to `to`, in the shortest runs that neither reaches across.
pub(crate) fn flow(from: &mut impl Source, to: &mut impl Sink) -> Result<()> {
    let len = from.unit().max(to.unit());
    if to.gathers() && from.keep() {
        while let Some(run) = from.next(len)? {
            to.look(run.values);
        }
        return to.finish_with(from.kept());
    }
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
    buffer: &'a mut Aligned,
    n: usize,
    /// Sums of squares, by places modulo 16.
    squares: [f64; 16],
    at: usize,
    then: F,
}

impl<'a, F: FnMut(&mut [f32], f64) -> Result<()>> Gather<'a, F> {
    /// Of `n` numbers, in a buffer where the source does not keep them; `then` takes them and the sum of their
    /// squares.
    pub(crate) fn new(kernel: Kernel, buffer: &'a mut Aligned, n: usize, then: F) -> Self {
        Self { kernel, buffer, n, squares: [0.0; 16], at: 0, then }
    }
}

impl<F: FnMut(&mut [f32], f64) -> Result<()>> Sink for Gather<'_, F> {
    fn unit(&self) -> usize {
        RUN
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        self.look(run.values);
        let numbers = self.buffer.take(self.n);
        numbers[self.at..self.at + run.values.len()].copy_from_slice(run.values);
        self.at += run.values.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        (self.then)(self.buffer.take(self.n), self.squares.iter().sum())
    }

    fn gathers(&self) -> bool {
        true
    }

    fn look(&mut self, run: &[f32]) {
        // A run starts at a multiple of 4,096 numbers.
        self.kernel.add_products(&mut self.squares, run, run);
    }

    fn finish_with(&mut self, numbers: &mut [f32]) -> Result<()> {
        (self.then)(numbers, self.squares.iter().sum())
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
