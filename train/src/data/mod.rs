//! Labelled images: the [`Dataset`], its readers, and a set that is made instead of read.

mod cifar;
mod dataset;
mod file;
mod folders;
mod idx;
mod open;
mod procedural;
#[cfg(test)]
mod tests;
mod view;

pub use dataset::{Dataset, Normalisation};
pub use procedural::procedural;
pub use view::Augment;

pub(crate) use view::View;
