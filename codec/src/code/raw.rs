//! No quantizer: coefficients travel as f32.

use super::Coder;
use crate::flow::{Run, Sink, Source, run_len};
use crate::group::exponent::check_coefficients;
use crate::group::{Job, Work};
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{DType, Error, Result, convert};
use std::fmt;

/// What a pipeline has that names no quantizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Raw;

const RUN: usize = 1 << 12;

impl Coder for Raw {
    fn bound(&self, n: usize) -> usize {
        n * size_of::<f32>()
    }

    fn bits(&self) -> f64 {
        32.0
    }

    fn memory(&self, n: usize) -> usize {
        n.min(2 * RUN) * size_of::<f32>()
    }

    fn encoder<'a>(
        &'a self,
        _: &'a Job<'a>,
        _: usize,
        _: &'a mut Work,
        out: &'a mut Vec<u8>,
    ) -> impl Sink + 'a {
        Encoder { out }
    }

    fn check(&self, n: usize, codes: &[u8]) -> Result<()> {
        super::check_len(self.bound(n), codes)?;
        check_coefficients(codes)
    }

    fn decoder<'a>(
        &'a self,
        _: &'a Job<'a>,
        n: usize,
        codes: &'a [u8],
        work: &'a mut Work,
    ) -> Result<impl Source + 'a> {
        self.check(n, codes)?;
        Ok(Decoder { codes, n, at: 0, work })
    }
}

struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl Sink for Encoder<'_> {
    fn unit(&self) -> usize {
        RUN
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        let at = self.out.len();
        self.out.resize(at + size_of_val(run.values), 0);
        convert::from_f32(DType::F32, run.values, &mut self.out[at..]);
        Ok(())
    }
}

struct Decoder<'a> {
    codes: &'a [u8],
    n: usize,
    at: usize,
    work: &'a mut Work,
}

impl Source for Decoder<'_> {
    fn unit(&self) -> usize {
        RUN
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.n - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        let values = self.work.run.take(n);
        convert::to_f32(DType::F32, &self.codes[4 * self.at..4 * (self.at + n)], values);
        self.at += n;
        Ok(Some(Run { values, range: None }))
    }
}

impl Stage for Raw {
    const ID: u8 = 0;
    const NAME: &'static str = "raw";
    const EXAMPLES: &'static [&'static str] = &[];

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        options.end("nothing")?;
        Ok(Self)
    }

    fn print(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    fn write_to(&self, _: &mut Vec<u8>) {}

    fn read_from(_: &mut Cursor<'_>) -> Result<Self> {
        Err(Error::corrupt("stage 0x00"))
    }
}
