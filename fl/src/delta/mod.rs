//! Downloads as what changed: the server keeps one chain of versions of its model, each client a [`Replica`].
//!
//! Beside its weights in full precision the server has, for each round, a *version*, whose values are multiples
//! of powers of two: the version before, moved towards the weights wherever they are more than part of a quantum
//! away. What is not sent is still there to be sent, so errors never add up: a version is within a quantum of
//! the weights, always. And the difference of any two versions is one of integers, so a client that has
//! any of them, or none (all values 0), is brought to the last one exactly, by integers that are coded without
//! loss; no client has a chain of its own, and those with the same history get the same bytes.

mod chain;
mod history;
mod lattice;
mod options;
mod replica;
mod state;
mod versions;

pub use options::DeltaOptions;
pub use replica::Replica;
pub use versions::Versions;

pub(crate) use chain::Chain;
pub(crate) use history::History;
