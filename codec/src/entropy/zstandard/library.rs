//! By the C library.

use super::{not_one_frame, too_long};
use crate::{Error, Result};

/// Bytes that the library may want beyond its frame.
const MARGIN: usize = 64;

/// Contexts, kept from chunk to chunk.
#[derive(Default)]
pub(crate) struct Zstandard {
    compressor: Option<(i8, zstd::bulk::Compressor<'static>)>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    frame: Vec<u8>,
}

impl Zstandard {
    /// Appends the frame of `payload`, or nothing (and `false`) when that would not be smaller.
    /// `limit` is the most bytes that are of use.
    pub(crate) fn compress(
        &mut self,
        level: i8,
        payload: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let compressor = match &mut self.compressor {
            Some((l, compressor)) if *l == level => compressor,
            slot => &mut slot.insert((level, zstd::bulk::Compressor::new(i32::from(level))?)).1,
        };
        // Little room for more than pays: the library gives up as soon as it needs more, which is all
        // that an error says here. (It works with a few bytes more than the frame has.)
        let useful = limit.min(payload.len().saturating_sub(1));
        let room = useful + MARGIN;
        if self.frame.len() < room {
            self.frame.resize(room, 0);
        }
        let Ok(length) = compressor.compress_to_buffer(payload, &mut self.frame[..room]) else {
            return Ok(false);
        };
        if length > useful {
            return Ok(false);
        }
        out.extend_from_slice(&self.frame[..length]);
        Ok(true)
    }

    /// Decompresses to `out`, in place of what it holds, what is at most `bound` bytes. The window
    /// needs no memory: it is `out` itself.
    pub(crate) fn decompress(
        &mut self,
        frame: &[u8],
        bound: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            slot => slot.insert(zstd::bulk::Decompressor::new()?),
        };
        // One frame and nothing behind it; the library itself would go on to the next one.
        match zstd::zstd_safe::find_frame_compressed_size(frame) {
            Ok(length) if length == frame.len() => {}
            _ => return Err(not_one_frame()),
        }
        out.clear();
        out.reserve_exact(bound);
        decompressor
            .decompress_to_buffer(frame, out)
            .map_err(|e| Error::corrupt(format!("zstd frame: {e}")))?;
        if out.len() <= bound {
            return Ok(());
        }
        Err(too_long(bound, out.len()))
    }

    /// Bytes that decoding takes beside its output.
    pub(crate) fn memory(_: usize) -> usize {
        0
    }
}
