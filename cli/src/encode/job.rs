//! From a source of tensors to a stream, piece by piece.

use std::io::{self, Write};

use anyhow::Result;
use fedpress::{
    EncodeOptions, ErrorKind, Spare, SpareRule, Spec, TensorDesc, Writer, effective_spec, spared,
};
use indicatif::ProgressBar;
use serde::Serialize;

use super::Pipeline;
use crate::console::Console;
use crate::files::{Output, Source, TensorInfo, byte_len};
use crate::piece::{PIECE, fill};
use crate::rules::Rules;
use crate::table::printable;

/// What became of a tensor.
#[derive(Debug, Serialize)]
pub struct Encoded {
    name: String,
    dtype: &'static str,
    spec: String,
    pub original_bytes: u64,
    pub bytes: u64,
    /// Why it was spared what was asked for.
    pub spared: Option<&'static str>,
    /// About how many bytes that cost.
    pub spared_bytes: u64,
}

/// Tensors on their way into a stream.
pub struct Job<'a> {
    options: EncodeOptions,
    source: Box<dyn Source>,
    rules: Rules<'a>,
    progress: ProgressBar,
    console: &'a Console,
    piece: Vec<u8>,
}

impl<'a> Job<'a> {
    /// Everything but the output.
    pub fn new(
        options: EncodeOptions,
        source: Box<dyn Source>,
        pipeline: &'a Pipeline,
        console: &'a Console,
    ) -> Self {
        let sizes = source.tensors().iter().map(|info| match info.open {
            true => None,
            false => byte_len(info.dtype, &info.shape),
        });
        let several = source.tensors().len() > 1;
        Self {
            progress: console.progress(sizes.reduce(add).flatten()),
            options: options.with_several(several),
            source,
            rules: Rules::new(&pipeline.rules, &pipeline.spec),
            console,
            piece: vec![0; PIECE],
        }
    }

    /// Writes the whole stream; returns what became of each tensor, and the bytes of it all.
    pub fn run(mut self, manifest: bool, output: Output<'_>) -> Result<(Vec<Encoded>, u64)> {
        // What is spared is decided here, where rules are known.
        let options = self.options.clone().with_spare(Spare::Nothing);
        let mut writer = Writer::new(Counting { inner: output, n: 0 }, options)?;
        if !self.source.metadata().is_empty() {
            writer.metadata(self.source.metadata())?;
        }
        let infos = self.source.tensors().to_vec();
        let descs: Vec<_> = infos.iter().map(desc_of).collect();
        if manifest {
            writer.manifest(&descs)?;
        }
        let mut tensors = Vec::new();
        for (index, desc) in descs.iter().enumerate() {
            self.progress.set_message(printable(&desc.name));
            tensors.push(self.tensor(&mut writer, index, desc)?);
        }
        let counting = writer.finish()?;
        self.progress.finish_and_clear();
        for pattern in self.rules.unused() {
            self.console.note(&format!("no tensor was encoded by the rule for {pattern:?}"));
        }
        Ok((tensors, counting.n))
    }

    fn tensor(
        &mut self,
        writer: &mut Writer<Counting<Output<'_>>>,
        index: usize,
        desc: &TensorDesc,
    ) -> Result<Encoded> {
        let (spec, spared) = self.spec_for(desc);
        let start = writer.bytes_written();
        writer.begin(desc, &spec)?;
        let mut original_bytes = 0;
        let mut elements = self.source.read(index)?;
        loop {
            let n = fill(&mut elements, &mut self.piece)?;
            writer.push(&self.piece[..n]).map_err(blame_non_finite)?;
            original_bytes += n as u64;
            self.progress.inc(n as u64);
            if n < PIECE {
                break;
            }
        }
        writer.end().map_err(blame_non_finite)?;
        let encoded = Encoded {
            name: desc.name.clone(),
            dtype: desc.dtype.name(),
            spec: spec.to_string(),
            original_bytes,
            bytes: writer.bytes_written() - start,
            spared: spared.as_ref().map(|(rule, _)| rule.what),
            spared_bytes: spared.map_or(0, |(_, asked)| {
                // The ratio is that to f32.
                let values = original_bytes as f64 * 8.0 / desc.dtype.bits() as f64;
                let asked = 4.0 * values / asked.formula_ratio();
                (writer.bytes_written() - start).saturating_sub(asked as u64)
            }),
        };
        self.console.detail(|| {
            let Encoded { name, spec, bytes, spared, .. } = &encoded;
            let why = spared.map_or(String::new(), |what| format!(" (spared: {what})"));
            format!("{}: {spec}{why}, {original_bytes} -> {bytes} bytes", printable(name))
        });
        Ok(encoded)
    }

    /// The pipeline of a tensor, after the rules, its size and type; and where it is spared what was
    /// asked for, by which line of the table, and what that was. A rule of the user's goes before.
    fn spec_for(&mut self, desc: &TensorDesc) -> (Spec, Option<(&'static SpareRule, &'a Spec)>) {
        let (asked, by_rule) = self.rules.spec_for(&desc.name);
        let without = self.options.clone().with_spare(Spare::Nothing);
        let spec = effective_spec(desc, asked, &without);
        match spared(desc, &self.options).filter(|_| spec.is_lossy() && !by_rule) {
            Some(rule) => (Spec::lossless(), Some((rule, asked))),
            None => (spec, None),
        }
    }
}

/// A hostile directory may claim any sizes.
fn add(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a?.checked_add(b?)
}

fn desc_of(info: &TensorInfo) -> TensorDesc {
    let TensorInfo { name, dtype, shape, open } = info.clone();
    TensorDesc { name, dtype, shape, open }
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
