//! A client of FedGKT: it trains its small network, and sends what its extractor sees.

use super::GktConfig;
use crate::local::descend;
use crate::network::{Lesson, confidence, cross_entropy, device_failed, distillation};
use crate::simulation::timed;
use crate::{Dataset, Device, LocalTraining, Network, Seconds, SplitModel, Trained};
use burn::tensor::{Tensor, TensorData};
use fedpress::derive_key;
use fedpress_fl::exchange::{FeatureSpecs, FeatureWriter, Features};
use fedpress_fl::{Error, Parameter, Result, RoundingSeed};

/// Examples in a forward pass, and in a batch on the wire.
pub(super) const BATCH: usize = 256;

/// What a client's randomness is for.
mod purpose {
    pub(super) const SHUFFLE: u64 = 0x21;
    pub(super) const ROUNDING: u64 = 0x22;
    pub(super) const SHARED: u64 = 0x23;
    pub(super) const VIEW: u64 = 0x24;
}

/// What the server told a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Teacher {
    /// The upload that it answers, from 0 on.
    pub(super) cycle: u64,
    /// Sample by sample, in the order of the client's samples.
    pub(super) logits: Vec<f32>,
}

impl Teacher {
    /// The view of the samples that the logits are of.
    fn view(&self) -> u64 {
        sent_view(self.cycle)
    }
}

/// The view that upload `cycle` has features of: one later than what was trained on before it.
fn sent_view(cycle: u64) -> u64 {
    cycle + 1
}

/// All that a cycle of a client depends on.
pub(super) struct Cycle<'a> {
    pub(super) model: &'a SplitModel,
    pub(super) data: &'a Dataset,
    /// The client's examples; sample i of a message is the i-th of them.
    pub(super) shard: &'a [u32],
    pub(super) local: &'a LocalTraining,
    pub(super) gkt: &'a GktConfig,
    pub(super) specs: &'a FeatureSpecs,
    pub(super) device: &'a Device,
    pub(super) seed: u64,
    pub(super) client: u64,
    /// From 0 on: uploads before this one.
    pub(super) cycle: u64,
    pub(super) parameters: &'a [Parameter],
    pub(super) teacher: Option<&'a Teacher>,
}

/// What came of a cycle.
pub(super) struct Worked {
    pub(super) trained: Trained,
    pub(super) message: Vec<u8>,
    pub(super) seconds: Seconds,
}

impl Cycle<'_> {
    /// Trains, extracts, encodes.
    pub(super) fn run(&self) -> Result<Worked> {
        let mut seconds = Seconds::default();
        let trained = timed(&mut seconds.train, || self.train())?;
        let message = self.upload(&trained.parameters, &mut seconds)?;
        Ok(Worked { trained, message, seconds })
    }

    /// Forward multiply-adds in training, and a third of those of extraction: training takes three
    /// times as many as a pass without.
    pub(super) fn multiply_adds(&self, trained: &Trained) -> u64 {
        (3 * trained.used + self.shard.len() as u64) * self.model.client().multiply_adds() / 3
    }

    pub(super) fn images(&self, samples: &[u32], view: u64, device: &Device) -> Result<Batch> {
        let examples: Vec<u32> = samples.iter().map(|i| self.shard[*i as usize]).collect();
        let [_, height, width] = self.data.shape();
        let seed = derive_key(&[self.seed, purpose::VIEW]);
        let augment = self.gkt.augment;
        self.data.views(&examples, |i| augment.view([height, width], seed, view, i), device)
    }

    fn samples(&self) -> Vec<u32> {
        (0..self.shard.len() as u32).collect()
    }

    /// Cross-entropy, and what the server thinks of the same pixels.
    pub(super) fn train(&self) -> Result<Trained> {
        let device = self.device.clone().autodiff();
        let classes = self.model.client().n_classes();
        let view = self.teacher.map_or(self.cycle, Teacher::view);
        let weight = self.gkt.client_kl_weight * self.gkt.risen(self.cycle);
        let loss = |network: &Network, batch: &[u32]| {
            let (images, labels) = self.images(batch, view, &device)?;
            let logits = network.forward(images);
            let loss = cross_entropy(logits.clone(), labels);
            let Some(teacher) = self.teacher.filter(|_| weight > 0.0) else { return Ok(loss) };
            let rows =
                batch.iter().flat_map(|i| &teacher.logits[*i as usize * classes..][..classes]);
            let lesson = self.lesson(rows.copied().collect(), batch, &device);
            let kl = distillation(logits, lesson, self.gkt.temperature);
            Ok(loss + kl.mul_scalar(weight))
        };
        let (client, start) = (self.model.client(), self.parameters);
        let seed = derive_key(&[self.seed, purpose::SHUFFLE, self.client, self.cycle]);
        descend(client, start, &self.samples(), self.local, seed, &device, loss)
    }

    /// What the server has said of some samples.
    fn lesson(&self, logits: Vec<f32>, batch: &[u32], device: &Device) -> Lesson {
        let (n, classes) = (batch.len(), self.model.client().n_classes());
        let label = |i: &u32| usize::from(self.data.labels()[self.shard[*i as usize] as usize]);
        let weights = self.gkt.confident.then(|| {
            let weights = confidence(&logits, classes, batch.iter().map(label));
            Tensor::from_data(TensorData::new(weights, [n, 1]), device)
        });
        let logits = Tensor::from_data(TensorData::new(logits, [n, classes]), device);
        Lesson { logits, weights, classes: None }
    }

    /// Features and logits of the next view, in evaluation mode, without a graph.
    fn upload(&self, parameters: &[Parameter], seconds: &mut Seconds) -> Result<Vec<u8>> {
        let device = self.device.clone().without_autodiff();
        let network = Network::new(self.model.client(), parameters, &device)?;
        let (client, cut) = (self.model.client(), self.model.cut());
        let classes = client.n_classes();
        let header = Features {
            run: self.seed,
            round: self.cycle,
            client: self.client,
            shape: client.features(cut)?.to_vec(),
            classes,
        };
        let shared = derive_key(&[self.seed, purpose::SHARED, self.client, self.cycle]);
        let private = derive_key(&[self.seed, purpose::ROUNDING, self.client, self.cycle]);
        let specs = self.specs.clone();
        let mut writer =
            FeatureWriter::new(Vec::new(), header, specs, shared, RoundingSeed(private))?;
        for ids in self.samples().chunks(BATCH) {
            let (features, logits) = timed(&mut seconds.train, || {
                let (images, _) = self.images(ids, sent_view(self.cycle), &device)?;
                let features = network.features(images, cut);
                let logits = network.forward_from(features.clone(), cut);
                let features = features.try_into_vec_as::<f32>().map_err(device_failed)?;
                let logits = logits.try_into_vec_as::<f32>().map_err(device_failed)?;
                Ok::<_, Error>((features, logits))
            })?;
            if !features.iter().chain(&logits).all(|value| value.is_finite()) {
                let why = format!("client {}: its features are not finite", self.client);
                return Err(Error::divergence(why));
            }
            let labels: Vec<u16> =
                ids.iter().map(|i| self.data.labels()[self.shard[*i as usize] as usize]).collect();
            // They travel once.
            let labels = Some(&labels[..]).filter(|_| self.cycle == 0);
            timed(&mut seconds.encode, || writer.batch(ids, &features, &logits, labels))?;
        }
        writer.finish()
    }
}

/// Images and classes.
type Batch = (Tensor<4>, Tensor<1, burn::tensor::Int>);
