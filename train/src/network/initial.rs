//! Initial weights, from our own generator.

use super::Architecture;
use super::stage::Start;
use crate::random::{Draws, Purpose};
use fedpress_fl::Parameter;

impl Architecture {
    /// Initial parameters: weights uniform in +-sqrt(6 / (fan in + fan out)) (Glorot & Bengio 2010,
    /// the default of Keras and so of the papers' code), biases 0; a batch norm starts as the
    /// identity. Each parameter has draws of its own, made from `seed` and its position, so the same
    /// seed gives the same bits everywhere.
    pub fn initial_parameters(&self, seed: u64) -> Vec<Parameter> {
        let fill = |(i, spec): (usize, super::stage::ParameterSpec)| {
            let shape = spec.shape;
            let mut parameter = Parameter::zeros(spec.name, &shape);
            match (spec.start, &shape[..]) {
                (Start::Drawn, [a, b, receptive @ ..]) => {
                    // Which of the two is in and which is out does not matter to the sum.
                    let receptive: usize = receptive.iter().product();
                    let limit = (6.0 / ((a + b) * receptive) as f64).sqrt();
                    let mut draws = Draws::new(seed, Purpose::InitialWeights, i as u64);
                    parameter.values.fill_with(|| draws.between(-limit, limit) as f32);
                }
                (Start::Constant(x) | Start::Statistic(x), _) => parameter.values.fill(x),
                (Start::Drawn, _) => {}
            }
            parameter
        };
        self.parameter_specs().into_iter().enumerate().map(fill).collect()
    }
}
