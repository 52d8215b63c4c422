//! The head of a chunk.

use crate::wire::bytes::{Cursor, put_varint, varint_len};
use crate::{Error, Result};

const LAST: u8 = 1;
const STORED: u8 = 2;
/// The number of the pipeline stands above these bits.
const PIPELINE_AT: u32 = 4;

/// Which group of its tensor a chunk holds, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    /// Number of the group, from 0.
    pub(crate) group: u64,
    /// Whether it is the last of its tensor.
    pub(crate) last: bool,
    /// Whether the final lossless stage was skipped because it did not pay.
    pub(crate) stored: bool,
    /// Which pipeline of the tensor's table, from 0.
    pub(crate) pipeline: u8,
    /// Values in the group.
    pub(crate) n_values: usize,
}

impl ChunkHeader {
    /// No head is longer: two varints and a byte.
    pub(crate) const MAX_LEN: usize = 10 + 1 + 3;

    /// Bytes of the head.
    pub(crate) fn len(&self) -> usize {
        varint_len(self.group) + 1 + varint_len(self.n_values as u64)
    }

    /// The longest body that FORMAT.md allows a chunk of at most `n` values.
    pub(crate) fn most(n: usize) -> usize {
        4096 + 8 * n
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        put_varint(out, self.group);
        let flags = if self.last { LAST } else { 0 } | if self.stored { STORED } else { 0 };
        out.push(flags | self.pipeline << PIPELINE_AT);
        put_varint(out, self.n_values as u64);
    }

    pub(crate) fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let group = cursor.varint("chunk number")?;
        let flags = cursor.u8("chunk flags")?;
        let pipeline = flags >> PIPELINE_AT;
        if flags & !(LAST | STORED | pipeline << PIPELINE_AT) != 0 {
            return Err(Error::corrupt(format!("chunk flags: {flags:#04x} is reserved")));
        }
        let n_values = cursor.varint_up_to(1 << 20, "values in the chunk")?;
        let (last, stored) = (flags & LAST != 0, flags & STORED != 0);
        Ok(Self { group, last, stored, pipeline, n_values })
    }
}
