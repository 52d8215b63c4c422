//! Streams into weighted sums: each is decoded once, and added when all of it is there and finite.

use crate::errors::OrRaise;
use crate::memory::{Input, Sums};
use crate::options::{count, decoding};
use fedpress::{BasisSum, ChunkDecoder, Decoder, EncodedChunk, Event, Result, TensorMeta};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Folds streams into sums that Python holds. Tensors whose rotation all streams share are summed as
/// coefficients, here, and rotated back once.
#[pyclass(module = "fedpress._fedpress")]
pub struct Folder {
    coefficients: HashMap<String, BasisSum>,
    memory_limit: u64,
    workers: Vec<ChunkDecoder>,
}

/// Where a tensor is added, and where it is decoded before: f32 values of its shape each.
type Places<'py> = HashMap<String, (Bound<'py, PyAny>, Bound<'py, PyAny>)>;

#[pymethods]
impl Folder {
    #[new]
    fn new(memory_limit: u64, threads: usize) -> Self {
        let options = decoding(memory_limit, 1);
        let workers = (0..count(threads)).map(|_| ChunkDecoder::new(&options)).collect();
        Self { coefficients: HashMap::new(), memory_limit, workers }
    }

    /// `sum += weight * tensor` for every tensor of the stream, by name: sum and scratch.
    ///
    /// Returns name and index of the first value that is NaN or infinite. Then, and after an error, the
    /// sums are as they were.
    fn add(
        &mut self,
        py: Python<'_>,
        blob: &Bound<'_, PyAny>,
        places: Places<'_>,
        weight: f32,
    ) -> PyResult<Option<(String, u64)>> {
        let input = Input::new(blob)?;
        let bytes = input.bytes();
        let limit = self.memory_limit;
        let tensors = py.detach(|| collect(bytes, limit)).or_raise(py)?;
        let mut targets = Vec::with_capacity(tensors.len());
        let mut places = places;
        for tensor in tensors {
            let name = tensor.meta.name();
            // Removed: of a name that comes twice the second has no sum.
            let place = places.remove(name).map(|(sum, scratch)| {
                PyResult::Ok(Place { sum: Sums::new(&sum)?, scratch: Sums::new(&scratch)? })
            });
            let mut place = place.ok_or_else(|| no_sum(name))??;
            let n_values = tensor.n_values;
            if [&mut place.sum, &mut place.scratch].map(|s| s.values_mut().len() as u64)
                != [n_values; 2]
            {
                return Err(no_sum(name));
            }
            targets.push((tensor, place));
        }
        py.detach(|| self.fold(&mut targets, weight)).or_raise(py)
    }

    /// Adds what was summed as coefficients of a tensor to its sum, and forgets it.
    fn finish(&mut self, py: Python<'_>, name: &str, sum: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut sum = Sums::new(sum)?;
        let (Some(found), values) = (self.coefficients.remove(name), sum.values_mut()) else {
            return Ok(());
        };
        let worker = &mut self.workers[0];
        let work = || -> Result<()> {
            let mut back = vec![0.0; values.len()];
            found.finish(worker, &mut back)?;
            add_scaled(values, &back, 1.0);
            Ok(())
        };
        py.detach(work).or_raise(py)
    }
}

struct Place {
    sum: Sums,
    scratch: Sums,
}

/// A tensor as it came: framed and verified, not decoded.
struct Encoded {
    meta: Arc<TensorMeta>,
    chunks: Vec<EncodedChunk>,
    n_values: u64,
}

/// What is to be done with a chunk before anything is added.
enum Job<'a> {
    /// Its values go to the scratch.
    Decode(&'a EncodedChunk, &'a mut [f32]),
    /// Its coefficients will be added: whether they decode.
    Check(&'a EncodedChunk),
}

impl Folder {
    fn fold(
        &mut self,
        targets: &mut [(Encoded, Place)],
        weight: f32,
    ) -> Result<Option<(String, u64)>> {
        let mut jobs = Vec::new();
        for (tensor, place) in targets.iter_mut() {
            let is_rotated = self.adds_coefficients(&tensor.meta);
            let mut rest = place.scratch.values_mut();
            for chunk in &tensor.chunks {
                let values;
                (values, rest) = std::mem::take(&mut rest).split_at_mut(chunk.n_values());
                jobs.push(if is_rotated { Job::Check(chunk) } else { Job::Decode(chunk, values) });
            }
        }
        let found = in_parallel(&mut self.workers, jobs, |worker, job| job.run(worker))?;
        if found.is_some() || weight == 0.0 {
            return Ok(found);
        }
        for (tensor, place) in targets {
            if self.adds_coefficients(&tensor.meta) {
                self.add_coefficients(tensor, weight)?;
                continue;
            }
            let (sums, values) = (place.sum.values_mut(), place.scratch.values_mut());
            let parts = sums.chunks_mut(PART).zip(values.chunks(PART)).collect();
            in_parallel(&mut self.workers, parts, |_, (sums, values): (&mut [f32], &[f32])| {
                add_scaled(sums, values, weight);
                Ok(None::<()>)
            })?;
        }
        Ok(None)
    }

    /// Whether the rotation of a tensor is that of those before it, or may become that of those behind.
    fn adds_coefficients(&self, meta: &TensorMeta) -> bool {
        let sum = self.coefficients.get(meta.name());
        let is_known = meta.dtype().is_lossy_capable() && meta.n_values().is_some();
        is_known && meta.shares_rotation() && sum.is_none_or(|sum| sum.takes(meta))
    }

    fn add_coefficients(&mut self, tensor: &Encoded, weight: f32) -> Result<()> {
        let name = tensor.meta.name();
        if !self.coefficients.contains_key(name) {
            let sum = BasisSum::new(&tensor.meta, tensor.n_values as usize)?;
            self.coefficients.insert(name.to_owned(), sum);
        }
        let Some(sum) = self.coefficients.get_mut(name) else { return Ok(()) };
        let worker = &mut self.workers[0];
        tensor.chunks.iter().try_for_each(|chunk| sum.add(worker, chunk, weight))
    }
}

impl Job<'_> {
    /// Tensor and index of the first value that is NaN or infinite.
    fn run(self, worker: &mut ChunkDecoder) -> Result<Option<(String, u64)>> {
        match self {
            // What decodes of a lossy chunk is finite: FORMAT.md, section 7.
            Self::Check(chunk) if chunk.spec().is_lossy() => chunk.unpack(worker).map(|_| None),
            Self::Check(chunk) => Job::Decode(chunk, &mut vec![0.0; chunk.n_values()]).run(worker),
            Self::Decode(chunk, values) => {
                chunk.decode_f32(worker, values)?;
                let bad = match chunk.spec().is_lossy() {
                    true => None,
                    false => values.iter().position(|value| !value.is_finite()),
                };
                let name = || chunk.meta().name().to_owned();
                Ok(bad.map(|at| (name(), chunk.first_value() + at as u64)))
            }
        }
    }
}

/// All tensors of the streams.
fn collect(mut bytes: &[u8], memory_limit: u64) -> Result<Vec<Encoded>> {
    let mut decoder = Decoder::new(decoding(memory_limit, 1));
    let mut tensors: Vec<Encoded> = Vec::new();
    while let Some(event) = decoder.next(&mut bytes)? {
        match (event, tensors.last_mut()) {
            (Event::Tensor(meta), _) => {
                meta.supported()?;
                tensors.push(Encoded { meta, chunks: Vec::new(), n_values: 0 });
            }
            (Event::Chunk(chunk), Some(tensor)) => {
                tensor.n_values += chunk.n_values() as u64;
                tensor.chunks.push(chunk);
            }
            _ => {}
        }
    }
    decoder.finish()?;
    Ok(tensors)
}

fn no_sum(name: &str) -> PyErr {
    let message = format!("tensor {name:?}: no sum of its size, or a second one of that name");
    PyKeyError::new_err(message)
}

/// Values that a thread adds at a time.
const PART: usize = 1 << 17;

fn add_scaled(sums: &mut [f32], values: &[f32], weight: f32) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
}

/// Does jobs on all threads, in any order; what the first of those found that found something, or an error
/// of one.
fn in_parallel<J: Send, F: Send>(
    workers: &mut [ChunkDecoder],
    jobs: Vec<J>,
    work: impl Fn(&mut ChunkDecoder, J) -> Result<Option<F>> + Sync,
) -> Result<Option<F>> {
    let threads = workers.len().min(jobs.len()).max(1);
    let jobs = Mutex::new(jobs.into_iter().enumerate());
    let found = Mutex::new(None::<(usize, Result<F>)>);
    let run = |worker: &mut ChunkDecoder| {
        loop {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, job)) = next else { return };
            let Some(result) = work(worker, job).transpose() else { continue };
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if found.as_ref().is_none_or(|(before, _)| number < *before) {
                *found = Some((number, result));
            }
        }
    };
    let (first, others) = workers[..threads].split_at_mut(1);
    thread::scope(|scope| {
        others.iter_mut().for_each(|worker| drop(scope.spawn(|| run(worker))));
        run(&mut first[0]);
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.map(|(_, result)| result).transpose()
}
