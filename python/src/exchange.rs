//! The messages of group knowledge transfer (FedGKT): features up, logits down, and the server's store.

use crate::errors::{OrRaise, rejected};
use crate::memory::{Input, Memory, floats, numbers};
use crate::options::decoding;
use crate::spec::Spec;
use fedpress::Element;
use fedpress_fl::{FeatureSpecs, Features, Logits, StoreOptions, Upload};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;

/// The client's half: batches of samples in, bytes of an upload out.
#[pyclass(module = "fedpress._fedpress")]
pub struct FeatureWriter {
    writer: Option<fedpress_fl::FeatureWriter<Vec<u8>>>,
}

#[pymethods]
impl FeatureWriter {
    /// `head` is run, round, client; no spec means the default of the crate.
    #[new]
    fn new(
        py: Python<'_>,
        head: [u64; 3],
        shape: Vec<usize>,
        classes: usize,
        specs: [Option<Bound<'_, Spec>>; 2],
        seed: u64,
        private_seed: Option<u64>,
    ) -> PyResult<Self> {
        let [run, round, client] = head;
        let header = Features { run, round, client, shape, classes };
        let mut chosen = FeatureSpecs::default();
        let [features, logits] = specs.map(|spec| spec.map(|spec| spec.get().spec.clone()));
        chosen.features = features.unwrap_or(chosen.features);
        chosen.logits = logits.unwrap_or(chosen.logits);
        let private = drawn(private_seed)?;
        let writer = fedpress_fl::FeatureWriter::new(
            Vec::new(),
            header,
            chosen,
            seed,
            fedpress_fl::RoundingSeed(private),
        );
        Ok(Self { writer: Some(writer.or_raise(py)?) })
    }

    /// The next samples: little-endian u32, f32, f32 and u16.
    fn batch(
        &mut self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        features: &Bound<'_, PyAny>,
        logits: &Bound<'_, PyAny>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let writer = self.writer.as_mut().ok_or_else(finished)?;
        let (ids, features, logits) =
            (Input::new(ids)?, Input::new(features)?, Input::new(logits)?);
        let labels = labels.map(Input::new).transpose()?;
        let (ids, features, logits) = (ids.bytes(), features.bytes(), logits.bytes());
        let labels = labels.as_ref().map(Input::bytes);
        let work = || {
            let labels = labels.map(|bytes| numbers(bytes, u16::from_le_bytes));
            let (features, logits) = (floats(features), floats(logits));
            writer.batch(&ids_of(ids), &features, &logits, labels.as_deref())
        };
        py.detach(work).or_raise(py)
    }

    /// Ends the message and returns it.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let message = self.writer.take().ok_or_else(finished)?.finish().or_raise(py)?;
        Ok(PyBytes::new(py, &message))
    }
}

/// The server's answer: logits of samples in, bytes of a message out.
#[pyclass(module = "fedpress._fedpress")]
pub struct LogitWriter {
    writer: Option<fedpress_fl::LogitWriter<Vec<u8>>>,
}

#[pymethods]
impl LogitWriter {
    /// `head` is run, round, client; no spec means that of uploads.
    #[new]
    fn new(
        py: Python<'_>,
        head: [u64; 3],
        classes: usize,
        spec: Option<Bound<'_, Spec>>,
        seed: u64,
        private_seed: Option<u64>,
    ) -> PyResult<Self> {
        let [run, round, client] = head;
        let header = Logits { run, round, client, classes };
        let spec =
            spec.map_or_else(|| FeatureSpecs::default().logits, |spec| spec.get().spec.clone());
        let private = drawn(private_seed)?;
        let writer = fedpress_fl::LogitWriter::new(
            Vec::new(),
            header,
            spec,
            seed,
            fedpress_fl::RoundingSeed(private),
        );
        Ok(Self { writer: Some(writer.or_raise(py)?) })
    }

    /// The logits of the next samples: little-endian u32 and f32.
    fn batch(
        &mut self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        logits: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let writer = self.writer.as_mut().ok_or_else(finished)?;
        let (ids, logits) = (Input::new(ids)?, Input::new(logits)?);
        let (ids, logits) = (ids.bytes(), logits.bytes());
        py.detach(|| writer.batch(&ids_of(ids), &floats(logits))).or_raise(py)
    }

    /// Ends the message and returns it.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let message = self.writer.take().ok_or_else(finished)?.finish().or_raise(py)?;
        Ok(PyBytes::new(py, &message))
    }
}

/// Run, round, client, classes, ids and logits of an answer.
type Answer = ([u64; 3], usize, Memory, Memory);

/// Takes a whole answer apart.
#[pyfunction]
pub fn decode_logits(
    py: Python<'_>,
    message: &Bound<'_, PyAny>,
    memory_limit: u64,
) -> PyResult<Answer> {
    let input = Input::new(message)?;
    let (bytes, options) = (input.bytes(), decoding(memory_limit, 1));
    let found = py.detach(|| fedpress_fl::decode_logits(bytes, &options)).or_raise(py)?;
    let Logits { run, round, client, classes } = found.header;
    let ids: Vec<u8> = found.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    Ok(([run, round, client], classes, Memory::new(ids), memory_of(&found.values)))
}

/// Features, logits and labels of the samples of all clients.
#[pyclass(module = "fedpress._fedpress")]
pub struct FeatureStore {
    store: fedpress_fl::FeatureStore,
}

#[pymethods]
impl FeatureStore {
    /// `limits`: bytes of features in memory, samples of a client, clients, uploads at a time, bytes of
    /// an upload, bytes to decode one.
    #[new]
    fn new(
        py: Python<'_>,
        run: u64,
        shape: Vec<usize>,
        classes: usize,
        folder: Option<PathBuf>,
        fresh: bool,
        limits: (u64, u32, usize, usize, u64, u64),
    ) -> PyResult<Self> {
        let mut options = StoreOptions::new(run, &shape, classes);
        options.folder = folder;
        options.memory = limits.0;
        options.max_samples = limits.1;
        options.max_clients = limits.2;
        options.max_in_flight = limits.3;
        options.max_message_bytes = limits.4;
        options.decode_memory = limits.5;
        let open = match fresh {
            true => fedpress_fl::FeatureStore::create,
            false => fedpress_fl::FeatureStore::open,
        };
        Ok(Self { store: py.detach(|| open(options)).or_raise(py)? })
    }

    /// The next bytes of a client; its samples when they end an upload that was taken.
    fn receive(
        &mut self,
        py: Python<'_>,
        client: u64,
        round: u64,
        bytes: &Bound<'_, PyAny>,
    ) -> PyResult<Option<usize>> {
        let input = Input::new(bytes)?;
        let (store, bytes) = (&mut self.store, input.bytes());
        match py.detach(|| store.receive(client, round, bytes)).or_raise(py)? {
            Upload::More => Ok(None),
            Upload::Taken { samples } => Ok(Some(samples)),
            Upload::Rejected(rejection) => Err(rejected(py, &rejection)),
        }
    }

    /// Features, logits and labels of samples by client and id.
    fn read(&self, py: Python<'_>, samples: Vec<(u64, u32)>) -> PyResult<(Memory, Memory, Memory)> {
        let (mut features, mut logits, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        let store = &self.store;
        let read = || store.read(&samples, &mut features, &mut logits, &mut labels);
        py.detach(read).or_raise(py)?;
        let labels: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        Ok((memory_of(&features), memory_of(&logits), Memory::new(labels)))
    }

    fn forget(&mut self, client: u64) {
        self.store.forget(client);
    }

    fn remove(&mut self, py: Python<'_>, client: u64) -> PyResult<()> {
        self.store.remove(client).or_raise(py)
    }

    /// Clients, with the round and the number of samples of their last upload.
    fn clients(&self) -> Vec<(u64, u64, usize)> {
        self.store.clients().collect()
    }

    fn samples(&self, client: u64) -> Vec<u32> {
        self.store.samples(client).to_vec()
    }

    /// Bytes of features in memory.
    fn held(&self) -> u64 {
        self.store.held()
    }
}

fn drawn(private_seed: Option<u64>) -> PyResult<u64> {
    match private_seed {
        Some(seed) => Ok(seed),
        None => getrandom::u64().map_err(|e| PyOSError::new_err(e.to_string())),
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("the message is finished")
}

fn ids_of(bytes: &[u8]) -> Vec<u32> {
    numbers(bytes, u32::from_le_bytes)
}

fn memory_of(values: &[f32]) -> Memory {
    Memory::new(f32::bytes(values).into_owned())
}
