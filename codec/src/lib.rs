//! Compression for federated learning: tensors through a basis transform, seeded subsampling and
//! unbiased quantization into a versioned streaming format.
//!
//! # Which API
//! - [`encode()`] and [`decode()`]: everything in memory, one call, on all threads asked for;
//!   [`encode_into`] and [`max_encoded_len`] for buffers of one's own. They take whatever
//!   [looks like a tensor](AsTensor).
//! - [`encode_to`]: as small as asked, or as exact; bits go where they take away most error ([`Planner`]).
//! - [`Writer`] and [`Reader`]: over `std::io`, tensor by tensor, in memory bounded by a few chunks.
//! - [`TensorReader::add_into`]: decode and add, for a server that sums updates; [`BasisSum`] where
//!   they share a rotation, which is then undone once.
//! - [`Encoder`] and [`Decoder`]: the same without I/O, for everything else.
//! - [`summarize`] and [`read_tensor`]: headers only, or one tensor, of a seekable source.
//! - [`Coefficients`]: the rotation alone.
//! - [`device`]: groups coded beside the processor, on a GPU.
//!
//! # The pipeline
//! A [`Spec`] such as `hadamard|subsample=0.5|q=4|zstd` names the stages (Konecny et al. 2016;
//! Caldas et al. 2018): rotate into a basis in which no value stands out, keep a seeded part of the
//! coefficients, quantize each to q bits so that the expectation of what is decoded is the
//! original, compress what is left without loss. Tensors under 1,024 values, integers, f64 and what
//! [`SPARED`] lists travel losslessly. `FORMAT.md` beside this crate defines every byte.
//!
//! # The design
//! A tensor is cut into groups of at most 2^20 values; a group is the body of one chunk, decodes
//! alone, and is a pure function of its values, the tensor's header and keys that are hashes of
//! what they belong to. So any chunk can be coded by any thread, or on a GPU, with equal bytes. A chunk
//! names one of its tensor's pipelines: the one asked for, or the lossless one where that is not
//! longer.
//!
//! Within a group numbers flow in runs that fit the first-level cache from a source to a sink: from a
//! basis to a coder to encode, from a coder to a basis to decode, to add or to measure. There is one
//! such loop, and every stage is a source or a sink of it. Inner loops are written once for all
//! instruction sets. Everything that allocates is bounded by what the header implies before it is
//! trusted, and charged to a limit.
//!
//! # What the transforms buy
//! `hadamard` makes any tensor look Gaussian, which costs nothing where it already does and is
//! essential where a few large values would set the range. `kashin` spreads further by redundancy;
//! at equal bits on the wire a finer quantizer behind `hadamard` wins, so it is here for fidelity
//! to the paper. Measured on 2^16 Gaussian values, scales per 4096, by
//! `cargo run --release -p fedpress --example distortion`:
//!
//! | transform | peak / RMS of coefficients | NMSE at q = 2 | bits per value |
//! |---|---|---|---|
//! | `hadamard` | 3.83 | .996 | 2.03 |
//! | `kashin,lambda=1` | 3.83 | .996 | 2.03 |
//! | `kashin` (lambda 1.25, 3 iterations, eta .9, delta 1) | 3.21 | .577 | 2.53 |
//! | `kashin,lambda=1.5` | 2.94 | .410 | 3.03 |
//! | `kashin,lambda=2` | 3.60 | .452 | 4.04 |
//! | `kashin,iterations=1` (no iteration: one rotation) | 3.80 | .800 | 2.53 |
//! | `kashin,iterations=5` | 3.17 | .567 | 2.53 |
//! | `kashin,delta=2` | 3.21 | .577 | 2.53 |
//! | `kashin,clip` (biased) | 3.00 | .522 | 2.53 |
//! | `kashin,lambda=2,iterations=2,eta=0.6,delta=2,clip` (biased) | 1.77 | .133 | 4.04 |
//!
//! | pair with the same wire bits | NMSE hadamard | NMSE kashin |
//! |---|---|---|
//! | `hadamard\|q=4`, `kashin,lambda=1.3333334\|q=3` | .0390 at 4.03 bits | .105 at 4.03 |
//! | `hadamard\|q=5`, `kashin\|q=4` | .0092 at 5.03 | .0231 at 5.03 |
//! | `hadamard\|q=6`, `kashin,lambda=1.5\|q=4` | .0022 at 6.03 | .0164 at 6.03 |
//! | `hadamard\|q=4`, `kashin,lambda=2\|q=2` | .0390 at 4.03 | .452 at 4.04 |
//!
//! `rotation` leaves no blocks: whatever a group is made of, its coefficients are Gaussian, and the
//! levels of `lm` are those that suit them, with the scale that makes the expectation right (EDEN, Vargaftik
//! et al. 2022). By the same program, NMSE on 2^16 values at q bits:
//!
//! | values | pipeline | q = 1 | 2 | 3 | 4 |
//! |---|---|---|---|---|---|
//! | Gaussian | `hadamard\|q=Q` | 12.1 | .996 | .179 | .0390 |
//! | | `rotation\|lm=Q` | .573 | .134 | .0360 | .0097 |
//! | | `rotation\|trellis=Q` | .395 | .0754 | .0178 | .0044 |
//! | lognormal, sigma 1.5 | `hadamard\|q=Q` | 11.2 | .918 | .167 | .0363 |
//! | | `hadamard\|lm=Q` (biased) | .594 | .141 | .0389 | .0107 |
//! | | `rotation\|lm=Q` | .573 | .134 | .0360 | .0097 |
//!
//! `trellis` looks ahead and codes what it chooses by how likely it is, at any rate: .08 bit from Shannon's
//! bound for Gaussian numbers (`tests/trellis.rs`), where `lm` is .27 at 1 bit and .64 at 4.
//!
//! # Features
//! `zstd`, on by default, is the stage of that name, by the C library. Without it everything builds in
//! Rust alone, for wasm32 too: chunks that ask for it are stored as they are, which any reader takes, and
//! frames of others are decoded with the feature `ruzstd` and else
//! [not supported](ErrorKind::Unsupported).
//!
//! # Stability
//! The crate follows semantic versioning; a raised minimum Rust version (now 1.85) is a minor
//! change. The format is versioned by itself and not frozen before 1.0.

mod aligned;
mod arrays;
mod as_tensor;
mod basis;
mod blocks;
mod code;
mod coefficients;
mod compare;
mod convert;
mod decode;
pub mod device;
mod dither;
mod encode;
mod entropy;
mod error;
mod flow;
mod group;
mod kernel;
mod limits;
mod numbers;
mod options;
mod plan;
mod presets;
mod random;
mod read;
mod schedule;
mod seek;
mod select;
mod spare;
mod spec;
mod stage;
mod sum;
mod tensor;
mod wire;
mod write;

pub use as_tensor::{AsTensor, Element, NamedTensor};
pub use basis::{Hadamard, Kashin, Rotation as GroupRotation};
pub use code::{LloydMax, MaxError, Uniform};
pub use coefficients::Coefficients;
pub use compare::Comparison;
pub use decode::{ChunkDecoder, DecodeOptions, Decoder, EncodedChunk, Event};
pub use device::Device;
pub use encode::{Encoder, max_encoded_len, max_tensor_len};
pub use error::{Error, ErrorKind, Result};
pub use group::first_non_finite;
pub use kernel::Simd;
pub use numbers::numbers;
pub use options::{EncodeOptions, NonFinite, effective_spec};
pub use plan::{Planner, Target, encode_to, plan};
pub use presets::{PRESETS, Preset};
pub use random::{Rotation, Seeds, derive_key};
pub use read::{Reader, TensorReader};
pub use seek::{Summary, TensorSummary, read_tensor, seek_tensor, summarize, summarize_stream};
pub use select::Subsample;
pub use spare::{SPARED, Spare, SpareRule, spared};
pub use spec::{Spec, Stages, stages};
pub use stage::Entry as StageEntry;
pub use sum::BasisSum;
pub use tensor::{DType, Tensor, TensorView};
pub use wire::{IndexEntry, TensorDesc, TensorMeta, is_stream};
pub use write::Writer;

/// Encodes tensors into one stream, all by the same pipeline where it applies to them
/// ([`effective_spec`] says where).
///
/// ```
/// use fedpress::{EncodeOptions, Seeds, TensorView};
/// // The private seed decides how values round; draw it, do not choose it.
/// let seeds = Seeds::new(7, 0x1f3a_9c55);
/// let weights = vec![0.25f32; 100_000];
/// let view = TensorView::f32("fc.weight", &[100, 1000], &weights);
/// let bytes = fedpress::encode(&[view], &"hadamard|q=4".parse()?, &EncodeOptions::new(seeds))?;
/// assert!(bytes.len() * 7 < weights.len() * 4);
/// # Ok::<(), fedpress::Error>(())
/// ```
pub fn encode<T: NamedTensor>(
    tensors: &[T],
    spec: &Spec,
    options: &EncodeOptions,
) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    encode_into(tensors, spec, options, &mut out).map(|()| out)
}

/// The same, behind what `out` holds; after an error that is all it holds.
///
/// ```
/// # use fedpress::{EncodeOptions, Seeds, Spec};
/// let (spec, options) = (Spec::lossless(), EncodeOptions::new(Seeds::new(7, 0x1f3a_9c55)));
/// let mut message = Vec::new();
/// for round in 1..=3 {
///     message.clear();
///     fedpress::encode_into(&[("steps", [round])], &spec, &options, &mut message)?;
/// }
/// # Ok::<(), fedpress::Error>(())
/// ```
pub fn encode_into<T: NamedTensor>(
    tensors: &[T],
    spec: &Spec,
    options: &EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<()> {
    let parts: Vec<_> = tensors.iter().map(as_tensor::Parts::of).collect();
    let tensors: Vec<_> = parts.iter().map(|tensor| (tensor.view(), spec)).collect();
    encode_views(&tensors, options, out)
}

/// Tensors, each by its pipeline, into one stream behind what `out` holds.
fn encode_views(
    tensors: &[(TensorView<'_>, &Spec)],
    options: &EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<()> {
    options.check()?;
    let (several, start) = (options.several || tensors.len() > 1, out.len());
    let options = options.clone().with_several(several);
    let mut encoder = Encoder::with_output(options, std::mem::take(out))?;
    let result = encoder.tensors(tensors).and_then(|_| encoder.finish());
    *out = encoder.into_output();
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Decodes all tensors of one or more concatenated streams.
///
/// ```
/// # let seeds = fedpress::Seeds::new(7, 1);
/// # let w = fedpress::TensorView::f32("w", &[2], &[1.0, 2.0]);
/// # let bytes = fedpress::encode(&[w], &fedpress::Spec::none(), &fedpress::EncodeOptions::new(seeds))?;
/// let tensors = fedpress::decode(&bytes, &fedpress::DecodeOptions::default())?;
/// assert_eq!(tensors[0].to_f32().unwrap(), [1.0, 2.0]);
/// # Ok::<(), fedpress::Error>(())
/// ```
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Vec<Tensor>> {
    Reader::new(bytes, options.clone()).read_all()
}

/// The README's example runs, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
