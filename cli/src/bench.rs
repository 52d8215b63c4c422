//! `fedpress bench`: one file, many pipelines.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use fedpress::{EncodeOptions, NonFinite, PRESETS, Spec};
use serde::Serialize;

use crate::args::{TensorFile, Threads};
use crate::console::Console;
use crate::excerpt;
use crate::exit::{Outcome, refused};
use crate::files::{Input, open_source};
use crate::help;
use crate::measure::{Measured, Sample};
use crate::phrase::{bytes, counted};
use crate::seeds::SeedArguments;
use crate::stream;
use crate::table::{Table, visible};

/// What is measured beside the presets.
const MORE: [&str; 6] =
    ["none", "identity|q=4", "hadamard|q=1", "hadamard|q=2", "hadamard|q=6", "kashin|q=4"];

/// Measure size, error and speed of many pipelines on one file
#[derive(Debug, Args)]
#[command(after_long_help = help::BENCH)]
pub struct Arguments {
    /// Tensor file; - is standard input
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// A pipeline to measure; repeatable [default: the presets and some more]
    #[arg(short, long = "spec", value_name = "SPEC", value_parser = crate::spec_argument::parse)]
    specs: Vec<Spec>,
    /// How often to encode and decode; the best time counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    iters: usize,
    #[command(flatten)]
    seeds: SeedArguments,
    #[command(flatten)]
    file: TensorFile,
    #[command(flatten)]
    threads: Threads,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    tensors: usize,
    values: usize,
    bytes: usize,
    threads: usize,
    iterations: usize,
    memcpy_gbs: f64,
    results: Vec<Measured>,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let input = Input::from(args.input.clone());
    let raw = args.file.options(&input)?;
    let mut source = open_source(input.clone(), &raw).map_err(refused)?;
    let mut sample = Sample::new(excerpt::read(&mut *source, u64::MAX)?, args.iters)?;
    let mut options = EncodeOptions::new(args.seeds.seeds()?);
    options.threads = args.threads.count();
    options.non_finite = NonFinite::Lossless;
    let progress = console.progress(None);
    let mut results = Vec::new();
    for spec in specs(&args.specs)? {
        progress.set_message(spec.to_string());
        results.push(sample.measure(&spec, &options)?.0);
    }
    progress.finish_and_clear();
    let report = Report {
        file: stream::name_of(&input),
        tensors: sample.tensors.len(),
        values: sample.values,
        bytes: sample.bytes,
        threads: options.threads,
        iterations: args.iters,
        memcpy_gbs: sample.memcpy,
        results,
    };
    if console.json {
        console.print_json("bench", report)?;
    } else {
        console.print(&text(&report))?;
    }
    Ok(Outcome::Done)
}

fn specs(asked: &[Spec]) -> Result<Vec<Spec>> {
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let presets = PRESETS.iter().map(|preset| preset.spec);
    Ok(MORE.into_iter().chain(presets).map(str::parse).collect::<Result<_, _>>()?)
}

fn text(report: &Report) -> String {
    let mut table = measured_table("spec");
    for measured in &report.results {
        add(&mut table, measured.spec.clone(), measured);
    }
    format!(
        "{}: {}, {}, {}; copying {:.2} GB/s\n{table}",
        visible(&report.file),
        counted(report.tensors, "tensor"),
        counted(report.values, "value"),
        bytes(report.bytes as u64),
        report.memcpy_gbs
    )
}

/// The head of a table of measurements.
pub fn measured_table(first: &str) -> Table {
    let heads = ["bytes", "ratio", "bits", "nmse", "enc_GB/s", "x_copy", "dec_GB/s", "x_copy"];
    let [a, b, c, d, e, f, g, h] = heads;
    Table::new(1, [first, a, b, c, d, e, f, g, h])
}

/// A row of such a table.
pub fn add(table: &mut Table, name: String, m: &Measured) {
    table.row([
        name,
        m.bytes.to_string(),
        format!("{:.2}", m.ratio),
        format!("{:.3}", m.bits_per_value),
        format!("{:.3e}", m.nmse),
        format!("{:.3}", m.encode_gbs),
        format!("{:.3}", m.encode_memcpy),
        format!("{:.3}", m.decode_gbs),
        format!("{:.3}", m.decode_memcpy),
    ]);
}
