//! The zstd stage (RFC 8878): one frame a chunk, kept only where it is smaller.

use crate::{Error, Result};

/// Contexts, kept from chunk to chunk.
#[derive(Default)]
pub(crate) struct Zstandard {
    compressor: Option<(i8, zstd::bulk::Compressor<'static>)>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl Zstandard {
    /// Appends the frame of `payload`, or nothing (and `false`) when that would not be smaller.
    pub(crate) fn compress(
        &mut self,
        level: i8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let compressor = match &mut self.compressor {
            Some((l, compressor)) if *l == level => compressor,
            slot => &mut slot.insert((level, zstd::bulk::Compressor::new(i32::from(level))?)).1,
        };
        let frame = compressor.compress(payload)?;
        let pays = frame.len() < payload.len();
        if pays {
            out.extend_from_slice(&frame);
        }
        Ok(pays)
    }

    /// Decompresses into exactly `out`. The window needs no memory: it is `out` itself.
    pub(crate) fn decompress(&mut self, frame: &[u8], out: &mut [u8]) -> Result<()> {
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            slot => slot.insert(zstd::bulk::Decompressor::new()?),
        };
        // One frame and nothing behind it; the library itself would go on to the next one.
        match zstd::zstd_safe::find_frame_compressed_size(frame) {
            Ok(length) if length == frame.len() => {}
            _ => return Err(Error::corrupt("not exactly one zstd frame")),
        }
        let n = decompressor
            .decompress_to_buffer(frame, out)
            .map_err(|e| Error::corrupt(format!("zstd frame: {e}")))?;
        if n == out.len() {
            return Ok(());
        }
        Err(Error::corrupt(format!("zstd frame: expected {} bytes, found {n}", out.len())))
    }
}
