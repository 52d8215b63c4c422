//! Updates as integers modulo 2^b, whose sum is the sum of the updates: what a secure aggregation can mask.
//!
//! Ranges, rotations and masks of a client's own, which other updates have, do not add up. Here a round
//! has one of each: the update is clipped to a norm and rotated like everyone's, so that its coefficients are
//! about Gaussian and as large as the norm says; these are rounded, by draws of the client's own, to multiples of
//! one step, and the multiples are added modulo 2^b. With headroom for all clients the sum of the codes *is* the
//! code of the sum, which is turned back once. Between rounding and packing codes are plain integers that a mask
//! can be added to; and noise (Kairouz, Liu & Steinke 2021).

mod codes;
mod options;
mod pack;
mod rotate;
mod spec;
mod sum;

pub use options::IntegerOptions;
pub use spec::IntegerSpec;
pub use sum::IntegerSum;

pub(crate) use pack::packed_len;
