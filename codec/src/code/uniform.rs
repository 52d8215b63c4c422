//! Uniform quantization between the smallest and the largest value of each block (Konecny et al.
//! 2016; Suresh et al. 2017): 2^q levels, so 2^q - 1 intervals, q bits a value.

use super::{Coder, check_len, packed_len};
use crate::blocks::{block_count, blocks};
use crate::flow::{Run, Sink, Source, run_len};
use crate::group::exponent::LARGEST;
use crate::group::{Job, Work};
use crate::kernel::{Grid, Rounding};
use crate::stage::{Options, Stage, block_log2, read_block_log2};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;

/// Block sizes of scales, as powers of two.
const BLOCK_LOG2: std::ops::RangeInclusive<u8> = 8..=21;
const DEFAULT_BLOCK_LOG2: u8 = 12;
/// Bytes of scale per block: lo and step, f32 each.
const SCALE_BYTES: usize = 8;

/// `q` bits a value, stochastic or nearest rounding, one scale per block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uniform {
    q: u8,
    nearest: bool,
    block_log2: u8,
}

/// What kernels may overwrite behind the codes.
const SLACK: usize = 16;

impl Uniform {
    pub(crate) fn new(q: u8, nearest: bool) -> Result<Self> {
        Self { q, nearest, block_log2: DEFAULT_BLOCK_LOG2 }.checked()
    }

    fn checked(self) -> Result<Self> {
        if (1..=16).contains(&self.q) {
            return Ok(self);
        }
        Err(Error::invalid(format!("q: expected 1 to 16 bits, found {}", self.q)))
    }

    /// Bits of a code, 1 to 16.
    pub fn q(&self) -> u8 {
        self.q
    }

    /// Whether values go to the nearest level, which is biased, and not by draws.
    pub fn nearest(&self) -> bool {
        self.nearest
    }

    /// Coefficients that share a scale, a power of two; the last block may have fewer than twice as
    /// many.
    pub fn block(&self) -> usize {
        1 << self.block_log2
    }

    fn scale_bytes(&self, n: usize) -> usize {
        block_count(n, self.block()) * SCALE_BYTES
    }

    /// The scale of a block: lo and step, within their range.
    fn scale(&self, scales: &[u8], number: usize) -> Result<(f32, f32)> {
        let mut scale = Cursor::new(&scales[number * SCALE_BYTES..]);
        let (lo, step) = (scale.f32("scale")?, scale.f32("scale")?);
        let top = ((1u32 << self.q) - 1) as f32;
        // Written so that NaN fails.
        if !(lo.abs() <= LARGEST && step >= 0.0 && step * top <= LARGEST) {
            return Err(Error::corrupt(format!(
                "scale of block {number}: lo {lo}, step {step} is out of range"
            )));
        }
        Ok((lo, step))
    }
}

impl Coder for Uniform {
    fn bound(&self, n: usize) -> usize {
        self.scale_bytes(n) + packed_len(n, u32::from(self.q))
    }

    fn bits(&self) -> f64 {
        f64::from(self.q)
    }

    fn memory(&self, n: usize) -> usize {
        n.min(2 * self.block()) * size_of::<f32>()
    }

    fn encoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        _: &'a mut Work,
        out: &'a mut Vec<u8>,
    ) -> impl Sink + 'a {
        let scales = out.len();
        out.resize(scales + self.bound(n) + SLACK, 0);
        Encoder { stage: *self, job, out, scales, codes: scales + self.scale_bytes(n), at: 0 }
    }

    fn check(&self, n: usize, codes: &[u8]) -> Result<()> {
        check_len(self.bound(n), codes)?;
        (0..block_count(n, self.block())).try_for_each(|j| self.scale(codes, j).map(drop))
    }

    fn decoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        codes: &'a [u8],
        work: &'a mut Work,
    ) -> Result<impl Source + 'a> {
        self.check(n, codes)?;
        let (scales, codes) = codes.split_at(self.scale_bytes(n));
        Ok(Decoder { stage: *self, job, scales, codes, n, at: 0, work })
    }
}

/// Codes blocks in order: all scales stand first, then all codes.
struct Encoder<'a> {
    stage: Uniform,
    job: &'a Job<'a>,
    out: &'a mut Vec<u8>,
    /// Where the scales start in `out`, and the codes.
    scales: usize,
    codes: usize,
    at: usize,
}

impl Encoder<'_> {
    fn put_block(&mut self, x: &[f32], range: Option<(f32, f32)>) {
        let Self { stage, job, out, .. } = self;
        let (q, number) = (u32::from(stage.q), self.at / stage.block());
        let (lo, hi) = range.unwrap_or_else(|| job.kernel.min_max(x));
        let rounding = match job.keys.rounding.filter(|_| !stage.nearest) {
            Some(keys) => Rounding::Stochastic(keys.block(job.group, number)),
            None => Rounding::Nearest,
        };
        let grid = match stage.nearest {
            true => Grid::through_zero(lo, hi, q),
            false => Grid::cover(lo, hi, q),
        };
        let scale = &mut out[self.scales + number * SCALE_BYTES..][..SCALE_BYTES];
        scale[..4].copy_from_slice(&grid.lo.to_le_bytes());
        scale[4..].copy_from_slice(&grid.step.to_le_bytes());
        // A block starts at a multiple of 256 values, so at a whole byte.
        job.kernel.quantize(x, &grid, rounding, &mut out[self.codes + self.at / 8 * q as usize..]);
        self.at += x.len();
    }
}

impl Sink for Encoder<'_> {
    fn unit(&self) -> usize {
        self.stage.block()
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        for block in blocks(run.values.len(), self.stage.block()) {
            let range = run.range.filter(|_| block.len() == run.values.len());
            self.put_block(&run.values[block], range);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.out.truncate(self.out.len() - SLACK);
        Ok(())
    }
}

struct Decoder<'a> {
    stage: Uniform,
    job: &'a Job<'a>,
    scales: &'a [u8],
    codes: &'a [u8],
    n: usize,
    at: usize,
    work: &'a mut Work,
}

impl Source for Decoder<'_> {
    fn unit(&self) -> usize {
        self.stage.block()
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.n - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        let q = u32::from(self.stage.q);
        let values = self.work.run.take(n);
        for block in blocks(n, self.stage.block()) {
            let start = self.at + block.start;
            let (lo, step) = self.stage.scale(self.scales, start / self.stage.block())?;
            let grid = Grid { lo, step, inverse: 0.0, q };
            let codes = &self.codes[start / 8 * q as usize..];
            self.job.kernel.dequantize(codes, &grid, &mut values[block]);
        }
        self.at += n;
        Ok(Some(Run { values, range: None }))
    }
}

impl Stage for Uniform {
    const ID: u8 = 0x20;
    const NAME: &'static str = "q";
    const EXAMPLES: &'static [&'static str] =
        &["q=4", "q=1", "q=11,block=256", "q=3,nearest", "q=16,block=2097152"];

    fn is_biased(&self) -> bool {
        self.nearest
    }

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        let q = options
            .value()?
            .ok_or_else(|| Error::invalid("q needs a number of bits, as in q=4"))?;
        let nearest = options.flag("nearest")?;
        let block: u64 = options.option("block")?.unwrap_or(1 << DEFAULT_BLOCK_LOG2);
        options.end("nearest, block")?;
        Self { q, nearest, block_log2: block_log2(block, BLOCK_LOG2)? }.checked()
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", Self::NAME, self.q)?;
        if self.nearest {
            f.write_str(",nearest")?;
        }
        if self.block_log2 != DEFAULT_BLOCK_LOG2 {
            write!(f, ",block={}", self.block())?;
        }
        Ok(())
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.extend([self.q, u8::from(self.nearest), self.block_log2]);
    }

    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let q = cursor.u8("q")?;
        let nearest = match cursor.u8("rounding")? {
            0 => false,
            1 => true,
            other => {
                return Err(Error::corrupt(format!("rounding: expected 0 or 1, found {other}")));
            }
        };
        let block_log2 = read_block_log2(cursor, BLOCK_LOG2, "quantizer block")?;
        Self { q, nearest, block_log2 }
            .checked()
            .map_err(|_| Error::corrupt(format!("q: expected 1 to 16, found {q}")))
    }
}
