//! `fedpress man`: manual pages, made from the same text as the help.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::args::Cli;
use crate::console::Console;
use crate::exit::Outcome;

/// Print the manual page, or write one for each command
///
/// To read it at once: fedpress man | man -l -
#[derive(Debug, Args)]
pub struct Arguments {
    /// Write fedpress.1, fedpress-encode.1 and so on into this folder
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let command = Cli::command().disable_help_subcommand(true);
    match &args.dir {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(command, folder))
                .with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        None => {
            let mut page = Vec::new();
            Man::new(command).render(&mut page)?;
            console.print(&String::from_utf8(page)?)?;
        }
    }
    Ok(Outcome::Done)
}
