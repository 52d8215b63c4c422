//! The models of the papers, and a small one.

use super::{Architecture, LayerSpec};
use fedpress_fl::Result;

fn conv(name: &str, out: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv { name: name.to_owned(), out, kernel, stride, padding, bias: true }
}

fn dense(name: &str, out: usize) -> LayerSpec {
    LayerSpec::Dense { name: name.to_owned(), out }
}

/// Convolutions `conv1` and `conv2` that keep the size (an odd `kernel`), each with a ReLU and a 2 x 2
/// max-pool, and their output as one row.
fn two_convs(filters: [usize; 2], kernel: usize) -> Vec<LayerSpec> {
    let mut layers = Vec::new();
    for (name, out) in ["conv1", "conv2"].into_iter().zip(filters) {
        layers.push(conv(name, out, kernel, 1, kernel / 2));
        layers.extend([LayerSpec::Relu, LayerSpec::MaxPool { size: 2 }]);
    }
    layers.push(LayerSpec::Flatten);
    layers
}

impl Architecture {
    /// The CNN of McMahan et al. (2017), which Caldas et al. (2018) use for MNIST: 28 x 28 grey
    /// images, convolutions of 32 and 64 filters 5 x 5 that keep the size, each with a 2 x 2
    /// max-pool, and a dense layer of 512. 1,663,370 parameters for 10 classes.
    ///
    /// # Errors
    /// `InvalidArgument` for no classes.
    pub fn mnist_cnn(classes: usize) -> Result<Self> {
        Self::two_convs_and_a_dense(512, classes)
    }

    /// The two layers of 200 of McMahan et al. (2017), their "2NN", for grey images of 28 x 28: 199,210
    /// parameters for 10 classes, and a tenth of the time of [`mnist_cnn`](Self::mnist_cnn).
    ///
    /// # Errors
    /// `InvalidArgument` for no classes.
    pub fn mnist_2nn(classes: usize) -> Result<Self> {
        let hidden = |name| [dense(name, 200), LayerSpec::Relu];
        let mut layers = vec![LayerSpec::Flatten];
        layers.extend(hidden("fc1").into_iter().chain(hidden("fc2")));
        layers.push(dense("fc3", classes));
        Self::new([1, 28, 28], layers)
    }

    /// McMahan et al. (2017) on CIFAR-10, after TensorFlow's tutorial: 32 x 32 colour images,
    /// two convolutions of 64 filters 5 x 5 that keep the size, each with a 2 x 2 max-pool, and dense layers
    /// of 384 and 192. 1,756,426 parameters for 10 classes (the tutorial's crops to 24 x 24 have about a
    /// million).
    ///
    /// # Errors
    /// `InvalidArgument` for no classes.
    pub fn cifar_cnn(classes: usize) -> Result<Self> {
        let mut layers = two_convs([64, 64], 5);
        layers.extend([dense("fc1", 384), LayerSpec::Relu, dense("fc2", 192), LayerSpec::Relu]);
        layers.push(dense("fc3", classes));
        Self::new([3, 32, 32], layers)
    }

    /// The CNN for MNIST with a dense layer of 2,048 and 62 classes, which Caldas et al. (2018) use for
    /// EMNIST: 6,603,710 parameters.
    ///
    /// # Errors
    /// None; a `Result` like its neighbours.
    pub fn emnist_cnn() -> Result<Self> {
        Self::two_convs_and_a_dense(2048, 62)
    }

    fn two_convs_and_a_dense(hidden: usize, classes: usize) -> Result<Self> {
        let mut layers = two_convs([32, 64], 5);
        layers.extend([dense("fc1", hidden), LayerSpec::Relu, dense("fc2", classes)]);
        Self::new([1, 28, 28], layers)
    }

    /// All-CNN-C (Springenberg et al. 2015), which Caldas et al. (2018) use for CIFAR-10: nine
    /// convolutions on 32 x 32 colour images, ReLU between them, and the mean over the last 6 x 6
    /// as logits. 1,369,738 parameters for 10 classes at `width` 1; the widths of the eight hidden
    /// layers are multiplied by `width` and rounded half up, to at least 1. Without the dropout of
    /// the original, and without a ReLU behind the logits.
    ///
    /// # Errors
    /// `InvalidArgument` for no classes, or a width that makes it too large.
    pub fn all_cnn_c(classes: usize, width: f64) -> Result<Self> {
        // Filters, kernel, stride, padding.
        const HIDDEN: [(f64, usize, usize, usize); 8] = [
            (96.0, 3, 1, 1),
            (96.0, 3, 1, 1),
            (96.0, 3, 2, 1),
            (192.0, 3, 1, 1),
            (192.0, 3, 1, 1),
            (192.0, 3, 2, 1),
            (192.0, 3, 1, 0),
            (192.0, 1, 1, 0),
        ];
        let mut layers = Vec::new();
        for (i, (filters, kernel, stride, padding)) in HIDDEN.into_iter().enumerate() {
            let out = ((filters * width + 0.5).floor() as usize).max(1);
            layers.push(conv(&format!("conv{}", i + 1), out, kernel, stride, padding));
            layers.push(LayerSpec::Relu);
        }
        layers.push(conv("conv9", classes, 1, 1, 0));
        layers.push(LayerSpec::GlobalMean);
        Self::new([3, 32, 32], layers)
    }

    /// Two convolutions of 16 and 32 filters 3 x 3, each with a 2 x 2 max-pool, and the logits: for
    /// tests and demonstrations. `input` is `[channels, height, width]`.
    ///
    /// # Errors
    /// `InvalidArgument` for no classes, or images under 4 x 4.
    pub fn small_cnn(input: [usize; 3], classes: usize) -> Result<Self> {
        let mut layers = two_convs([16, 32], 3);
        layers.push(dense("fc", classes));
        Self::new(input, layers)
    }
}
