//! The command `fedpress`: tensor files in, compressed streams out, and back.
//!
//! A library so that other programs can be this command, as `python -m fedpress` is.

mod args;
mod bench;
mod completions;
mod console;
mod decode;
mod demo;
mod destination;
mod device;
mod diff;
mod each;
mod encode;
mod estimate;
mod excerpt;
mod exit;
mod files;
mod help;
mod inspect;
mod interrupt;
mod manual;
mod measure;
mod phrase;
mod piece;
mod rules;
mod seeds;
mod size;
mod spec_argument;
mod statistics;
mod stream;
mod submodel;
mod svg;
mod sweep;
mod table;
#[cfg(feature = "train")]
mod train;
#[cfg(not(feature = "train"))]
mod untrained;
mod verify;

use std::ffi::OsString;

use anyhow::Result;
use clap::Parser;

use args::{Cli, Command};
use console::Console;
use exit::Outcome;

/// Runs the command with these arguments, the first of which is the name it was called by; returns its
/// exit code. Handles SIGINT, SIGTERM and SIGHUP from then on, and may end the process on one.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args::with_verb(arguments)) {
        Ok(cli) => cli,
        Err(answer) => return exit::answered(&answer),
    };
    let console = Console::new(&cli.talk);
    let result = interrupt::install().and_then(|()| run(cli.command, &console));
    exit::report(result, &console)
}

fn run(command: Command, console: &Console) -> Result<Outcome> {
    match command {
        Command::Encode(args) => encode::run(&args, console),
        Command::Decode(args) => decode::run(&args, console),
        Command::Inspect(args) => inspect::run(&args, console),
        Command::Verify(args) => verify::run(&args, console),
        Command::Diff(args) => diff::run(&args, console),
        Command::Bench(args) => bench::run(&args, console),
        Command::Estimate(args) => estimate::run(&args, console),
        Command::Sweep(args) => sweep::run(&args, console),
        Command::Demo(args) => demo::run(&args, console),
        Command::Submodel(args) => submodel::run(&args, console),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(&args, console),
        #[cfg(not(feature = "train"))]
        Command::Train(_) => untrained::run(),
        Command::Completions(args) => completions::run(&args, console),
        Command::Man(args) => manual::run(&args, console),
    }
}
