//! Values to the body of a chunk.

use super::redundancy::is_redundant;
use super::{
    Buffers, Coded, Elements, Job, Target, Worker, coefficients, exponent, first_non_finite,
    lossless,
};
use crate::basis::{self, Basis, Peak, Transform, Values, with_basis};
use crate::code::{Coder, Expected, Numbers, with_coder};
use crate::entropy::Zstandard;
use crate::flow::flow;
use crate::kernel::Kernel;
use crate::options::NonFinite;
use crate::select::Pick;
use crate::wire::{ChunkHeader, TensorMeta};
use crate::{Error, Result, Spec};

/// Values that are converted at once.
const STRIP: usize = 1 << 12;

/// When a group takes the lossless pipeline of the tensor's table, and not a lossy one before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// What to do with a group that holds NaN or infinity.
    pub(crate) non_finite: NonFinite,
    /// Whether a group goes losslessly where that is not larger.
    pub(crate) smaller: bool,
}

/// Appends the body of the chunk: head and payload of `elements`.
pub(crate) fn encode(
    job: &Job<'_>,
    meta: &TensorMeta,
    choice: Choice,
    mut header: ChunkHeader,
    elements: &[u8],
    worker: &mut Worker,
    out: &mut Vec<u8>,
) -> Result<()> {
    let at = out.len();
    if meta.lossy().is_empty() {
        return put_lossless(meta, header, elements, worker, out);
    }
    header.pipeline = choose(job, meta, elements, &mut worker.flow);
    let spec = &meta.pipelines[usize::from(header.pipeline)];
    if let Some(bound) = spec.max_error() {
        return put_bounded(job, (meta, bound), choice, header, elements, worker, out);
    }
    let Worker { flow, payload, zstandard, .. } = &mut *worker;
    let peak = if spec.lossless.zstd.is_none() {
        header.write_to(out);
        encode_values(job, spec, meta, elements, flow, out)?
    } else {
        payload.clear();
        let peak = encode_values(job, spec, meta, elements, flow, payload)?;
        put_payload(spec, &mut header, payload, zstandard, out)?;
        peak
    };
    if peak >= f32::INFINITY.to_bits() {
        out.truncate(at);
        return put_non_finite(meta, choice, header, elements, worker, out);
    }
    replace_if_smaller(meta, choice, header, elements, worker, (at, out))
}

/// A chunk in which no value is further than `bound` from the original: where the codes do not keep to that,
/// without loss.
fn put_bounded(
    job: &Job<'_>,
    (meta, bound): (&TensorMeta, f64),
    choice: Choice,
    mut header: ChunkHeader,
    elements: &[u8],
    worker: &mut Worker,
    out: &mut Vec<u8>,
) -> Result<()> {
    let (at, spec) = (out.len(), &meta.pipelines[usize::from(header.pipeline)]);
    let peak = encode_values(job, spec, meta, elements, &mut worker.flow, out)?;
    let plain = ChunkHeader { stored: true, ..header };
    let kept = peak < f32::INFINITY.to_bits()
        && is_within(job, (spec, bound), &plain, &out[at..], elements, worker)?;
    let Worker { payload, zstandard, .. } = &mut *worker;
    payload.clear();
    payload.extend(out.drain(at..));
    if !kept {
        header.pipeline = meta.fallback().unwrap_or_default();
        return put_lossless(meta, header, elements, worker, out);
    }
    put_payload(spec, &mut header, payload, zstandard, out)?;
    replace_if_smaller(meta, choice, header, elements, worker, (at, out))
}

/// Whether no decoded value is further than `bound` from its element.
fn is_within(
    job: &Job<'_>,
    (spec, bound): (&Spec, f64),
    header: &ChunkHeader,
    payload: &[u8],
    elements: &[u8],
    worker: &mut Worker,
) -> Result<bool> {
    let mut decoded = vec![0.0; header.n_values];
    let target = Target::F32(&mut decoded);
    if super::decode(job, spec, job.dtype, header, payload, worker, target).is_err() {
        // Coefficients out of range.
        return Ok(false);
    }
    let values = Elements::new(job.dtype, elements, 0);
    let work = &mut worker.flow.basis.input;
    let mut strips = decoded.chunks(STRIP).zip((0..).step_by(STRIP));
    Ok(strips.all(|(decoded, at)| {
        let mut pairs = decoded.iter().zip(values.get(at..at + decoded.len(), work));
        pairs.all(|(y, x)| (f64::from(*y) - f64::from(*x)).abs() <= bound)
    }))
}

/// Number of the lossy pipeline by which a group is expected to have the least error; the first where nothing
/// is known, nor anything to choose. What its coder found out stays in the buffers.
fn choose(job: &Job<'_>, meta: &TensorMeta, elements: &[u8], buffers: &mut Buffers) -> u8 {
    let values = Elements::new(meta.dtype(), elements, 0);
    buffers.code.way = None;
    if meta.lossy().len() < 2 || values.len() == 0 {
        return 0;
    }
    let numbers = numbers_of(values, buffers);
    let mut best = (Expected::from(f64::INFINITY), 0);
    for (number, spec) in (0..).zip(meta.lossy()) {
        let expected = expected(job, spec, numbers);
        if expected.error < best.0.error {
            best = (expected, number);
        }
    }
    buffers.code.way = best.0.way;
    best.1
}

/// All values of a group, as f32.
pub(crate) fn numbers_of<'a>(values: Elements<'a>, buffers: &'a mut Buffers) -> &'a [f32] {
    values.get(0..values.len(), &mut buffers.code.whole)
}

/// The NMSE that is expected of a pipeline, of one alternative of it, on a group; infinity where that is not
/// known.
pub(crate) fn expected_error(job: &Job<'_>, spec: &Spec, numbers: &[f32]) -> f64 {
    expected(job, spec, numbers).error
}

fn expected(job: &Job<'_>, spec: &Spec, numbers: &[f32]) -> Expected {
    let meets = match &spec.basis {
        Basis::Identity(_) => Some(Numbers::AsTheyAre),
        basis => basis.mixes().then_some(Numbers::Mixed),
    };
    let meets = meets.filter(|_| spec.subsample.is_none());
    let job = &seen_by(spec, job);
    let error = |meets| spec.quantizer.error(job, numbers, meets);
    meets.map_or(Expected::from(f64::INFINITY), error)
}

/// The job as the coder of a pipeline sees it: only values as they are stand as the shape says.
fn seen_by<'a>(spec: &Spec, job: &Job<'a>) -> Job<'a> {
    let as_they_are = matches!(spec.basis, Basis::Identity(_)) && spec.subsample.is_none();
    Job { shape: if as_they_are { job.shape } else { &[] }, ..*job }
}

/// Appends the body of the chunk from P, which was made elsewhere of a group whose largest magnitude
/// has the bits `peak`.
pub(crate) fn put_coded(
    meta: &TensorMeta,
    choice: Choice,
    mut header: ChunkHeader,
    (payload, peak): (&[u8], u32),
    elements: &[u8],
    worker: &mut Worker,
    out: &mut Vec<u8>,
) -> Result<()> {
    if peak >= f32::INFINITY.to_bits() {
        return put_non_finite(meta, choice, header, elements, worker, out);
    }
    let (at, spec) = (out.len(), &meta.pipelines[0]);
    let coded = Coded { spec, dtype: meta.dtype(), n: header.n_values, payload };
    coded.check().map_err(|e| Error::device(Box::new(e)))?;
    put_payload(spec, &mut header, payload, &mut worker.zstandard, out)?;
    replace_if_smaller(meta, choice, header, elements, worker, (at, out))
}

/// Appends head and payload of P, through zstd where the pipeline has it and it pays.
pub(crate) fn put_payload(
    spec: &Spec,
    header: &mut ChunkHeader,
    payload: &[u8],
    zstandard: &mut Zstandard,
    out: &mut Vec<u8>,
) -> Result<()> {
    let limit = payload.len();
    put_within(spec, header, payload, limit, zstandard, out).map(drop)
}

/// The same if it takes no more than `limit` bytes behind the head; else nothing, and false.
fn put_within(
    spec: &Spec,
    header: &mut ChunkHeader,
    payload: &[u8],
    limit: usize,
    zstandard: &mut Zstandard,
    out: &mut Vec<u8>,
) -> Result<bool> {
    let at = out.len();
    header.write_to(out);
    if let Some(level) = spec.lossless.zstd {
        if zstandard.compress(level, payload, limit, out)? {
            return Ok(true);
        }
        header.stored = true;
        out.truncate(at);
        header.write_to(out);
    }
    if payload.len() > limit {
        out.truncate(at);
        return Ok(false);
    }
    out.extend_from_slice(payload);
    Ok(true)
}

/// A chunk of a lossless pipeline: that of the tensor, or the one it falls back on.
fn put_lossless(
    meta: &TensorMeta,
    mut header: ChunkHeader,
    elements: &[u8],
    worker: &mut Worker,
    out: &mut Vec<u8>,
) -> Result<()> {
    put_lossless_within(meta, &mut header, elements, elements.len(), worker, out).map(drop)
}

/// The same if it takes no more than `limit` bytes behind the head; else nothing, and false.
fn put_lossless_within(
    meta: &TensorMeta,
    header: &mut ChunkHeader,
    elements: &[u8],
    limit: usize,
    worker: &mut Worker,
    out: &mut Vec<u8>,
) -> Result<bool> {
    let spec = &meta.pipelines[usize::from(header.pipeline)];
    let Worker { kernel, planes, zstandard, .. } = worker;
    if spec.lossless.zstd.is_none() {
        // Its length is known, and it goes where it stays.
        if elements.len() <= limit {
            header.write_to(out);
            lossless::encode(*kernel, spec, meta.dtype(), elements, out);
        }
        return Ok(elements.len() <= limit);
    }
    planes.clear();
    lossless::encode(*kernel, spec, meta.dtype(), elements, planes);
    put_within(spec, header, planes, limit, zstandard, out)
}

fn put_non_finite(
    meta: &TensorMeta,
    choice: Choice,
    mut header: ChunkHeader,
    elements: &[u8],
    worker: &mut Worker,
    out: &mut Vec<u8>,
) -> Result<()> {
    let fallback = meta.fallback().filter(|_| choice.non_finite == NonFinite::Lossless);
    let Some(fallback) = fallback else {
        let index = first_non_finite(meta.dtype(), elements).unwrap_or(0) as u64;
        let index = header.group * meta.group_values() as u64 + index;
        let message = format!(
            "NaN or infinity at index {index}; a lossy pipeline takes finite values only (or send the tensor losslessly)"
        );
        return Err(Error::invalid(message).in_tensor(meta.name()));
    };
    (header.pipeline, header.stored) = (fallback, false);
    put_lossless(meta, header, elements, worker, out)
}

/// Puts the lossless form in the place of the chunk that starts at `at`, if it is not longer.
fn replace_if_smaller(
    meta: &TensorMeta,
    choice: Choice,
    mut header: ChunkHeader,
    elements: &[u8],
    worker: &mut Worker,
    (at, out): (usize, &mut Vec<u8>),
) -> Result<()> {
    let (lossy, n) = (out.len() - at - header.len(), header.n_values);
    let Some(fallback) = meta.fallback().filter(|_| choice.smaller && n > 0) else {
        return Ok(());
    };
    if !is_redundant(meta.dtype(), elements, lossy, &mut worker.zstandard)? {
        return Ok(());
    }
    (header.pipeline, header.stored) = (fallback, false);
    let end = out.len();
    if put_lossless_within(meta, &mut header, elements, lossy, worker, out)? {
        out.drain(at..end);
    }
    Ok(())
}

/// Appends P; returns the bits of the largest magnitude of the group, or where that is ordinary of
/// another ordinary one. Where it says NaN or infinity, P means nothing.
fn encode_values(
    job: &Job<'_>,
    spec: &Spec,
    meta: &TensorMeta,
    elements: &[u8],
    buffers: &mut Buffers,
    out: &mut Vec<u8>,
) -> Result<u32> {
    if elements.is_empty() {
        return Ok(0);
    }
    let at = out.len();
    out.push(0);
    let values = Elements::new(meta.dtype(), elements, 0);
    let peak = encode_coefficients(job, spec, values, buffers, out)?;
    if exponent::is_ordinary(peak.at_least) && exponent::is_ordinary(peak.at_most) {
        return Ok(peak.at_most);
    }
    // Values beyond 2^64 or all below 2^-64 are so rare that a group of them may begin again, where
    // the others would pay for a look at each value in advance.
    let peak = peak_of(job.kernel, values, &mut buffers.basis);
    // A bound is one of values, not of parts of the largest.
    let scales = peak < f32::INFINITY.to_bits() && spec.max_error().is_none();
    let exponent = if scales { exponent::exponent(peak) } else { 0 };
    if exponent != 0 {
        out.truncate(at);
        out.push(exponent as u8);
        let values = Elements::new(meta.dtype(), elements, exponent);
        encode_coefficients(job, spec, values, buffers, out)?;
    }
    Ok(peak)
}

/// Bits of the largest magnitude.
fn peak_of(kernel: Kernel, values: Elements<'_>, work: &mut basis::Work) -> u32 {
    let strips = (0..values.len()).step_by(STRIP);
    let peaks = strips.map(|at| {
        let strip = at..values.len().min(at + STRIP);
        kernel.peak_bits(values.get(strip, &mut work.input))
    });
    peaks.fold(0, u32::max)
}

fn encode_coefficients(
    job: &Job<'_>,
    spec: &Spec,
    values: Elements<'_>,
    buffers: &mut Buffers,
    out: &mut Vec<u8>,
) -> Result<Peak> {
    let Buffers { basis, code, kept } = buffers;
    let (n, n_coded) = coefficients(spec, values.len());
    let job = &seen_by(spec, job);
    with_basis!(&spec.basis, stage => {
        let mut from = stage.forward(job, values, basis);
        with_coder!(&spec.quantizer, coder => {
            let mut to = coder.encoder(job, n_coded, code, out);
            match &spec.subsample {
                None => flow(&mut from, &mut to)?,
                Some(subsample) => {
                    flow(&mut Pick::new(subsample, job, n, &mut from, kept), &mut to)?;
                }
            }
        });
        Ok(from.peak())
    })
}
