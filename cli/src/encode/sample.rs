//! What loss costs, measured on a part of the values while they pass.

use anyhow::Result;
use fedpress::{DecodeOptions, EncodeOptions, Spare, Spec, Tensor, TensorDesc};

use crate::measure::nmse;
use crate::piece::PIECE;

/// How many bytes are measured unless all tensors are to be.
const BUDGET: usize = 16 * PIECE;

/// Pieces of lossy tensors, encoded and decoded in memory.
pub struct Sampler {
    options: EncodeOptions,
    left: usize,
    /// Sum of the errors of the tensors, each times its number of values, and these numbers.
    sum: f64,
    weight: f64,
}

impl Sampler {
    /// `all`: a piece of every tensor; else of the first ones; `None` measures nothing.
    pub fn new(options: &EncodeOptions, all: Option<bool>) -> Self {
        let options = options.clone().with_spare(Spare::Nothing).with_min_values(0);
        let left = match all {
            None => 0,
            Some(false) => BUDGET,
            Some(true) => usize::MAX,
        };
        Self { options, left, sum: 0.0, weight: 0.0 }
    }

    /// The error of a piece of a tensor, where it is measured and a number.
    pub fn measure(&mut self, desc: &TensorDesc, spec: &Spec, piece: &[u8]) -> Result<Option<f64>> {
        if !spec.is_lossy() || piece.is_empty() || self.left < piece.len() {
            return Ok(None);
        }
        if fedpress::first_non_finite(desc.dtype, piece).is_some() {
            return Ok(None);
        }
        self.left -= piece.len();
        let values = 8 * piece.len() / desc.dtype.bits();
        let (name, dtype, shape) = (desc.name.clone(), desc.dtype, vec![values]);
        let tensor = Tensor { name, dtype, shape, data: piece.to_vec() };
        let stream = fedpress::encode(&[tensor.view()], spec, &self.options)?;
        let back = fedpress::decode(&stream, &DecodeOptions::trusted())?;
        let error = back.first().map(|back| nmse(&tensor, back)).transpose()?;
        let error = error.filter(|error| error.is_finite());
        if let Some(error) = error {
            let all = desc.shape.iter().map(|n| *n as f64).product::<f64>().max(values as f64);
            self.sum += all * error;
            self.weight += all;
        }
        Ok(error)
    }

    /// Over all that was measured, weighted by the values of the tensors.
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    /// How many bytes a piece takes without loss.
    pub fn lossless_len(&self, desc: &TensorDesc, piece: &[u8]) -> Result<usize> {
        let values = 8 * piece.len() / desc.dtype.bits();
        let (name, dtype, shape) = (desc.name.clone(), desc.dtype, vec![values]);
        let tensor = Tensor { name, dtype, shape, data: piece.to_vec() };
        Ok(fedpress::encode(&[tensor.view()], &Spec::lossless(), &self.options)?.len())
    }
}
