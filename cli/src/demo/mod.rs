//! `fedpress demo`: made-up tensors through every preset, checked, with a table and a picture.

mod check;
mod data;
pub mod picture;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use fedpress::{EncodeOptions, PRESETS, Seeds, Spec, Tensor};
use serde::Serialize;

use crate::args::Threads;
use crate::bench::{add, measured_table};
use crate::console::Console;
use crate::destination::{Destination, Opened, free_name};
use crate::exit::Outcome;
use crate::measure::{Measured, Sample};
use crate::table::visible;
use picture::{Curve, Point};

/// Nobody averages these tensors with others, so the demo may be the same on every run.
const SEEDS: Seeds = Seeds::new(7, 20_181);

/// Transforms that get curves.
const TRANSFORMS: [&str; 3] = ["identity", "hadamard", "kashin"];

/// Try every preset on made-up tensors and draw size against error
///
/// Makes the tensors of a small CNN (weights, a heavy-tailed gradient, sparse features, biases, a
/// counter), encodes, decodes and checks them with each preset, prints a table, and writes a
/// picture. The nmse is the mean over the tensors that are sent lossily; speeds are GB of original
/// tensor per second, and multiples of plain copying. The exit code is 1 if a check fails.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to write the picture [default: fedpress-demo.svg, or the first such name that is free]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the picture if it is there
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    threads: Threads,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    tensors: usize,
    values: usize,
    bytes: usize,
    memcpy_gbs: f64,
    presets: Vec<Row>,
    ok: bool,
    picture: String,
}

#[derive(Debug, Serialize)]
struct Row {
    preset: &'static str,
    #[serde(flatten)]
    measured: Measured,
    /// What the check found wrong.
    error: Option<String>,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let path = args.output.clone().unwrap_or_else(|| free_name("fedpress-demo", ".svg"));
    let picture = Opened::open(&Destination::Path(path.clone()), args.force, None)?;
    let progress = console.progress(None);
    let mut options = EncodeOptions::new(SEEDS);
    options.threads = args.threads.count();
    let mut sample = Sample::new(data::tensors(), 3)?;
    let rows = presets(&mut sample, &options, |name| progress.set_message(name))?;
    let curves = curves(&sample.tensors, &options, |name| progress.set_message(name))?;
    progress.finish_and_clear();

    let points: Vec<_> = rows.iter().map(point).collect();
    let mut output = picture.output()?;
    output.write_all(picture::draw(&points, &curves).as_bytes())?;
    output.flush()?;
    drop(output);
    picture.commit()?;

    let report = Report {
        tensors: sample.tensors.len(),
        values: sample.values,
        bytes: sample.bytes,
        memcpy_gbs: sample.memcpy,
        ok: rows.iter().all(|row| row.error.is_none()),
        presets: rows,
        picture: path.display().to_string(),
    };
    let outcome = if report.ok { Outcome::Done } else { Outcome::Failed };
    if console.json {
        console.print_json("demo", report)?;
    } else {
        console.print(&text(&report))?;
    }
    Ok(outcome)
}

fn presets(
    sample: &mut Sample,
    options: &EncodeOptions,
    announce: impl Fn(&'static str),
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for preset in PRESETS {
        announce(preset.name);
        let spec: Spec = preset.spec.parse()?;
        let (measured, back) = sample.measure(&spec, options)?;
        let error = check::check(&sample.tensors, &back, &spec, options).err();
        let error = error.map(|error| error.to_string());
        rows.push(Row { preset: preset.name, measured, error });
    }
    Ok(rows)
}

/// Error over size for 1 to 8 bits, by each transform, of some tensors alone.
fn curves(
    tensors: &[Tensor],
    options: &EncodeOptions,
    announce: impl Fn(&'static str),
) -> Result<Vec<Curve>> {
    let mut curves = Vec::new();
    for (name, label) in data::CURVES {
        let tensor = tensors.iter().find(|t| t.name == name).context("no such tensor")?;
        let mut alone = Sample::new(vec![tensor.clone()], 1)?;
        for transform in TRANSFORMS {
            announce(transform);
            let mut points = Vec::new();
            for q in 1..=8 {
                let spec = format!("{transform}|q={q}|zstd").parse()?;
                let (measured, _) = alone.measure(&spec, options)?;
                points.push((measured.bits_per_value, measured.nmse));
            }
            curves.push(Curve { transform, tensor: label, points });
        }
    }
    Ok(curves)
}

fn point(row: &Row) -> Point {
    Point { name: row.preset, bits: row.measured.bits_per_value, nmse: row.measured.nmse }
}

fn text(report: &Report) -> String {
    let mut table = measured_table("preset");
    for row in &report.presets {
        add(&mut table, row.preset.to_owned(), &row.measured);
    }
    let specs: String = PRESETS
        .iter()
        .map(|p| format!("  {:<14} {:<51} {}\n", p.name, p.spec, p.purpose))
        .collect();
    let failures: String = report
        .presets
        .iter()
        .filter_map(|row| Some(format!("FAILED: {}: {}\n", row.preset, row.error.as_ref()?)))
        .collect();
    let verdict = if report.ok { "every preset decodes to what it promises" } else { "FAILED" };
    format!(
        "{} tensors, {} values, {} bytes; copying {:.2} GB/s\n\n{table}\n{specs}\n{failures}\
         verified: {verdict}\npicture: {}\n",
        report.tensors,
        report.values,
        report.bytes,
        report.memcpy_gbs,
        visible(&report.picture)
    )
}
