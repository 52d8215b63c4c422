//! `fedpress sweep`: error against bits, over pipelines and rates, on one's own tensors.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use fedpress::{EncodeOptions, NonFinite, Spec};
use serde::Serialize;

use crate::args::{TensorFile, Threads};
use crate::console::Console;
use crate::demo::picture;
use crate::excerpt;
use crate::exit::{Outcome, Usage, refused};
use crate::files::{Input, open_source};
use crate::help;
use crate::measure::{Measured, Sample};
use crate::seeds::SeedArguments;
use crate::table::{Table, visible};
use crate::{size, spec_argument, stream};

/// Pipelines that are swept where none is named.
const PIPELINES: [&str; 4] = ["auto", "auto|rate=4|biased", "small", "hadamard|q=4|zstd"];
/// Rates of those that have one, in bits a value.
const RATES: [f64; 8] = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// Measure error against size over pipelines and rates
#[derive(Debug, Args)]
#[command(after_long_help = help::SWEEP)]
pub struct Arguments {
    /// Tensor file; - is standard input
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// A pipeline to measure, at each rate if its stages have one; repeatable [default: auto, auto biased,
    /// small, hadamard|q=4|zstd]
    #[arg(short, long = "spec", value_name = "SPEC", value_parser = spec_argument::parse)]
    specs: Vec<Spec>,
    /// Bits a value, separated by commas
    #[arg(long, value_name = "BITS,...", value_delimiter = ',', default_values_t = RATES)]
    rates: Vec<f64>,
    /// How much of the file is looked at, evenly spread over its tensors
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size::parse)]
    sample: u64,
    /// Draw it, beside Shannon's bound for Gaussian values
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
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
    sample_bytes: usize,
    values: usize,
    pipelines: Vec<Swept>,
}

/// A pipeline at all rates.
#[derive(Debug, Serialize)]
struct Swept {
    pipeline: String,
    unbiased: bool,
    results: Vec<Measured>,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let input = Input::from(args.input.clone());
    let raw = args.file.options(&input)?;
    let pipelines = pipelines(&args.specs, &args.rates)?;
    let mut source = open_source(input.clone(), &raw).map_err(refused)?;
    let mut sample = Sample::new(excerpt::read(&mut *source, args.sample)?, 1)?;
    let mut options = EncodeOptions::new(args.seeds.seeds()?);
    options.threads = args.threads.count();
    options.non_finite = NonFinite::Lossless;
    let n_specs: usize = pipelines.iter().map(|(_, specs)| specs.len()).sum();
    let progress = console.progress(Some((n_specs * sample.bytes) as u64));
    let mut swept = Vec::new();
    for (pipeline, specs) in pipelines {
        let unbiased = specs.iter().all(Spec::is_unbiased);
        let mut results = Vec::new();
        for spec in specs {
            progress.set_message(spec.to_string());
            results.push(sample.measure(&spec, &options)?.0);
            progress.inc(sample.bytes as u64);
        }
        swept.push(Swept { pipeline, unbiased, results });
    }
    progress.finish_and_clear();
    let (file, sample_bytes, values) = (stream::name_of(&input), sample.bytes, sample.values);
    let report = Report { file, sample_bytes, values, pipelines: swept };
    if let Some(path) = &args.svg {
        let drawn = report.pipelines.iter().map(|swept| {
            let points = swept.results.iter().map(|m| (m.bits_per_value, m.nmse));
            (visible(&swept.pipeline), points.collect())
        });
        let svg = picture::sweep(&drawn.collect::<Vec<_>>());
        std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match console.json {
        true => console.print_json("sweep", report)?,
        false => console.print(&text(&report))?,
    }
    Ok(Outcome::Done)
}

/// Pipelines by name, each at all rates that it has.
fn pipelines(asked: &[Spec], rates: &[f64]) -> Result<Vec<(String, Vec<Spec>)>> {
    let specs = match asked {
        [] => PIPELINES.iter().map(|text| text.parse()).collect::<Result<Vec<Spec>, _>>()?,
        asked => asked.to_vec(),
    };
    let at_all = |spec: Spec| {
        let name = spec.to_string();
        let Some(range) = spec.rates() else { return Ok((name, vec![spec])) };
        let within = rates.iter().filter(|rate| range.contains(*rate));
        let specs = within.map(|rate| spec.at_rate(*rate)).collect::<Result<Vec<_>, _>>()?;
        if specs.is_empty() {
            let (least, most) = (range.start(), range.end());
            Err(Usage::new(format!("{name}: no rate from {least} to {most} bits was asked for")))?;
        }
        Ok((name, specs))
    };
    specs.into_iter().map(at_all).collect()
}

fn text(report: &Report) -> String {
    let mut table = Table::new(1, ["spec", "bytes", "ratio", "bits", "nmse", "unbiased"]);
    for swept in &report.pipelines {
        for m in &swept.results {
            table.row([
                m.spec.clone(),
                m.bytes.to_string(),
                format!("{:.2}", m.ratio),
                format!("{:.3}", m.bits_per_value),
                format!("{:.3e}", m.nmse),
                if swept.unbiased { "yes" } else { "no" }.to_owned(),
            ]);
        }
    }
    format!(
        "{}: {} of values looked at\n{table}",
        visible(&report.file),
        size::human(report.sample_bytes as u64)
    )
}
