//! The values that codes of a trellis stand for, run by run, so that none but those of a run are in memory.

use super::bits::{Escapes, Reader};
use super::frequencies;
use super::trellis::{Head, tables};
use super::{lanes, packed_len};
use crate::aligned::Aligned;
use crate::flow::{Run, Source, run_len};
use crate::group::exponent::LARGEST;
use crate::kernel::rans::{MIDDLE, Progress, SLACK, Values};
use crate::kernel::{Grid, Kernel};
use crate::{Error, Result};

/// Values that are decoded at once: the tables, which take up most of the first-level cache, are loaded once
/// for them.
pub(super) const RUN: usize = 1 << 14;

/// The values that codes behind a head stand for.
pub(super) struct Decoder<'a> {
    kernel: Kernel,
    head: Head,
    n: usize,
    /// How many values there were.
    at: usize,
    /// Low bits of all indices.
    plane: &'a [u8],
    /// States and words, with room behind them.
    words: &'a [u8],
    slots: Vec<u32>,
    escapes: Escapes<'a>,
    progress: Progress,
}

impl<'a> Decoder<'a> {
    /// Of `n` values.
    pub(super) fn new(
        kernel: Kernel,
        head: Head,
        n: usize,
        codes: &'a [u8],
        bytes: &'a mut Vec<u8>,
    ) -> Result<Self> {
        let low = u32::from(head.low);
        let plane = packed_len(n, low);
        let Some((plane, coded)) = codes.split_at_checked(plane) else {
            return Err(Error::corrupt(format!(
                "codes of a group: expected {plane} bytes of low bits, found {}",
                codes.len()
            )));
        };
        let tables = tables(head.width, head.low);
        let mut slots = Vec::with_capacity(2 << 12);
        tables.iter().for_each(|t| frequencies::put_slots(t, &mut slots));
        bytes.clear();
        bytes.extend_from_slice(coded);
        bytes.extend([0; SLACK]);
        let escapes = Escapes { bits: Reader::new(coded), tables, low, largest: MIDDLE };
        let progress = Progress::start(bytes, lanes(n)).ok_or_else(not_valid)?;
        Ok(Self { kernel, head, n, at: 0, plane, words: bytes, slots, escapes, progress })
    }

    /// The next values; the first of them is a multiple of 64.
    pub(super) fn put(&mut self, out: &mut [f32]) -> Result<()> {
        let Self { kernel, head, n, plane, words, slots, escapes, progress, .. } = self;
        let (low, lanes) = (u32::from(head.low), lanes(*n));
        if low > 0 {
            let plane = &plane[packed_len(self.at, low)..];
            kernel.dequantize(plane, &Grid::integers(low), out);
        }
        let values = Values { low, scale: head.scale };
        kernel
            .decode_values(slots, values, (words, lanes), escapes, progress, out)
            .ok_or_else(not_valid)?;
        self.at += out.len();
        if self.at == *n {
            escapes.bits.finish(progress.end(lanes).ok_or_else(not_valid)?)?;
        }
        // No value is larger than twice the largest index, its low bits, and one.
        let most = 2.0 * ((escapes.largest + 1) as f32 * (1 << low) as f32) + 1.0;
        if most * head.scale > LARGEST && kernel.peak_bits(out) > LARGEST.to_bits() {
            return Err(Error::corrupt("coefficient out of range"));
        }
        Ok(())
    }
}

fn not_valid() -> Error {
    Error::corrupt("codes of a group: words of rANS that no encoder writes")
}

/// What a decoder decodes.
pub(super) struct Decoded<'a> {
    /// `None` for zeros.
    pub(super) from: Option<Decoder<'a>>,
    pub(super) run: &'a mut Aligned,
    pub(super) left: usize,
}

impl Source for Decoded<'_> {
    fn unit(&self) -> usize {
        RUN
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.left, len);
        if n == 0 {
            return Ok(None);
        }
        self.left -= n;
        let values = self.run.take(n);
        match &mut self.from {
            Some(from) => from.put(values)?,
            None => values.fill(0.0),
        }
        Ok(Some(Run { values, range: None }))
    }
}
