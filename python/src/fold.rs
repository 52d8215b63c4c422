//! Streams into weighted sums: each is decoded once, group by group, into sums that stand beside the old ones,
//! and take their place when all of it is there and finite.

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

/// The sum of a tensor, and where the next one is made: f32 values of its shape each.
type Places<'py> = HashMap<String, (Bound<'py, PyAny>, Bound<'py, PyAny>)>;

/// The first value that is NaN or infinite, as the name of its tensor and its index, or the tensors whose next sums
/// were made.
type Folded = (Option<(String, u64)>, Vec<String>);

#[pymethods]
impl Folder {
    #[new]
    fn new(memory_limit: u64, threads: usize) -> Self {
        let options = decoding(memory_limit, 1);
        let workers = (0..count(threads)).map(|_| ChunkDecoder::new(&options)).collect();
        Self { coefficients: HashMap::new(), memory_limit, workers }
    }

    /// `next = sum + weight * tensor` for every tensor of the stream, by name. Sums are never written: where a
    /// value is NaN or infinite, or after an error, what is in the next ones is to be forgotten. Of tensors
    /// that are summed as coefficients nothing is made, nor with weight 0.
    fn add(
        &mut self,
        py: Python<'_>,
        blob: &Bound<'_, PyAny>,
        places: Places<'_>,
        weight: f32,
    ) -> PyResult<Folded> {
        let input = Input::new(blob)?;
        let bytes = input.bytes();
        let limit = self.memory_limit;
        let tensors = py.detach(|| collect(bytes, limit)).or_raise(py)?;
        let mut targets = Vec::with_capacity(tensors.len());
        let mut places = places;
        for tensor in tensors {
            let name = tensor.meta.name();
            // Removed: of a name that comes twice the second has no sum.
            let place = places.remove(name).map(|(sum, next)| {
                PyResult::Ok(Place { sum: Sums::new(&sum)?, next: Sums::new(&next)? })
            });
            let mut place = place.ok_or_else(|| no_sum(name))??;
            let n_values = tensor.n_values;
            if [&mut place.sum, &mut place.next].map(|s| s.values_mut().len() as u64)
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
        let decoder = &mut self.workers[0];
        let work = || -> Result<()> {
            let mut back = vec![0.0; values.len()];
            found.finish(decoder, &mut back)?;
            values.iter_mut().zip(&back).for_each(|(sum, value)| *sum += value);
            Ok(())
        };
        py.detach(work).or_raise(py)
    }
}

struct Place {
    sum: Sums,
    next: Sums,
}

/// A tensor as it came: framed and verified, not decoded.
struct Encoded {
    meta: Arc<TensorMeta>,
    chunks: Vec<EncodedChunk>,
    n_values: u64,
}

/// What is to be done with a chunk before anything counts.
enum Job<'a> {
    /// Its values, times the weight, and the sums make the next ones.
    Add(&'a EncodedChunk, &'a [f32], &'a mut [f32]),
    /// Whether it decodes: its coefficients will be added, or nothing.
    Check(&'a EncodedChunk),
}

impl Folder {
    fn fold(&mut self, targets: &mut [(Encoded, Place)], weight: f32) -> Result<Folded> {
        let mut jobs = Vec::new();
        for (tensor, place) in targets.iter_mut() {
            let is_checked = weight == 0.0 || self.adds_coefficients(&tensor.meta);
            let (mut sums, mut nexts) = (&*place.sum.values_mut(), place.next.values_mut());
            for chunk in &tensor.chunks {
                let (sum, next);
                (sum, sums) = sums.split_at(chunk.n_values());
                (next, nexts) = std::mem::take(&mut nexts).split_at_mut(chunk.n_values());
                jobs.push(if is_checked { Job::Check(chunk) } else { Job::Add(chunk, sum, next) });
            }
        }
        let bad = in_parallel(&mut self.workers, jobs, |worker, job| job.run(worker, weight))?;
        let mut made = Vec::new();
        if bad.is_some() || weight == 0.0 {
            return Ok((bad, made));
        }
        for (tensor, _) in targets {
            if self.adds_coefficients(&tensor.meta) {
                self.add_coefficients(tensor, weight)?;
            } else {
                made.push(tensor.meta.name().to_owned());
            }
        }
        Ok((None, made))
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
        let decoder = &mut self.workers[0];
        tensor.chunks.iter().try_for_each(|chunk| sum.add(decoder, chunk, weight))
    }
}

impl Job<'_> {
    /// Tensor and index of the first value that is NaN or infinite.
    fn run(self, decoder: &mut ChunkDecoder, weight: f32) -> Result<Option<(String, u64)>> {
        let (chunk, place) = match self {
            Self::Add(chunk, sums, next) => (chunk, Some((sums, next))),
            Self::Check(chunk) => (chunk, None),
        };
        let is_lossy = chunk.spec().is_lossy();
        let Some((sums, next)) = place else {
            // What decodes of a lossy chunk is finite: FORMAT.md, section 7.
            if is_lossy {
                return chunk.unpack(decoder).map(|_| None);
            }
            let mut values = vec![0.0; chunk.n_values()];
            chunk.decode_f32(decoder, &mut values)?;
            return Ok(first_bad(chunk, &values));
        };
        chunk.decode_f32(decoder, next)?;
        if !is_lossy && let Some(bad) = first_bad(chunk, next) {
            return Ok(Some(bad));
        }
        // While what was decoded is in the cache.
        next.iter_mut().zip(sums).for_each(|(next, sum)| *next = sum + weight * *next);
        Ok(None)
    }
}

/// Tensor and index of the first value that is NaN or infinite.
fn first_bad(chunk: &EncodedChunk, values: &[f32]) -> Option<(String, u64)> {
    let at = values.iter().position(|value| !value.is_finite())?;
    Some((chunk.meta().name().to_owned(), chunk.first_value() + at as u64))
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
