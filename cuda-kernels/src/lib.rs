//! fedpress on NVIDIA GPUs: the same bytes as on the processor.
//!
//! ```no_run
//! use std::sync::Arc;
//! # let (seeds, view) = (fedpress::Seeds::new(7, 1), fedpress::TensorView::f32("w", &[1], &[1.0]));
//! let mut options = fedpress::EncodeOptions::new(seeds);
//! match fedpress_cuda::Cuda::open() {
//!     Ok(device) => options.device = Some(Arc::new(device)),
//!     Err(why) => eprintln!("on the processor: {why}"),
//! }
//! let bytes = fedpress::encode(&[view], &"hadamard|q=4".parse()?, &options)?;
//! # Ok::<(), fedpress::Error>(())
//! ```
//!
//! # The design
//! The codec asks a [`fedpress::Device`] for coded groups, of one tensor or of many, and [`Cuda`] is
//! one. A group is a pure function of values, header and keys, so this is the seam at which least has
//! to cross: plans as numbers in, P of FORMAT.md out. Framing, the lossless stage, groups that go
//! losslessly, limits and the checks of hostile bytes stay in one place, and every reader and writer of
//! the codec works with a GPU as it is. What lives on the device already is coded from there
//! ([`Cuda::encode_resident`]).
//!
//! Consecutive groups of a tensor are a batch, coded by one launch of each kernel; the batches of a call
//! share their memory and are all queued before any is waited for (`src/parts.rs`, `src/coding.rs`).
//!
//! A plan whose rotation and quantizer cut the same blocks, which is the default, takes one fused
//! kernel for a whole batch of groups (`kernels/hadamard.cu`): each value is read once and its code
//! written once. All other plans, and the odd unit at the end of a tensor, go stage by stage through
//! memory (`kernels/general.cu`). Both are made of the same device functions: sign, butterfly,
//! round, pack (`kernels/*.cuh`).
//!
//! # Bytes
//! Equal to those of the processor for every plan: stages in the order of the format, nothing
//! contracted or reassociated, draws by counter, sums in f64 by a fixed tree, no float atomics.
//! `tests/parity/` says so, on whatever device there is and on a simulated one.
//!
//! # Without a GPU
//! It builds everywhere; the driver is loaded when [`Cuda::open`] asks for it. No driver, no device,
//! an old driver, too little memory and a failed launch are [`Error`]s. Nothing falls back by
//! itself: the caller decides, and can say so.

mod coding;
mod device;
mod error;
mod groups;
mod images;
mod launch;
mod measure;
mod memory;
mod parts;
mod plan;
mod resident;
mod span;

pub use device::Cuda;
pub use error::{Error, Result};
pub use measure::{Measure, Measured};
pub use resident::Element;

pub use cudarc;

/// The README's example runs, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
