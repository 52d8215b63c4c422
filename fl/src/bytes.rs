//! Little-endian fields of message headers.

use crate::{Error, Result};

/// Takes fields off the front of a header.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.0.split_at_checked(n) else {
            let left = self.0.len();
            return Err(Error::corrupt(format!("{what}: expected {n} bytes, found {left}")));
        };
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, what)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, what: &str) -> Result<u8> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// `u32` length, then that many bytes of UTF-8.
    pub(crate) fn text(&mut self, what: &str) -> Result<String> {
        let n = self.u32(what)? as usize;
        let text = std::str::from_utf8(self.bytes(n, what)?);
        text.map(str::to_owned).map_err(|e| Error::corrupt(format!("{what}: not UTF-8: {e}")))
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            n => Err(Error::corrupt(format!("{n} bytes behind the last field"))),
        }
    }
}

pub(crate) fn put_text(text: &str, out: &mut Vec<u8>) {
    // Records end at 2^24 bytes; what is longer fails there.
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
