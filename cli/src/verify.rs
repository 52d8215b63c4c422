//! `fedpress verify`: decodes everything and keeps nothing.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use fedpress::{DecodeOptions, Reader};
use serde::Serialize;

use crate::args::Reading;
use crate::console::Console;
use crate::exit::Outcome;
use crate::files::{Input, n_values};
use crate::help;
use crate::stream::{self, Stream};
use crate::table::{printable, visible};

/// Check that streams are complete and undamaged, by decoding them
#[derive(Debug, Args)]
#[command(after_long_help = help::VERIFY)]
pub struct Arguments {
    /// Streams made by encode; - is standard input
    #[arg(value_name = "FILE", required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

/// What became of a file.
#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    ok: bool,
    error: Option<String>,
    tensors: u64,
    values: u64,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let mut verdicts = Vec::new();
    for input in &args.inputs {
        let input = Input::from(input.clone());
        let mut verdict =
            Verdict { file: stream::name_of(&input), ok: true, error: None, tensors: 0, values: 0 };
        if let Err(error) = check(&input, args.reading.options(), console, &mut verdict) {
            verdict.ok = false;
            verdict.error = Some(format!("{error:#}"));
        }
        if !console.json {
            print(&verdict, console)?;
        }
        verdicts.push(verdict);
    }
    let all = verdicts.iter().all(|v| v.ok);
    if console.json {
        console.print_json("verify", serde_json::json!({ "ok": all, "files": verdicts }))?;
    }
    Ok(if all { Outcome::Done } else { Outcome::Failed })
}

fn print(verdict: &Verdict, console: &Console) -> Result<()> {
    let file = visible(&verdict.file);
    match &verdict.error {
        None if console.is_quiet() => Ok(()),
        None => console.print(&format!("{file}: OK\n")),
        Some(error) => console.print(&format!("{file}: FAILED: {}\n", visible(error))),
    }
}

fn check(
    input: &Input,
    options: DecodeOptions,
    console: &Console,
    verdict: &mut Verdict,
) -> Result<()> {
    let progress = console.progress(None);
    let mut reader = Reader::new(Stream::open(input)?.into_reader(), options);
    // What a later version wrote is framed and checked as the rest is: the others are verified.
    let mut unsupported = Ok(());
    while let Some(mut tensor) = reader.next_tensor()? {
        progress.set_message(printable(tensor.meta().name()));
        if let Err(error) = tensor.meta().supported() {
            unsupported = unsupported.and(Err(error));
            continue;
        }
        while let Some(elements) = tensor.next_chunk()? {
            progress.inc(elements.len() as u64);
        }
        verdict.values += n_values(&tensor.shape());
        verdict.tensors += 1;
    }
    progress.finish_and_clear();
    Ok(unsupported?)
}
