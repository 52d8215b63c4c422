//! Updates as integers modulo 2^b, for a secure aggregation to mask and sum.

use crate::errors::OrRaise;
use crate::memory::{Input, Memory, floats, numbers};
use fedpress_fl::{
    IntegerOptions, IntegerSpec, IntegerSum, NoiseBy, Parameter, Privacy, PrivateSeed,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// How updates of so many values become codes, the same for all clients.
#[pyclass(module = "fedpress._fedpress", frozen)]
pub struct Integers {
    spec: IntegerSpec,
    n: usize,
}

#[pymethods]
impl Integers {
    /// `noise` is its standard deviation in the sum over what one client can change of it, and how many clients
    /// make it up.
    #[new]
    fn new(
        py: Python<'_>,
        n: usize,
        bits: u8,
        clients: u32,
        clip: f64,
        range: f64,
        noise: Option<(f64, usize)>,
    ) -> PyResult<Self> {
        let privacy = noise.map(|(noise_multiplier, _)| {
            let privacy = Privacy { clip, noise_multiplier, noise: NoiseBy::Clients };
            privacy.check().map(|()| privacy)
        });
        let privacy = privacy.transpose().or_raise(py)?;
        let sharers = noise.map_or(1, |(_, sharers)| sharers);
        let options = IntegerOptions { bits, clients, clip, range };
        let spec = options.spec(n, privacy.as_ref(), sharers).or_raise(py)?;
        Ok(Self { spec, n })
    }

    /// Codes before noise are as many either way.
    #[getter]
    fn levels(&self) -> u32 {
        self.spec.levels
    }

    /// What a step of a code stands for.
    #[getter]
    fn step(&self) -> f64 {
        self.spec.step(self.n)
    }

    /// The standard deviation of the noise of a client, in steps.
    #[getter]
    fn deviation(&self) -> f64 {
        self.spec.deviation
    }

    /// The codes of f32 values, as u32.
    fn codes(
        &self,
        py: Python<'_>,
        values: &Bound<'_, PyAny>,
        seed: u64,
        round: u64,
        secret: [u8; 32],
    ) -> PyResult<Memory> {
        let input = Input::new(values)?;
        let bytes = input.bytes();
        let codes = py.detach(|| {
            let (shape, values) = (vec![self.n], floats(bytes));
            let delta = vec![Parameter { name: String::new(), shape, values }];
            self.spec.codes(seed, round, delta, &PrivateSeed::new(secret), &[seed, round])
        });
        Ok(memory(&codes.or_raise(py)?, |code| code.to_le_bytes()))
    }

    /// The sum of the sums and codes, modulo 2^b.
    fn add(&self, py: Python<'_>, parts: Vec<Bound<'_, PyAny>>) -> PyResult<Memory> {
        let inputs = parts.iter().map(Input::new).collect::<PyResult<Vec<_>>>()?;
        let inputs: Vec<&[u8]> = inputs.iter().map(Input::bytes).collect();
        let sum = py.detach(|| -> fedpress_fl::Result<_> {
            let mut sum = IntegerSum::new(self.spec, 0, 0, self.n)?;
            for bytes in inputs {
                sum.add(&numbers(bytes, u32::from_le_bytes))?;
            }
            Ok(sum)
        });
        Ok(memory(sum.or_raise(py)?.sums(), |code| code.to_le_bytes()))
    }

    /// The f32 values that a sum stands for, over `divisor`.
    fn mean(
        &self,
        py: Python<'_>,
        sum: &Bound<'_, PyAny>,
        divisor: f64,
        seed: u64,
        round: u64,
    ) -> PyResult<Memory> {
        let input = Input::new(sum)?;
        let bytes = input.bytes();
        let values = py.detach(|| -> fedpress_fl::Result<_> {
            let mut sum = IntegerSum::new(self.spec, seed, round, self.n)?;
            sum.add(&numbers(bytes, u32::from_le_bytes))?;
            sum.mean(divisor, || 0)
        });
        Ok(memory(&values.or_raise(py)?, |value| value.to_le_bytes()))
    }

    /// Codes as bytes of b bits each.
    fn pack<'py>(
        &self,
        py: Python<'py>,
        codes: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let input = Input::new(codes)?;
        let bytes = input.bytes();
        let packed = py.detach(|| self.spec.pack(&numbers(bytes, u32::from_le_bytes)));
        Ok(PyBytes::new(py, &packed))
    }

    /// The codes of packed bytes.
    fn unpack(&self, py: Python<'_>, packed: &Bound<'_, PyAny>) -> PyResult<Memory> {
        let input = Input::new(packed)?;
        let bytes = input.bytes();
        let codes = py.detach(|| self.spec.unpack(bytes, self.n));
        Ok(memory(&codes.or_raise(py)?, |code| code.to_le_bytes()))
    }
}

fn memory<T: Copy>(numbers: &[T], bytes: impl Fn(T) -> [u8; 4]) -> Memory {
    Memory::new(numbers.iter().flat_map(|number| bytes(*number)).collect())
}
