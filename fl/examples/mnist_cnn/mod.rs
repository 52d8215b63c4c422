//! The convolutional network of McMahan et al. 2017 for MNIST: 1,663,370 parameters.

use fedpress_fl::{Convention, Layout, Result};

/// Its layout, inferred from names and shapes.
pub fn layout() -> Result<Layout> {
    let shapes: [(&str, &[usize]); 8] = [
        ("conv1.weight", &[32, 1, 5, 5]),
        ("conv1.bias", &[32]),
        ("conv2.weight", &[64, 32, 5, 5]),
        ("conv2.bias", &[64]),
        ("fc1.weight", &[512, 64 * 49]),
        ("fc1.bias", &[512]),
        ("fc2.weight", &[10, 512]),
        ("fc2.bias", &[10]),
    ];
    let shapes = shapes.map(|(name, shape)| (name.to_owned(), shape.to_vec()));
    Layout::infer(&shapes, Convention::Torch)
}
