//! Tensors to bytes, in one call.

use crate::errors::OrRaise;
use crate::memory::Input;
use crate::options::EncodeOptions;
use crate::spec::{Spec, dtype};
use fedpress::{DType, Target, TensorView, Writer, plan};
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

/// Encodes tensors into one stream, which meets a target where there is one: its kind and number.
#[pyfunction]
#[pyo3(signature = (tensors, options, metadata=None, manifest=false, target=None))]
pub fn encode<'py>(
    py: Python<'py>,
    tensors: Vec<Given<'py>>,
    options: &EncodeOptions,
    metadata: Option<BTreeMap<String, String>>,
    manifest: bool,
    target: Option<(String, f64)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let taken = tensors.iter().map(Taken::new).collect::<PyResult<Vec<_>>>()?;
    let target = target.map(target_of).transpose()?;
    let work = || {
        let put = |tensors: &[(TensorView<'_>, &fedpress::Spec)]| {
            write(tensors, &options.options, metadata.as_ref(), manifest)
        };
        let views: Vec<_> = taken.iter().map(|t| (t.view(), &t.spec)).collect();
        let Some(target) = target else { return put(&views) };
        let at = |specs: &[fedpress::Spec]| {
            let views = taken.iter().map(Taken::view).zip(specs);
            put(&views.collect::<Vec<_>>())
        };
        let length = |specs: &[fedpress::Spec]| at(specs).map(|stream| stream.len() as u64);
        at(&plan::<fedpress::Error>(&views, target, &options.options, length)?)
    };
    let bytes = py.detach(work).or_raise(py)?;
    Ok(PyBytes::new(py, &bytes))
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
