//! `fedpress completions`: scripts that let a shell complete the command line.

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::console::Console;
use crate::exit::Outcome;

/// Print a completion script for a shell
///
/// For bash: fedpress completions bash > ~/.local/share/bash-completion/completions/fedpress
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fedpress", &mut script);
    console.print(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
