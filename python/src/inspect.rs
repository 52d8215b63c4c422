//! What a stream holds, and how far two tensors are apart.

use crate::errors::OrRaise;
use crate::memory::Input;
use crate::options::decoding;
use crate::spec::dtype;
use fedpress::{Comparison, TensorSummary};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::io::Cursor;

/// What the headers of a stream say; payloads are not looked at.
#[pyfunction]
pub fn inspect<'py>(
    py: Python<'py>,
    blob: &Bound<'py, PyAny>,
    memory_limit: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let input = Input::new(blob)?;
    let (bytes, options) = (input.bytes(), decoding(memory_limit, 1));
    let summary =
        py.detach(|| fedpress::summarize(&mut Cursor::new(bytes), &options)).or_raise(py)?;
    let dict = PyDict::new(py);
    dict.set_item("version", summary.version)?;
    dict.set_item("metadata", &summary.metadata)?;
    dict.set_item("streams", summary.n_streams)?;
    dict.set_item("bytes", summary.n_bytes)?;
    let tensors = summary.tensors.iter().map(|tensor| tensor_dict(py, tensor));
    dict.set_item("tensors", PyList::new(py, tensors.collect::<PyResult<Vec<_>>>()?)?)?;
    Ok(dict)
}

fn tensor_dict<'py>(py: Python<'py>, tensor: &TensorSummary) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", tensor.meta.name())?;
    dict.set_item("dtype", tensor.meta.dtype().name())?;
    dict.set_item("shape", &tensor.shape)?;
    dict.set_item("spec", tensor.meta.spec().to_string())?;
    dict.set_item("bytes", tensor.n_bytes)?;
    Ok(dict)
}

/// NMSE, cosine, largest difference and number of values that differ, of two
/// tensors of one element type.
#[pyfunction]
pub fn compare(
    py: Python<'_>,
    dtype_name: &str,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
) -> PyResult<(f64, f64, f64, u64)> {
    let (dtype, a, b) = (dtype(dtype_name)?, Input::new(a)?, Input::new(b)?);
    let (a, b) = (a.bytes(), b.bytes());
    let mut comparison = Comparison::default();
    py.detach(|| comparison.update(dtype, a, b)).or_raise(py)?;
    Ok((comparison.nmse(), comparison.cosine(), comparison.max_error(), comparison.n_different()))
}
