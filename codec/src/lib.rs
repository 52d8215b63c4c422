//! Compression for federated learning: tensors through a basis transform, seeded subsampling and
//! unbiased quantization into a versioned streaming format.
//!
//! # Which API
//! - [`encode`] and [`decode`]: everything in memory, one call.
//! - [`Writer`] and [`Reader`]: over `std::io`, tensor by tensor, in memory bounded by a few chunks.
//! - [`TensorReader::add_into`]: decode and add, for a server that sums updates.
//! - [`Encoder`] and [`Decoder`]: the same without I/O, for everything else.
//! - [`summarize`] and [`read_tensor`]: headers only, or one tensor, of a seekable source.

mod blocks;
mod bytes;
mod compare;
mod convert;
mod decode;
mod encode;
mod entropy;
mod error;
mod frame;
mod group;
mod kernel;
mod limits;
mod meta;
mod pack;
mod quantize;
mod random;
mod range;
mod read;
mod seek;
mod spec;
mod stage;
mod subsample;
mod tensor;
mod transform;
mod write;

pub use compare::Comparison;
pub use decode::{ChunkDecoder, DecodeOptions, Decoder, EncodedChunk, Event};
pub use encode::{EncodeOptions, Encoder, NonFinite, effective_spec};
pub use error::{Error, ErrorKind, Result};
pub use group::first_non_finite;
pub use kernel::Simd;
pub use meta::{IndexEntry, TensorDesc, TensorMeta};
pub use random::Seeds;
pub use read::{Reader, TensorReader};
pub use seek::{Summary, TensorSummary, read_tensor, summarize, summarize_stream};
pub use spec::{PRESETS, Preset, Spec};
pub use tensor::{DType, Tensor, TensorView};
pub use write::Writer;

/// Encodes tensors into one stream, all by the same pipeline where it applies to them
/// ([`effective_spec`] says where).
///
/// ```
/// use fedpress::{EncodeOptions, Seeds, TensorView};
/// // The private seed decides how values round; draw it, do not choose it.
/// let seeds = Seeds { shared: 7, private: 0x1f3a_9c55, round: 0, client: 0 };
/// let weights = vec![0.25f32; 100_000];
/// let view = TensorView::f32("fc.weight", &[100, 1000], &weights);
/// let bytes = fedpress::encode(&[view], &"hadamard|q=4".parse()?, &EncodeOptions::new(seeds))?;
/// assert!(bytes.len() * 7 < weights.len() * 4);
/// # Ok::<(), fedpress::Error>(())
/// ```
pub fn encode(tensors: &[TensorView<'_>], spec: &Spec, options: &EncodeOptions) -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), options.clone())?;
    tensors.iter().try_for_each(|tensor| writer.tensor(tensor, spec))?;
    writer.finish()
}

/// Decodes all tensors of one or more concatenated streams.
///
/// ```
/// # let seeds = fedpress::Seeds { shared: 7, private: 1, round: 0, client: 0 };
/// # let w = fedpress::TensorView::f32("w", &[2], &[1.0, 2.0]);
/// # let bytes = fedpress::encode(&[w], &fedpress::Spec::none(), &fedpress::EncodeOptions::new(seeds))?;
/// let tensors = fedpress::decode(&bytes, &fedpress::DecodeOptions::default())?;
/// assert_eq!(tensors[0].to_f32().unwrap(), [1.0, 2.0]);
/// # Ok::<(), fedpress::Error>(())
/// ```
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Vec<Tensor>> {
    let mut reader = Reader::new(bytes, options.clone());
    let mut tensors = Vec::new();
    while let Some(tensor) = reader.next_tensor()? {
        tensors.push(tensor.read()?);
    }
    Ok(tensors)
}
