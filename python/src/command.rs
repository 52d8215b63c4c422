//! The command line, from the same wheel.

use pyo3::prelude::*;
use std::ffi::OsString;

/// Runs the command `fedpress` with these arguments, the first of which is its name; returns its exit
/// code. Meant for a process of its own: it takes over SIGINT, SIGTERM and SIGHUP.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| fedpress_cli::main(arguments))
}
