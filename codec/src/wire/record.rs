//! Records: the unit of framing.
//!
//! ```text
//! kind u8 | body length u32 | header check u16 | body | CRC32C u32 of everything before it
//! ```

use crate::{Error, Result};

/// Kinds of record. Those with the top bit set may be skipped by a reader that does not know
/// them; the others may not.
pub(crate) mod kind {
    pub(crate) const TENSOR: u8 = 0x01;
    pub(crate) const CHUNK: u8 = 0x02;
    pub(crate) const END: u8 = 0x03;
    pub(crate) const TIED: u8 = 0x04;
    pub(crate) const METADATA: u8 = 0x81;
    pub(crate) const MANIFEST: u8 = 0x82;
    pub(crate) const INDEX: u8 = 0x83;
    pub(crate) const SKIPPABLE: u8 = 0x80;

    /// Whether a kind belongs to applications, whatever its skippable bit.
    pub(crate) fn is_application(kind: u8) -> bool {
        matches!(kind & !SKIPPABLE, 0x20..=0x3F)
    }
}

/// Kind, length, check.
pub(crate) const HEADER_LEN: usize = 7;
/// The checksum behind the body.
pub(crate) const TRAILER_LEN: usize = 4;
/// What a record costs beside its body.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TRAILER_LEN;
/// Longest body of a record other than a chunk: room for whatever a safetensors header holds.
pub(crate) const MAX_BODY: u32 = 1 << 27;

/// A record header whose check has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: u8,
    pub(crate) body_len: u32,
}

impl RecordHeader {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.kind;
        bytes[1..5].copy_from_slice(&self.body_len.to_le_bytes());
        let check = header_check(&bytes[..5]);
        bytes[5..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Result<Self> {
        let expected = header_check(&bytes[..5]);
        let found = u16::from_le_bytes([bytes[5], bytes[6]]);
        if expected != found {
            return Err(Error::corrupt(format!(
                "record header check: expected {expected:#06x}, found {found:#06x}"
            )));
        }
        let body_len = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        Ok(Self { kind: bytes[0], body_len })
    }
}

/// Low half of the CRC32C.
fn header_check(bytes: &[u8]) -> u16 {
    crc32c::crc32c(bytes) as u16
}

/// Appends a record around the body that `write` appends; nothing at all after an error.
pub(crate) fn put_record(
    kind: u8,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let at = out.len();
    let result = append(kind, out, write);
    if result.is_err() {
        out.truncate(at);
    }
    result
}

fn append(
    kind: u8,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    write(out)?;
    let body_len = u32::try_from(out.len() - at - HEADER_LEN)
        .map_err(|_| Error::invalid("a record of 4 GiB or more"))?;
    if kind != kind::CHUNK && body_len > MAX_BODY {
        return Err(Error::invalid(format!(
            "a record of {body_len} bytes, at most {MAX_BODY} are allowed"
        )));
    }
    out[at..at + HEADER_LEN].copy_from_slice(&RecordHeader { kind, body_len }.to_bytes());
    let checksum = crc32c::crc32c(&out[at..]);
    out.extend(checksum.to_le_bytes());
    Ok(())
}

/// The checksum of a record so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checksum(u32);

impl Checksum {
    pub(crate) fn of(header: RecordHeader) -> Self {
        Self(crc32c::crc32c(&header.to_bytes()))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    pub(crate) fn verify(self, trailer: [u8; TRAILER_LEN]) -> Result<()> {
        let found = u32::from_le_bytes(trailer);
        if self.0 == found {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "record checksum: expected {:#010x}, found {found:#010x}",
            self.0
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_of_the_format() {
        let mut out = Vec::new();
        put_record(kind::END, &mut out, |out| {
            out.extend(b"123456789");
            Ok(())
        })
        .unwrap();
        let crc = crc32c::crc32c(b"123456789");
        assert_eq!(crc, 0xe306_9283, "Castagnoli, as in RFC 3720");
        assert_eq!(&out[..5], [3, 9, 0, 0, 0]);
        let header: [u8; HEADER_LEN] = out[..HEADER_LEN].try_into().unwrap();
        assert_eq!(
            RecordHeader::from_bytes(&header).unwrap(),
            RecordHeader { kind: 3, body_len: 9 }
        );
        assert_eq!(out.len(), OVERHEAD + 9);
    }

    #[test]
    fn bodies_are_128_mib_at_most_but_those_of_chunks() {
        let put = |kind, body_len: usize| {
            let mut out = b"before".to_vec();
            let result = put_record(kind, &mut out, |out| {
                out.resize(out.len() + body_len, 0);
                Ok(())
            });
            let expected = if result.is_ok() { OVERHEAD + body_len } else { 0 };
            assert_eq!(out.len() - 6, expected, "{kind:#04x}, {body_len}");
            result
        };
        for kind in [kind::TENSOR, kind::END, kind::METADATA, kind::MANIFEST, kind::INDEX, 0xA0] {
            assert!(put(kind, 1 << 27).is_ok(), "{kind:#04x}");
            let error = put(kind, (1 << 27) + 1).unwrap_err();
            assert_eq!(*error.kind(), crate::ErrorKind::InvalidArgument, "{kind:#04x}");
        }
        assert!(put(kind::CHUNK, (1 << 27) + 1).is_ok());
    }
}
