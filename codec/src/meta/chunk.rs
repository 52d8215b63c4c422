//! The head of a chunk.

use crate::bytes::{Cursor, put_varint};
use crate::{Error, Result};

const LAST: u8 = 1;
const STORED: u8 = 2;

/// Which group of its tensor a chunk holds, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    /// Number of the group, from 0.
    pub(crate) group: u64,
    /// Whether it is the last of its tensor.
    pub(crate) last: bool,
    /// Whether the final lossless stage was skipped because it did not pay.
    pub(crate) stored: bool,
    /// Values in the group.
    pub(crate) n_values: usize,
}

impl ChunkHeader {
    /// No head is longer: two varints and a byte.
    pub(crate) const MAX_LEN: usize = 10 + 1 + 3;

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        put_varint(out, self.group);
        out.push(if self.last { LAST } else { 0 } | if self.stored { STORED } else { 0 });
        put_varint(out, self.n_values as u64);
    }

    pub(crate) fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let group = cursor.varint("chunk number")?;
        let flags = cursor.u8("chunk flags")?;
        if flags & !(LAST | STORED) != 0 {
            return Err(Error::corrupt(format!("chunk flags: {flags:#04x} is reserved")));
        }
        let n_values = cursor.varint_up_to(1 << 20, "values in the chunk")?;
        Ok(Self { group, last: flags & LAST != 0, stored: flags & STORED != 0, n_values })
    }
}
