//! Differential privacy of clients: clip, noise, compress, in this order; and what it costs.

mod accountant;
mod client;
mod gaussian;
mod options;
mod renyi;

pub use accountant::Accountant;
pub use client::ClientPrivacy;
pub use options::{NoiseBy, Privacy};

pub(crate) use gaussian::{DiscreteGaussian, Draws};
