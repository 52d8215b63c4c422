//! No transform: coefficients are the values.

use super::{Peak, Transform, Values, Work};
use crate::flow::{Run, Sink, Source, run_len};
use crate::group::{Elements, Job, Output};
use crate::kernel::Kernel;
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;

/// The basis of a pipeline that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity;

/// Values that flow at a time, where the coder does not ask for more.
const RUN: usize = 1 << 12;

impl Transform for Identity {
    fn memory(&self, n: usize) -> usize {
        n.min(2 * RUN) * 2 * size_of::<f32>()
    }

    fn forward<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Elements<'a>,
        work: &'a mut Work,
    ) -> impl Values + 'a {
        Forward { kernel: job.kernel, values, work, at: 0, peak: 0 }
    }

    fn inverse<'a>(
        &'a self,
        _: &'a Job<'a>,
        values: Output<'a>,
        work: &'a mut Work,
    ) -> impl Sink + 'a {
        Inverse { values, work, at: 0 }
    }
}

struct Forward<'a> {
    kernel: Kernel,
    values: Elements<'a>,
    work: &'a mut Work,
    at: usize,
    peak: u32,
}

impl Source for Forward<'_> {
    fn unit(&self) -> usize {
        RUN
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.values.len() - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        let values = self.values.get(self.at..self.at + n, &mut self.work.input);
        self.at += n;
        self.peak = self.peak.max(self.kernel.peak_bits(values));
        Ok(Some(Run { values, range: None }))
    }
}

impl Values for Forward<'_> {
    fn peak(&self) -> Peak {
        Peak::exactly(self.peak)
    }
}

struct Inverse<'a> {
    values: Output<'a>,
    work: &'a mut Work,
    at: usize,
}

impl Sink for Inverse<'_> {
    fn unit(&self) -> usize {
        RUN
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        self.values.put(self.at, run.values, &mut self.work.spare);
        self.at += run.values.len();
        Ok(())
    }
}

impl Stage for Identity {
    const ID: u8 = 0;
    const NAME: &'static str = "identity";
    const EXAMPLES: &'static [&'static str] = &["identity"];

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        options.end("nothing")?;
        Ok(Self)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)
    }

    fn write_to(&self, _: &mut Vec<u8>) {}

    fn read_from(_: &mut Cursor<'_>) -> Result<Self> {
        Err(Error::corrupt("stage 0x00"))
    }
}
