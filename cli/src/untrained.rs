//! `fedpress train` where the trainer was not built: says how to get it.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::exit::{Outcome, Usage};

/// Train a model federatedly: not part of this build
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// Whatever the trainer would have taken.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _all: Vec<OsString>,
}

/// Fails.
pub fn run() -> Result<Outcome> {
    Err(Usage::new(
        "this build has no trainer; cargo install --path cli --features train makes one that has",
    ))?
}
