//! [`Parameter`]: one named tensor of a model.

use crate::{Error, Result};
use fedpress::{Tensor, TensorView};

/// One named tensor of a model: f32 values in C order. A model is a list of them, in a fixed order.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Unique in the model.
    pub name: String,
    /// Dimensions; none for a scalar.
    pub shape: Vec<usize>,
    /// As many as the product of the dimensions.
    pub values: Vec<f32>,
}

impl Parameter {
    /// All zeros.
    pub fn zeros(name: impl Into<String>, shape: &[usize]) -> Self {
        let values = vec![0.0; shape.iter().product()];
        Self { name: name.into(), shape: shape.to_vec(), values }
    }

    /// From a decoded tensor; f16 and bf16 widen, other types are refused.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let refused = || {
            Error::invalid(format!("expected f32, f16 or bf16, found {}", tensor.dtype))
                .in_parameter(&tensor.name)
        };
        let values = tensor.to_f32().ok_or_else(refused)?;
        Ok(Self { name: tensor.name.clone(), shape: tensor.shape.clone(), values })
    }

    /// Whether all values of all of them are finite.
    ///
    /// # Errors
    /// `InvalidArgument` with the first that is not.
    pub(crate) fn check_finite(all: &[Self]) -> Result<()> {
        let wrong = |parameter: &Self| parameter.values.iter().position(|v| !v.is_finite());
        match all.iter().find_map(|parameter| Some((parameter, wrong(parameter)?))) {
            None => Ok(()),
            Some((Self { name, values, .. }, at)) => {
                Err(Error::invalid(format!("value {at} is {}", values[at])).in_parameter(name))
            }
        }
    }

    /// What the codec encodes.
    pub fn view(&self) -> TensorView<'_> {
        TensorView::f32(&self.name, &self.shape, &self.values)
    }
}
