//! The record that ends a stream.

use super::record as frame;
use crate::wire::bytes::{Cursor, put_varint};
use crate::{Error, Result};

/// Totals, and the way back to the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) n_tensors: u64,
    pub(crate) n_chunks: u64,
    /// Bytes from the start of the index record to the start of this one; 0 without an index.
    pub(crate) index_distance: u64,
    /// Bytes from the start of the stream to the start of this record.
    pub(crate) stream_bytes: u64,
}

impl End {
    /// No end record is longer, its frame included.
    pub(crate) const MAX_RECORD_LEN: usize = 4 * 10 + 1 + frame::OVERHEAD;

    /// The body; its last byte is the length of the whole record, so that a reader with the end of
    /// a file finds the start of the record.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        let at = out.len();
        put_varint(out, self.n_tensors);
        put_varint(out, self.n_chunks);
        put_varint(out, self.index_distance);
        put_varint(out, self.stream_bytes);
        out.push((out.len() - at + 1 + frame::OVERHEAD) as u8);
    }

    pub(crate) fn read_from(body: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(body);
        let end = Self {
            n_tensors: cursor.varint("number of tensors")?,
            n_chunks: cursor.varint("number of chunks")?,
            index_distance: cursor.varint("index distance")?,
            stream_bytes: cursor.varint("stream bytes")?,
        };
        let length = usize::from(cursor.u8("end record length")?);
        cursor.end("end record")?;
        if length != body.len() + frame::OVERHEAD {
            return Err(Error::corrupt(format!(
                "end record: says {length} bytes, has {}",
                body.len() + frame::OVERHEAD
            )));
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_end_record_is_longer_than_said() {
        let n = u64::MAX;
        let end = End { n_tensors: n, n_chunks: n, index_distance: n, stream_bytes: n };
        let mut body = Vec::new();
        end.write_to(&mut body);
        assert_eq!(body.len() + frame::OVERHEAD, End::MAX_RECORD_LEN);
        assert_eq!(End::read_from(&body).unwrap(), end);
    }
}
