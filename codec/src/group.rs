//! One group of values through the whole pipeline and back: the body of a chunk.
//!
//! A pure function of the values, the tensor's header, the group's number and the keys, so that
//! groups can be coded in any order, by any number of threads, or on a GPU. The work goes span by
//! span: a span is the smallest run of values that both the transform and the quantizer cut at its
//! ends, 4096 values by default, so that it stays in the first-level cache.

use crate::blocks::blocks;
use crate::convert;
use crate::entropy::{Zstandard, shuffle, unshuffle};
use crate::kernel::Kernel;
use crate::meta::{ChunkHeader, TensorMeta};
use crate::quantize::Quantizer;
use crate::random::{Keys, Purpose, Seeds};
use crate::range;
use crate::transform::{Transform, TransformContext};
use crate::{DType, Error, Result};
use std::ops::Range;

/// Buffers that are reused from group to group; one per thread.
#[derive(Default)]
pub(crate) struct Scratch {
    values: Vec<f32>,
    coefficients: Vec<f32>,
    kept: Vec<f32>,
    positions: Vec<u32>,
    unit: Vec<f32>,
    payload: Vec<u8>,
    zstandard: Zstandard,
}

/// Room behind the codes that kernels may overwrite.
const SLACK: usize = 16;

/// Bytes a group's payload has before the final lossless stage: fixed by the pipeline.
pub(crate) fn payload_len(meta: &TensorMeta, n_values: usize) -> usize {
    let spec = &meta.spec;
    if !spec.is_lossy() {
        return n_values * meta.desc.dtype.size();
    }
    if n_values == 0 {
        return 0;
    }
    let n_coefficients = spec.transform.n_coefficients(n_values);
    let n_coded = spec.subsample.map_or(n_coefficients, |s| s.n_kept(n_coefficients));
    let coded = match &spec.quantizer {
        Some(quantizer) => quantizer.coded_len(n_coded),
        None => n_coded * size_of::<f32>(),
    };
    coded + 1
}

/// Longest body of a chunk of this tensor.
pub(crate) fn max_body_len(meta: &TensorMeta) -> usize {
    ChunkHeader::MAX_LEN + payload_len(meta, meta.group_values())
}

/// Memory that decoding one group takes, its body and its decoded bytes included, roughly.
pub(crate) fn decode_memory(meta: &TensorMeta) -> u64 {
    // The group size bounds a tensor of known, smaller size too generously.
    let n =
        meta.n_values().map_or(meta.group_values() as u64, |n| n.min(meta.group_values() as u64));
    let n = n as usize;
    let body = ChunkHeader::MAX_LEN + payload_len(meta, n);
    let floats = if meta.spec.is_lossy() { 3 * meta.spec.transform.n_coefficients(n) } else { 0 };
    (2 * body + n * meta.desc.dtype.size() + floats * size_of::<f32>()) as u64
}

/// The codec of the groups of one tensor.
#[derive(Clone, Copy)]
pub(crate) struct GroupCodec<'a> {
    meta: &'a TensorMeta,
    kernel: Kernel,
    signs: Keys,
    window_signs: Keys,
    selection: Keys,
}

impl<'a> GroupCodec<'a> {
    pub(crate) fn new(meta: &'a TensorMeta, kernel: Kernel) -> Self {
        let (seed, round) = meta.seed.unwrap_or((0, 0));
        let tensor = meta.key();
        let keys = |purpose| Keys::new(seed, round, 0, tensor, purpose);
        Self {
            meta,
            kernel,
            signs: keys(Purpose::Signs),
            window_signs: keys(Purpose::WindowSigns),
            selection: keys(Purpose::Subsample),
        }
    }

    fn context(&self, group: u64) -> TransformContext {
        TransformContext {
            kernel: self.kernel,
            signs: self.signs,
            window_signs: self.window_signs,
            group,
        }
    }

    /// Appends the body of the chunk: head and payload of `elements`.
    pub(crate) fn encode(
        &self,
        seeds: &Seeds,
        group: u64,
        last: bool,
        elements: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let lossless = self.meta.spec.lossless;
        let n_values = elements.len() / self.meta.desc.dtype.size();
        let mut payload = std::mem::take(&mut scratch.payload);
        payload.clear();
        if self.meta.spec.is_lossy() {
            self.encode_values(seeds, group, elements, scratch, &mut payload)?;
        } else if lossless.shuffle {
            shuffle(elements, self.meta.desc.dtype.size(), &mut payload);
        } else {
            payload.extend_from_slice(elements);
        }
        let at = out.len();
        let mut header = ChunkHeader { group, last, stored: false, n_values };
        header.write_to(out);
        let compressed = match lossless.zstd {
            Some(level) => scratch.zstandard.compress(level, &payload, out)?,
            None => false,
        };
        if !compressed {
            header.stored = lossless.zstd.is_some();
            out.truncate(at);
            header.write_to(out);
            out.extend_from_slice(&payload);
        }
        scratch.payload = payload;
        Ok(())
    }

    fn encode_values(
        &self,
        seeds: &Seeds,
        group: u64,
        elements: &[u8],
        scratch: &mut Scratch,
        payload: &mut Vec<u8>,
    ) -> Result<()> {
        let dtype = self.meta.desc.dtype;
        let n = elements.len() / dtype.size();
        if n == 0 {
            return Ok(());
        }
        let mut own = std::mem::take(&mut scratch.values);
        let values = match aligned(dtype, elements) {
            Some(values) => values,
            None => {
                own.resize(n, 0.0);
                convert::to_f32(dtype, elements, &mut own);
                &own
            }
        };
        payload.resize(payload_len(self.meta, n) + SLACK, 0);
        let peak = self.encode_coefficients(seeds, group, values, scratch, payload);
        if peak >= f32::INFINITY.to_bits() {
            let index = values.iter().position(|v| !v.is_finite()).unwrap_or(0) as u64;
            let index = group * self.meta.group_values() as u64 + index;
            return Err(non_finite(index).in_tensor(&self.meta.desc.name));
        }
        // Rare enough to code the group twice instead of reading every group twice.
        let exponent = range::exponent(peak);
        if exponent != 0 {
            let mut scaled = values.to_vec();
            range::scale_down(&mut scaled, exponent);
            self.encode_coefficients(seeds, group, &scaled, scratch, payload);
        }
        payload.truncate(payload_len(self.meta, n));
        if let Some(last) = payload.last_mut() {
            *last = exponent as u8;
        }
        scratch.values = own;
        Ok(())
    }

    /// Codes a group; returns the bits of its largest magnitude. Values that are not finite give
    /// codes that mean nothing.
    fn encode_coefficients(
        &self,
        seeds: &Seeds,
        group: u64,
        values: &[f32],
        scratch: &mut Scratch,
        coded: &mut [u8],
    ) -> u32 {
        let transform = &self.meta.spec.transform;
        let n = transform.n_coefficients(values.len());
        let context = self.context(group);
        let Some(subsample) = self.meta.spec.subsample else {
            let mut peak = 0;
            for span in self.spans(n) {
                scratch.coefficients.resize(span.len(), 0.0);
                let coefficients = &mut scratch.coefficients[..span.len()];
                let unit = &mut scratch.unit;
                peak = peak.max(transform.forward(
                    &context,
                    values,
                    span.clone(),
                    coefficients,
                    unit,
                ));
                let ahead = values.get(span.end..).unwrap_or_default();
                self.encode_span(seeds, group, n, span, coefficients, coded, ahead);
            }
            return peak;
        };
        scratch.coefficients.resize(n, 0.0);
        let coefficients = &mut scratch.coefficients[..n];
        let peak = transform.forward(&context, values, 0..n, coefficients, &mut scratch.unit);
        subsample.select(n, self.selection.stream(group), &mut scratch.positions);
        let kept = &mut scratch.kept;
        kept.clear();
        kept.extend(scratch.positions.iter().map(|i| coefficients[*i as usize]));
        self.encode_span(seeds, group, kept.len(), 0..kept.len(), kept, coded, &[]);
        peak
    }

    /// Runs that neither the transform nor the quantizer reaches across.
    fn spans(&self, n: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let quantizer = self.meta.spec.quantizer.as_ref().map_or(1 << 12, |q| q.block());
        blocks(n, self.meta.spec.transform.block().max(quantizer))
    }

    fn encode_span(
        &self,
        seeds: &Seeds,
        group: u64,
        n_coded: usize,
        span: Range<usize>,
        coefficients: &[f32],
        coded: &mut [u8],
        ahead: &[f32],
    ) {
        match &self.meta.spec.quantizer {
            Some(Quantizer::Uniform(uniform)) => {
                let rounding = (!uniform.nearest).then(|| {
                    let Seeds { private, round, client, .. } = *seeds;
                    let tensor = self.meta.key();
                    (Keys::new(private, round, client, tensor, Purpose::Rounding), group)
                });
                uniform.encode(self.kernel, rounding, n_coded, span, coefficients, coded, ahead);
            }
            None => {
                let bytes = &mut coded[span.start * 4..span.end * 4];
                convert::from_f32(DType::F32, coefficients, bytes);
            }
        }
    }

    /// Decodes the payload of a chunk into `elements`, little-endian bytes of its values.
    pub(crate) fn decode(
        &self,
        header: &ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        elements: &mut [u8],
    ) -> Result<()> {
        let dtype = self.meta.desc.dtype;
        if self.meta.spec.is_lossy() {
            let mut own = std::mem::take(&mut scratch.values);
            let result = match aligned_mut(dtype, elements) {
                Some(values) => self.decode_values(header, payload, scratch, values),
                None => {
                    own.resize(header.n_values, 0.0);
                    let result = self.decode_values(header, payload, scratch, &mut own);
                    convert::from_f32(dtype, &own[..header.n_values], elements);
                    result
                }
            };
            scratch.values = own;
            return result;
        }
        let unpacked = self.unpack(header, payload, scratch)?;
        let bytes = unpacked.bytes(payload, scratch);
        match self.meta.spec.lossless.shuffle {
            true => unshuffle(bytes, dtype.size(), elements),
            false => elements.copy_from_slice(bytes),
        }
        Ok(())
    }

    /// Adds `weight` times the values of a chunk of f32, f16 or bf16 to `out`.
    pub(crate) fn add_into(
        &self,
        header: &ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut [f32],
        weight: f32,
    ) -> Result<()> {
        let dtype = self.meta.desc.dtype;
        let mut own = std::mem::take(&mut scratch.values);
        own.resize(header.n_values, 0.0);
        if self.meta.spec.is_lossy() {
            self.decode_values(header, payload, scratch, &mut own)?;
            convert::round_to(dtype, &mut own);
        } else {
            let mut elements = vec![0; header.n_values * dtype.size()];
            self.decode(header, payload, scratch, &mut elements)?;
            convert::to_f32(dtype, &elements, &mut own);
        }
        self.kernel.add_scaled(out, &own, weight);
        scratch.values = own;
        Ok(())
    }

    /// Undoes the final lossless stage; the payload then has exactly the length it must have.
    fn unpack(
        &self,
        header: &ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Unpacked> {
        let expected = payload_len(self.meta, header.n_values);
        let zstd = self.meta.spec.lossless.zstd.is_some();
        if zstd && !header.stored {
            if payload.len() >= expected {
                return Err(Error::corrupt(format!(
                    "zstd frame of {} bytes for {expected} bytes; such chunks are stored",
                    payload.len()
                )));
            }
            scratch.payload.resize(expected, 0);
            scratch.zstandard.decompress(payload, &mut scratch.payload[..expected])?;
            scratch.payload.truncate(expected);
            return Ok(Unpacked::InScratch);
        }
        if payload.len() != expected {
            return Err(Error::corrupt(format!(
                "chunk payload: expected {expected} bytes, found {}",
                payload.len()
            )));
        }
        Ok(Unpacked::AsStored)
    }

    fn decode_values(
        &self,
        header: &ChunkHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        values: &mut [f32],
    ) -> Result<()> {
        let unpacked = self.unpack(header, payload, scratch)?;
        if values.is_empty() {
            return Ok(());
        }
        let own = std::mem::take(&mut scratch.payload);
        let bytes = match unpacked {
            Unpacked::AsStored => payload,
            Unpacked::InScratch => &own,
        };
        let (exponent, coded) = match bytes.split_last() {
            Some((exponent, coded)) => (*exponent as i8, coded),
            None => (0, bytes),
        };
        let result = range::check_exponent(exponent)
            .and_then(|()| self.decode_coefficients(header.group, coded, scratch, values));
        scratch.payload = own;
        result?;
        if exponent != 0 {
            range::scale_up(values, exponent);
        }
        Ok(())
    }

    fn decode_coefficients(
        &self,
        group: u64,
        coded: &[u8],
        scratch: &mut Scratch,
        values: &mut [f32],
    ) -> Result<()> {
        let transform = &self.meta.spec.transform;
        let context = self.context(group);
        let n = transform.n_coefficients(values.len());
        let Some(subsample) = self.meta.spec.subsample else {
            let Transform::Kashin(kashin) = transform else {
                for span in self.spans(n) {
                    let part = &mut values[span.clone()];
                    self.decode_span(n, span.clone(), 1.0, coded, part)?;
                    transform.inverse(&context, span.start, part);
                }
                return Ok(());
            };
            scratch.coefficients.resize(n, 0.0);
            let coefficients = &mut scratch.coefficients[..n];
            for span in self.spans(n) {
                let part = &mut coefficients[span.clone()];
                self.decode_span(n, span.clone(), 1.0, coded, part)?;
                transform.inverse(&context, span.start, part);
            }
            kashin.gather(coefficients, values);
            return Ok(());
        };
        let n_kept = subsample.n_kept(n);
        scratch.kept.resize(n_kept, 0.0);
        let kept = &mut scratch.kept[..n_kept];
        self.decode_span(n_kept, 0..n_kept, subsample.gain(n), coded, kept)?;
        scratch.coefficients.clear();
        scratch.coefficients.resize(n, 0.0);
        let coefficients = &mut scratch.coefficients[..n];
        subsample.select(n, self.selection.stream(group), &mut scratch.positions);
        for (position, value) in scratch.positions.iter().zip(kept) {
            coefficients[*position as usize] = *value;
        }
        transform.inverse(&context, 0, coefficients);
        match transform {
            Transform::Kashin(kashin) => kashin.gather(coefficients, values),
            _ => values.copy_from_slice(coefficients),
        }
        Ok(())
    }

    fn decode_span(
        &self,
        n_coded: usize,
        span: Range<usize>,
        gain: f32,
        coded: &[u8],
        out: &mut [f32],
    ) -> Result<()> {
        match &self.meta.spec.quantizer {
            Some(Quantizer::Uniform(uniform)) => {
                uniform.decode(self.kernel, n_coded, span, gain, coded, out)
            }
            None => {
                convert::to_f32(DType::F32, &coded[span.start * 4..span.end * 4], out);
                if self.kernel.peak_bits(out) > range::LARGEST.to_bits() {
                    return Err(Error::corrupt("coefficient out of range"));
                }
                out.iter_mut().for_each(|v| *v *= gain);
                Ok(())
            }
        }
    }
}

/// Where the payload lies after the final lossless stage has been undone.
#[derive(Clone, Copy)]
enum Unpacked {
    AsStored,
    InScratch,
}

impl Unpacked {
    fn bytes<'a>(self, payload: &'a [u8], scratch: &'a Scratch) -> &'a [u8] {
        match self {
            Self::AsStored => payload,
            Self::InScratch => &scratch.payload,
        }
    }
}

/// A view of the elements as f32, where they are and lie so.
fn aligned(dtype: DType, elements: &[u8]) -> Option<&[f32]> {
    if dtype != DType::F32 || cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice(elements).ok()
}

fn aligned_mut(dtype: DType, elements: &mut [u8]) -> Option<&mut [f32]> {
    if dtype != DType::F32 || cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice_mut(elements).ok()
}

/// The error for a NaN or infinity in a lossy tensor.
fn non_finite(index: u64) -> Error {
    Error::invalid(format!(
        "NaN or infinity at index {index}; a lossy pipeline takes finite values only (or send the tensor losslessly)"
    ))
}

/// The first NaN or infinity among elements of f32, f16 or bf16 (`None` for other types).
///
/// ```
/// let bytes: Vec<u8> = [1.0f32, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
/// assert_eq!(fedpress::first_non_finite(fedpress::DType::F32, &bytes), Some(1));
/// ```
pub fn first_non_finite(dtype: DType, elements: &[u8]) -> Option<usize> {
    match dtype {
        DType::F32 => elements
            .as_chunks::<4>()
            .0
            .iter()
            .position(|b| u32::from_le_bytes(*b) & 0x7f80_0000 == 0x7f80_0000),
        DType::F16 | DType::BF16 => {
            let mask = if dtype == DType::F16 { 0x7c00 } else { 0x7f80 };
            elements.as_chunks::<2>().0.iter().position(|b| u16::from_le_bytes(*b) & mask == mask)
        }
        _ => None,
    }
}
