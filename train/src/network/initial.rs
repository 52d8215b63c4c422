//! Initial weights, from our own generator.

use super::Architecture;
use super::stage::Start;
use crate::random::{Draws, Purpose};
use fedpress_fl::Parameter;
use serde::{Deserialize, Serialize};

/// How far from zero weights start: uniform in +- a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initial {
    /// sqrt(6 / (fan in + fan out)): Glorot & Bengio 2010, the default of Keras and so of the papers'
    /// code.
    #[default]
    Glorot,
    /// sqrt(6 / fan in): He et al. 2015, which keeps the variance of what flows through many layers
    /// with ReLUs.
    He,
}

impl Architecture {
    /// [Initial parameters](Initial::parameters) after Glorot.
    pub fn initial_parameters(&self, seed: u64) -> Vec<Parameter> {
        Initial::Glorot.parameters(self, seed)
    }
}

impl Initial {
    /// Initial parameters: weights drawn, biases 0; a norm starts as the identity. Each parameter has
    /// draws of its own, made from `seed` and its position, so the same seed gives the same bits
    /// everywhere.
    pub fn parameters(self, architecture: &Architecture, seed: u64) -> Vec<Parameter> {
        let fill = |(i, spec): (usize, super::stage::ParameterSpec)| {
            let shape = spec.shape;
            let mut parameter = Parameter::zeros(spec.name, &shape);
            match (spec.start, &shape[..]) {
                (Start::Drawn, [a, b, receptive @ ..]) => {
                    let receptive: usize = receptive.iter().product();
                    let fans = match self {
                        Self::Glorot => a + b,
                        Self::He => shape[spec.input.unwrap_or(0)],
                    };
                    let limit = (6.0 / (fans * receptive) as f64).sqrt();
                    let mut draws = Draws::new(seed, Purpose::InitialWeights, i as u64);
                    parameter.values.fill_with(|| draws.between(-limit, limit) as f32);
                }
                (Start::Constant(x) | Start::Statistic(x), _) => parameter.values.fill(x),
                (Start::Drawn, _) => {}
            }
            parameter
        };
        architecture.parameter_specs().into_iter().enumerate().map(fill).collect()
    }
}
