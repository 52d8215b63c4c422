//! Little-endian fields of message headers and of saved states.

use crate::{Error, Result};
use fedpress::{DecodeOptions, Decoder, Event};

/// Version of the records of saved states.
pub(crate) const STATE_VERSION: u8 = 3;

/// Takes fields off the front of a header.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.0.split_at_checked(n) else {
            let left = self.0.len();
            return Err(Error::corrupt(format!("{what}: expected {n} more bytes, found {left}")));
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

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self, what: &str) -> Result<bool> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Error::corrupt(format!("{what}: expected 0 or 1, found {other}"))),
        }
    }

    /// The version of a saved state.
    pub(crate) fn state_version(&mut self) -> Result<()> {
        match self.u8("version of the state")? {
            STATE_VERSION => Ok(()),
            other => {
                let expected = format!("version {STATE_VERSION}");
                Err(Error::unsupported("state", format!("version {other}"), &expected))
            }
        }
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

/// Takes a saved state apart: the one record of kind `record` in its first stream, that stream, and
/// what follows it.
pub(crate) fn split_state<'a>(
    bytes: &'a [u8],
    record: u8,
    options: &DecodeOptions,
) -> Result<(Vec<u8>, &'a [u8], &'a [u8])> {
    let mut decoder = Decoder::with_records(options.clone());
    let (mut rest, mut head) = (bytes, None);
    while let Some(event) = decoder.next(&mut rest)? {
        match event {
            Event::Record { kind, body } if kind == record && head.is_none() => head = Some(body),
            Event::Record { kind, .. } => {
                return Err(Error::corrupt(format!("record {kind:#04x} in a state")));
            }
            Event::End { .. } => {
                let head = head.ok_or_else(|| Error::corrupt("not the state that was expected"))?;
                return Ok((head, &bytes[..bytes.len() - rest.len()], rest));
            }
            _ => {}
        }
    }
    decoder.finish()?;
    Err(Error::corrupt("not the state that was expected"))
}
