//! Models, data and local training, all in one process.
//!
//! [`fedpress_fl`] moves models and does not make them; this crate makes real weights and real
//! updates for it to move, on burn: on its CPU backend, or with the
//! feature `burn-cuda` on a GPU ([`device()`] is the one place that names them). What is here:
//! - [`Architecture`]: a sequential network as data; it knows its parameters, its cost, its layout
//!   for submodels, and the architecture of a submodel. [`Network`] is one with weights.
//! - [`Dataset`]: labelled images as bytes, read from files or [made](procedural); a [`Partition`]
//!   deals them out to clients.
//! - [`train()`]: what a client does with the model it got; [`evaluate()`]: how good a model is;
//!   [`in_parallel`]: many clients side by side.
//! - [`Simulation`]: server, clients and the messages between them, in rounds, from a
//!   [`TrainConfig`]: FedAvg and Federated Dropout. [`GktSimulation`]: FedGKT, whose two networks
//!   are a [`SplitModel`]. [`Training`]: either; [`Grid`]: several of them in one file.
//!
//! Results depend on inputs and seeds, not on the number of threads: nothing draws from burn's
//! generator, and a client's sums are made inside its own pool. Between types of CPU the last bits
//! of trained weights do differ (matrix products sum in the order that suits the CPU).

mod data;
mod device;
mod evaluate;
mod gkt;
mod grid;
mod local;
mod network;
mod parallel;
mod partition;
mod random;
mod simulation;
#[cfg(test)]
mod tests;
mod training;

pub use burn::tensor::Device;
pub use data::{Augment, Dataset, Normalisation, procedural};
pub use device::{cpu, device};
pub use evaluate::{Evaluation, evaluate};
pub use gkt::{Clock, GktConfig, GktRecord, GktSimulation, Pace, Pair};
pub use grid::{Grid, Run};
pub use local::{LocalTraining, Optimizer, Trained, train};
pub use network::{Architecture, Initial, LayerSpec, Network, SplitModel};
pub use parallel::in_parallel;
pub(crate) use parallel::on_threads;
pub use partition::{Partition, class_counts};
pub use simulation::{
    Algorithm, Budget, Integers, RoundRecord, Seconds, Simulation, Tier, TrainConfig,
};
pub use training::{EdgeCost, Training};
