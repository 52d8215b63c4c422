//! Integers that no table holds: bits that stand, last byte first, at the end of the codes of a group
//! (FORMAT.md, section 7.5).

use super::frequencies::Frequencies;
use crate::kernel::rans::{ESCAPE, Elsewhere, FIRST_WIDE, MIDDLE};
use crate::{Error, Result};

/// Bits that say how many bits follow.
const LENGTH_BITS: u32 = 5;
/// No integer, its low bits included, is larger in magnitude.
const LARGEST: i64 = 1 << 22;

/// Writes bits, the first in the lowest place of the last byte.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    word: u64,
    filled: u32,
}

impl Writer {
    /// At most 32 bits.
    fn put(&mut self, value: u32, bits: u32) {
        self.word |= u64::from(value) << self.filled;
        self.filled += bits;
        while self.filled >= 8 {
            self.bytes.push(self.word as u8);
            self.word >>= 8;
            self.filled -= 8;
        }
    }

    /// An integer whole: the length of its magnitude, doubled and with the sign in the lowest place, then
    /// that, but for its highest bit.
    pub(crate) fn put_escaped(&mut self, h: i32) {
        let folded = (h << 1 ^ h >> 31) as u32;
        let bits = u32::BITS - folded.leading_zeros();
        self.put(bits, LENGTH_BITS);
        if bits > 1 {
            self.put(folded & !(1 << (bits - 1)), bits - 1);
        }
    }

    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        if self.filled > 0 {
            self.bytes.push(self.word as u8);
        }
        out.extend(self.bytes.iter().rev());
    }
}

/// Reads them back.
pub(crate) struct Reader<'a> {
    /// What has not been read, from the end on.
    bytes: &'a [u8],
    word: u64,
    filled: u32,
    tables: &'a [Frequencies],
    low: u32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], tables: &'a [Frequencies], low: u32) -> Self {
        Self { bytes, word: 0, filled: 0, tables, low }
    }

    fn take(&mut self, bits: u32) -> Option<u32> {
        while self.filled < bits {
            let (last, rest) = self.bytes.split_last()?;
            self.bytes = rest;
            self.word |= u64::from(*last) << self.filled;
            self.filled += 8;
        }
        let value = self.word & ((1 << bits) - 1);
        self.word >>= bits;
        self.filled -= bits;
        Some(value as u32)
    }

    /// Where the bits begin, which is where what stands before them has to end.
    pub(crate) fn finish(&self, words_end: usize) -> Result<()> {
        if self.word != 0 {
            return Err(Error::corrupt("codes of a group: bits left over behind the last escape"));
        }
        if words_end != self.bytes.len() {
            return Err(Error::corrupt(format!(
                "codes of a group: words end at byte {words_end}, escapes begin at {}",
                self.bytes.len()
            )));
        }
        Ok(())
    }
}

impl Elsewhere for Reader<'_> {
    fn next(&mut self, table: u32, token: u32) -> Option<i32> {
        if token != ESCAPE {
            return None;
        }
        let bits = self.take(LENGTH_BITS)?;
        let folded = match bits {
            0 => 0,
            bits => 1 << (bits - 1) | self.take(bits - 1)?,
        };
        let h = (folded >> 1) as i32 ^ -((folded & 1) as i32);
        let fits = i64::from(h).abs() << self.low <= LARGEST;
        let token = h.wrapping_add(MIDDLE) as u32;
        let in_table = token < FIRST_WIDE && self.tables[table as usize][token as usize] > 0;
        (fits && !in_table).then_some(h)
    }
}
