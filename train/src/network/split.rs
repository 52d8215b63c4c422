//! [`SplitModel`]: a model cut in two, with a head of its own for the small part (FedGKT).

use super::{Architecture, LayerSpec};
use fedpress_fl::{Error, Result};

/// What FedGKT trains (He et al. 2020): the first layers of the client's network are the extractor,
/// whose features go to the server's network; the rest of it is the client's own small classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitModel {
    client: Architecture,
    cut: usize,
    server: Architecture,
}

impl SplitModel {
    /// From the client's network, how many of its layers are the extractor, and the server's.
    ///
    /// # Errors
    /// `InvalidArgument` where the extractor does not give images of the size that the server's
    /// network takes, classes differ, or the networks share a name.
    pub fn new(client: Architecture, cut: usize, server: Architecture) -> Result<Self> {
        let features = client.features(cut)?;
        if features != server.input() || client.n_classes() != server.n_classes() {
            return Err(Error::invalid(format!(
                "expected a server for features {features:?} and {} classes, found {:?} and {}",
                client.n_classes(),
                server.input(),
                server.n_classes()
            )));
        }
        let made = Self { client, cut, server };
        made.joined()?;
        Ok(made)
    }

    /// The pair of the paper for 32 x 32 colour images: a stem of 16 filters 3 x 3 as extractor, two
    /// bottleneck blocks of width 16 as the client's own classifier (10,586 parameters for 10
    /// classes), and on the server three stages of `blocks` bottlenecks of widths 16, 32 and 64.
    /// 6 blocks have 590,858 parameters (which the paper counts as ResNet-56), 12 have 1,147,274
    /// (ResNet-110). These are bottleneck networks, not those of He et al. 2016 for CIFAR-10.
    ///
    /// # Errors
    /// `InvalidArgument` for no classes or no blocks.
    pub fn gkt_resnet(blocks: usize, classes: usize) -> Result<Self> {
        if blocks == 0 {
            return Err(Error::invalid("expected at least one block in a stage"));
        }
        let mut client = stem(16, 1);
        bottlenecks(&mut client, "client", 16, 2, 16, 1);
        client.extend([LayerSpec::GlobalMean, dense("client_fc", classes)]);
        let (mut server, mut channels) = (Vec::new(), 16);
        for (stage, (width, stride)) in [(16, 1), (32, 2), (64, 2)].into_iter().enumerate() {
            let name = format!("stage{}", stage + 1);
            channels = bottlenecks(&mut server, &name, width, blocks, channels, stride);
        }
        server.extend([LayerSpec::GlobalMean, dense("fc", classes)]);
        let client = Architecture::new([3, 32, 32], client)?;
        let server = Architecture::new(client.features(3)?, server)?;
        Self::new(client, 3, server)
    }

    /// A small pair for images of any size from 8 x 8 on: a stem of 8 filters 3 x 3 with stride 2, a
    /// classifier of one convolution of 16 and their mean, and a server of two convolutions of 32
    /// and 64, each with a 2 x 2 max-pool, and a dense layer of 128.
    ///
    /// # Errors
    /// `InvalidArgument` for no classes, or smaller images.
    pub fn gkt_small(input: [usize; 3], classes: usize) -> Result<Self> {
        let mut client = stem(8, 2);
        normed(&mut client, "client_conv", 16, 3, 2);
        client.extend([LayerSpec::Relu, LayerSpec::GlobalMean, dense("client_fc", classes)]);
        let mut server = Vec::new();
        for (name, out) in [("conv1", 32), ("conv2", 64)] {
            normed(&mut server, name, out, 3, 1);
            server.extend([LayerSpec::Relu, LayerSpec::MaxPool { size: 2 }]);
        }
        let hidden = [LayerSpec::Flatten, dense("fc1", 128), LayerSpec::Relu];
        server.extend(hidden);
        server.push(dense("fc2", classes));
        let client = Architecture::new(input, client)?;
        let server = Architecture::new(client.features(3)?, server)?;
        Self::new(client, 3, server)
    }

    /// The client's network: extractor and classifier.
    pub fn client(&self) -> &Architecture {
        &self.client
    }

    /// How many layers of the client's network are the extractor.
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// The server's network, whose images are features.
    pub fn server(&self) -> &Architecture {
        &self.server
    }

    /// Extractor and server as one network: what FedAvg and central training would train.
    ///
    /// # Errors
    /// `InvalidArgument` where the networks share a name; [`new`](Self::new) has checked that.
    pub fn joined(&self) -> Result<Architecture> {
        let extractor = &self.client.layers()[..self.cut];
        let layers = extractor.iter().chain(self.server.layers()).cloned().collect();
        Architecture::new(self.client.input(), layers)
    }
}

fn dense(name: &str, out: usize) -> LayerSpec {
    LayerSpec::Dense { name: name.to_owned(), out }
}

fn stem(out: usize, stride: usize) -> Vec<LayerSpec> {
    let mut layers = Vec::new();
    normed(&mut layers, "stem", out, 3, stride);
    layers.push(LayerSpec::Relu);
    layers
}

/// A convolution without bias that keeps the size but for its stride, and a batch norm.
fn normed(layers: &mut Vec<LayerSpec>, name: &str, out: usize, kernel: usize, stride: usize) {
    let (padding, norm) = (kernel / 2, format!("{name}_bn"));
    let name = name.to_owned();
    layers.push(LayerSpec::Conv { name, out, kernel, stride, padding, bias: false });
    layers.push(LayerSpec::BatchNorm { name: norm });
}

/// Bottleneck blocks (He et al. 2016) of `width` for images of `channels`; they give four times as
/// many channels as their width, which is returned. The first has the stride, at its 3 x 3, and a
/// convolution in the shortcut.
fn bottlenecks(
    layers: &mut Vec<LayerSpec>,
    name: &str,
    width: usize,
    blocks: usize,
    mut channels: usize,
    stride: usize,
) -> usize {
    for block in 1..=blocks {
        let (first, name) = (block == 1, format!("{name}_block{block}"));
        let stride = if first { stride } else { 1 };
        let (mut body, mut shortcut) = (Vec::new(), Vec::new());
        normed(&mut body, &format!("{name}_conv1"), width, 1, 1);
        body.push(LayerSpec::Relu);
        normed(&mut body, &format!("{name}_conv2"), width, 3, stride);
        body.push(LayerSpec::Relu);
        normed(&mut body, &format!("{name}_conv3"), 4 * width, 1, 1);
        if stride != 1 || channels != 4 * width {
            normed(&mut shortcut, &format!("{name}_shortcut"), 4 * width, 1, stride);
        }
        layers.extend([LayerSpec::Residual { body, shortcut }, LayerSpec::Relu]);
        channels = 4 * width;
    }
    channels
}
