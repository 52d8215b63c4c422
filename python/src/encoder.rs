//! Tensors to bytes, piece by piece.

use crate::encode::dims;
use crate::errors::OrRaise;
use crate::memory::Input;
use crate::options::EncodeOptions;
use crate::spec::{Spec, dtype};
use fedpress::{TensorDesc, TensorView};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;

/// Turns tensors into a stream that its caller takes piece by piece.
#[pyclass(module = "fedpress._fedpress")]
pub struct Encoder {
    encoder: fedpress::Encoder,
}

#[pymethods]
impl Encoder {
    #[new]
    fn new(py: Python<'_>, options: &EncodeOptions) -> PyResult<Self> {
        let encoder = fedpress::Encoder::new(options.options.clone()).or_raise(py)?;
        Ok(Self { encoder })
    }

    fn metadata(&mut self, py: Python<'_>, map: BTreeMap<String, String>) -> PyResult<()> {
        self.encoder.metadata(&map).or_raise(py)
    }

    fn tensor(
        &mut self,
        py: Python<'_>,
        name: &str,
        dtype_name: &str,
        shape: Vec<usize>,
        buffer: &Bound<'_, PyAny>,
        spec: &Spec,
    ) -> PyResult<()> {
        let (dtype, input) = (dtype(dtype_name)?, Input::new(buffer)?);
        let data = input.bytes();
        let encoder = &mut self.encoder;
        let view = TensorView { name, dtype, shape: &shape, data };
        py.detach(|| encoder.tensor(&view, &spec.spec)).or_raise(py)
    }

    fn begin(
        &mut self,
        py: Python<'_>,
        name: &str,
        dtype_name: &str,
        shape: Vec<usize>,
        open: bool,
        spec: &Spec,
    ) -> PyResult<()> {
        let dtype = dtype(dtype_name)?;
        let desc = match open {
            true => TensorDesc::open(name, dtype, &dims(&shape)),
            false => TensorDesc::new(name, dtype, &dims(&shape)),
        };
        self.encoder.begin(&desc, &spec.spec).or_raise(py)
    }

    fn push(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<()> {
        let input = Input::new(buffer)?;
        let (encoder, bytes) = (&mut self.encoder, input.bytes());
        py.detach(|| encoder.push(bytes)).or_raise(py)
    }

    fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        let encoder = &mut self.encoder;
        py.detach(|| encoder.end()).or_raise(py)
    }

    fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        self.encoder.finish().or_raise(py)
    }

    /// The bytes made since this was called last.
    fn take<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = PyBytes::new(py, self.encoder.output());
        self.encoder.clear_output();
        bytes
    }
}
