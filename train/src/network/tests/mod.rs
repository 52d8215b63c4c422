//! Tests of architectures, networks and their gradients.

mod architecture;
mod blocks;
mod gradients;
mod reference;
