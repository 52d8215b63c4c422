//! The randomized Hadamard transform in blocks (Ailon & Chazelle 2006; for mean estimation Suresh
//! et al. 2017; Caldas et al. 2018, "HD").

use super::{TransformContext, Unit};
use crate::Result;
use crate::blocks::blocks;
use crate::bytes::Cursor;
use crate::stage::{Options, Stage, block_log2, read_block_log2};
use std::fmt;

/// Block sizes of the rotation, as powers of two.
pub(crate) const BLOCK_LOG2: std::ops::RangeInclusive<u8> = 8..=15;
pub(crate) const DEFAULT_BLOCK_LOG2: u8 = 12;

/// Random signs, then a Walsh-Hadamard transform, in units of about 2^`block_log2` values.
///
/// Orthonormal on exactly the n values of the group: nothing is padded and nothing is sent that
/// the receiver could derive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hadamard {
    block_log2: u8,
}

impl Default for Hadamard {
    fn default() -> Self {
        Self { block_log2: DEFAULT_BLOCK_LOG2 }
    }
}

impl Hadamard {
    pub(crate) fn block(&self) -> usize {
        1 << self.block_log2
    }

    /// Coefficients of a run of whole units that starts at `start` of its group.
    pub(crate) fn forward(
        &self,
        context: &TransformContext,
        values: &[f32],
        start: usize,
        coefficients: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> u32 {
        let mut peak = 0;
        for unit in blocks(values.len(), self.block()) {
            let rotation = Unit::new(context, start + unit.start, unit.len(), self.block());
            let x = &values[unit.clone()];
            peak = peak.max(rotation.forward(x, &mut coefficients[unit], scratch));
        }
        peak
    }
}

impl Stage for Hadamard {
    const ID: u8 = 0x01;
    const NAME: &'static str = "hadamard";

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
