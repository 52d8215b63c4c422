//! What a pipeline costs and what it does to the values, measured in memory.

use std::time::Instant;

use anyhow::{Context, Result};
use fedpress::{
    Comparison, DecodeOptions, EncodeOptions, Reader, Spec, Tensor, Writer, effective_spec,
};
use serde::Serialize;

use crate::files::byte_len;

/// A gigabyte, as speeds have it.
const GIGA: f64 = 1e9;

/// Tensors to measure with.
pub struct Sample {
    /// The tensors.
    pub tensors: Vec<Tensor>,
    /// Bytes of their elements.
    pub bytes: usize,
    /// Number of their elements.
    pub values: usize,
    /// Plain copying of that many bytes, in GB/s.
    pub memcpy: f64,
    iterations: usize,
    /// Where decoded elements go, so that no fresh memory is part of the time.
    buffer: Vec<u8>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// The pipeline, in its canonical form.
    pub spec: String,
    /// Size of the stream.
    pub bytes: usize,
    /// Original size over that.
    pub ratio: f64,
    /// Of the whole stream, over the values of all tensors.
    pub bits_per_value: f64,
    /// Mean over the tensors sent lossily, weighted by their number of values; 0 without any.
    pub nmse: f64,
    /// Original bytes per second.
    pub encode_gbs: f64,
    /// Original bytes per second.
    pub decode_gbs: f64,
    /// As a multiple of copying.
    pub encode_memcpy: f64,
    /// As a multiple of copying.
    pub decode_memcpy: f64,
}

impl Sample {
    /// Measures copying; everything is done `iterations` times, and the best counts.
    pub fn new(tensors: Vec<Tensor>, iterations: usize) -> Result<Self> {
        let bytes = tensors.iter().map(|t| t.data.len()).sum();
        let values = tensors.iter().map(n_values).sum();
        let mut sample = Self {
            tensors,
            bytes,
            values,
            memcpy: 0.0,
            iterations: iterations.max(1),
            buffer: vec![0; bytes],
        };
        sample.memcpy = sample.speed_of_copying()?;
        Ok(sample)
    }

    fn speed_of_copying(&mut self) -> Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..self.iterations + 2 {
            let start = Instant::now();
            let mut rest = &mut self.buffer[..];
            for tensor in &self.tensors {
                let (head, tail) = rest.split_at_mut(tensor.data.len());
                head.copy_from_slice(&tensor.data);
                rest = tail;
            }
            std::hint::black_box(&mut self.buffer);
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(self.bytes as f64 / best / GIGA)
    }

    /// Encodes and decodes with one pipeline; also returns what came back.
    pub fn measure(
        &mut self,
        spec: &Spec,
        options: &EncodeOptions,
    ) -> Result<(Measured, Vec<Tensor>)> {
        let decoding = DecodeOptions::trusted().with_threads(options.threads);
        let options = &options.clone().with_several(self.tensors.len() > 1);
        let views: Vec<_> = self.tensors.iter().map(Tensor::view).collect();
        let tensors: Vec<_> = views.iter().map(|view| (*view, spec)).collect();
        let (mut stream, mut encode, mut decode) = (Vec::new(), f64::INFINITY, f64::INFINITY);
        for _ in 0..self.iterations {
            stream.clear();
            let start = Instant::now();
            let mut writer = Writer::new(std::mem::take(&mut stream), options.clone())?;
            writer.tensors(&tensors)?;
            stream = writer.finish()?;
            encode = encode.min(start.elapsed().as_secs_f64());
        }
        for _ in 0..self.iterations {
            let start = Instant::now();
            decode_into(&stream, &decoding, &mut self.buffer)?;
            decode = decode.min(start.elapsed().as_secs_f64());
        }
        let back = fedpress::decode(&stream, &decoding)?;
        let speed = |seconds: f64| self.bytes as f64 / seconds / GIGA;
        let measured = Measured {
            spec: spec.to_string(),
            bytes: stream.len(),
            ratio: self.bytes as f64 / stream.len() as f64,
            bits_per_value: stream.len() as f64 * 8.0 / self.values as f64,
            nmse: self.mean_nmse(&back, spec, options)?,
            encode_gbs: speed(encode),
            decode_gbs: speed(decode),
            encode_memcpy: speed(encode) / self.memcpy,
            decode_memcpy: speed(decode) / self.memcpy,
        };
        Ok((measured, back))
    }

    fn mean_nmse(&self, back: &[Tensor], spec: &Spec, options: &EncodeOptions) -> Result<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for (tensor, back) in self.tensors.iter().zip(back) {
            if is_lossy(tensor, spec, options) {
                let n = n_values(tensor) as f64;
                sum += n * nmse(tensor, back)?;
                weight += n;
            }
        }
        Ok(if weight > 0.0 { sum / weight } else { 0.0 })
    }
}

/// Whether the pipeline changes the values of that tensor.
pub fn is_lossy(tensor: &Tensor, spec: &Spec, options: &EncodeOptions) -> bool {
    let desc = tensor.view().desc();
    effective_spec(&desc, spec, options).is_lossy()
        && fedpress::first_non_finite(tensor.dtype, &tensor.data).is_none()
}

fn n_values(tensor: &Tensor) -> usize {
    8 * tensor.data.len() / tensor.dtype.bits()
}

/// Squared distance over squared length of the original.
pub fn nmse(tensor: &Tensor, back: &Tensor) -> Result<f64> {
    let mut comparison = Comparison::default();
    comparison.update(tensor.dtype, &tensor.data, &back.data)?;
    Ok(comparison.nmse())
}

fn decode_into(stream: &[u8], options: &DecodeOptions, buffer: &mut [u8]) -> Result<()> {
    let mut reader = Reader::new(stream, options.clone());
    let mut rest = &mut *buffer;
    while let Some(tensor) = reader.next_tensor()? {
        let shape = &tensor.meta().desc().shape;
        let bytes = byte_len(tensor.meta().dtype(), shape).and_then(|n| usize::try_from(n).ok());
        let parts = rest.split_at_mut_checked(bytes.unwrap_or(usize::MAX));
        let (place, behind) = parts.context("more came back than was sent")?;
        tensor.read_into(place)?;
        rest = behind;
    }
    std::hint::black_box(buffer);
    Ok(())
}
