//! Tensors to bytes, in one call.

use crate::errors::OrRaise;
use crate::memory::Input;
use crate::options::EncodeOptions;
use crate::spec::{Spec, dtype};
use fedpress::{DType, TensorDesc, TensorView, Writer};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;

/// A tensor as Python hands it in: name, element type, shape, bytes, spec.
pub type Given<'py> = (String, String, Vec<usize>, Bound<'py, PyAny>, Bound<'py, Spec>);

struct Taken {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    input: Input,
    spec: fedpress::Spec,
}

impl Taken {
    fn new((name, dtype_name, shape, buffer, spec): &Given<'_>) -> PyResult<Self> {
        Ok(Self {
            name: name.clone(),
            dtype: dtype(dtype_name)?,
            shape: shape.clone(),
            input: Input::new(buffer)?,
            spec: spec.get().spec.clone(),
        })
    }

    fn view(&self) -> TensorView<'_> {
        let Self { name, dtype, shape, input, .. } = self;
        TensorView { name, dtype: *dtype, shape, data: input.bytes() }
    }
}

/// Encodes tensors into one stream.
#[pyfunction]
#[pyo3(signature = (tensors, options, metadata=None, manifest=false))]
pub fn encode<'py>(
    py: Python<'py>,
    tensors: Vec<Given<'py>>,
    options: &EncodeOptions,
    metadata: Option<BTreeMap<String, String>>,
    manifest: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let taken = tensors.iter().map(Taken::new).collect::<PyResult<Vec<_>>>()?;
    let work = || write(&taken, options.options.clone(), metadata.as_ref(), manifest);
    let bytes = py.detach(work).or_raise(py)?;
    Ok(PyBytes::new(py, &bytes))
}

fn write(
    tensors: &[Taken],
    options: fedpress::EncodeOptions,
    metadata: Option<&BTreeMap<String, String>>,
    manifest: bool,
) -> fedpress::Result<Vec<u8>> {
    let several = options.several || tensors.len() > 1;
    let mut writer = Writer::new(Vec::new(), options.with_several(several))?;
    if let Some(metadata) = metadata {
        writer.metadata(metadata)?;
    }
    if manifest {
        let desc = |t: &Taken| TensorDesc::new(t.name.clone(), t.dtype, &dims(&t.shape));
        writer.manifest(&tensors.iter().map(desc).collect::<Vec<_>>())?;
    }
    let views: Vec<_> = tensors.iter().map(|t| (t.view(), &t.spec)).collect();
    writer.tensors(&views)?;
    writer.finish()
}

/// Dimensions as a stream has them.
pub fn dims(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|dim| *dim as u64).collect()
}
