//! The server of FedGKT: one large network, trained on the features of all clients.

use super::GktConfig;
use super::edge::BATCH;
use crate::local::descend;
use crate::network::{Lesson, confidence, cross_entropy, device_failed, distillation};
use crate::{Device, LocalTraining, Network, SplitModel, Trained};
use burn::tensor::{Int, Tensor, TensorData};
use fedpress::{Spec, derive_key};
use fedpress_fl::exchange::{FeatureStore, LogitWriter, Logits};
use fedpress_fl::{Parameter, Result, RoundingSeed};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Added to the logits of classes that are left out.
const UNSEEN: f32 = -1e9;

mod purpose {
    pub(super) const SHUFFLE: u64 = 0x31;
    pub(super) const ROUNDING: u64 = 0x32;
    pub(super) const SHARED: u64 = 0x33;
}

/// The learning rate, and what it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plateau {
    pub(super) learning_rate: f64,
    best: Option<f64>,
    /// Turns since the best.
    waited: u32,
}

impl Plateau {
    pub(super) fn new(learning_rate: f64) -> Self {
        Self { learning_rate, best: None, waited: 0 }
    }

    /// Lowers the rate where the loss of a turn, and of `patience` before it, is not below the best
    /// by a ten-thousandth. It is the training loss: the test set decides nothing.
    pub(super) fn step(&mut self, loss: f64, config: &GktConfig) {
        if self.best.is_none_or(|best| loss < best * (1.0 - 1e-4)) {
            (self.best, self.waited) = (Some(loss), 0);
            return;
        }
        self.waited += 1;
        if config.patience > 0 && self.waited > config.patience {
            (self.learning_rate, self.waited) = (self.learning_rate * config.factor, 0);
        }
    }
}

/// A batch of the store.
#[derive(Default)]
struct Rows {
    features: Vec<f32>,
    logits: Vec<f32>,
    labels: Vec<u16>,
}

impl Rows {
    fn features(&self, shape: [usize; 3], device: &Device) -> Tensor<4> {
        let [c, h, w] = shape;
        let n = self.labels.len();
        Tensor::from_data(TensorData::new(self.features.clone(), [n, c, h, w]), device)
    }
}

/// All that a turn of the server depends on.
pub(super) struct Turn<'a> {
    pub(super) model: &'a SplitModel,
    pub(super) gkt: &'a GktConfig,
    pub(super) store: &'a FeatureStore,
    pub(super) device: &'a Device,
    pub(super) seed: u64,
    /// From 0 on.
    pub(super) turn: u64,
    /// Whose features it works with.
    pub(super) clients: &'a [u64],
}

impl Turn<'_> {
    /// Trains over the samples of all `clients`, shuffled together.
    pub(super) fn train(&self, start: &[Parameter], learning_rate: f64) -> Result<Trained> {
        let samples: Vec<(u64, u32)> = self
            .clients
            .iter()
            .flat_map(|client| self.store.samples(*client).iter().map(|id| (*client, *id)))
            .collect();
        let indices: Vec<u32> = (0..samples.len() as u32).collect();
        let (server, config) = (self.model.server(), self.gkt);
        let device = self.device.clone().autodiff();
        let weight = config.server_kl_weight * config.risen(self.turn);
        let seen = if config.seen { self.seen() } else { BTreeMap::new() };
        let rows = RefCell::new(Rows::default());
        let loss = |network: &Network, batch: &[u32]| {
            let rows = &mut *rows.borrow_mut();
            let wanted: Vec<(u64, u32)> = batch.iter().map(|i| samples[*i as usize]).collect();
            self.read(&wanted, rows)?;
            let logits = network.forward(rows.features(server.input(), &device));
            let labels: Vec<i64> = rows.labels.iter().map(|label| i64::from(*label)).collect();
            let labels = TensorData::new(labels, [batch.len()]);
            let labels = Tensor::<1, Int>::from_data(labels, &device);
            let lesson = self.lesson(rows, &wanted, &seen, &device);
            let among = match &lesson.classes {
                Some(classes) => logits.clone() + classes.clone(),
                None => logits.clone(),
            };
            let loss = cross_entropy(among, labels).mul_scalar(config.server_ce_weight);
            if weight == 0.0 {
                return Ok(loss);
            }
            let kl = distillation(logits, lesson, config.temperature);
            Ok(loss + kl.mul_scalar(weight))
        };
        let settings = LocalTraining { learning_rate, ..config.training.clone() };
        let seed = derive_key(&[self.seed, purpose::SHUFFLE, self.turn]);
        descend(server, start, &indices, &settings, seed, &device, loss)
    }

    /// Of each client, 0 for the classes of which it has examples, and far below for the others.
    fn seen(&self) -> BTreeMap<u64, Vec<f32>> {
        let of = |client: &u64| {
            let mut classes = vec![UNSEEN; self.model.server().n_classes()];
            let labels = self.store.samples(*client).iter();
            for label in labels.filter_map(|id| self.store.label(*client, *id)) {
                classes[usize::from(label)] = 0.0;
            }
            (*client, classes)
        };
        self.clients.iter().map(of).collect()
    }

    /// What clients say of some samples.
    fn lesson(
        &self,
        rows: &Rows,
        samples: &[(u64, u32)],
        seen: &BTreeMap<u64, Vec<f32>>,
        device: &Device,
    ) -> Lesson {
        let (n, classes) = (samples.len(), self.model.server().n_classes());
        let weights = self.gkt.confident.then(|| {
            let labels = rows.labels.iter().map(|label| usize::from(*label));
            let weights = confidence(&rows.logits, classes, labels);
            Tensor::from_data(TensorData::new(weights, [n, 1]), device)
        });
        let known = samples.iter().filter_map(|(client, _)| seen.get(client));
        let known: Vec<f32> = known.flatten().copied().collect();
        let compared =
            self.gkt.seen.then(|| Tensor::from_data(TensorData::new(known, [n, classes]), device));
        let logits = TensorData::new(rows.logits.clone(), [n, classes]);
        Lesson { logits: Tensor::from_data(logits, device), weights, classes: compared }
    }

    /// The message with the server's logits for a client's last upload, in evaluation mode.
    pub(super) fn answer(
        &self,
        parameters: &[Parameter],
        client: u64,
        cycle: u64,
        spec: &Spec,
    ) -> Result<Vec<u8>> {
        let server = self.model.server();
        let device = self.device.clone().without_autodiff();
        let network = Network::new(server, parameters, &device)?;
        let classes = server.n_classes();
        let header = Logits { run: self.seed, round: cycle, client, classes };
        let key = |purpose| derive_key(&[self.seed, purpose, self.turn, client]);
        let (shared, private) = (key(purpose::SHARED), key(purpose::ROUNDING));
        let mut writer =
            LogitWriter::new(Vec::new(), header, spec.clone(), shared, RoundingSeed(private))?;
        let mut rows = Rows::default();
        for ids in self.store.samples(client).chunks(BATCH) {
            let wanted: Vec<(u64, u32)> = ids.iter().map(|id| (client, *id)).collect();
            self.read(&wanted, &mut rows)?;
            let logits = network.forward(rows.features(server.input(), &device));
            writer.batch(ids, &logits.try_into_vec_as::<f32>().map_err(device_failed)?)?;
        }
        writer.finish()
    }

    fn read(&self, samples: &[(u64, u32)], rows: &mut Rows) -> Result<()> {
        let Rows { features, logits, labels } = rows;
        self.store.read(samples, features, logits, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_where_the_loss_does_not() {
        let config = GktConfig { patience: 2, factor: 0.5, ..GktConfig::default() };
        let mut plateau = Plateau::new(0.1);
        let mut rates = Vec::new();
        for loss in [1.0, 0.9, 0.9, 0.95, 0.9, 0.8, 0.81, 0.82, 0.83, 0.84] {
            plateau.step(loss, &config);
            rates.push(plateau.learning_rate);
        }
        assert_eq!(rates, [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025]);
        let never = GktConfig { patience: 0, ..config };
        let mut plateau = Plateau::new(0.1);
        (0..50).for_each(|_| plateau.step(1.0, &never));
        assert_eq!(plateau.learning_rate, 0.1);
    }
}
