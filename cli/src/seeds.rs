//! Where randomness comes from.

use anyhow::{Context, Result};
use clap::Args;
use fedpress::Seeds;

/// The seeds on the command line.
#[derive(Debug, Args)]
#[command(next_help_heading = "Randomness")]
pub struct SeedArguments {
    /// Shared seed: which rotation, and which coefficients are kept
    ///
    /// It is written into the stream, so that the receiver needs no agreement. Clients of a round
    /// may share it: their numbers make them rotate and leave out each for itself.
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse)]
    seed: u64,
    /// Number of the training round; every round rotates differently
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse)]
    round: u64,
    /// Number of this client; it is written into the stream, too
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse)]
    client_id: u64,
    /// How many clients send in this round, numbered from 0 by --client-id
    ///
    /// Where it is known, `step` shares its dither out over them: of clients that send much the same the errors
    /// cancel, down to a K-th for K clients. It is written into the stream, too.
    #[arg(long, value_name = "K", default_value = "0", value_parser = parse)]
    clients: u64,
    /// Private seed: how values are rounded; drawn afresh unless given
    ///
    /// It has to differ from client to client and from round to round, or the rounding errors of
    /// many clients no longer cancel in their average. Give it only to repeat a run: -v and --json
    /// say which one was used. It is not written into the stream.
    #[arg(long, value_name = "N", value_parser = parse)]
    private_seed: Option<u64>,
}

impl SeedArguments {
    /// The seeds of this run.
    pub fn seeds(&self) -> Result<Seeds> {
        let private = match self.private_seed {
            Some(seed) => seed,
            None => fresh()?,
        };
        Ok(Seeds::new(self.seed, private)
            .in_round(self.round)
            .of_client(self.client_id, self.clients))
    }
}

/// A seed from the operating system.
pub fn fresh() -> Result<u64> {
    getrandom::u64().context("the operating system gives no random numbers")
}

/// Parses decimal, or hexadecimal after `0x`.
fn parse(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|_| "expected is a number up to 2^64, decimal or after 0x".to_owned())
}
