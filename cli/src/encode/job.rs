//! From a source of tensors to a stream, piece by piece.

use std::io::{self, Read, Write};

use anyhow::{Context, Result};
use fedpress::{DType, EncodeOptions, ErrorKind, Spare, Spec, TensorDesc, TensorView, Writer};
use indicatif::ProgressBar;
use serde::Serialize;

use super::batch::Batch;
use super::plan::{Planned, Reason};
use super::sample::Sampler;
use super::tie::Tie;
use crate::console::Console;
use crate::files::{Narrow, Output, Source};
use crate::piece::{PIECE, fill};
use crate::table::printable;

/// What became of a tensor.
#[derive(Debug, Serialize)]
pub struct Encoded {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub spec: String,
    pub original_bytes: u64,
    pub bytes: u64,
    /// Normalized mean squared error of a part of it, where it was measured.
    pub nmse: Option<f64>,
    /// Why it is lossless although a lossy pipeline was asked for.
    pub reason: Option<String>,
    /// Why it was spared what was asked for.
    pub spared: Option<&'static str>,
    /// About how many bytes that cost.
    pub spared_bytes: u64,
    /// Whether it would take fewer bytes without loss.
    pub larger: bool,
}

/// Tensors on their way into a stream.
pub struct Job<'a> {
    options: EncodeOptions,
    source: Box<dyn Source>,
    plan: Vec<Planned<'a>>,
    /// Of each tensor.
    ties: Vec<Tie>,
    pub sampler: Sampler,
    progress: ProgressBar,
    batch: Batch,
    piece: Vec<u8>,
}

type Stream<'o> = Writer<Counting<Output<'o>>>;

impl<'a> Job<'a> {
    /// Everything but the output.
    pub fn new(
        options: EncodeOptions,
        source: Box<dyn Source>,
        (plan, ties): (Vec<Planned<'a>>, Vec<Tie>),
        sampler: Sampler,
        console: &Console,
    ) -> Self {
        let sizes = plan.iter().map(|t| (!t.desc.open).then(|| size_of_all(&t.desc)).flatten());
        let progress = console.progress(sizes.reduce(add).flatten());
        let (batch, piece) = (Batch::new(&options), vec![0; PIECE]);
        Self { options, source, plan, ties, sampler, progress, batch, piece }
    }

    /// Writes the whole stream; returns what became of each tensor, and the bytes of it all.
    pub fn run(&mut self, manifest: bool, output: Output<'_>) -> Result<(Vec<Encoded>, u64)> {
        // What is spared and what is tied was decided before, where rules and all tensors are known.
        let options = self.options.clone().with_spare(Spare::Nothing).with_tie(false);
        let mut writer = Writer::new(Counting { inner: output, n: 0 }, options)?;
        if !self.source.metadata().is_empty() {
            writer.metadata(self.source.metadata())?;
        }
        self.progress.reset();
        let plan = std::mem::take(&mut self.plan);
        let done = self.write(writer, &plan, manifest);
        self.plan = plan;
        done
    }

    fn write(
        &mut self,
        mut writer: Stream<'_>,
        plan: &[Planned<'_>],
        manifest: bool,
    ) -> Result<(Vec<Encoded>, u64)> {
        if manifest {
            let descs: Vec<_> = plan.iter().map(|planned| planned.desc.clone()).collect();
            writer.manifest(&descs)?;
        }
        let mut tensors = Vec::new();
        for (index, planned) in plan.iter().enumerate() {
            self.progress.set_message(printable(&planned.desc.name));
            let tie = self.ties[index];
            if tie == Tie::Alone && self.batch.takes(&planned.desc) {
                self.batch.push(index, elements(&mut *self.source, index, planned)?)?;
                if self.batch.is_full() {
                    self.put_batch(&mut writer, plan, &mut tensors)?;
                }
                continue;
            }
            self.put_batch(&mut writer, plan, &mut tensors)?;
            tensors.push(match tie {
                Tie::To(original) => tied(&mut writer, planned, &plan[original])?,
                Tie::Alone | Tie::Kept => self.tensor(&mut writer, index, planned)?,
            });
        }
        self.put_batch(&mut writer, plan, &mut tensors)?;
        let counting = writer.finish()?;
        self.progress.finish_and_clear();
        Ok((tensors, counting.n))
    }

    /// How many bytes the stream takes; nothing is measured.
    pub fn length(&mut self, manifest: bool) -> Result<u64> {
        let sampler = Sampler::new(&self.options, None);
        let sampler = std::mem::replace(&mut self.sampler, sampler);
        let done = self.run(manifest, Output::stream(io::sink()));
        self.sampler = sampler;
        Ok(done?.1)
    }

    pub fn options(&self) -> &EncodeOptions {
        &self.options
    }

    /// The tensors whose values travel at a rate that can be chosen.
    pub fn rated(&self) -> Vec<usize> {
        let travels = |i: &usize| !matches!(self.ties[*i], Tie::To(_));
        let rated = |i: &usize| {
            let spec = &self.plan[*i].spec;
            spec.is_lossy() && spec.rates().is_some()
        };
        (0..self.plan.len()).filter(travels).filter(rated).collect()
    }

    /// The pipeline of a tensor.
    pub fn spec(&self, index: usize) -> &Spec {
        &self.plan[index].spec
    }

    /// Other pipelines for some tensors.
    pub fn set_specs(&mut self, tensors: &[usize], specs: &[Spec]) {
        for (index, spec) in tensors.iter().zip(specs) {
            self.plan[*index].spec = spec.clone();
        }
    }

    /// Values of all tensors, and bytes of them in the file.
    pub fn size(&self) -> (u64, u64) {
        let sizes = self.source.tensors().iter().map(|t| {
            let bytes = crate::files::byte_len(t.dtype, &t.shape).unwrap_or(0);
            (8 * bytes / (t.dtype.bits() as u64).max(1), bytes)
        });
        sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    /// Hands all elements of a tensor out, piece by piece.
    pub fn each_piece(
        &mut self,
        index: usize,
        mut take: impl FnMut(DType, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let planned = &self.plan[index];
        let mut elements = elements(&mut *self.source, index, planned)?;
        loop {
            let n = fill(&mut elements, &mut self.piece)?;
            take(planned.desc.dtype, &self.piece[..n])?;
            if n < self.piece.len() {
                return Ok(());
            }
        }
    }

    /// Codes what waits, side by side.
    fn put_batch(
        &mut self,
        writer: &mut Stream<'_>,
        plan: &[Planned<'_>],
        tensors: &mut Vec<Encoded>,
    ) -> Result<()> {
        let mut views = Vec::with_capacity(self.batch.tensors().len());
        for (number, data) in self.batch.tensors() {
            let TensorDesc { name, dtype, shape, .. } = &plan[number].desc;
            let shape: Result<Vec<_>, _> = shape.iter().map(|n| usize::try_from(*n)).collect();
            views.push((name, *dtype, shape.with_context(|| printable(name))?, data));
        }
        let specs = self.batch.tensors().map(|(number, _)| &plan[number].spec);
        let views = views.iter().map(|(name, dtype, shape, data)| TensorView {
            name,
            dtype: *dtype,
            shape,
            data,
        });
        let sizes = writer.tensors(&views.zip(specs).collect::<Vec<_>>());
        let sizes = sizes.map_err(blame_non_finite)?;
        for ((number, data), bytes) in self.batch.tensors().zip(sizes) {
            let planned = &plan[number];
            let first = &data[..data.len().min(PIECE)];
            let last = data.chunks(PIECE).next_back().unwrap_or_default();
            let nmse = self.sampler.measure(&planned.desc, &planned.spec, first)?;
            let n_bytes = data.len() as u64;
            let larger = is_larger(&self.sampler, planned, (n_bytes, bytes), last)?;
            tensors.push(encoded(planned, (n_bytes, bytes), nmse, larger));
            self.progress.inc(n_bytes);
        }
        self.batch.clear();
        Ok(())
    }

    /// One tensor, piece by piece.
    fn tensor(
        &mut self,
        writer: &mut Stream<'_>,
        index: usize,
        planned: &Planned<'_>,
    ) -> Result<Encoded> {
        let start = writer.bytes_written();
        match self.ties[index] {
            Tie::Kept => writer.begin_kept(&planned.desc, &planned.spec)?,
            Tie::Alone | Tie::To(_) => writer.begin(&planned.desc, &planned.spec)?,
        }
        let mut elements = elements(&mut *self.source, index, planned)?;
        let (n_bytes, last, nmse) = push_all(
            writer,
            &mut *elements,
            planned,
            &mut self.piece,
            &mut self.sampler,
            &self.progress,
        )?;
        drop(elements);
        writer.end().map_err(blame_non_finite)?;
        let sizes = (n_bytes, writer.bytes_written() - start);
        let larger = is_larger(&self.sampler, planned, sizes, &self.piece[..last])?;
        Ok(encoded(planned, sizes, nmse, larger))
    }
}

/// The elements of a tensor as they are coded.
fn elements<'s>(
    source: &'s mut dyn Source,
    index: usize,
    planned: &Planned<'_>,
) -> Result<Box<dyn Read + 's>> {
    let elements = source.read(index)?;
    Ok(if planned.narrowed { Box::new(Narrow::new(elements)) } else { elements })
}

/// A tensor that has the bytes of another one.
fn tied(writer: &mut Stream<'_>, planned: &Planned<'_>, original: &Planned<'_>) -> Result<Encoded> {
    let start = writer.bytes_written();
    writer.tie(&planned.desc, &original.desc.name)?;
    let n_bytes = size_of_all(&planned.desc).unwrap_or(0);
    let done = encoded(planned, (n_bytes, writer.bytes_written() - start), None, false);
    let reason = Some(format!("the same bytes as {}", printable(&original.desc.name)));
    Ok(Encoded { reason, spared: None, spared_bytes: 0, ..done })
}

/// What became of a tensor of so many bytes, in so many of the stream.
fn encoded(
    planned: &Planned<'_>,
    (n_bytes, bytes): (u64, u64),
    nmse: Option<f64>,
    larger: bool,
) -> Encoded {
    let Planned { desc, spec, .. } = planned;
    let spared = match planned.reason {
        Some(Reason::Spared(rule)) => Some(rule.what),
        _ => None,
    };
    let exact = (nmse == Some(0.0)).then(|| "exact: no larger without loss".to_owned());
    Encoded {
        name: desc.name.clone(),
        dtype: desc.dtype.name(),
        shape: desc.shape.clone(),
        spec: spec.to_string(),
        original_bytes: if planned.narrowed { 2 * n_bytes } else { n_bytes },
        bytes,
        nmse,
        reason: planned.reason.map(Reason::sentence).or(exact),
        spared,
        spared_bytes: spared.map_or(0, |_| bytes.saturating_sub(asked_bytes(planned, n_bytes))),
        larger,
    }
}

/// Whether a tensor would take fewer bytes without loss, by its last piece, which is all of a
/// small tensor; looked at only where so many bytes are left that it can be.
fn is_larger(
    sampler: &Sampler,
    planned: &Planned<'_>,
    (all, coded): (u64, u64),
    last: &[u8],
) -> Result<bool> {
    if !planned.spec.is_lossy() || 2 * coded < all || last.is_empty() {
        return Ok(false);
    }
    let lossless = sampler.lossless_len(&planned.desc, last)?;
    let lossless = all as f64 * lossless as f64 / last.len() as f64;
    Ok(coded as f64 > 1.02 * lossless)
}

/// All elements of a tensor into the stream; returns how many bytes, how many of the piece are of this
/// tensor, and the error of the first piece where that is measured.
fn push_all(
    writer: &mut Stream<'_>,
    elements: &mut dyn Read,
    planned: &Planned<'_>,
    piece: &mut [u8],
    sampler: &mut Sampler,
    progress: &ProgressBar,
) -> Result<(u64, usize, Option<f64>)> {
    let (mut n_bytes, mut last, mut nmse) = (0, 0, None);
    let mut elements = elements;
    loop {
        let n = fill(&mut elements, piece)?;
        if n > 0 {
            last = n;
        }
        if n_bytes == 0 {
            nmse = sampler.measure(&planned.desc, &planned.spec, &piece[..n])?;
        }
        writer.push(&piece[..n]).map_err(blame_non_finite)?;
        n_bytes += n as u64;
        progress.inc(n as u64);
        if n < piece.len() {
            return Ok((n_bytes, last, nmse));
        }
    }
}

/// About how many bytes the pipeline that was asked for would make.
fn asked_bytes(planned: &Planned<'_>, n_bytes: u64) -> u64 {
    let values = n_bytes as f64 * 8.0 / planned.desc.dtype.bits() as f64;
    // The ratio is that to f32.
    (4.0 * values / planned.asked.formula_ratio()) as u64
}

fn size_of_all(desc: &TensorDesc) -> Option<u64> {
    crate::files::byte_len(desc.dtype, &desc.shape)
}

/// A hostile directory may claim any sizes.
fn add(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a?.checked_add(b?)
}

/// Sources deliver what they promise, so what the encoder can object to is NaN and infinity.
fn blame_non_finite(error: fedpress::Error) -> anyhow::Error {
    let is_data = *error.kind() == ErrorKind::InvalidArgument;
    let error = anyhow::Error::from(error);
    if is_data { error.context("--non-finite lossless would let this tensor pass") } else { error }
}

/// Counts what passes.
struct Counting<W> {
    inner: W,
    n: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.n += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
