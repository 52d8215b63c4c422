//! The zstd stage (RFC 8878): one frame a chunk, kept only where it is smaller.
//!
//! Three builds of it. With the feature `zstd` the C library does both ways. Without it chunks are
//! written *stored*, which every reader understands, and frames of others are decoded by a pure Rust
//! library with the feature `ruzstd`, or else refused: enough for browsers and for machines without a
//! C compiler.

#[cfg(feature = "zstd")]
mod library;
#[cfg(not(feature = "zstd"))]
mod pure;

#[cfg(feature = "zstd")]
pub(crate) use library::Zstandard;
#[cfg(not(feature = "zstd"))]
pub(crate) use pure::Zstandard;

#[cfg(any(feature = "zstd", feature = "ruzstd"))]
use crate::Error;

#[cfg(any(feature = "zstd", feature = "ruzstd"))]
fn not_one_frame() -> Error {
    Error::corrupt("not exactly one zstd frame")
}

#[cfg(any(feature = "zstd", feature = "ruzstd"))]
fn too_long(bound: usize, found: usize) -> Error {
    Error::corrupt(format!("zstd frame: at most {bound} bytes are possible, found {found}"))
}
