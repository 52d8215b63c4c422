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
