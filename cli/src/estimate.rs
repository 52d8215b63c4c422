//! `fedpress estimate`: what each preset would make of a file, by a part of it.

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
use crate::measure::Sample;
use crate::seeds::SeedArguments;
use crate::size::{self, human};
use crate::stream;
use crate::table::{Table, visible};

/// Say what each preset would make of a file, in seconds
#[derive(Debug, Args)]
#[command(after_long_help = help::ESTIMATE)]
pub struct Arguments {
    /// Tensor file; - is standard input
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// How much of the file is looked at, evenly spread over its tensors
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = size::parse)]
    sample: u64,
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
    /// Bytes of all elements, and of those that were looked at.
    original_bytes: u64,
    sample_bytes: usize,
    presets: Vec<Estimate>,
}

#[derive(Debug, Serialize)]
struct Estimate {
    preset: &'static str,
    spec: String,
    unbiased: bool,
    bytes: u64,
    ratio: f64,
    bits_per_value: f64,
    nmse: f64,
    purpose: &'static str,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let input = Input::from(args.input.clone());
    let raw = args.file.options(&input)?;
    let mut source = open_source(input.clone(), &raw).map_err(refused)?;
    let tensors = excerpt::read(&mut *source, args.sample)?;
    let mut sample = Sample::new(tensors, 1)?;
    let all = excerpt::size(&*source).max(sample.bytes as u64);
    let mut options = EncodeOptions::new(args.seeds.seeds()?);
    options.threads = args.threads.count();
    options.non_finite = NonFinite::Lossless;
    let mut presets = Vec::new();
    for preset in PRESETS {
        let spec: Spec = preset.spec.parse()?;
        let measured = sample.measure(&spec, &options)?.0;
        presets.push(Estimate {
            preset: preset.name,
            spec: measured.spec,
            unbiased: spec.is_unbiased(),
            bytes: (all as f64 / measured.ratio) as u64,
            ratio: measured.ratio,
            bits_per_value: measured.bits_per_value,
            nmse: measured.nmse,
            purpose: preset.purpose,
        });
    }
    let (file, sample_bytes) = (stream::name_of(&input), sample.bytes);
    let report = Report { file, original_bytes: all, sample_bytes, presets };
    match console.json {
        true => console.print_json("estimate", report)?,
        false => console.print(&text(&report))?,
    }
    Ok(Outcome::Done)
}

fn text(report: &Report) -> String {
    let heads = ["preset", "size", "ratio", "bits", "nmse", "unbiased"];
    let mut table = Table::new(1, heads);
    for preset in &report.presets {
        table.row([
            preset.preset.to_owned(),
            human(preset.bytes),
            format!("{:.1}", preset.ratio),
            format!("{:.2}", preset.bits_per_value),
            format!("{:.1e}", preset.nmse),
            if preset.unbiased { "yes" } else { "no" }.to_owned(),
        ]);
    }
    format!(
        "{}: {}, of which {} were looked at\n{table}",
        visible(&report.file),
        human(report.original_bytes),
        human(report.sample_bytes as u64)
    )
}
