//! What a training tells of a client.

mod accountant;
mod renyi;

pub use accountant::Accountant;
