//! Tensors to bytes, in one call.

use crate::errors::OrRaise;
use crate::memory::Input;
use crate::options::EncodeOptions;
use crate::spec::{Spec, dtype};
use fedpress::{DType, Target, TensorView, Writer};
use pyo3::exceptions::PyValueError;
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
    let work = || {
        let views: Vec<_> = taken.iter().map(|t| (t.view(), &t.spec)).collect();
        write(&views, &options.options, metadata.as_ref(), manifest)
    };
    let bytes = py.detach(work).or_raise(py)?;
    Ok(PyBytes::new(py, &bytes))
}

/// The pipelines of tensors by which their stream meets a target, its kind and number; of each tensor what a
/// squared error of it counts.
#[pyfunction]
#[pyo3(signature = (tensors, weights, target, options, metadata=None, manifest=false))]
pub fn plan(
    py: Python<'_>,
    tensors: Vec<Given<'_>>,
    weights: Vec<f64>,
    target: (String, f64),
    options: &EncodeOptions,
    metadata: Option<BTreeMap<String, String>>,
    manifest: bool,
) -> PyResult<Vec<Spec>> {
    let taken = tensors.iter().map(Taken::new).collect::<PyResult<Vec<_>>>()?;
    if weights.len() != taken.len() {
        let message = format!("{} weights for {} tensors", weights.len(), taken.len());
        return Err(PyValueError::new_err(message));
    }
    let target = target_of(target)?;
    let work = || {
        let views = taken.iter().zip(weights).map(|(t, weight)| (t.view(), &t.spec, weight));
        let length = |specs: &[fedpress::Spec]| {
            let views: Vec<_> = taken.iter().map(Taken::view).zip(specs).collect();
            let stream = write(&views, &options.options, metadata.as_ref(), manifest)?;
            Ok(stream.len() as u64)
        };
        fedpress::plan::<fedpress::Error>(
            &views.collect::<Vec<_>>(),
            target,
            &options.options,
            length,
        )
    };
    let specs = py.detach(work).or_raise(py)?;
    Ok(specs.into_iter().map(|spec| Spec { spec }).collect())
}

fn target_of((kind, number): (String, f64)) -> PyResult<Target> {
    match &kind[..] {
        "bytes" => Ok(Target::Bytes(number as u64)),
        "bits" => Ok(Target::BitsPerValue(number)),
        "ratio" => Ok(Target::Ratio(number)),
        "nmse" => Ok(Target::Nmse(number)),
        _ => Err(PyValueError::new_err(format!("no kind of target: {kind:?}"))),
    }
}

fn write(
    tensors: &[(TensorView<'_>, &fedpress::Spec)],
    options: &fedpress::EncodeOptions,
    metadata: Option<&BTreeMap<String, String>>,
    manifest: bool,
) -> fedpress::Result<Vec<u8>> {
    let several = options.several || tensors.len() > 1;
    let mut writer = Writer::new(Vec::new(), options.clone().with_several(several))?;
    if let Some(metadata) = metadata {
        writer.metadata(metadata)?;
    }
    if manifest {
        writer.manifest(&tensors.iter().map(|(view, _)| view.desc()).collect::<Vec<_>>())?;
    }
    writer.tensors(tensors)?;
    writer.finish()
}

/// Dimensions as a stream has them.
pub fn dims(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|dim| *dim as u64).collect()
}
