//! The body of a chunk to values.

use super::exponent::{check_exponent, scale_up};
use super::{
    Buffers, Elements, Job, Output, Target, Work, Worker, coefficients, lossless, payload_bound,
};
use crate::basis::{Basis, Transform, with_basis};
use crate::code::{Coder, with_coder};
use crate::flow::{Run, Sink, Source, flow, run_len};
use crate::kernel::Kernel;
use crate::select::Spread;
use crate::wire::ChunkHeader;
use crate::{DType, Error, Result, Spec};

/// P of a chunk, and of what.
#[derive(Clone, Copy)]
pub(crate) struct Coded<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) dtype: DType,
    /// Values of the group.
    pub(crate) n: usize,
    pub(crate) payload: &'a [u8],
}

impl<'a> Coded<'a> {
    /// Exponent and codes of a lossy group of at least one value.
    fn split(self) -> Result<(i8, &'a [u8])> {
        let (exponent, codes) =
            self.payload.split_first().ok_or_else(|| Error::corrupt("an empty payload"))?;
        check_exponent(*exponent as i8)?;
        Ok((*exponent as i8, codes))
    }

    /// Whether P decodes.
    pub(crate) fn check(self) -> Result<()> {
        if !self.spec.is_lossy() || self.n == 0 {
            let expected = payload_bound(self.spec, self.dtype, self.n);
            if self.payload.len() == expected {
                return Ok(());
            }
            return Err(Error::corrupt(format!(
                "payload: expected {expected} bytes, found {}",
                self.payload.len()
            )));
        }
        let (_, codes) = self.split()?;
        self.spec.quantizer.check(coefficients(self.spec, self.n).1, codes)
    }
}

/// P of a chunk: the payload itself, or what zstd makes of it, in `buffer`.
pub(crate) fn open<'a>(
    spec: &Spec,
    dtype: DType,
    header: &ChunkHeader,
    payload: &'a [u8],
    worker: (&'a mut Vec<u8>, &mut crate::entropy::Zstandard),
) -> Result<&'a [u8]> {
    if spec.lossless.zstd.is_none() || header.stored {
        return Ok(payload);
    }
    let (buffer, zstandard) = worker;
    let shorter_than = |length: usize| match payload.len() < length {
        true => Ok(()),
        false => Err(Error::corrupt(format!(
            "zstd frame of {} bytes for {length} bytes; such chunks are stored",
            payload.len()
        ))),
    };
    let bound = payload_bound(spec, dtype, header.n_values);
    shorter_than(bound)?;
    zstandard.decompress(payload, bound, buffer)?;
    shorter_than(buffer.len())?;
    Ok(buffer)
}

/// Decodes the payload of a chunk.
pub(crate) fn decode(
    job: &Job<'_>,
    spec: &Spec,
    dtype: DType,
    header: &ChunkHeader,
    payload: &[u8],
    worker: &mut Worker,
    target: Target<'_>,
) -> Result<()> {
    let Worker { flow, payload: buffer, planes, zstandard, .. } = worker;
    let payload = open(spec, dtype, header, payload, (buffer, zstandard))?;
    let coded = Coded { spec, dtype, n: header.n_values, payload };
    if !spec.is_lossy() || coded.n == 0 {
        coded.check()?;
        return lossless::decode(job.kernel, coded, planes, target);
    }
    let (exponent, codes) = coded.split()?;
    let values = Output::new(job.kernel, dtype, exponent, coded.n, target);
    let Buffers { basis, code, kept } = flow;
    with_basis!(&spec.basis, stage => {
        let mut values = stage.inverse(job, values, basis);
        coefficients_to(job, coded, codes, (code, kept), &mut values)
    })
}

/// Adds the coefficients of a chunk in a basis, times `weight`, to as many sums.
pub(crate) fn add_coefficients(
    job: &Job<'_>,
    basis: &Basis,
    (coded, stored): (Coded<'_>, &ChunkHeader),
    worker: &mut Worker,
    sums: &mut [f32],
    weight: f32,
) -> Result<()> {
    let Coded { spec, dtype, n, payload } = coded;
    if n > 0 && (!spec.is_lossy() || spec.basis != *basis) {
        // Coded in no basis, or in another one: its values, in this one.
        let mut values = vec![0.0; n];
        decode(job, spec, dtype, stored, payload, worker, Target::F32(&mut values))?;
        let mut to = AddTo { kernel: job.kernel, sums, weight, exponent: 0, at: 0 };
        let (values, work) = (Elements::of_values(&values), &mut worker.flow.basis);
        return with_basis!(basis, stage => flow(&mut stage.forward(job, values, work), &mut to));
    }
    let Worker { flow: buffers, payload: buffer, zstandard, .. } = worker;
    let payload = open(spec, dtype, stored, payload, (buffer, zstandard))?;
    let coded = Coded { payload, ..coded };
    if n == 0 {
        return coded.check();
    }
    let (exponent, codes) = coded.split()?;
    let mut to = AddTo { kernel: job.kernel, sums, weight, exponent, at: 0 };
    coefficients_to(job, coded, codes, (&mut buffers.code, &mut buffers.kept), &mut to)
}

/// Adds what comes to sums.
struct AddTo<'a> {
    kernel: Kernel,
    sums: &'a mut [f32],
    weight: f32,
    exponent: i8,
    at: usize,
}

impl Sink for AddTo<'_> {
    fn unit(&self) -> usize {
        1 << 12
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        let sums = &mut self.sums[self.at..self.at + run.values.len()];
        self.at += run.values.len();
        if self.exponent == 0 {
            self.kernel.add_scaled(sums, run.values, self.weight);
            return Ok(());
        }
        let mut scaled = run.values.to_vec();
        scale_up(&mut scaled, self.exponent);
        self.kernel.add_scaled(sums, &scaled, self.weight);
        Ok(())
    }
}

/// The values of coefficients in a basis.
pub(crate) fn values_of(
    job: &Job<'_>,
    basis: &Basis,
    coefficients: &[f32],
    worker: &mut Worker,
    out: &mut [f32],
) -> Result<()> {
    let values = Output::new(job.kernel, DType::F32, 0, out.len(), Target::F32(out));
    let mut from = Numbers { numbers: coefficients, at: 0 };
    with_basis!(basis, stage => {
        flow(&mut from, &mut stage.inverse(job, values, &mut worker.flow.basis))
    })
}

/// Numbers that are there.
struct Numbers<'a> {
    numbers: &'a [f32],
    at: usize,
}

impl Source for Numbers<'_> {
    fn unit(&self) -> usize {
        1
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.numbers.len() - self.at, len);
        let values = &self.numbers[self.at..self.at + n];
        self.at += n;
        Ok((n > 0).then_some(Run { values, range: None }))
    }
}

/// The coefficients of a group, to whatever takes them.
fn coefficients_to(
    job: &Job<'_>,
    coded: Coded<'_>,
    codes: &[u8],
    (code, kept): (&mut Work, &mut crate::select::Kept),
    to: &mut impl Sink,
) -> Result<()> {
    let (n, n_coded) = coefficients(coded.spec, coded.n);
    code.may_fail = to.bears_errors();
    with_coder!(&coded.spec.quantizer, stage => {
        let mut from = stage.decoder(job, n_coded, codes, code)?;
        spread(job, coded.spec, n, kept, &mut from, to)
    })
}

fn spread(
    job: &Job<'_>,
    spec: &Spec,
    n: usize,
    kept: &mut crate::select::Kept,
    from: &mut impl Source,
    to: &mut impl Sink,
) -> Result<()> {
    match &spec.subsample {
        None => flow(from, to),
        Some(subsample) => flow(&mut Spread::new(subsample, job, n, from, kept), to),
    }
}
