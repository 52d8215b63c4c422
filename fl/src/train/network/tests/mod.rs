//! Tests of architectures, networks and their gradients.

mod architecture;
mod gradients;
mod reference;
