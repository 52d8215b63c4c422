//! `fedpress inspect`: what the headers of a stream say; payloads are jumped over.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use fedpress::{Summary, TensorSummary};
use serde::Serialize;

use crate::args::Reading;
use crate::console::Console;
use crate::exit::Outcome;
use crate::files::{Input, byte_len};
use crate::help;
use crate::phrase::{change, counted};
use crate::stream::{self, Stream};
use crate::table::{Table, shape, visible};

/// Show what is in a stream, from its headers alone
#[derive(Debug, Args)]
#[command(after_long_help = help::INSPECT)]
pub struct Arguments {
    /// Stream made by encode; - is standard input
    #[arg(value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

/// What `--json` prints, and what the text is made of.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    version: String,
    streams: u64,
    index: bool,
    metadata: BTreeMap<String, String>,
    tensors: Vec<Tensor>,
    total: Total,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    spec: String,
    lossy: bool,
    /// Decimal text: a u64 does not survive every JSON parser.
    seed: Option<String>,
    round: Option<u64>,
    values: u64,
    chunks: u64,
    offset: u64,
    original_bytes: u64,
    bytes: u64,
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Total {
    tensors: usize,
    values: u64,
    original_bytes: u64,
    /// Of the whole file, with all headers.
    bytes: u64,
    ratio: f64,
    bits_per_value: f64,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let input = Input::from(args.input.clone());
    let options = args.reading.options();
    let summary = match Stream::open(&input)? {
        Stream::File(mut file) => fedpress::summarize(&mut file, &options)?,
        Stream::Pipe(mut pipe) => fedpress::summarize_stream(&mut pipe, &options)?,
    };
    let report = report(stream::name_of(&input), summary);
    if console.json {
        console.print_json("inspect", report)?;
    } else {
        console.print(&text(&report))?;
    }
    Ok(Outcome::Done)
}

fn report(file: String, summary: Summary) -> Report {
    let tensors: Vec<_> = summary.tensors.iter().map(tensor).collect();
    let values = tensors.iter().map(|t| t.values).sum();
    let original_bytes = tensors.iter().map(|t| t.original_bytes).sum();
    let bytes = summary.n_bytes;
    Report {
        file,
        version: format!("{}.{}", summary.version.0, summary.version.1),
        streams: summary.n_streams,
        index: summary.has_index,
        metadata: summary.metadata,
        total: Total {
            tensors: tensors.len(),
            values,
            original_bytes,
            bytes,
            ratio: original_bytes as f64 / bytes as f64,
            bits_per_value: bytes as f64 * 8.0 / values as f64,
        },
        tensors,
    }
}

fn tensor(summary: &TensorSummary) -> Tensor {
    let meta = &summary.meta;
    let seed = meta.seed_and_round();
    let original_bytes = byte_len(meta.dtype(), &summary.shape).unwrap_or(u64::MAX);
    Tensor {
        name: meta.name().to_owned(),
        dtype: meta.dtype().to_string(),
        shape: summary.shape.clone(),
        spec: meta.spec().to_string(),
        lossy: meta.spec().is_lossy(),
        seed: seed.map(|(seed, _)| seed.to_string()),
        round: seed.map(|(_, round)| round),
        values: summary.n_values,
        chunks: summary.n_chunks,
        offset: summary.offset,
        original_bytes,
        bytes: summary.n_bytes,
        ratio: original_bytes as f64 / summary.n_bytes as f64,
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "file     {}\nformat   {}\nstreams  {}\nindex    {}\n",
        visible(&report.file),
        report.version,
        report.streams,
        if report.index { "yes" } else { "no" }
    );
    for (key, value) in &report.metadata {
        text += &format!("meta     {key:?} = {value:?}\n");
    }
    let heads = ["tensor", "dtype", "shape", "spec", "seed", "round", "chunks", "bytes", "ratio"];
    let mut table = Table::new(4, heads);
    for t in &report.tensors {
        table.row([
            t.name.clone(),
            t.dtype.clone(),
            shape(&t.shape),
            t.spec.clone(),
            t.seed.clone().unwrap_or_else(|| "-".into()),
            t.round.map_or("-".into(), |r| r.to_string()),
            t.chunks.to_string(),
            t.bytes.to_string(),
            format!("{:.2}", t.ratio),
        ]);
    }
    let total = &report.total;
    text + &format!(
        "{table}total    {}, {}, {}, ratio {:.2}, {:.3} bits per value\n",
        counted(total.tensors, "tensor"),
        counted(total.values as usize, "value"),
        change(total.original_bytes, total.bytes),
        total.ratio,
        total.bits_per_value
    )
}
