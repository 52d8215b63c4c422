//! Reading and writing the primitive fields of the format: little-endian integers, LEB128 varints
//! in their shortest form, length-prefixed text.

use crate::{Error, Result};

/// A cursor over the body of a record. Every read is checked.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(n) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(Error::corrupt(format!(
                "{what}: expected {n} more bytes in the record, found {}",
                self.rest.len()
            ))),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    pub(crate) fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn f32(&mut self, what: &str) -> Result<f32> {
        Ok(f32::from_le_bytes(self.array(what)?))
    }

    /// An unsigned LEB128 integer below 2^64, in its shortest form.
    pub(crate) fn varint(&mut self, what: &str) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Error::corrupt(format!("{what}: varint over 64 bits")));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(Error::corrupt(format!("{what}: varint not in shortest form")));
                }
                return Ok(value);
            }
        }
        Err(Error::corrupt(format!("{what}: varint over 64 bits")))
    }

    /// A varint that must be at most `max`.
    pub(crate) fn varint_up_to(&mut self, max: u64, what: &str) -> Result<usize> {
        let value = self.varint(what)?;
        match usize::try_from(value) {
            Ok(small) if value <= max => Ok(small),
            _ => Err(Error::corrupt(format!("{what}: expected at most {max}, found {value}"))),
        }
    }

    /// UTF-8 text behind its length.
    pub(crate) fn text(&mut self, max: u64, what: &str) -> Result<&'a str> {
        let length = self.varint_up_to(max, what)?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|e| Error::corrupt(format!("{what}: not UTF-8: {e}")))
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The record must be used up.
    pub(crate) fn end(&self, what: &str) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            n => {
                Err(Error::corrupt(format!("{what}: {n} bytes left over at the end of the record")))
            }
        }
    }
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes that takes.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends text behind its length.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive() {
        for value in (0..64).flat_map(|b| [1u64 << b, (1 << b) - 1, u64::MAX - (1 << b)]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(varint_len(value), out.len());
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.varint("x").unwrap(), value);
            cursor.end("x").unwrap();
        }
    }

    #[test]
    fn long_and_overlong_varints_are_corrupt() {
        for bytes in [
            &[0x80u8, 0][..],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert!(Cursor::new(bytes).varint("x").is_err(), "{bytes:?}");
        }
    }
}
