//! The command line as a whole, and the arguments that several commands share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use fedpress::{DType, DecodeOptions};

use crate::destination::Destination;
use crate::exit::Usage;
use crate::files::{Format, Input, RawOptions, Shape, byte_len};
use crate::{
    bench, completions, decode, demo, diff, encode, estimate, help, inspect, manual, size,
    submodel, sweep, verify,
};

/// Compress tensors for federated learning, and get them back.
#[derive(Debug, Parser)]
#[command(
    name = "fedpress",
    version,
    long_about = help::ABOUT,
    after_long_help = help::manual(),
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub talk: Talk,
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(visible_alias = "compress")]
    Encode(encode::Arguments),
    #[command(visible_alias = "decompress")]
    Decode(decode::Arguments),
    Inspect(inspect::Arguments),
    #[command(visible_alias = "test")]
    Verify(verify::Arguments),
    Diff(diff::Arguments),
    Estimate(estimate::Arguments),
    Sweep(sweep::Arguments),
    Bench(bench::Arguments),
    Demo(demo::Arguments),
    Submodel(submodel::Arguments),
    #[cfg(feature = "train")]
    Train(crate::train::Arguments),
    #[cfg(not(feature = "train"))]
    #[command(hide = true)]
    Train(crate::untrained::Arguments),
    Completions(completions::Arguments),
    Man(manual::Arguments),
}

/// The arguments, with the verb that a file or folder alone stands for: `fedpress model.fp` inspects it.
pub fn with_verb(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let first =
        arguments.iter().skip(1).position(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let Some(place) = first.map(|first| first + 1) else { return arguments };
    let word = &arguments[place];
    let is_verb = Cli::command().get_subcommands().any(|verb| {
        *word == *verb.get_name() || verb.get_all_aliases().any(|alias| *word == *alias)
    });
    let path = Path::new(word);
    let is_file = path.is_file() || path.is_dir() || path.extension().is_some_and(|e| e == "fp");
    if !is_verb && word != "help" && is_file {
        arguments.insert(place, "inspect".into());
    }
    arguments
}

/// How much to say, and in which form.
#[derive(Debug, Args)]
pub struct Talk {
    /// Say nothing but errors; twice: not even those
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
    /// Say more on standard error: each tensor, and the private seed that was used
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Print the result as one JSON document with "schema": 1
    #[arg(long, global = true)]
    pub json: bool,
}

/// What an input file does not say itself.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tensor files")]
pub struct TensorFile {
    /// Element type of raw bytes: f32, f16, bf16, i64, u8, ...; and of arrays of a type that NumPy has no
    /// name for (V2, V1): bf16, f8_e4m3, f8_e5m2
    #[arg(long, value_name = "TYPE", value_parser = parse_dtype)]
    pub dtype: Option<DType>,
    /// Dimensions of raw bytes, such as 64,3,5,5; a first one of -1 is however many there are
    #[arg(long, value_name = "DIMS", allow_hyphen_values = true)]
    pub shape: Option<Shape>,
    /// Name of the tensor of a raw or npy input, which hold none
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Container of the input, when neither its name nor its first bytes tell: safetensors,
    /// safetensors-index, npy, npz, raw
    #[arg(long = "from", value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Leave out what no tensor can hold, such as arrays of text in an npz, and say so, instead of
    /// refusing the file
    #[arg(long)]
    pub skip_unsupported: bool,
    /// Take tensors that are in the shards and not in their index, too
    #[arg(long)]
    pub unlisted: bool,
}

impl TensorFile {
    /// The container, if the command line or the name of the file tells.
    pub fn format_of(&self, input: &Input) -> Option<Format> {
        self.format.or_else(|| match input {
            Input::Path(path) => Format::from_path(path),
            Input::Stdin => None,
        })
    }

    /// The same for the file layer; contradictions that need no look at the file are refused here.
    pub fn options(&self, input: &Input) -> anyhow::Result<RawOptions> {
        let is_raw = self.dtype.is_some() || self.shape.is_some();
        let format = self.format_of(input);
        let is_numpy = matches!(format, Some(Format::Npy | Format::Npz)) && self.shape.is_none();
        if let Some(format) = format
            && format != Format::Raw
            && !is_numpy
            && is_raw
        {
            let message = "--dtype and --shape describe raw bytes, but the input is";
            Err(Usage::new(format!("{message} {format}")))?;
        }
        let complete = self.dtype.is_some() && self.shape.is_some();
        if ((is_raw && !is_numpy) || format == Some(Format::Raw)) && !complete {
            Err(Usage::new("raw bytes need both --dtype and --shape"))?;
        }
        if let (Some(dtype), Some(shape)) = (self.dtype, &self.shape) {
            check_shape(dtype, shape)?;
        }
        Ok(RawOptions {
            format: self.format,
            dtype: self.dtype,
            shape: self.shape.clone(),
            name: self.name.clone(),
            skip_unsupported: self.skip_unsupported,
            unlisted: self.unlisted,
        })
    }
}

/// Where the result goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Place {
    /// Write to this file; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write to standard output, the same as -o -
    #[arg(short = 'c', long, conflicts_with = "output")]
    pub stdout: bool,
    /// Replace a file that is there already; write binary data to a terminal
    #[arg(short, long)]
    pub force: bool,
}

impl Place {
    /// Several inputs go each to its own name.
    pub fn of(&self, inputs: &[PathBuf]) -> Result<(), Usage> {
        let asked = self.stdout || self.output.is_some();
        let refusal = "-o and -c are for one file; several go each to its own name";
        if asked && inputs.len() > 1 { Err(Usage::new(refusal)) } else { Ok(()) }
    }

    /// What was asked for; `default` is asked where the command line says nothing.
    pub fn destination(
        &self,
        default: impl FnOnce() -> anyhow::Result<Destination>,
    ) -> anyhow::Result<Destination> {
        match &self.output {
            _ if self.stdout => Ok(Destination::Stdout),
            Some(path) => Ok(Destination::from(path.clone())),
            None => default(),
        }
    }
}

/// How to work on a stream.
#[derive(Debug, Args)]
pub struct Reading {
    #[command(flatten)]
    pub threads: Threads,
    /// Most memory to take for what the stream claims or holds: bytes, or with K, M, G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size::parse)]
    pub memory_limit: u64,
}

impl Reading {
    /// The same for the library.
    pub fn options(&self) -> DecodeOptions {
        let mut options = DecodeOptions::default();
        options.memory = self.memory_limit;
        options.threads = self.threads.within(self.memory_limit);
        options
    }
}

/// What a thread takes to decode the largest chunk of the most demanding pipeline, and some more.
const MEMORY_OF_A_THREAD: u64 = 48 << 20;

/// How many threads to use.
#[derive(Debug, Args)]
pub struct Threads {
    /// Threads; 0 is one per core, as far as --memory-limit allows. The result does not depend on
    /// it, memory does
    #[arg(short = 'T', long, value_name = "N", default_value_t = 1, value_parser = parse_threads)]
    threads: usize,
}

impl Threads {
    /// At least one.
    pub fn count(&self) -> usize {
        match self.threads {
            0 => all_cores(),
            n => n,
        }
    }

    /// As many as were asked for; where that was left open, no more than the memory is enough for.
    fn within(&self, memory: u64) -> usize {
        let most = usize::try_from(memory / MEMORY_OF_A_THREAD).unwrap_or(usize::MAX).max(1);
        if self.threads == 0 { self.count().min(most) } else { self.threads }
    }
}

/// Most threads to ask for: each takes memory, and some systems refuse to start more.
const MOST_THREADS: usize = 256;

/// How many threads the machine runs at a time.
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A number of threads, or 0.
pub fn parse_threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|n| *n <= MOST_THREADS);
    threads.ok_or_else(|| format!("expected is a number from 0 to {MOST_THREADS}"))
}

/// Whether the shape is one that a tensor of that type can have.
fn check_shape(dtype: DType, shape: &Shape) -> Result<(), Usage> {
    let Shape { dims, open } = shape;
    let unit = byte_len(dtype, if *open { &dims[1..] } else { dims });
    match unit {
        Some(0) if *open => Err(Usage::new(format!(
            "--shape {dims:?}: rows without values do not tell how many there are"
        ))),
        None => Err(Usage::new(format!("--shape {dims:?}: no computer holds that many values"))),
        Some(_) => Ok(()),
    }
}

fn parse_dtype(name: &str) -> Result<DType, String> {
    DType::from_name(name).ok_or_else(|| {
        let all: Vec<_> = DType::ALL.iter().map(|d| d.name().to_ascii_lowercase()).collect();
        format!("the element types are {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn as_many_threads_as_cores_fit_into_the_memory() {
        let within = |threads, memory| Threads { threads }.within(memory);
        assert_eq!(within(0, 0), 1);
        assert_eq!(within(0, u64::MAX), Threads { threads: 0 }.count());
        assert!(within(0, 1 << 30) <= 21);
        assert_eq!(within(64, 0), 64, "as asked; the limit is enforced elsewhere");
    }

    #[test]
    fn impossible_shapes_are_wrong_arguments() {
        for (shape, is_possible) in [
            ("", true),
            ("-1", true),
            ("-1,5", true),
            ("0", true),
            ("0,18446744073709551615,2", true),
            ("-1,0", false),
            ("4294967296,4294967296", false),
            ("-1,4294967296,4294967296", false),
        ] {
            let shape = shape.parse().unwrap();
            assert_eq!(check_shape(DType::F32, &shape).is_ok(), is_possible, "{shape:?}");
        }
    }

    #[test]
    fn element_types_are_spelled_in_any_case() {
        assert_eq!(parse_dtype("f32"), Ok(DType::F32));
        assert_eq!(parse_dtype("BF16"), Ok(DType::BF16));
        assert!(parse_dtype("float").unwrap_err().contains("f32"));
    }
}
