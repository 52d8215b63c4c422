//! A bit string that stands, last byte first, at the end of the codes of a group (FORMAT.md, section 7.5):
//! so what stands before it needs no length.

use super::frequencies::Frequencies;
use crate::kernel::rans::{ESCAPE, Elsewhere, FIRST_WIDE, FIRST_WIDE_MULTIPLE, MIDDLE};
use crate::{Error, Result};

/// Bits that say how many bits an escape has.
const LENGTH_BITS: u32 = 5;
/// No integer of an escape, its low bits included, is larger in magnitude.
const LARGEST: i64 = 1 << 22;

/// Writes bits, the first in the lowest place of the last byte.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    word: u64,
    filled: u32,
}

impl Writer {
    /// At most 32 bits.
    pub(super) fn put(&mut self, value: u32, bits: u32) {
        self.word |= u64::from(value) << self.filled;
        self.filled += bits;
        while self.filled >= 8 {
            self.bytes.push(self.word as u8);
            self.word >>= 8;
            self.filled -= 8;
        }
    }

    /// A number above 0 (Elias 1975, gamma): as many zeros as it has bits below the highest, a one, then
    /// these bits.
    pub(super) fn put_gamma(&mut self, value: u32) {
        let bits = value.ilog2();
        self.put(1 << bits, bits + 1);
        self.put(value & !(1 << bits), bits);
    }

    /// An integer whole: the length of its magnitude, doubled and with the sign in the lowest place, then
    /// that, but for its highest bit.
    pub(super) fn put_escaped(&mut self, h: i32) {
        let folded = fold(h);
        let bits = u32::BITS - folded.leading_zeros();
        self.put(bits, LENGTH_BITS);
        if bits > 1 {
            self.put(folded & !(1 << (bits - 1)), bits - 1);
        }
    }

    /// What the token of a large multiple leaves open.
    pub(super) fn put_rest(&mut self, k: i32) {
        let magnitude = k.unsigned_abs();
        let bits = magnitude.ilog2() - 2;
        self.put(magnitude & ((1 << bits) - 1), bits);
    }

    /// Bits so far.
    pub(super) fn len(&self) -> usize {
        8 * self.bytes.len() + self.filled as usize
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) {
        if self.filled > 0 {
            self.bytes.push(self.word as u8);
        }
        out.extend(self.bytes.iter().rev());
    }
}

/// 0, -1, 1, -2, ... as 0, 1, 2, 3, ...
pub(super) fn fold(h: i32) -> u32 {
    (h << 1 ^ h >> 31) as u32
}

pub(super) fn unfold(folded: u32) -> i32 {
    (folded >> 1) as i32 ^ -((folded & 1) as i32)
}

/// Reads them back.
pub(super) struct Reader<'a> {
    /// What has not been read, from the end on.
    bytes: &'a [u8],
    word: u64,
    filled: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, word: 0, filled: 0 }
    }

    /// At most 32 bits; `None` where there are fewer.
    pub(super) fn take(&mut self, bits: u32) -> Option<u32> {
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

    /// A number above 0 and below 2^16.
    pub(super) fn take_gamma(&mut self) -> Option<u32> {
        let mut bits = 0;
        while self.take(1)? == 0 {
            bits += 1;
            if bits == 16 {
                return None;
            }
        }
        Some(1 << bits | self.take(bits)?)
    }

    /// Where the bits begin, which is where what stands before them has to end.
    pub(super) fn finish(&self, words_end: usize) -> Result<()> {
        if self.word != 0 {
            return Err(Error::corrupt("codes of a group: bits left over behind the last one"));
        }
        if words_end != self.bytes.len() {
            return Err(Error::corrupt(format!(
                "codes of a group: words end at byte {words_end}, the bits behind them begin at {}",
                self.bytes.len()
            )));
        }
        Ok(())
    }
}

/// Integers that no table holds.
pub(super) struct Escapes<'a> {
    pub(super) bits: Reader<'a>,
    pub(super) tables: [Frequencies; 2],
    pub(super) low: u32,
    /// The largest magnitude of those so far.
    pub(super) largest: i32,
}

impl Elsewhere for Escapes<'_> {
    fn next(&mut self, table: u32, token: u32) -> Option<i32> {
        if token != ESCAPE {
            return None;
        }
        let folded = match self.bits.take(LENGTH_BITS)? {
            0 => 0,
            bits => 1 << (bits - 1) | self.bits.take(bits - 1)?,
        };
        let h = unfold(folded);
        let fits = i64::from(h).abs() << self.low <= LARGEST;
        let token = h.wrapping_add(MIDDLE) as u32;
        let in_table = token < FIRST_WIDE && self.tables[table as usize][token as usize] > 0;
        if !fits || in_table {
            return None;
        }
        self.largest = self.largest.max(h.abs());
        Some(h)
    }
}

/// Large multiples, of which a token has the highest bits.
pub(super) struct Rests<'a> {
    pub(super) bits: Reader<'a>,
}

impl Elsewhere for Rests<'_> {
    fn next(&mut self, _: u32, token: u32) -> Option<i32> {
        let place = token.checked_sub(FIRST_WIDE_MULTIPLE).filter(|place| *place < 8 * 18)?;
        let (octave, quarter) = (4 + place / 8, place / 2 % 4);
        let bits = octave - 2;
        let magnitude = ((4 + quarter) << bits | self.bits.take(bits)?) as i32;
        Some(if place % 2 == 1 { -magnitude } else { magnitude })
    }
}
