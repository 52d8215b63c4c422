//! `fedpress decode`: stream in, tensor file out.

mod batch;
mod shards;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use fedpress::{DecodeOptions, ErrorKind, Reader, TensorMeta, TensorReader, TensorSummary};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::{Place, Reading};
use crate::console::Console;
use crate::destination::{Destination, Opened};
use crate::device::DeviceArgument;
use crate::each;
use crate::exit::{Outcome, Usage, unfit};
use crate::files::{Format, Input, Sink, TensorInfo, byte_len, create_sink, is_of_others};
use crate::help;
use crate::phrase::{self, counted};
use crate::size;
use crate::stream::{self, Stream};
use crate::table::printable;

/// Get tensors back from a stream
#[derive(Debug, Args)]
#[command(after_long_help = help::DECODE)]
pub struct Arguments {
    /// Streams made by encode, each of which becomes FILE without .fp; - is standard input
    #[arg(value_name = "FILE", required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Container to write: safetensors, safetensors-index (shards), npz, npy or raw; else the name of the output decides, else
    /// safetensors
    #[arg(long = "to", value_name = "FORMAT", help_heading = "Output")]
    format: Option<Format>,
    /// Most bytes of elements in a shard, where the output is an index (model.safetensors.index.json):
    /// bytes, or with K, M, G
    #[arg(long, value_name = "SIZE", default_value = "5G", value_parser = size::parse, help_heading = "Output")]
    shard_size: u64,
    /// Write the bare values of one tensor, the same as --to raw
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    raw: bool,
    /// Only the tensor of that name, the last one if there are several; of a file, no more is read
    /// than needed
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    device: DeviceArgument,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    input: String,
    output: String,
    format: &'static str,
    bytes: u64,
    tensors: Vec<Decoded>,
}

#[derive(Debug, Serialize)]
struct Decoded {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    args.place.of(&args.inputs)?;
    each::run("decode", &args.inputs, console, |input| decode(input, args, console))
}

fn decode(path: &Path, args: &Arguments, console: &Console) -> Result<Report> {
    let input = Input::from(path.to_owned());
    let asked = if args.raw { Some(Format::Raw) } else { args.format };
    let destination = args.place.destination(|| default_destination(&input, asked))?;
    if console.json && destination == Destination::Stdout {
        Err(Usage::new("--json and the tensors cannot both go to standard output; give -o FILE"))?;
    }
    let by_name = match &destination {
        Destination::Path(path) if asked.is_none() && is_of_others(path) => {
            let path = path.display();
            Err(Usage::new(format!(
                "{path}: such files are not written here; -o a .safetensors, .npz, .npy or .raw file, or \
                 say with --to what it is to be"
            )))?
        }
        Destination::Path(path) => Format::from_path(path),
        Destination::Stdout => None,
    };
    let mut options = args.reading.options();
    options.device = args.device.open(console)?;
    let mut job = Job {
        format: asked.or(by_name).unwrap_or(Format::Safetensors),
        tensor: args.tensor.as_deref(),
        options,
        force: args.place.force,
        input: &input,
        destination: &destination,
        shard_size: args.shard_size,
        progress: console.progress(None),
        small: Vec::new(),
        decoded: Vec::new(),
        bytes: 0,
    };
    if job.format == Format::SafetensorsIndex && args.tensor.is_some() {
        Err(Usage::new("one tensor needs no index; write a .safetensors file"))?;
    }
    match Stream::open(&input)? {
        Stream::Pipe(pipe) if matches!(job.format, Format::Raw | Format::Npy) => job.flow(pipe)?,
        stream => job.file(stream.into_file()?)?,
    }
    job.progress.finish_and_clear();
    Ok(tell(job, console))
}

fn tell(job: Job<'_>, console: &Console) -> Report {
    let report = Report {
        input: stream::name_of(job.input),
        output: job.destination.name(),
        format: job.format.name(),
        bytes: job.bytes,
        tensors: job.decoded,
    };
    if console.json {
        return report;
    }
    for Decoded { name, dtype, shape } in &report.tensors {
        console.detail(|| format!("{}: {dtype} {shape:?}", printable(name)));
    }
    let Report { input, output, tensors, bytes, .. } = &report;
    let (tensors, bytes) = (counted(tensors.len(), "tensor"), phrase::bytes(*bytes));
    let summary = format!("{input} -> {output}: {tensors}, {bytes}");
    match job.destination {
        Destination::Path(_) => console.note(&summary),
        Destination::Stdout => console.detail(|| summary),
    }
    report
}

/// A stream on its way into a tensor file.
struct Job<'a> {
    format: Format,
    tensor: Option<&'a str>,
    options: DecodeOptions,
    force: bool,
    input: &'a Input,
    destination: &'a Destination,
    shard_size: u64,
    progress: ProgressBar,
    /// Elements of small tensors.
    small: Vec<u8>,
    decoded: Vec<Decoded>,
    bytes: u64,
}

impl Job<'_> {
    /// A stream that can be sought: its headers come first, so that every shape is known.
    fn file(&mut self, mut file: File) -> Result<()> {
        if let Some(name) = self.tensor {
            return self.one_of(&mut file, name);
        }
        let summary = fedpress::summarize(&mut file, &self.options)?;
        // Before anything is written; --tensor gets at the others.
        summary.tensors.iter().try_for_each(|tensor| tensor.meta.supported())?;
        let infos: Vec<_> = summary.tensors.iter().map(info_of).collect();
        if matches!(self.format, Format::Raw | Format::Npy) && infos.len() != 1 {
            Err(not_one(self.format, infos.len()))?;
        }
        let sizes = infos.iter().map(|info| byte_len(info.dtype, &info.shape));
        self.progress.set_length(sizes.sum::<Option<u64>>().unwrap_or(0));
        if self.format == Format::SafetensorsIndex {
            return self.shards(file, &summary, self.shard_size);
        }
        file.rewind()?;
        let opened = self.open()?;
        let mut sink = self.sink(&opened, &infos, &summary.metadata)?;
        let mut reader = Reader::new(file, self.options.clone());
        self.copy_all(&mut reader, &infos, &mut *sink)?;
        ensure!(reader.next_tensor()?.is_none(), self.changed());
        sink.finish()?;
        opened.commit()
    }

    /// One tensor, reading as little else as possible.
    fn one_of(&mut self, file: &mut File, name: &str) -> Result<()> {
        let mut reader = self.seek(&mut *file, name)?;
        let tensor = reader.next_tensor()?.with_context(|| self.changed())?;
        tensor.meta().supported()?;
        let info = open_info_of(tensor.meta());
        if !info.open || self.format == Format::Raw {
            return self.alone(tensor, &info);
        }
        // Its shape is wanted before its data, and known from its last chunk.
        file.rewind()?;
        let summary = fedpress::summarize(file, &self.options)?;
        let last = summary.tensors.iter().rfind(|tensor| tensor.meta.name() == name);
        let info = info_of(last.with_context(|| self.changed())?);
        let mut reader = self.seek(file, name)?;
        let tensor = reader.next_tensor()?.with_context(|| self.changed())?;
        self.alone(tensor, &info)
    }

    fn seek<'f>(&self, file: &'f mut File, name: &str) -> Result<Reader<&'f mut File>> {
        fedpress::seek_tensor(file, name, &self.options).map_err(|error| match error.kind() {
            ErrorKind::InvalidArgument => no_such(name).into(),
            _ => error.into(),
        })
    }

    /// Writes a file with one tensor.
    fn alone<R: Read>(&mut self, tensor: TensorReader<'_, R>, info: &TensorInfo) -> Result<()> {
        let opened = self.open()?;
        let mut sink = self.sink(&opened, std::slice::from_ref(info), &BTreeMap::new())?;
        self.copy(tensor, info, &mut *sink)?;
        sink.finish()?;
        opened.commit()
    }

    /// A pipe into a format that needs nothing in advance: one tensor, in bounded memory.
    fn flow(&mut self, pipe: Box<dyn Read>) -> Result<()> {
        let mut reader = Reader::new(pipe, self.options.clone());
        let mut opened = None;
        while let Some(tensor) = reader.next_tensor()? {
            if self.tensor.is_some_and(|name| name != tensor.meta().name()) {
                continue;
            }
            if opened.is_some() {
                Err(self.tensor.map_or_else(|| not_one(self.format, 2), a_second))?;
            }
            tensor.meta().supported()?;
            let info = open_info_of(tensor.meta());
            let target = opened.insert(self.open()?);
            let mut sink = self.sink(target, std::slice::from_ref(&info), &BTreeMap::new())?;
            self.copy(tensor, &info, &mut *sink)?;
            sink.finish()?;
        }
        match (opened, self.tensor) {
            (Some(opened), _) => opened.commit(),
            (None, Some(name)) => Err(no_such(name))?,
            (None, None) => Err(not_one(self.format, 0))?,
        }
    }

    fn sink<'o>(
        &self,
        opened: &'o Opened,
        infos: &[TensorInfo],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Box<dyn Sink + 'o>> {
        create_sink(self.format, opened.output()?, infos, metadata).map_err(unfit)
    }

    fn changed(&self) -> String {
        format!("{} changed while it was read", stream::name_of(self.input))
    }

    fn open(&self) -> Result<Opened> {
        Opened::open(self.destination, self.force, Some(self.input))
    }

    fn copy<R: Read>(
        &mut self,
        mut tensor: TensorReader<'_, R>,
        info: &TensorInfo,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        self.progress.set_message(printable(&info.name));
        let mut bytes = 0;
        sink.begin(info)?;
        while let Some(elements) = tensor.next_chunk()? {
            sink.write(elements)?;
            bytes += elements.len() as u64;
            self.progress.inc(elements.len() as u64);
        }
        let shape = tensor.shape();
        sink.end(&shape)?;
        self.note(info, shape, bytes);
        Ok(())
    }

    fn note(&mut self, info: &TensorInfo, shape: Vec<u64>, bytes: u64) {
        self.bytes += bytes;
        self.decoded.push(Decoded { name: info.name.clone(), dtype: info.dtype.name(), shape });
    }
}

fn not_one(format: Format, n: usize) -> Usage {
    let n = if n == 2 { "several".into() } else { n.to_string() };
    Usage::new(format!("{format} holds one tensor, the stream has {n}; choose with --tensor NAME"))
}

fn a_second(name: &str) -> Usage {
    Usage::new(format!(
        "the stream has several tensors {name:?}; the last one is found in a file, not in a pipe"
    ))
}

fn no_such(name: &str) -> Usage {
    Usage::new(format!("the stream has no tensor {name:?}; inspect lists those it has"))
}

/// What a summary says about a tensor, its shape complete.
pub fn info_of(tensor: &TensorSummary) -> TensorInfo {
    let shape = tensor.shape.clone();
    TensorInfo { shape, open: false, ..open_info_of(&tensor.meta) }
}

fn open_info_of(meta: &TensorMeta) -> TensorInfo {
    let desc = meta.desc();
    TensorInfo {
        name: desc.name.clone(),
        dtype: desc.dtype,
        shape: desc.shape.clone(),
        open: desc.open,
    }
}

/// The input without `.fp`, with the extension of the format; standard output for standard input.
fn default_destination(input: &Input, asked: Option<Format>) -> Result<Destination> {
    let Input::Path(path) = input else { return Ok(Destination::Stdout) };
    if path.extension().is_none_or(|e| e != "fp") {
        let place = path.display();
        let message = match Format::from_path(path) {
            Some(format) => {
                format!("{place} is {format} by its name; decode reads streams, which encode makes")
            }
            None => format!("{place} does not end in .fp; give -o FILE"),
        };
        Err(Usage::new(message))?;
    }
    let stem = path.with_extension("");
    let named = Format::from_path(&stem).filter(|f| *f != Format::SafetensorsIndex);
    let format = asked.or(named).unwrap_or(Format::Safetensors);
    if named == Some(format) {
        return Ok(Destination::Path(stem));
    }
    let mut name = stem.into_os_string();
    name.push(format!(".{format}"));
    Ok(Destination::Path(Path::new(&name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_output_is_the_input_without_fp() {
        let default = |name: &str, asked| {
            default_destination(&Input::from(PathBuf::from(name)), asked).map(|d| d.name())
        };
        assert_eq!(default("a/w.npy.fp", None).unwrap(), "a/w.npy");
        assert_eq!(default("model.fp", None).unwrap(), "model.safetensors");
        assert_eq!(default("model.fp", Some(Format::Raw)).unwrap(), "model.raw");
        assert_eq!(default("w.npy.fp", Some(Format::Npz)).unwrap(), "w.npy.npz");
        assert_eq!(default("-", None).unwrap(), "-");
        assert!(default("model", None).is_err());
    }
}
