//! What is written about the values: one struct per record, bytes to struct and back, no more.
//!
//! Numbers that are part of the format stand here and in [`record`], and tests pin them.

pub(crate) mod bytes;
mod chunk;
mod directory;
mod end;
pub(crate) mod record;
mod tensor;
mod tied;
mod version;

pub(crate) use bytes::varint_len;
pub(crate) use chunk::ChunkHeader;
pub use directory::IndexEntry;
pub(crate) use directory::{read_index, write_index};
pub(crate) use directory::{read_manifest, read_metadata, write_manifest, write_metadata};
pub(crate) use end::End;
pub(crate) use tensor::{GROUP_LOG2, MAX_NAME};
pub use tensor::{TensorDesc, TensorMeta};
pub(crate) use tied::Tied;
pub use version::is_stream;
pub(crate) use version::{PREAMBLE_LEN, VERSION, VERSION_TEXT, check_preamble, preamble};
