//! [`LayerSpec`]: one layer of an architecture, as data.

use serde::{Deserialize, Serialize};

/// One layer of an [`Architecture`](super::Architecture). In files: `kind = "conv"`, then the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerSpec {
    /// Convolution with a square kernel; images in, images out.
    Conv {
        /// The prefix of its parameters, and the group of its units.
        name: String,
        /// Filters.
        out: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step between applications, both ways.
        #[serde(default = "one")]
        stride: usize,
        /// Zeros on every side.
        #[serde(default)]
        padding: usize,
        /// Whether it adds a bias; before a batch norm it need not.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        bias: bool,
    },
    /// Fully connected with a bias; vectors in, vectors out.
    Dense {
        /// The prefix of its parameters, and the group of its units.
        name: String,
        /// Outputs.
        out: usize,
    },
    /// Batch normalization of each channel of an image (Ioffe & Szegedy 2015): by the batch in
    /// training, by running statistics (momentum 0.1) otherwise; epsilon 1e-5.
    BatchNorm {
        /// The prefix of its parameters.
        name: String,
    },
    /// Normalization of each image in groups of channels (Wu & He 2018), the same in training and
    /// otherwise; epsilon 1e-5. Of a submodel in as many groups as divide its channels as well: it has
    /// no statistics that would be of a submodel.
    GroupNorm {
        /// The prefix of its parameters.
        name: String,
        /// Groups, at least 1.
        groups: usize,
    },
    /// max(x, 0).
    Relu,
    /// The largest of each square of `size` by `size`; a rest at the edge is left out.
    MaxPool {
        /// Side and step.
        size: usize,
    },
    /// The mean of each channel: images to vectors.
    GlobalMean,
    /// Images to vectors, channel by channel: a channel becomes `height * width` neighbours.
    Flatten,
    /// The sum of two paths from the same image (He et al. 2016).
    Residual {
        /// One path.
        body: Vec<LayerSpec>,
        /// The other; empty: the image as it is.
        #[serde(default)]
        shortcut: Vec<LayerSpec>,
    },
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

impl LayerSpec {
    /// The name of a layer that has parameters.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Conv { name, .. }
            | Self::Dense { name, .. }
            | Self::BatchNorm { name }
            | Self::GroupNorm { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Itself, or for a sum the layers of both paths: those that do something alone.
    pub(super) fn leaves(&self) -> Vec<&LayerSpec> {
        match self {
            Self::Residual { body, shortcut } => {
                body.iter().chain(shortcut).flat_map(Self::leaves).collect()
            }
            _ => vec![self],
        }
    }
}
