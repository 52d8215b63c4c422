//! `fedpress._fedpress`, the extension module behind the Python package `fedpress`.
//!
//! It speaks in names, element types, shapes and buffers of bytes; the package turns arrays of any
//! library into these. All work is done with the interpreter released.

mod command;
mod decode;
mod delta;
mod dlpack;
mod encode;
mod encoder;
mod errors;
mod exchange;
mod fold;
mod inspect;
mod integers;
mod layout;
mod memory;
mod options;
mod spec;

use pyo3::prelude::*;

/// The compression layer for federated learning: what the package `fedpress` is made of.
#[pymodule]
mod _fedpress {
    #[pymodule_export]
    use crate::command::main;
    #[pymodule_export]
    use crate::decode::{Decoder, add_into, decode, decode_into};
    #[pymodule_export]
    use crate::delta::{Replica, Versions};
    #[pymodule_export]
    use crate::dlpack::Borrowed;
    #[pymodule_export]
    use crate::encode::{encode, plan};
    #[pymodule_export]
    use crate::encoder::Encoder;
    #[pymodule_export]
    use crate::exchange::{FeatureStore, FeatureWriter, LogitWriter, decode_logits};
    #[pymodule_export]
    use crate::fold::Folder;
    #[pymodule_export]
    use crate::inspect::{compare, inspect};
    #[pymodule_export]
    use crate::integers::Integers;
    #[pymodule_export]
    use crate::layout::{Layout, Selection};
    #[pymodule_export]
    use crate::memory::Memory;
    #[pymodule_export]
    use crate::options::EncodeOptions;
    #[pymodule_export]
    use crate::spec::{Spec, dtypes, effective, presets, stages};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
