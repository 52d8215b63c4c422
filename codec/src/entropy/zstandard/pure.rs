//! Without the C library: nothing is compressed, and frames are decoded where `ruzstd` is there.

use crate::Result;

/// What is kept from chunk to chunk.
#[derive(Default)]
pub(crate) struct Zstandard {
    #[cfg(feature = "ruzstd")]
    decoder: ruzstd::decoding::FrameDecoder,
}

impl Zstandard {
    /// Appends nothing: such chunks are stored.
    pub(crate) fn compress(&mut self, _: i8, _: &[u8], _: usize, _: &mut Vec<u8>) -> Result<bool> {
        Ok(false)
    }

    #[cfg(not(feature = "ruzstd"))]
    pub(crate) fn decompress(&mut self, _: &[u8], _: usize, _: &mut Vec<u8>) -> Result<()> {
        let here = "this build, which has neither the feature zstd nor ruzstd";
        Err(crate::Error::unsupported("a zstd frame", here))
    }

    /// Bytes that decoding takes beside its output, at most.
    #[cfg(not(feature = "ruzstd"))]
    pub(crate) fn memory(_: usize) -> usize {
        0
    }
}

#[cfg(feature = "ruzstd")]
mod decode {
    use super::Zstandard;
    use crate::entropy::zstandard::{not_one_frame, too_long};
    use crate::{Error, Result};
    use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
    use ruzstd::decoding::errors::FrameDecoderError;
    use std::io::Read;

    /// No block is longer.
    const BLOCK: usize = 128 << 10;

    /// The largest window that is taken: frames that were made in one call need no more.
    fn window(bound: usize) -> usize {
        bound.max(1 << 10)
    }

    fn corrupt(error: &dyn std::fmt::Display) -> Error {
        Error::corrupt(format!("zstd frame: {error}"))
    }

    impl Zstandard {
        /// Decompresses to `out`, in place of what it holds, what is at most `bound` bytes.
        pub(crate) fn decompress(
            &mut self,
            frame: &[u8],
            bound: usize,
            out: &mut Vec<u8>,
        ) -> Result<()> {
            let mut rest = frame;
            self.decoder.set_max_window_size(window(bound) as u64);
            self.decoder.reset(&mut rest).map_err(|e| match e {
                FrameDecoderError::WindowSizeTooBig { requested, .. } => Error::unsupported(
                    format!("a zstd window of {requested} bytes"),
                    format!("{} here, without the feature zstd", window(bound)),
                ),
                other => corrupt(&other),
            })?;
            out.clear();
            out.reserve_exact(bound);
            while !self.decoder.is_finished() || self.decoder.can_collect() > 0 {
                if !self.decoder.is_finished() {
                    let decoded = self.decoder.decode_blocks(&mut rest, UptoBytes(BLOCK));
                    decoded.map_err(|e| corrupt(&e))?;
                }
                let room = (bound - out.len()) as u64;
                if self.decoder.can_collect() as u64 > room {
                    return Err(too_long(bound, out.len() + self.decoder.can_collect()));
                }
                (&mut self.decoder).take(room).read_to_end(out)?;
            }
            let announced = self.decoder.content_size();
            if announced != 0 && announced != out.len() as u64 {
                return Err(corrupt(&format!("{announced} bytes announced, {} found", out.len())));
            }
            let checksum = self.decoder.get_checksum_from_data();
            if checksum.is_some() && checksum != self.decoder.get_calculated_checksum() {
                return Err(corrupt(&"wrong checksum"));
            }
            match rest.is_empty() {
                true => Ok(()),
                false => Err(not_one_frame()),
            }
        }

        /// Bytes that decoding takes beside its output, at most: a window and a block, in a queue that
        /// doubles as it grows.
        pub(crate) fn memory(bound: usize) -> usize {
            4 * (window(bound) + window(bound).min(BLOCK))
        }
    }
}
