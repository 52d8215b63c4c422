//! Tensor files: one [`Source`] and one [`Sink`] per container, none of which holds a whole tensor.

mod ahead;
mod folder;
mod foreign;
mod format;
mod input;
mod narrow;
mod npy;
mod npy_header;
mod npz;
mod output;
mod raw;
mod rearrange;
mod safetensors;
mod series;
mod sharded;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use fedpress::DType;

pub use format::{Format, is_of_others};
pub use input::{Bytes, Input};
pub use narrow::Narrow;
pub use output::Output;
pub use raw::{RawOptions, Shape};

/// Buffer of every reader and writer of this module.
const BUFFER: usize = 1 << 20;

/// What a container says about one of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique within its container.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; the first one is 0 when it is open.
    pub shape: Vec<u64>,
    /// Whether the first dimension is known only at the end of the data.
    pub open: bool,
}

/// A container to read tensors from.
pub trait Source {
    /// Every tensor, in the order in which a stream can deliver them.
    fn tensors(&self) -> &[TensorInfo];

    /// The string map that came with the tensors; only safetensors has one.
    fn metadata(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        &NONE
    }

    /// What the container has and this cannot give, each in a sentence, where that was allowed.
    fn left_out(&self) -> &[String] {
        &[]
    }

    /// Whether tensors can be read any number of times and in any order, as not from a pipe.
    fn rereads(&self) -> bool {
        false
    }

    /// The element bytes of a tensor. A reader that reaches its end has seen every byte that was
    /// promised; anything else is an error that carries a [`BadFile`].
    ///
    /// Each at most once and in order, unless it [rereads](Self::rereads).
    fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>>;
}

/// A container to write tensors to, in the order that was announced to [`create_sink`].
pub trait Sink {
    /// Starts a tensor.
    fn begin(&mut self, info: &TensorInfo) -> Result<()>;
    /// Appends element bytes, in any split.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Ends the tensor; `final_shape` resolves an open first dimension.
    fn end(&mut self, final_shape: &[u64]) -> Result<()>;
    /// Completes the container and flushes it (syncing a file is up to the caller).
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Opens a container; its format comes from the options, the name, or the first bytes.
pub fn open_source(input: Input, options: &RawOptions) -> Result<Box<dyn Source>> {
    let input = match input {
        Input::Path(path) if path.is_dir() => match folder::model_in(&path)? {
            folder::Model::File(file) => Input::Path(file),
            folder::Model::Shards(names) => {
                return Ok(Box::new(sharded::ShardedSource::without_index(&path, &names)?));
            }
        },
        other => other,
    };
    open_bytes(Bytes::open(input)?, options)
}

/// Like [`open_source`], for bytes that are already open.
pub fn open_bytes(bytes: Bytes, options: &RawOptions) -> Result<Box<dyn Source>> {
    Ok(match format::detect(&bytes, options)? {
        Format::Safetensors => Box::new(safetensors::SafetensorsSource::open(bytes)?),
        Format::SafetensorsIndex => Box::new(sharded::ShardedSource::open(bytes, options)?),
        Format::Npy => Box::new(npy::NpySource::open(bytes, options)?),
        Format::Npz => Box::new(npz::NpzSource::open(bytes, options)?),
        Format::Raw => Box::new(raw::RawSource::open(bytes, options)?),
    })
}

/// Starts a container that will hold `infos`, in that order.
///
/// Open tensors need a format that can end without knowing its length in advance: raw, or npy in
/// a file. The metadata is written by safetensors and dropped by the others.
pub fn create_sink<'a>(
    format: Format,
    output: Output<'a>,
    infos: &[TensorInfo],
    metadata: &BTreeMap<String, String>,
) -> Result<Box<dyn Sink + 'a>> {
    Ok(match format {
        Format::Safetensors => {
            Box::new(safetensors::SafetensorsSink::create(output, infos, metadata)?)
        }
        Format::SafetensorsIndex => {
            bail!("an index is no container: its shards are")
        }
        Format::Npy => Box::new(npy::NpySink::create(output, infos)?),
        Format::Npz => npz::create(output, infos)?,
        Format::Raw => Box::new(raw::RawSink::create(output, infos)?),
    })
}

/// An input file that contradicts its own format: somebody has to get or make that file again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// What was expected, and what was found.
    pub reason: String,
}

impl BadFile {
    /// Describes what is wrong with the file at `path`.
    pub fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }

    /// The [`BadFile`] among the causes of an error, even inside an i/o error.
    pub fn find(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| {
            cause
                .downcast_ref::<Self>()
                .or_else(|| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Self>())
        })
    }
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for BadFile {}

impl From<BadFile> for io::Error {
    fn from(bad: BadFile) -> Self {
        Self::new(io::ErrorKind::InvalidData, bad)
    }
}

/// Values of a tensor, and as many as can be counted where there are more; 0 with a zero dimension whatever the
/// others.
pub fn n_values(shape: &[u64]) -> u64 {
    match shape.contains(&0) {
        true => 0,
        false => shape.iter().fold(1, |n, d| n.saturating_mul(*d)),
    }
}

/// Bytes that a tensor takes; `None` past 2^64, and 0 with a zero dimension whatever the others.
pub fn byte_len(dtype: DType, shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    let bits = shape.iter().try_fold(dtype.bits() as u128, |n, d| n.checked_mul((*d).into()))?;
    u64::try_from(bits.div_ceil(8)).ok()
}

#[cfg(test)]
mod tests;
