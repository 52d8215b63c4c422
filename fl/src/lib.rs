//! Federated learning on compressed traffic: Federated Dropout and FedAvg (Caldas et al. 2018;
//! McMahan et al. 2017) whose messages are [`fedpress`] streams.
//!
//! # One round
//! 1. The server's [`Coordinator`] picks clients, and for each (or for all) a [`Selection`] of units.
//! 2. [`pack`] gathers the kept units of every parameter into a smaller dense model.
//! 3. [`Broadcast`] encodes it; the bytes go to the client.
//! 4. The client decodes, trains what it got, and subtracts what it got: the update is a delta
//!    against the *decoded* download, so that noise of the download never accumulates.
//! 5. [`Update`] encodes the delta; the bytes go back.
//! 6. The [`Aggregator`] checks each update, folds it into exact sums over the coordinates of the
//!    full model, and a [`ServerOptimizer`] moves the server's full-precision weights.
//!
//! # Who owns what
//! ```text
//! server                                                          client
//! Coordinator   options, layout, model, round number
//! |- ServerOptimizer   running means of changes                   Replica    what it holds of the model,
//! |- chain of versions, who holds which  --- Broadcast bytes -->             where broadcasts are deltas
//! `- the open round    who is asked, who is missing               Download   decoded model, digest
//!    `- Aggregator     exact sums, or a cohort's updates          Feedback   what its updates have lost
//!       `- updates on their way, encoded  <-- Update bytes ----   Update
//! ```
//! A tree has Aggregators at its leaves, whose saved states the Coordinator merges.
//!
//! Nothing of this does I/O, reads a clock or starts a thread: bytes and time come in, bytes and
//! decisions go out. The crate `fedpress-train` has models, data and local training that use all of
//! it in one process.
//!
//! For group knowledge transfer (FedGKT, He et al. 2020) there is [`exchange`]: features, logits and
//! labels by sample, and a server's store of them, which has files.
//!
//! # The design
//! **A model** is a list of named f32 tensors ([`Parameter`]).
//!
//! **A layout** ([`Layout`]) says which axis of which parameter belongs to which group of units. An
//! axis is a list of segments `outer * group * inner`: a dense layer's output is one segment
//! `fc1`, its input behind a flattened convolution `conv2*49` (channel first) or `49*conv2`
//! (channel last), fused attention heads are `3*heads*64`, a concatenation is `a+b`, and what is
//! never dropped is a plain number. Residual sums share a group. So convolutions, grouped and
//! depthwise ones, norms, embeddings and heads are one gather along each axis.
//!
//! **A selection** ([`Selection`]) keeps some units of each group; a [`Choice`] (rule, seed and
//! fractions kept) is what travels and makes the same selection on both sides.
//!
//! **Personal** parameters ([`Personal`]) stay with their client; the server does not know of them.
//!
//! **Messages** are codec streams whose first record (0xA0, which other readers pass over) is a
//! typed header: `fedpress inspect` and `fedpress decode` work on an update as on any file.
//!
//! **Sums** are integers: each coordinate adds `weight * delta`, in units of 2^-60, to 128 bits.
//! Addition of integers commutes and associates, so the order of arrival, the number of threads
//! and the shape of a tree of aggregators cannot show in the model; folding floats in client order
//! would have to hold back early arrivals, and could not be split over a tree.
//!
//! **Downlinks** may be deltas ([`DeltaOptions`]): the server keeps one chain of versions of its model on a
//! lattice, so that what leads from any version a client holds to the last one is integers, sent without loss;
//! the client has a [`Replica`].
//!
//! **Randomness** is derived by hashing (seed, round, client, purpose) and never by drawing from
//! shared state, so a saved state has no generator in it. What clients must not foresee, who is asked
//! and which units are kept, derives from a [`PrivateSeed`].
//!
//! **Hostile clients** are bounded, each by itself: an update by its bytes, its memory, its L2 norm and
//! its examples ([`AggregatorOptions`], [`RoundOptions::max_norm`]). A cohort in which many lie together
//! is not a mean's matter.
//!
//! **Privacy** of a client ([`Privacy`]) is clip, noise, compress, in this order: updates of a Poisson sample are held
//! to a norm, decoded values and not what a client says of them; the sums, which are integers, get
//! discrete Gaussian noise, drawn without floating point; and what is made of them is divided by how many were expected. The
//! [`Accountant`] says what rounds have told. A client may do all of it by itself ([`ClientPrivacy`]).
//!
//! **Integer updates** ([`IntegerOptions`]) are codes modulo 2^b whose sum is the sum of the updates: with one
//! range, rotation and submodel for a round, so that a secure aggregation can add them masked, and hand in the sum
//! ([`Coordinator::receive_sum`]). Clients can share the noise in it.

mod aggregate;
mod bytes;
mod delta;
mod error;
pub mod exchange;
mod feedback;
mod integer;
mod layout;
pub mod message;
mod optimize;
mod parameter;
mod personal;
mod privacy;
mod round;
mod seed;
mod select;
mod specs;
mod submodel;

pub use aggregate::{
    Aggregator, AggregatorOptions, Averaging, Excess, Limit, Noise, Received, Weighting,
};
pub use delta::{DeltaOptions, Replica, Versions};
pub use error::{Error, Result};
pub use exchange::{
    FeatureSpecs, FeatureStore, FeatureWriter, Features, LogitWriter, Logits, SampleLogits,
    StoreOptions, Upload, decode_logits,
};
pub use feedback::Feedback;
pub use integer::{IntegerOptions, IntegerSpec, IntegerSum};
pub use layout::{Axis, Convention, Group, Heads, Layout, ParamLayout, Recognized, Role, Segment};
pub use message::{Broadcast, Delta, Digest, Download, Reason, Rejection, Update};
pub use optimize::{ServerOptimizer, ServerRule};
pub use parameter::Parameter;
pub use personal::Personal;
pub use privacy::{Accountant, ClientPrivacy, NoiseBy, Privacy};
pub use round::{Action, Cohort, Coordinator, RoundOptions, RoundSummary};
pub use seed::{PrivateSeed, RoundingSeed};
pub use select::{Choice, Keep, Policy, Rule, Scope, Selection, Strategy};
pub use specs::{ClientSpecs, SpecRule, Specs, TensorSpecs};
pub use submodel::{Gather, gains, merge, pack};
