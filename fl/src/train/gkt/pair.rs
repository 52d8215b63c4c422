//! Inference with what FedGKT has trained.

use crate::train::data::Dataset;
use crate::train::evaluate::score;
use crate::train::local::check_fit;
use crate::train::{Evaluation, Network, SplitModel};
use crate::{Parameter, Result};
use burn::tensor::{Device, Tensor};

/// A client's extractor and the server's network: the model that is used after training. A client's
/// own small classifier is its whole network, which [`evaluate`](crate::train::evaluate()) takes.
pub struct Pair {
    client: Network,
    cut: usize,
    server: Network,
    device: Device,
}

impl Pair {
    /// From the parameters of a client and of the server; for inference on `device`.
    ///
    /// # Errors
    /// `InvalidArgument` where parameters are not the model's.
    pub fn new(
        model: &SplitModel,
        client: &[Parameter],
        server: &[Parameter],
        device: &Device,
    ) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let client = Network::new(model.client(), client, &device)?;
        let server = Network::new(model.server(), server, &device)?;
        Ok(Self { client, cut: model.cut(), server, device })
    }

    /// Images `[examples, channels, height, width]` to logits `[examples, classes]`.
    ///
    /// # Panics
    /// In burn, where images are not of the model's size or on another device.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.server.forward(self.client.features(images, self.cut))
    }

    /// Evaluates the pair on the examples `indices` of `data`.
    ///
    /// # Errors
    /// As [`evaluate`](crate::train::evaluate()).
    pub fn evaluate(
        &self,
        model: &SplitModel,
        data: &Dataset,
        indices: &[u32],
    ) -> Result<Evaluation> {
        check_fit(model.client(), data, indices)?;
        score(data, indices, &self.device, |images| self.forward(images))
    }
}
