//! Evaluation: how good a model is on a data set.

use super::data::Dataset;
use super::local::check_fit;
use super::network::{Architecture, Network, device_failed};
use burn::tensor::{Device, Tensor};
use fedpress_fl::{Parameter, Result};
use rayon::prelude::*;

/// Examples in a forward pass. Part of FedGKT's results: what travels of a batch is encoded together.
const BATCH: usize = 250;

/// How good a model is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Examples whose largest logit is that of their class.
    pub correct: u64,
    /// Examples in all.
    pub examples: u64,
    /// Mean cross-entropy; not finite where logits are not.
    pub loss: f64,
}

impl Evaluation {
    /// Correct ones among all.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.examples as f64
    }
}

/// Evaluates a model on the examples `indices` of `data`, without gradients, on the threads of the
/// rayon pool that this is called in; the result is the same in any.
///
/// # Errors
/// `InvalidArgument` where parameters or images are not the architecture's, for indices that are no
/// examples, and for no examples; `Io` if the device fails.
pub fn evaluate(
    architecture: &Architecture,
    parameters: &[Parameter],
    data: &Dataset,
    indices: &[u32],
    device: &Device,
) -> Result<Evaluation> {
    check_fit(architecture, data, indices)?;
    let device = device.clone().without_autodiff();
    let network = Network::new(architecture, parameters, &device)?;
    score(data, indices, &device, |images| Ok(network.forward(images)))
}

/// The same for anything that turns images into logits; batches side by side, as one alone is too
/// small to share.
pub(crate) fn score(
    data: &Dataset,
    indices: &[u32],
    device: &Device,
    forward: impl Fn(Tensor<4>) -> Result<Tensor<2>> + Sync,
) -> Result<Evaluation> {
    let batch = |indices: &[u32]| {
        let (images, _) = data.batch(indices, device)?;
        let logits = forward(images)?;
        let [_, classes] = logits.dims();
        let logits = logits.try_into_vec_as::<f32>().map_err(device_failed)?;
        let (mut correct, mut loss) = (0, 0.0);
        for (logits, index) in logits.chunks_exact(classes).zip(indices) {
            let label = usize::from(data.labels()[*index as usize]);
            correct += u64::from(largest(logits) == Some(label));
            loss += surprise(logits, label);
        }
        Ok((correct, loss))
    };
    let batches = indices.par_chunks(BATCH).map(batch).collect::<Result<Vec<(u64, f64)>>>()?;
    let examples = indices.len() as u64;
    let correct = batches.iter().map(|(correct, _)| correct).sum();
    let loss: f64 = batches.iter().map(|(_, loss)| loss).sum();
    Ok(Evaluation { correct, examples, loss: loss / examples as f64 })
}

/// The first of the largest; none among NaNs.
fn largest(logits: &[f32]) -> Option<usize> {
    let max = logits.iter().copied().fold(f32::NAN, f32::max);
    logits.iter().position(|x| *x == max)
}

/// -ln of the softmax at `label`.
fn surprise(logits: &[f32], label: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let above = |x: f32| f64::from(x) - f64::from(max);
    let sum: f64 = logits.iter().map(|x| libm::exp(above(*x))).sum();
    libm::log(sum) - above(logits[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_first_and_nothing_to_nan() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(largest(&[f32::NAN, 3.0]), Some(1));
        assert_eq!(largest(&[f32::NAN; 3]), None);
        assert!(surprise(&[f32::NAN, 1.0], 0).is_nan());
    }

    #[test]
    fn the_loss_is_cross_entropy() {
        assert!((surprise(&[2.0; 10], 3) - 10f64.ln()).abs() < 1e-12);
        let expected = (1.0 + (-2f64).exp()).ln();
        assert!((surprise(&[1001.0, 999.0], 0) - expected).abs() < 1e-12);
    }
}
