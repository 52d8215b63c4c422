//! `fedpress encode`: tensor file in, stream out, in memory bounded by a few chunks.

mod batch;
mod job;
mod plan;
mod remark;
mod sample;
mod target;
mod tell;
mod tie;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use fedpress::{EncodeOptions, NonFinite, Seeds, Spare, Spec};

use crate::args::{Place, TensorFile, Threads};
use crate::console::Console;
use crate::destination::{Destination, Opened};
use crate::device::DeviceArgument;
use crate::each;
use crate::exit::{Outcome, Usage, refused};
use crate::files::{Format, Input, Output, open_source};
use crate::rules::{Rule, Rules};
use crate::seeds::SeedArguments;
use crate::{help, size, spec_argument, stream};
use job::{Encoded, Job};
use sample::Sampler;
use target::TargetArguments;
use tell::Report;

/// Compress tensors into a stream
#[derive(Debug, Args)]
#[command(after_long_help = help::encode())]
pub struct Arguments {
    /// Tensor files: safetensors, a safetensors index (.index.json), npy, npz, or raw bytes; a folder with
    /// one of the first two in it; - is standard input. Each becomes FILE.fp
    #[arg(value_name = "FILE", required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Encode and report, and write nothing
    #[arg(long, help_heading = "Output", conflicts_with_all = ["output", "stdout"])]
    dry_run: bool,
    #[command(flatten)]
    pipeline: Pipeline,
    #[command(flatten)]
    target: TargetArguments,
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
    /// What to do with each tensor: a preset, or stages joined by | [default: careful; auto where there is a target]
    #[arg(short, long, value_name = "SPEC", value_parser = spec_argument::parse)]
    spec: Option<Spec>,
    /// Another pipeline for tensors whose name, or parts of it, match; repeatable, the first match wins
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
    /// Tensors of f64 under a lossy pipeline: travel losslessly, or become f32, which the pipeline
    /// applies to
    #[arg(long = "f64", value_name = "HOW", value_enum, default_value = "lossless")]
    on_f64: OnF64,
    /// Make errors of what would be said about things that were asked for and are not done: f64 left
    /// lossless, rules without effect, spared tensors, tensors that are smaller without loss
    #[arg(long)]
    strict: bool,
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
enum OnF64 {
    Lossless,
    AsF32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnSpare {
    Listed,
    Nothing,
}

/// What is taken where no `--spec` says otherwise.
const DEFAULT: &str = "careful";
/// The same where there is a target, for which rates are found.
const DEFAULT_AT_TARGET: &str = "auto";

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    args.place.of(&args.inputs)?;
    each::run("encode", &args.inputs, console, |input| encode(input, args, console))
}

fn encode(path: &Path, args: &Arguments, console: &Console) -> Result<Report> {
    let input = Input::from(path.to_owned());
    let raw = args.file.options(&input)?;
    let destination = match args.dry_run {
        true => None,
        false => Some(args.place.destination(|| Ok(default_destination(&input)))?),
    };
    if console.json && destination == Some(Destination::Stdout) {
        Err(Usage::new("--json and the stream cannot both go to standard output; give -o FILE"))?;
    }
    let seeds = args.seeds.seeds()?;
    let mut source = open_source(input.clone(), &raw).map_err(refused)?;
    let several = source.tensors().len() > 1;
    let mut options = options(args, seeds).with_several(several);
    let target = args.target.target();
    if target.is_some() && !source.rereads() {
        Err(Usage::new("a target needs a file, which can be read more than once, and no pipe"))?;
    }
    let default = if target.is_some() { DEFAULT_AT_TARGET } else { DEFAULT };
    let spec = args.pipeline.spec.clone().map_or_else(|| default.parse(), Ok)?;
    let mut rules = Rules::new(&args.pipeline.rules, &spec);
    let plan = plan::plan(source.tensors(), &mut rules, &options, args.pipeline.on_f64);
    let mut remarks = remark::before(&plan, &rules);
    remarks.extend(remark::left_out(source.left_out()));
    if args.pipeline.strict {
        remark::strictly(&remarks)?;
    }
    options.device = args.device.open(console)?;
    let is_default =
        args.pipeline.spec.is_none() && args.pipeline.rules.is_empty() && target.is_none();
    let measured = is_default || console.json || console.is_verbose() || args.dry_run;
    let sampler = Sampler::new(&options, measured.then(|| console.is_verbose()));
    let again = || open_source(input.clone(), &raw);
    let ties = tie::find(&mut *source, &plan, input.reopens().then_some(again))?;
    let mut job = Job::new(options, source, (plan, ties), sampler, console);
    if let Some(target) = target {
        target::meet(target, &mut job, args.layout.manifest)?;
    }
    let (tensors, bytes) = write(args, &mut job, destination.as_ref(), &input)?;
    remarks.extend(tell::after(&tensors));
    if args.pipeline.strict {
        remark::strictly(&remarks)?;
    }
    let original_bytes = tensors.iter().map(|t| t.original_bytes).sum();
    let report = Report {
        input: stream::name_of(&input),
        output: destination.as_ref().map(Destination::name),
        spec: spec.to_string(),
        is_default,
        bits_of_a_model: tell::few_bits_of_a_model(path, spec.is_lossy(), job.size().0, bytes),
        seed: seeds.shared.to_string(),
        private_seed: seeds.private.to_string(),
        round: seeds.round,
        client_id: seeds.client,
        original_bytes,
        bytes,
        ratio: original_bytes as f64 / bytes as f64,
        nmse: job.sampler.mean(),
        spared: tensors.iter().filter(|t| t.spared.is_some()).count(),
        spared_bytes: tensors.iter().map(|t| t.spared_bytes).sum(),
        remarks,
        tensors,
    };
    report.tell(destination.as_ref(), console);
    Ok(report)
}

/// Encodes to where it goes, or nowhere; what became of the tensors, and the bytes of it all.
fn write(
    args: &Arguments,
    job: &mut Job<'_>,
    destination: Option<&Destination>,
    input: &Input,
) -> Result<(Vec<Encoded>, u64)> {
    let manifest = args.layout.manifest;
    let Some(destination) = destination else {
        return job.run(manifest, Output::stream(std::io::sink()));
    };
    let opened = Opened::open(destination, args.place.force, Some(input))?;
    let done = job.run(manifest, opened.output()?)?;
    if args.pipeline.strict {
        remark::strictly(&tell::after(&done.0))?;
    }
    opened.commit()?;
    Ok(done)
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
    // A folder without the slash behind its name.
    let path = path.components().as_path();
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
