//! What group knowledge transfer (FedGKT, He et al. 2020) sends: features, logits and labels by
//! sample, and the server's store of them.
//!
//! # One exchange
//! 1. A client runs its samples through the first layers of its model and hands features and logits
//!    to a [`FeatureWriter`], batch by batch; with its first upload also the labels, and never again.
//! 2. The bytes go to the server's [`FeatureStore`], in pieces of any size. It checks all of it and
//!    only then lets it take the place of what the client sent before.
//! 3. The server trains on samples of all clients, in any order: [`FeatureStore::read`].
//! 4. It hands its own logits to a [`LogitWriter`]; the client looks them up by sample in the
//!    [`SampleLogits`] that [`decode_logits`] returns.
//!
//! A sample is a number of the client's own choosing, so nothing depends on the order in which a
//! loader shuffles. No gradient travels, and nothing of a test set. MESSAGES.md beside this crate
//! defines the bytes and says what features and labels reveal to the server.

mod file;
mod header;
mod incoming;
mod logits;
mod options;
mod order;
mod read;
mod samples;
mod sink;
mod store;
mod write;

pub use header::{Features, Logits};
pub use logits::{SampleLogits, decode_logits};
pub use options::StoreOptions;
pub use store::{FeatureStore, Upload};
pub use write::{FeatureSpecs, FeatureWriter, LogitWriter};
