//! A size or an error that the whole stream is to have.

use anyhow::Result;
use clap::Args;
use fedpress::{Planner, Target};

use super::job::Job;
use crate::exit::Usage;
use crate::size;

/// What the stream is to come to; each tensor gets a rate of its own.
#[derive(Debug, Args)]
#[group(multiple = false)]
#[command(next_help_heading = "Target (files only, which are read several times)")]
pub struct TargetArguments {
    /// Take no more than these bytes: a number, or with K, M, G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    target_bytes: Option<u64>,
    /// Be so many times smaller than the input
    #[arg(long, value_name = "X", value_parser = positive)]
    target_ratio: Option<f64>,
    /// Take no more than so many bits for each value, headers and all
    #[arg(long, value_name = "BITS", value_parser = positive)]
    target_bits: Option<f64>,
    /// Err so much, as diff measures it: 0.01 is a tenth of the values' size
    #[arg(long, value_name = "NMSE", value_parser = positive)]
    target_nmse: Option<f64>,
}

impl TargetArguments {
    /// The one that was given.
    pub fn target(&self) -> Option<Target> {
        let size = self.target_bytes.map(Target::Bytes);
        let ratio = self.target_ratio.map(Target::Ratio);
        let bits = self.target_bits.map(Target::BitsPerValue);
        size.or(ratio).or(bits).or(self.target_nmse.map(Target::Nmse))
    }
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite());
    number.ok_or_else(|| "expected is a number above 0".to_owned())
}

/// Finds the rates of a job's tensors.
pub fn meet(target: Target, job: &mut Job<'_>, manifest: bool) -> Result<()> {
    let rated = job.rated();
    if rated.is_empty() {
        Err(Usage::new("a target needs tensors that are sent at a rate, as by --spec auto"))?;
    }
    let mut planner = Planner::new(job.options());
    for index in &rated {
        planner.begin(job.spec(*index), 1.0)?;
        job.each_piece(*index, |dtype, piece| Ok(planner.push(dtype, piece)?))?;
    }
    let specs = planner.specs::<anyhow::Error>(target, job.size(), |specs| {
        job.set_specs(&rated, specs);
        job.length(manifest)
    })?;
    job.set_specs(&rated, &specs);
    Ok(())
}
