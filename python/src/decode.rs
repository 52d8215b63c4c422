//! Bytes to tensors: in one call, into memory that is there, added up, or piece by piece.

use crate::errors::{OrRaise, over_limit, poisoned, raised};
use crate::memory::{Input, Memory, Output, Sums};
use crate::options::decoding;
use fedpress::{ChunkDecoder, EncodedChunk, Event, Reader, Tensor};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use std::collections::HashMap;

/// A tensor as Python gets it: name, element type, shape, bytes.
pub type Made = (String, &'static str, Vec<usize>, Memory);

fn made(tensor: Tensor) -> Made {
    (tensor.name, tensor.dtype.name(), tensor.shape, Memory::new(tensor.data))
}

/// Decodes all tensors of one or more concatenated streams.
#[pyfunction]
pub fn decode(
    py: Python<'_>,
    blob: &Bound<'_, PyAny>,
    memory_limit: u64,
    threads: usize,
) -> PyResult<Vec<Made>> {
    let input = Input::new(blob)?;
    let options = decoding(memory_limit, threads);
    let bytes = input.bytes();
    let tensors = py.detach(|| fedpress::decode(bytes, &options)).or_raise(py)?;
    Ok(tensors.into_iter().map(made).collect())
}

/// As [`Made`]; no memory where the elements went into an output.
type Found = (String, &'static str, Vec<usize>, Option<Memory>);

/// The same, those of these names into memory of exactly their size.
#[pyfunction]
pub fn decode_into(
    py: Python<'_>,
    blob: &Bound<'_, PyAny>,
    outputs: HashMap<String, Bound<'_, PyAny>>,
    memory_limit: u64,
    threads: usize,
) -> PyResult<Vec<Found>> {
    let input = Input::new(blob)?;
    let reader = Reader::new(input.bytes(), decoding(memory_limit, threads));
    let outputs = outputs.into_iter().map(|(name, o)| Ok((name, Output::new(&o)?)));
    let mut outputs = outputs.collect::<PyResult<_>>()?;
    let outputs = &mut outputs;
    py.detach(move || read_into(reader, outputs)).or_raise(py)
}

fn read_into(
    mut reader: Reader<&[u8]>,
    outputs: &mut HashMap<String, Output>,
) -> fedpress::Result<Vec<Found>> {
    let mut found = Vec::new();
    while let Some(tensor) = reader.next_tensor()? {
        let (name, dtype) = (tensor.meta().name().to_owned(), tensor.meta().dtype().name());
        let (shape, memory) = match outputs.get_mut(&name) {
            Some(output) => (tensor.read_into(output.bytes_mut())?, None),
            None => {
                let read = tensor.read()?;
                (read.shape, Some(Memory::new(read.data)))
            }
        };
        found.push((name, dtype, shape, memory));
    }
    Ok(found)
}

/// `sums[name] += weight * tensor` for every tensor of the stream, into f32 values; returns how many
/// values were added.
#[pyfunction]
pub fn add_into(
    py: Python<'_>,
    blob: &Bound<'_, PyAny>,
    sums: HashMap<String, Bound<'_, PyAny>>,
    weight: f32,
    memory_limit: u64,
) -> PyResult<u64> {
    let input = Input::new(blob)?;
    let reader = Reader::new(input.bytes(), decoding(memory_limit, 1));
    let sums = sums.into_iter().map(|(name, o)| Ok((name, Sums::new(&o)?)));
    let mut sums = sums.collect::<PyResult<_>>()?;
    let sums = &mut sums;
    let added = py.detach(move || add_all(reader, sums, weight)).or_raise(py)?;
    added.map_err(|name| PyKeyError::new_err(format!("no sum for tensor {name:?}")))
}

/// The number of values, or the name of a tensor that has no sum.
fn add_all(
    mut reader: Reader<&[u8]>,
    sums: &mut HashMap<String, Sums>,
    weight: f32,
) -> fedpress::Result<Result<u64, String>> {
    let mut n_values = 0;
    while let Some(tensor) = reader.next_tensor()? {
        match sums.get_mut(tensor.meta().name()) {
            Some(sum) => n_values += tensor.add_into(sum.values_mut(), weight)?,
            None => return Ok(Err(tensor.meta().name().to_owned())),
        }
    }
    Ok(Ok(n_values))
}

/// Turns the bytes of streams into tensors, whole tensors as they become complete.
#[pyclass(module = "fedpress._fedpress")]
pub struct Decoder {
    decoder: fedpress::Decoder,
    worker: ChunkDecoder,
    memory_limit: u64,
    /// The tensor that is being read.
    open: Option<Tensor>,
    /// Whether a call failed: what is open then lacks a chunk.
    failed: bool,
}

#[pymethods]
impl Decoder {
    #[new]
    fn new(memory_limit: u64) -> Self {
        let options = decoding(memory_limit, 1);
        Self {
            worker: ChunkDecoder::new(&options),
            decoder: fedpress::Decoder::new(options),
            memory_limit,
            open: None,
            failed: false,
        }
    }

    /// The next bytes, cut anywhere; returns the tensors that end in them.
    fn push(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<Vec<Made>> {
        let input = Input::new(buffer)?;
        if self.failed {
            return Err(poisoned(py));
        }
        let mut bytes = input.bytes();
        let result = py.detach(|| {
            let mut complete = Vec::new();
            while let Some(event) = self.decoder.next(&mut bytes)? {
                complete.extend(self.take(event)?);
            }
            Ok(complete)
        });
        self.failed = result.is_err();
        match result {
            Ok(tensors) => Ok(tensors.into_iter().map(made).collect()),
            Err(Failure::Codec(error)) => Err(raised(py, &error)),
            Err(Failure::Limit(needed)) => Err(over_limit(py, self.memory_limit, needed)),
        }
    }

    /// Says that no bytes follow: an error unless the last stream is complete.
    fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.failed {
            true => Err(poisoned(py)),
            false => self.decoder.finish().or_raise(py),
        }
    }
}

enum Failure {
    Codec(fedpress::Error),
    /// So many bytes of elements of one tensor.
    Limit(u64),
}

impl From<fedpress::Error> for Failure {
    fn from(error: fedpress::Error) -> Self {
        Self::Codec(error)
    }
}

impl Decoder {
    /// Takes an event up; returns the tensor that it completes.
    fn take(&mut self, event: Event) -> Result<Option<Tensor>, Failure> {
        match event {
            Event::Tensor(meta) => {
                meta.supported()?;
                let (name, dtype) = (meta.name().to_owned(), meta.dtype());
                let dims = meta.desc().shape.iter().map(|dim| usize::try_from(*dim));
                let shape = dims.collect::<Result<_, _>>().map_err(|_| Failure::Limit(u64::MAX))?;
                self.open = Some(Tensor { name, dtype, shape, data: Vec::new() });
                Ok(None)
            }
            Event::Chunk(chunk) => self.chunk(&chunk).map(|()| None),
            Event::TensorEnd { n_values } => {
                Ok(self.open.take().map(|tensor| closed(tensor, n_values)))
            }
            _ => Ok(None),
        }
    }

    fn chunk(&mut self, chunk: &EncodedChunk) -> Result<(), Failure> {
        let Some(tensor) = &mut self.open else { return Ok(()) };
        let at = tensor.data.len();
        let end = at + tensor.dtype.byte_len(chunk.n_values());
        // What is there is paid for by chunks that came; a shape alone takes nothing.
        if end as u64 > self.memory_limit || tensor.data.try_reserve(end - at).is_err() {
            return Err(Failure::Limit(end as u64));
        }
        tensor.data.resize(end, 0);
        Ok(chunk.decode(&mut self.worker, &mut tensor.data[at..])?)
    }
}

/// With an open first dimension filled in.
fn closed(mut tensor: Tensor, n_values: u64) -> Tensor {
    // A tensor that is not open has no values if a dimension is 0.
    if n_values > 0
        && let Some((first @ 0, row)) = tensor.shape.split_first_mut()
    {
        *first = n_values as usize / row.iter().product::<usize>();
    }
    tensor
}
