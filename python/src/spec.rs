//! Specs, presets and stages.

use crate::encode::dims;
use crate::errors::OrRaise;
use crate::options::EncodeOptions;
use fedpress::{DType, PRESETS, TensorDesc};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A pipeline, such as `hadamard|q=4|zstd`.
#[pyclass(module = "fedpress", frozen, eq)]
#[derive(Clone, PartialEq)]
pub struct Spec {
    pub(crate) spec: fedpress::Spec,
}

#[pymethods]
impl Spec {
    #[new]
    fn new(py: Python<'_>, text: &str) -> PyResult<Self> {
        let spec = text.parse::<fedpress::Spec>().or_raise(py)?;
        Ok(Self { spec })
    }

    /// Whether decoded values may differ from the original in any bit.
    #[getter]
    fn is_lossy(&self) -> bool {
        self.spec.is_lossy()
    }

    /// Whether the expectation of the decoded values, over the seeds, is the original.
    #[getter]
    fn is_unbiased(&self) -> bool {
        self.spec.is_unbiased()
    }

    /// 32 bits over the bits of a value, as papers give it, without headers.
    #[getter]
    fn formula_ratio(&self) -> f64 {
        self.spec.formula_ratio()
    }

    /// The lowest and the highest rate that its stages may be asked for, in bits a value; None without.
    #[getter]
    fn rates(&self) -> Option<(f64, f64)> {
        self.spec.rates().map(|rates| (*rates.start(), *rates.end()))
    }

    /// The same at another rate, in bits a value, to a thousandth.
    fn at_rate(&self, py: Python<'_>, bits: f64) -> PyResult<Self> {
        Ok(Self { spec: self.spec.at_rate(bits).or_raise(py)? })
    }

    fn __str__(&self) -> String {
        self.spec.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Spec({:?})", self.spec.to_string())
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.spec.to_string().hash(&mut hasher);
        hasher.finish()
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<(Py<PyAny>, (String,))> {
        let class = slf.get_type().into_any().unbind();
        Ok((class, (slf.get().__str__(),)))
    }
}

/// The presets: name, spec, purpose.
#[pyfunction]
pub fn presets() -> Vec<(&'static str, &'static str, &'static str)> {
    PRESETS.iter().map(|p| (p.name, p.spec, p.purpose)).collect()
}

/// The names of all stages.
#[pyfunction]
pub fn stages() -> Vec<&'static str> {
    fedpress::stages().map(|stage| stage.name).collect()
}

/// The element types: their names, and bits of an element.
#[pyfunction]
pub fn dtypes() -> Vec<(&'static str, usize)> {
    DType::ALL.iter().map(|dtype| (dtype.name(), dtype.bits())).collect()
}

/// The element type of that name.
pub fn dtype(name: &str) -> PyResult<DType> {
    DType::from_name(name).ok_or_else(|| PyValueError::new_err(format!("no element type {name:?}")))
}

/// The pipeline that a tensor really gets, as text.
#[pyfunction]
pub fn effective(
    name: &str,
    dtype_name: &str,
    shape: Vec<usize>,
    spec: &Spec,
    options: &EncodeOptions,
) -> PyResult<Spec> {
    let desc = TensorDesc::new(name, dtype(dtype_name)?, &dims(&shape));
    Ok(Spec { spec: fedpress::effective_spec(&desc, &spec.spec, &options.options) })
}
