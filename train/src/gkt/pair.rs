//! Inference with what FedGKT has trained.

use crate::data::Dataset;
use crate::evaluate::score;
use crate::local::check_fit;
use crate::network::device_failed;
use crate::{Evaluation, Network, SplitModel};
use burn::tensor::{Device, Tensor, TensorData};
use fedpress::{DecodeOptions, EncodeOptions, Seeds, Spec, TensorView};
use fedpress_fl::{Parameter, Result};

/// A client's extractor and the server's network: the model that is used after training. A client's
/// own small classifier is its whole network, which [`evaluate`](crate::evaluate()) takes.
pub struct Pair {
    client: Network,
    cut: usize,
    server: Network,
    device: Device,
    /// How features travel from one to the other.
    spec: Spec,
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
        Ok(Self { client, cut: model.cut(), server, device, spec: Spec::none() })
    }

    /// With features that travel by `spec`, as those did that the server was trained on; without,
    /// they stay as they are.
    pub fn with_features(mut self, spec: &Spec) -> Self {
        self.spec.clone_from(spec);
        self
    }

    /// Images `[examples, channels, height, width]` to logits `[examples, classes]`.
    ///
    /// # Errors
    /// `InvalidArgument` for features that are not finite, `Io` if the device fails.
    ///
    /// # Panics
    /// In burn, where images are not of the model's size or on another device.
    pub fn forward(&self, images: Tensor<4>) -> Result<Tensor<2>> {
        let features = self.client.features(images, self.cut);
        if !self.spec.is_lossy() {
            return Ok(self.server.forward(features));
        }
        let shape = features.dims();
        let values = features.try_into_vec_as::<f32>().map_err(device_failed)?;
        // Draws are the same each time; nobody is to be kept from knowing them here.
        let seeds = Seeds::new(0, 0);
        let view = TensorView::f32("features", &shape, &values);
        let bytes = fedpress::encode(&[view], &self.spec, &EncodeOptions::new(seeds))?;
        let decoded = fedpress::decode(&bytes, &DecodeOptions::default())?;
        let values = decoded.iter().flat_map(|tensor| tensor.data.as_chunks::<4>().0);
        let values: Vec<f32> = values.map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let features = Tensor::from_data(TensorData::new(values, shape), &self.device);
        Ok(self.server.forward(features))
    }

    /// Evaluates the pair on the examples `indices` of `data`.
    ///
    /// # Errors
    /// As [`evaluate`](crate::evaluate()).
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
