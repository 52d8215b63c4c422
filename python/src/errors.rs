//! From errors of the crates to exceptions of `fedpress.errors`, a class for each kind.

use fedpress::ErrorKind;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception of an error of the codec.
pub fn raised(py: Python<'_>, error: &fedpress::Error) -> PyErr {
    build(py, error).unwrap_or_else(|failure| failure)
}

fn build(py: Python<'_>, error: &fedpress::Error) -> PyResult<PyErr> {
    let details = PyDict::new(py);
    details.set_item("tensor", error.tensor())?;
    details.set_item("offset", error.offset())?;
    details.set_item("values_done", error.values_done())?;
    if let ErrorKind::LimitExceeded { limit, needed } = error.kind() {
        details.set_item("limit", limit)?;
        details.set_item("needed", needed)?;
    }
    exception(py, error.kind(), with_sources(error), &details)
}

/// The exception of an error of the federated layer.
pub fn raised_fl(py: Python<'_>, error: &fedpress_fl::Error) -> PyErr {
    let details = PyDict::new(py);
    let made = match error.is_out_of_step() {
        true => of_class(py, "OutOfStepError", with_sources(error), &details),
        false => exception(py, error.kind(), with_sources(error), &details),
    };
    made.unwrap_or_else(|failure| failure)
}

/// The exception of memory that was not to be taken.
pub fn over_limit(py: Python<'_>, limit: u64, needed: u64) -> PyErr {
    let kind = ErrorKind::LimitExceeded { limit, needed };
    let message = format!("a tensor needs {needed} bytes of memory, the limit is {limit}");
    let made = || {
        let details = PyDict::new(py);
        details.set_item("limit", limit)?;
        details.set_item("needed", needed)?;
        exception(py, &kind, message, &details)
    };
    made().unwrap_or_else(|failure| failure)
}

/// The exception of an object that failed before.
pub fn poisoned(py: Python<'_>) -> PyErr {
    let message = "an earlier call failed; start again with a new one".to_owned();
    let made = exception(py, &ErrorKind::Poisoned, message, &PyDict::new(py));
    made.unwrap_or_else(|failure| failure)
}

/// The exception of what a server does not take.
pub fn rejected(py: Python<'_>, rejection: &fedpress_fl::Rejection) -> PyErr {
    let raise = || {
        let details = PyDict::new(py);
        details.set_item("reason", format!("{:?}", rejection.reason))?;
        details.set_item("number", rejection.reason as u8)?;
        let class = py.import("fedpress.errors")?.getattr("RejectedError")?;
        Ok(PyErr::from_value(class.call((rejection.to_string(),), Some(&details))?))
    };
    raise().unwrap_or_else(|failure| failure)
}

/// What an error says, and what lies behind it.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

fn exception(
    py: Python<'_>,
    kind: &ErrorKind,
    message: String,
    details: &Bound<'_, PyDict>,
) -> PyResult<PyErr> {
    let class = match kind {
        ErrorKind::Io(_) => "StreamIOError",
        ErrorKind::Truncated => "TruncatedError",
        ErrorKind::Unsupported { .. } => "UnsupportedError",
        ErrorKind::Corrupt => "CorruptError",
        ErrorKind::LimitExceeded { .. } => "LimitError",
        ErrorKind::InvalidArgument => "InvalidArgumentError",
        ErrorKind::Device => "DeviceError",
        ErrorKind::Poisoned => "PoisonedError",
        other => return Ok(PyRuntimeError::new_err(format!("{other:?}: {message}"))),
    };
    of_class(py, class, message, details)
}

fn of_class(
    py: Python<'_>,
    class: &str,
    message: String,
    details: &Bound<'_, PyDict>,
) -> PyResult<PyErr> {
    let class = py.import("fedpress.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call((message,), Some(details))?))
}

/// Turns the error of a result of the codec into an exception.
pub trait OrRaise<T> {
    /// The value, or the exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for fedpress::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|e| raised(py, &e))
    }
}

impl<T> OrRaise<T> for fedpress_fl::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|e| raised_fl(py, &e))
    }
}
