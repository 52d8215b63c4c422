//! `fedpress encode`: tensor file in, stream out, in memory bounded by a few chunks.

mod job;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use fedpress::{EncodeOptions, NonFinite, Seeds, Spare, Spec};
use serde::Serialize;

use crate::args::{Place, TensorFile, Threads};
use crate::console::Console;
use crate::destination::{Destination, Opened};
use crate::device::DeviceArgument;
use crate::exit::{Outcome, Usage, refused};
use crate::files::{Format, Input, open_source};
use crate::rules::Rule;
use crate::seeds::SeedArguments;
use crate::stream;
use crate::{help, size};
use job::{Encoded, Job};

/// Compress tensors into a stream
#[derive(Debug, Args)]
#[command(after_long_help = help::encode())]
pub struct Arguments {
    /// Tensor file: safetensors, a safetensors index (.index.json), npy, npz, or raw bytes; - is
    /// standard input
    #[arg(value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    pipeline: Pipeline,
    #[command(flatten)]
    layout: Layout,
    #[command(flatten)]
    seeds: SeedArguments,
    #[command(flatten)]
    file: TensorFile,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    device: DeviceArgument,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Pipeline")]
struct Pipeline {
    /// What to do with each tensor: a preset, or stages joined by |
    #[arg(short, long, value_name = "SPEC", default_value = "careful")]
    spec: Spec,
    /// Another pipeline for tensors whose name matches; repeatable, the first match wins
    #[arg(long = "rule", value_name = "GLOB=SPEC")]
    rules: Vec<Rule>,
    /// NaN and infinity have no place in a lossy pipeline: refuse them, or send the groups of values
    /// that hold them losslessly
    #[arg(long, value_name = "HOW", value_enum, default_value = "refuse")]
    non_finite: OnNonFinite,
    /// Tensors with fewer values travel losslessly
    #[arg(long, value_name = "N", default_value_t = 1024)]
    min_values: u64,
    /// Tensors of a model that travel losslessly unless a rule says otherwise: those listed below, or
    /// none
    #[arg(long, value_name = "WHICH", value_enum, default_value = "listed")]
    spare: OnSpare,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Layout of the stream")]
struct Layout {
    /// Values per chunk, a power of two from 4K to 1M: smaller takes less memory, larger fewer bytes
    #[arg(long, value_name = "N", default_value = "1M", value_parser = parse_chunk)]
    chunk_values: u8,
    /// End with an index, for fast access to single tensors (decode --tensor)
    #[arg(long)]
    index: bool,
    /// Begin with a list of all tensors
    #[arg(long)]
    manifest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnNonFinite {
    Refuse,
    Lossless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnSpare {
    Listed,
    Nothing,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    input: String,
    output: String,
    /// Decimal text: a u64 does not survive every JSON parser.
    seed: String,
    private_seed: String,
    round: u64,
    client_id: u64,
    original_bytes: u64,
    bytes: u64,
    ratio: f64,
    /// Tensors that were spared what was asked for, and about how many bytes that cost.
    spared: usize,
    spared_bytes: u64,
    tensors: Vec<Encoded>,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let input = Input::from(args.input.clone());
    let raw = args.file.options(&input)?;
    let destination = args.place.destination(|| Ok(default_destination(&input)))?;
    if console.json && destination == Destination::Stdout {
        Err(Usage::new("--json and the stream cannot both go to standard output; give -o FILE"))?;
    }
    let seeds = args.seeds.seeds()?;
    let source = open_source(input.clone(), &raw).map_err(refused)?;
    let opened = Opened::open(&destination, args.place.force, Some(&input))?;
    let mut options = options(args, seeds);
    options.device = args.device.open(console)?;
    let job = Job::new(options, source, &args.pipeline, console);
    let (tensors, bytes) = job.run(args.layout.manifest, opened.output()?)?;
    opened.commit()?;

    let original_bytes = tensors.iter().map(|t| t.original_bytes).sum();
    let report = Report {
        input: stream::name_of(&input),
        output: destination.name(),
        seed: seeds.shared.to_string(),
        private_seed: seeds.private.to_string(),
        round: seeds.round,
        client_id: seeds.client,
        original_bytes,
        bytes,
        ratio: original_bytes as f64 / bytes as f64,
        spared: tensors.iter().filter(|t| t.spared.is_some()).count(),
        spared_bytes: tensors.iter().map(|t| t.spared_bytes).sum(),
        tensors,
    };
    tell(report, &destination, console)?;
    Ok(Outcome::Done)
}

fn tell(report: Report, destination: &Destination, console: &Console) -> Result<()> {
    console.detail(|| format!("private seed {}", report.private_seed));
    if console.json {
        return console.print_json("encode", report);
    }
    let summary = format!(
        "{} -> {}: {} tensors, {} -> {} bytes, ratio {:.2}",
        report.input,
        report.output,
        report.tensors.len(),
        report.original_bytes,
        report.bytes,
        report.ratio
    );
    let spared = format!(
        "{} tensors were spared (-v says which, --spare nothing does not), about {} bytes",
        report.spared, report.spared_bytes
    );
    if report.spared > 0 {
        console.note(&spared);
    }
    match destination {
        Destination::Path(_) => console.note(&summary),
        Destination::Stdout => console.detail(|| summary),
    }
    Ok(())
}

fn options(args: &Arguments, seeds: Seeds) -> EncodeOptions {
    let mut options = EncodeOptions::new(seeds);
    options.threads = args.threads.count();
    options.min_values = args.pipeline.min_values;
    options.group_log2 = args.layout.chunk_values;
    options.index = args.layout.index;
    if args.pipeline.non_finite == OnNonFinite::Lossless {
        options.non_finite = NonFinite::Lossless;
    }
    if args.pipeline.spare == OnSpare::Nothing {
        options.spare = Spare::Nothing;
    }
    options
}

/// The input with `.fp` behind it; standard output for standard input.
fn default_destination(input: &Input) -> Destination {
    let Input::Path(path) = input else { return Destination::Stdout };
    let mut name = OsString::from(path);
    if Format::from_path(path) == Some(Format::SafetensorsIndex) {
        // model.safetensors.index.json: two extensions that no longer say what it is.
        name = path.with_extension("").with_extension("").into();
    }
    name.push(".fp");
    Destination::Path(Path::new(&name).to_owned())
}

/// Log2 of a chunk size.
fn parse_chunk(text: &str) -> Result<u8, String> {
    match size::parse(text)? {
        n if n.is_power_of_two() && (12..=20).contains(&n.ilog2()) => Ok(n.ilog2() as u8),
        _ => Err("expected is a power of two from 4K (4096) to 1M (1048576)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_output_stands_beside_the_input() {
        let default = |name: &str| default_destination(&Input::from(PathBuf::from(name)));
        let path = |name: &str| Destination::from(PathBuf::from(name));
        assert_eq!(default("a/model.safetensors"), path("a/model.safetensors.fp"));
        assert_eq!(default("model.safetensors.index.json"), path("model.safetensors.fp"));
        assert_eq!(default("-"), Destination::Stdout);
    }

    #[test]
    fn chunk_sizes_are_powers_of_two() {
        assert_eq!(parse_chunk("4K"), Ok(12));
        assert_eq!(parse_chunk("1048576"), Ok(20));
        for bad in ["2M", "2K", "5000", "0"] {
            assert!(parse_chunk(bad).is_err(), "{bad}");
        }
    }
}
