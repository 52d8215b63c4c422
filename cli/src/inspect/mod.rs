//! `fedpress inspect`: what is in streams and tensor files.

mod stream;
mod tensors;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::args::{Reading, TensorFile};
use crate::console::Console;
use crate::each;
use crate::exit::Outcome;
use crate::files::{Bytes, Format, Input, open_bytes, open_source};
use crate::help;
use crate::stream::{Stream, name_of, place_of};

/// Show what is in streams, from their headers alone, or in tensor files
#[derive(Debug, Args)]
#[command(after_long_help = help::INSPECT)]
pub struct Arguments {
    /// Streams made by encode, or tensor files; - is standard input
    #[arg(value_name = "FILE", required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    file: TensorFile,
    #[command(flatten)]
    reading: Reading,
}

/// What one file has.
#[derive(Serialize)]
#[serde(untagged)]
enum Report {
    Stream(stream::Report),
    Tensors(tensors::Report),
}

impl Report {
    fn text(&self) -> String {
        match self {
            Self::Stream(report) => stream::text(report),
            Self::Tensors(report) => tensors::text(report),
        }
    }
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let mut gap = "";
    each::run("inspect", &args.inputs, console, |input| {
        let report = inspect(input, args, console)?;
        if !console.json {
            console.print(&format!("{gap}{}", report.text()))?;
            gap = "\n";
        }
        Ok(report)
    })
}

fn inspect(path: &Path, args: &Arguments, console: &Console) -> Result<Report> {
    let input = Input::from(path.to_owned());
    let options = args.reading.options();
    let several = args.file.format_of(&input) == Some(Format::SafetensorsIndex)
        || matches!(&input, Input::Path(path) if path.is_dir());
    if several {
        let source = open_source(input.clone(), &args.file.options(&input)?);
        let source = source.map_err(crate::exit::refused)?;
        return Ok(Report::Tensors(tensors::report(name_of(&input), source, console)?));
    }
    let is_stream = |head: &[u8]| {
        let ends_so = path.extension().is_some_and(|e| e == "fp");
        fedpress::is_stream(head) || (ends_so && args.file.format.is_none())
    };
    let bytes = match Stream::open(&input)? {
        Stream::File(mut file) => {
            let bytes = Bytes::file(file.try_clone()?, place_of(&input))?;
            if is_stream(bytes.head()) {
                let summary = fedpress::summarize(&mut file, &options)?;
                return Ok(Report::Stream(stream::report(name_of(&input), summary)));
            }
            bytes
        }
        Stream::Pipe(pipe) => {
            let mut bytes = Bytes::stream(pipe, place_of(&input))?;
            if is_stream(bytes.head()) {
                let summary = fedpress::summarize_stream(&mut bytes, &options)?;
                return Ok(Report::Stream(stream::report(name_of(&input), summary)));
            }
            bytes
        }
    };
    let raw = args.file.options(&input)?;
    let source = open_bytes(bytes, &raw).map_err(crate::exit::refused)?;
    let report = tensors::report(name_of(&input), source, console);
    Ok(Report::Tensors(report.with_context(|| name_of(&input))?))
}
