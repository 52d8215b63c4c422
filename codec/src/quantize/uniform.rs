//! Uniform quantization between the smallest and the largest value of each block (Konecny et al.
//! 2016; Suresh et al. 2017): 2^q levels, so 2^q - 1 intervals, q bits a value.

use super::Coefficients;
use crate::blocks::{block_count, blocks};
use crate::bytes::Cursor;
use crate::kernel::{Grid, Kernel, Rounding};
use crate::pack::packed_len;
use crate::random::Keys;
use crate::range;
use crate::stage::{Options, Stage, block_log2, read_block_log2};
use crate::{Error, Result};
use std::fmt;
use std::ops::Range;

/// Block sizes of scales, as powers of two.
const BLOCK_LOG2: std::ops::RangeInclusive<u8> = 8..=21;
const DEFAULT_BLOCK_LOG2: u8 = 12;
/// Bytes of scale per block: lo and step, f32 each.
const SCALE_BYTES: usize = 8;

/// `q` bits a value, stochastic or nearest rounding, one scale per block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Uniform {
    pub(crate) q: u8,
    pub(crate) nearest: bool,
    block_log2: u8,
}

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

    pub(crate) fn block(&self) -> usize {
        1 << self.block_log2
    }

    pub(crate) fn coded_len(&self, n: usize) -> usize {
        block_count(n, self.block()) * SCALE_BYTES + packed_len(n, u32::from(self.q))
    }

    /// Codes a run of blocks into `coded`: all scales, then all codes. `coded` has
    /// [`coded_len`](Self::coded_len) bytes and 16 more, which are overwritten, as are up to 16
    /// bytes behind the codes of the run: runs are coded in order. Rounds stochastically with the
    /// keys and group number given, or to nearest.
    pub(crate) fn encode(
        &self,
        kernel: Kernel,
        rounding: Option<(Keys, u64)>,
        input: &Coefficients<'_>,
        coded: &mut [u8],
    ) {
        let q = u32::from(self.q);
        let (scales, codes) = coded.split_at_mut(block_count(input.of, self.block()) * SCALE_BYTES);
        for block in blocks(input.span.len(), self.block()) {
            let start = input.span.start + block.start;
            let number = start / self.block();
            let ahead = input.ahead.get(block.start..).unwrap_or_default();
            let x = &input.values[block];
            let (lo, hi) = kernel.min_max(x);
            let grid = Grid::cover(lo, hi, q);
            let scale = &mut scales[number * SCALE_BYTES..][..SCALE_BYTES];
            scale[..4].copy_from_slice(&grid.lo.to_le_bytes());
            scale[4..].copy_from_slice(&grid.step.to_le_bytes());
            let rounding = match rounding {
                Some((keys, group)) => Rounding::Stochastic(keys.block(group, number)),
                None => Rounding::Nearest,
            };
            // A block starts at a multiple of 256 values, so at a whole byte.
            let out = &mut codes[start / 8 * q as usize..];
            kernel.quantize(x, &grid, rounding, out, ahead);
        }
    }

    /// The scale of a block: lo and step, within their range.
    fn scale(&self, scales: &[u8], number: usize) -> Result<(f32, f32)> {
        let mut scale = Cursor::new(&scales[number * SCALE_BYTES..]);
        let (lo, step) = (scale.f32("scale")?, scale.f32("scale")?);
        let top = ((1u32 << self.q) - 1) as f32;
        // Written so that NaN fails.
        if !(lo.abs() <= range::LARGEST && step >= 0.0 && step * top <= range::LARGEST) {
            return Err(Error::corrupt(format!(
                "scale of block {number}: lo {lo}, step {step} is out of range"
            )));
        }
        Ok((lo, step))
    }

    /// Whether the scales of `n` coded coefficients are valid.
    pub(crate) fn check_scales(&self, n: usize, coded: &[u8]) -> Result<()> {
        (0..block_count(n, self.block())).try_for_each(|j| self.scale(coded, j).map(|_| ()))
    }

    /// The parameters as numbers.
    pub(crate) fn plan(&self) -> crate::Uniform {
        crate::Uniform {
            q: u32::from(self.q),
            nearest: self.nearest,
            block_log2: u32::from(self.block_log2),
        }
    }

    /// Decodes the blocks of `span`, each value times `gain`.
    pub(crate) fn decode(
        &self,
        kernel: Kernel,
        n: usize,
        span: Range<usize>,
        gain: f32,
        coded: &[u8],
        out: &mut [f32],
    ) -> Result<()> {
        let q = u32::from(self.q);
        let (scales, codes) = coded.split_at(block_count(n, self.block()) * SCALE_BYTES);
        for block in blocks(span.len(), self.block()) {
            let start = span.start + block.start;
            let number = start / self.block();
            let (lo, step) = self.scale(scales, number)?;
            let grid = Grid { lo, step, inverse: 0.0, q };
            kernel.dequantize(&codes[start / 8 * q as usize..], &grid, gain, &mut out[block]);
        }
        Ok(())
    }
}

impl Stage for Uniform {
    const ID: u8 = 0x20;
    const NAME: &'static str = "q";

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
