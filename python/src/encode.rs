//! Tensors to bytes, in one call.

use crate::errors::OrRaise;
use crate::memory::Input;
use crate::options::EncodeOptions;
use crate::spec::{Spec, dtype};
use fedpress::{DType, Planner, Target, TensorDesc, TensorView, Writer, effective_spec};
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
    let mut taken = tensors.iter().map(Taken::new).collect::<PyResult<Vec<_>>>()?;
    let target = target.map(target_of).transpose()?;
    let write =
        |taken: &[Taken]| write(taken, options.options.clone(), metadata.as_ref(), manifest);
    let work = || {
        if let Some(target) = target {
            meet(&mut taken, &options.options, target, write)?;
        }
        write(&taken)
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

/// Gives each tensor whose pipeline has a rate the one by which the stream meets the target.
fn meet(
    tensors: &mut [Taken],
    options: &fedpress::EncodeOptions,
    target: Target,
    write: impl Fn(&[Taken]) -> fedpress::Result<Vec<u8>>,
) -> fedpress::Result<()> {
    let options = options.clone().with_several(options.several || tensors.len() > 1);
    let mut planner = Planner::new(&options);
    let (mut rated, mut n_values, mut n_bytes) = (Vec::new(), 0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        let view = tensor.view();
        n_values += (8 * view.data.len() / view.dtype.bits().max(1)) as u64;
        n_bytes += view.data.len() as u64;
        let spec = effective_spec(&view.desc(), &tensor.spec, &options);
        if spec.is_lossy() && spec.rates().is_some() {
            planner.begin(&spec, 1.0)?;
            planner.push(view.dtype, view.data)?;
            rated.push(i);
        }
    }
    let set = |specs: &[fedpress::Spec], tensors: &mut [Taken]| {
        for (i, spec) in rated.iter().zip(specs) {
            tensors[*i].spec = spec.clone();
        }
    };
    let specs = planner.specs::<fedpress::Error>(target, (n_values, n_bytes), |specs| {
        set(specs, tensors);
        write(tensors).map(|stream| stream.len() as u64)
    })?;
    set(&specs, tensors);
    Ok(())
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
