//! How to encode and to decode, from keyword arguments.

use fedpress::{DecodeOptions, NonFinite, Rotation, Seeds, Spare};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

/// How to encode: seeds, and what goes which way.
#[pyclass(module = "fedpress._fedpress", frozen)]
pub struct EncodeOptions {
    pub(crate) options: fedpress::EncodeOptions,
}

#[pymethods]
impl EncodeOptions {
    #[new]
    #[pyo3(signature = (*, seed=0, round=0, client=0, clients=0, private_seed=None, rotation="own",
                        threads=1, min_values=1024, non_finite="refuse", spare=true, several=None,
                        chunk_values=1048576, index=false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        seed: u64,
        round: u64,
        client: u64,
        clients: u64,
        private_seed: Option<u64>,
        rotation: &str,
        threads: usize,
        min_values: u64,
        non_finite: &str,
        spare: bool,
        several: Option<bool>,
        chunk_values: u64,
        index: bool,
    ) -> PyResult<Self> {
        let private = match private_seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|e| PyOSError::new_err(e.to_string()))?,
        };
        let seeds = Seeds::new(seed, private).in_round(round).of_client(client, clients);
        let seeds = seeds.with_rotation(match rotation {
            "own" => Rotation::Own,
            "shared" => Rotation::Shared,
            other => return Err(one_of("rotation", "\"own\" or \"shared\"", other)),
        });
        let non_finite = match non_finite {
            "refuse" => NonFinite::Refuse,
            "lossless" => NonFinite::Lossless,
            other => return Err(one_of("non_finite", "\"refuse\" or \"lossless\"", other)),
        };
        let spare = if spare { Spare::Listed } else { Spare::Nothing };
        let mut options = fedpress::EncodeOptions::new(seeds)
            .with_threads(count(threads))
            .with_min_values(min_values)
            .with_non_finite(non_finite)
            .with_spare(spare)
            .with_several(several.unwrap_or(false))
            .with_index(index);
        options.group_log2 = chunk_log2(chunk_values)?;
        Ok(Self { options })
    }

    /// The seed that decides how values round.
    #[getter]
    fn private_seed(&self) -> u64 {
        self.options.seeds.private
    }
}

fn one_of(what: &str, expected: &str, found: &str) -> PyErr {
    PyValueError::new_err(format!("{what}: expected {expected}, found {found:?}"))
}

fn chunk_log2(values: u64) -> PyResult<u8> {
    match values.is_power_of_two() && (12..=20).contains(&values.ilog2()) {
        true => Ok(values.ilog2() as u8),
        false => Err(PyValueError::new_err(format!(
            "chunk_values: expected a power of two from 4096 to 1048576, found {values}"
        ))),
    }
}

/// How many threads: 0 is one for each core.
pub fn count(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n.min(256),
    }
}

/// How to decode within so many bytes, on so many threads.
pub fn decoding(memory_limit: u64, threads: usize) -> DecodeOptions {
    DecodeOptions::default().with_memory(memory_limit).with_threads(count(threads))
}
