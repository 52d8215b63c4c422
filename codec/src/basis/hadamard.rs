//! The randomized Hadamard transform in blocks (Ailon & Chazelle 2006; for mean estimation Suresh
//! et al. 2017; Caldas et al. 2018, "HD").

use super::unit::Unit;
use super::{Peak, Transform, Values, Work};
use crate::Result;
use crate::blocks::blocks;
use crate::flow::{Run, Sink, Source, run_len};
use crate::group::{Elements, Job, Output};
use crate::stage::{Options, Stage, block_log2, read_block_log2};
use crate::wire::bytes::Cursor;
use std::fmt;

/// Block sizes of the rotation, as powers of two.
pub(crate) const BLOCK_LOG2: std::ops::RangeInclusive<u8> = 8..=15;
pub(crate) const DEFAULT_BLOCK_LOG2: u8 = 12;

/// Random signs, then a Walsh-Hadamard transform, in units of about 2^`block_log2` values.
///
/// Orthonormal on exactly the n values of the group: nothing is padded and nothing is sent that
/// the receiver could derive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hadamard {
    block_log2: u8,
}

impl Default for Hadamard {
    fn default() -> Self {
        Self { block_log2: DEFAULT_BLOCK_LOG2 }
    }
}

impl Hadamard {
    /// Values that are rotated together, a power of two; the last unit may have fewer than twice as
    /// many.
    pub fn block(&self) -> usize {
        1 << self.block_log2
    }
}

impl Transform for Hadamard {
    fn memory(&self, n: usize) -> usize {
        n.min(2 * self.block()) * 4 * size_of::<f32>()
    }

    fn forward<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Elements<'a>,
        work: &'a mut Work,
    ) -> impl Values + 'a {
        Forward { stage: *self, job, values, work, at: 0, peak: Peak::default() }
    }

    fn inverse<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Output<'a>,
        work: &'a mut Work,
    ) -> impl Sink + 'a {
        Inverse { stage: *self, job, values, work, at: 0 }
    }
}

struct Forward<'a> {
    stage: Hadamard,
    job: &'a Job<'a>,
    values: Elements<'a>,
    work: &'a mut Work,
    at: usize,
    peak: Peak,
}

impl Source for Forward<'_> {
    fn unit(&self) -> usize {
        self.stage.block()
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.values.len() - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        let Work { input, unit: run, spare, .. } = &mut *self.work;
        let coefficients = run.take(n);
        let mut range = None;
        for unit in blocks(n, self.stage.block()) {
            let start = self.at + unit.start;
            let (x, ahead) = self.values.get_and_next(start..self.at + unit.end, input);
            let rotation = Unit::new(self.job, start, unit.len(), self.stage.block());
            let noted = rotation.forward(x, &mut coefficients[unit.clone()], ahead, spare);
            let peak = match noted {
                Some(range) => Peak::behind(range, x.len().ilog2()),
                None => Peak::exactly(self.job.kernel.peak_bits(x)),
            };
            self.peak = self.peak.with(peak);
            range = noted.filter(|_| unit.len() == n);
        }
        self.at += n;
        Ok(Some(Run { values: coefficients, range }))
    }
}

impl Values for Forward<'_> {
    fn peak(&self) -> Peak {
        self.peak
    }
}

struct Inverse<'a> {
    stage: Hadamard,
    job: &'a Job<'a>,
    values: Output<'a>,
    work: &'a mut Work,
    at: usize,
}

impl Sink for Inverse<'_> {
    fn unit(&self) -> usize {
        self.stage.block()
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        let Work { unit: whole, spare, input, .. } = &mut *self.work;
        for unit in blocks(run.values.len(), self.stage.block()) {
            let start = self.at + unit.start;
            let rotation = Unit::new(self.job, start, unit.len(), self.stage.block());
            let coefficients = &run.values[unit];
            self.values.write(start, coefficients.len(), whole, input, |values| {
                rotation.inverse(coefficients, values, spare);
            });
        }
        self.at += run.values.len();
        Ok(())
    }
}

impl Stage for Hadamard {
    const ID: u8 = 0x01;
    const NAME: &'static str = "hadamard";
    const EXAMPLES: &'static [&'static str] =
        &["hadamard", "hadamard,block=256", "hadamard,block=32768"];

    fn is_seeded(&self) -> bool {
        true
    }

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        let block: u64 = options.option("block")?.unwrap_or(1 << DEFAULT_BLOCK_LOG2);
        options.end("block")?;
        Ok(Self { block_log2: block_log2(block, BLOCK_LOG2)? })
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)?;
        if self.block_log2 != DEFAULT_BLOCK_LOG2 {
            write!(f, ",block={}", self.block())?;
        }
        Ok(())
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.push(self.block_log2);
    }

    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        Ok(Self { block_log2: read_block_log2(cursor, BLOCK_LOG2, "hadamard block")? })
    }
}
