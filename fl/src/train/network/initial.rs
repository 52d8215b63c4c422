//! Initial weights, from our own generator.

use super::Architecture;
use crate::Parameter;
use crate::train::random::{Draws, Purpose};

impl Architecture {
    /// Initial parameters: weights uniform in +-sqrt(6 / (fan in + fan out)) (Glorot & Bengio 2010,
    /// the default of Keras and so of the papers' code), biases 0. Each parameter has draws of its
    /// own, made from `seed` and its position, so the same seed gives the same bits everywhere.
    pub fn initial_parameters(&self, seed: u64) -> Vec<Parameter> {
        let shapes = self.parameter_shapes();
        let fill = |(i, (name, shape)): (usize, (String, Vec<usize>))| {
            let mut parameter = Parameter::zeros(name, &shape);
            let receptive: usize = shape.iter().skip(2).product();
            if let [a, b, ..] = shape[..] {
                // Which of the two is in and which is out does not matter to the sum.
                let limit = (6.0 / ((a + b) * receptive) as f64).sqrt();
                let mut draws = Draws::new(seed, Purpose::InitialWeights, i as u64);
                parameter.values.fill_with(|| draws.between(-limit, limit) as f32);
            }
            parameter
        };
        shapes.into_iter().enumerate().map(fill).collect()
    }
}
