//! Local training: what a client does with the model it got.

use super::data::{Augment, Dataset};
use super::network::{Architecture, Network, cross_entropy, device_failed};
use super::random::{Draws, Purpose};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use fedpress_fl::{Error, Parameter, Result};
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// The rule of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent. As in PyTorch, the gradient is `g + weight_decay * w`, the
    /// velocity `v = momentum * v + g` without dampening, and the step `w -= learning_rate * v`.
    #[default]
    Sgd,
    /// Adam (Kingma & Ba 2015) with 0.9, 0.999 and 1e-8; weight decay is added to the gradient.
    Adam,
}

/// How a network is trained on batches. What an optimizer accumulates starts at zero with each call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalTraining {
    /// Passes over the client's examples, each in an order of its own.
    pub epochs: u32,
    /// Examples in a step; the last batch of an epoch may have fewer, but not one alone (which has
    /// no variance to normalise by): that is joined to the batch before.
    pub batch: usize,
    /// Step size.
    pub learning_rate: f64,
    /// 0 for none.
    pub momentum: f32,
    /// 0 for none.
    pub weight_decay: f32,
    /// Stops early, after so many steps in all.
    pub max_steps: Option<u64>,
    /// `sgd` or `adam`.
    pub optimizer: Optimizer,
    /// How images are varied from step to step: `none`, `crop`, `crop-flip` or `crop-flip-cutout`.
    pub augment: Augment,
}

/// One epoch of batches of 10 at 0.1.
impl Default for LocalTraining {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch: 10,
            learning_rate: 0.1,
            momentum: 0.0,
            weight_decay: 0.0,
            max_steps: None,
            optimizer: Optimizer::Sgd,
            augment: Augment::None,
        }
    }
}

impl LocalTraining {
    pub(crate) fn check(&self) -> Result<()> {
        let sound = |x: f32| x.is_finite() && x >= 0.0;
        if self.epochs == 0 || self.batch == 0 || self.max_steps == Some(0) {
            return Err(Error::invalid(format!("expected at least one step, found {self:?}")));
        }
        if !sound(self.learning_rate as f32) || !sound(self.weight_decay) {
            return Err(Error::invalid(format!(
                "expected a learning rate and weight decay of at least 0, found {self:?}"
            )));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            let found = self.momentum;
            let message = format!("momentum: expected at least 0 and below 1, found {found}");
            return Err(Error::invalid(message));
        }
        if self.optimizer == Optimizer::Adam && self.momentum != 0.0 {
            return Err(Error::invalid("momentum: adam has its own"));
        }
        Ok(())
    }

    /// The optimizer, with nothing accumulated.
    fn optimizer(&self) -> ModuleOptimizer {
        if self.optimizer == Optimizer::Adam {
            let mut config = AdamConfig::new().with_epsilon(1e-8);
            if self.weight_decay > 0.0 {
                config = config.with_weight_decay(Some(WeightDecayConfig::new(self.weight_decay)));
            }
            return config.init();
        }
        let mut config = SgdConfig::new();
        if self.momentum > 0.0 {
            let momentum = MomentumConfig::new().with_momentum(f64::from(self.momentum));
            config = config.with_momentum(Some(momentum.with_dampening(0.0)));
        }
        if self.weight_decay > 0.0 {
            config = config.with_weight_decay(Some(WeightDecayConfig::new(self.weight_decay)));
        }
        config.init()
    }
}

/// What came of [`train()`].
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The weights after the last step.
    pub parameters: Vec<Parameter>,
    /// The mean over all steps of the loss before the step.
    pub loss: f64,
    /// The client's examples, however often each was used: its weight in FedAvg.
    pub examples: u64,
    /// Steps made.
    pub steps: u64,
    /// Examples in these steps, each as often as it was used.
    pub used: u64,
}

/// Trains a model from `start` on the examples `indices` of `data`.
///
/// The order of examples is a permutation for each epoch, made from `seed` and the epoch; how images are
/// varied follows from `seed`, step and example. Matrix
/// products use the rayon pool that this is called in; the result is the same in any.
///
/// # Errors
/// `InvalidArgument` for settings or indices that cannot be, no examples, parameters or images that
/// are not the architecture's, and where training diverges: the message has the step at which the
/// loss, or a weight, stopped being finite. `Io` if the device fails.
pub fn train(
    architecture: &Architecture,
    start: &[Parameter],
    data: &Dataset,
    indices: &[u32],
    settings: &LocalTraining,
    seed: u64,
    device: &Device,
) -> Result<Trained> {
    check_fit(architecture, data, indices)?;
    let device = device.clone().autodiff();
    let [_, height, width] = data.shape();
    let step = Cell::new(0);
    let loss = |network: &Network, batch: &[u32]| {
        let number = step.replace(step.get() + 1);
        let view = |i| settings.augment.view([height, width], seed, number, i);
        let (images, labels) = data.views(batch, view, &device)?;
        Ok(cross_entropy(network.forward(images), labels))
    };
    descend(architecture, start, indices, settings, seed, &device, loss)
}

/// The same for any loss of a network on some of `indices`, whatever they number; `device` has
/// autodiff.
pub(crate) fn descend(
    architecture: &Architecture,
    start: &[Parameter],
    indices: &[u32],
    settings: &LocalTraining,
    seed: u64,
    device: &Device,
    loss: impl Fn(&Network, &[u32]) -> Result<Tensor<1>>,
) -> Result<Trained> {
    settings.check()?;
    let mut network = Network::new(architecture, start, device)?;
    let mut optimizer = settings.optimizer();
    let (mut total, mut steps, mut used) = (0.0, 0u64, 0u64);
    for batch in Minibatches::new(indices, settings, seed) {
        let loss = loss(&network, &batch)?;
        let value = loss.clone().try_into_scalar::<f32>().map_err(device_failed)?;
        if !value.is_finite() {
            return Err(diverged(steps, &format!("the loss is {value}"), settings));
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimizer.step(settings.learning_rate, network, gradients);
        total += f64::from(value);
        steps += 1;
        used += batch.len() as u64;
    }
    let parameters = network.parameters(architecture)?;
    for parameter in &parameters {
        if parameter.values.iter().any(|x| !x.is_finite()) {
            let why = format!("{} is not finite", parameter.name);
            return Err(diverged(steps, &why, settings).in_parameter(&parameter.name));
        }
    }
    let (loss, examples) = (total / steps as f64, indices.len() as u64);
    Ok(Trained { parameters, loss, examples, steps, used })
}

fn diverged(step: u64, why: &str, settings: &LocalTraining) -> Error {
    let rate = settings.learning_rate;
    Error::divergence(format!("training diverged at step {step} (learning rate {rate}): {why}"))
}

/// Whether images and classes are what the architecture takes, and there are examples to use.
pub(crate) fn check_fit(
    architecture: &Architecture,
    data: &Dataset,
    indices: &[u32],
) -> Result<()> {
    if data.shape() != architecture.input() {
        let (expected, found) = (architecture.input(), data.shape());
        return Err(Error::invalid(format!("expected images {expected:?}, found {found:?}")));
    }
    if data.n_classes() > architecture.n_classes() {
        let (expected, found) = (architecture.n_classes(), data.n_classes());
        return Err(Error::invalid(format!("expected {expected} classes, found {found}")));
    }
    if indices.is_empty() {
        return Err(Error::invalid("expected examples, found none"));
    }
    Ok(())
}

/// The batches of all epochs, in order.
struct Minibatches<'a> {
    indices: &'a [u32],
    seed: u64,
    batch: usize,
    epochs: u64,
    left: u64,
    /// The epoch that `order` is of, and how much of it is used.
    epoch: u64,
    order: Vec<u32>,
    used: usize,
}

impl<'a> Minibatches<'a> {
    fn new(indices: &'a [u32], settings: &LocalTraining, seed: u64) -> Self {
        let (batch, epochs) = (settings.batch, u64::from(settings.epochs));
        let left = settings.max_steps.unwrap_or(u64::MAX);
        Self { indices, seed, batch, epochs, left, epoch: 0, order: Vec::new(), used: 0 }
    }
}

impl Iterator for Minibatches<'_> {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        self.left = self.left.checked_sub(1)?;
        if self.used == self.order.len() {
            if self.epoch == self.epochs {
                return None;
            }
            self.order = self.indices.to_vec();
            Draws::new(self.seed, Purpose::Shuffle, self.epoch).shuffle(&mut self.order);
            (self.used, self.epoch) = (0, self.epoch + 1);
        }
        let rest = self.order.len() - self.used;
        let joined = rest == self.batch + 1 && self.batch > 1;
        let take = if joined { rest } else { self.batch };
        let batch: Vec<u32> = self.order[self.used..].iter().copied().take(take).collect();
        self.used += batch.len();
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_every_example_once_in_another_order() {
        let indices: Vec<u32> = (100..125).collect();
        let settings = LocalTraining { epochs: 2, ..LocalTraining::default() };
        let batches: Vec<Vec<u32>> = Minibatches::new(&indices, &settings, 7).collect();
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [10, 10, 5, 10, 10, 5]);
        let epoch = |i: usize| batches[3 * i..3 * i + 3].concat();
        assert_ne!(epoch(0), epoch(1));
        for i in [0, 1] {
            let mut sorted = epoch(i);
            sorted.sort_unstable();
            assert_eq!(sorted, indices);
        }
        let again: Vec<Vec<u32>> = Minibatches::new(&indices, &settings, 7).collect();
        assert_eq!(again, batches);
        let capped = LocalTraining { max_steps: Some(4), ..settings.clone() };
        assert_eq!(Minibatches::new(&indices, &capped, 7).count(), 4);
        let sizes = |n: usize, batch| {
            let settings = LocalTraining { batch, ..LocalTraining::default() };
            Minibatches::new(&indices[..n], &settings, 7).map(|b| b.len()).collect::<Vec<_>>()
        };
        assert_eq!((sizes(21, 10), sizes(2, 1), sizes(1, 5)), (vec![10, 11], vec![1, 1], vec![1]));
    }
}
