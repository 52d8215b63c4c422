//! `fedpress submodel`: Federated Dropout for those who train elsewhere.

mod model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use fedpress_fl::{Choice, Convention, Keep, Layout, Rule, Selection};
use serde::Serialize;

use crate::args::Place;
use crate::console::Console;
use crate::destination::Destination;
use crate::exit::{Outcome, Usage};
use crate::table::Table;
use model::Model;

/// Cut a smaller dense model out of a model, and put it back (Federated Dropout)
///
/// Some units of each hidden layer are kept: their rows, columns and filters make a smaller model of
/// the same kind, which a weak device can train. Which axis of which tensor belongs to which units is
/// inferred for plain sequences of dense and convolutional layers, or read from a layout file:
///
///     [groups]                          # units that can be dropped
///     conv2 = 64
///     fc1 = 512
///     [[parameters]]
///     name = "fc1.weight"
///     axes = ["fc1", "conv2*49"]        # flattened 7 x 7 maps, channel first; last: "49*conv2"
///     inputs = [1]
///
/// Tensors that the layout does not have are kept whole. The same options select the same units, so
/// merge is given what pack was given.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the submodel
    Pack {
        /// The full model
        model: PathBuf,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
    },
    /// Write the full model with a submodel put back; all else stays as it is
    Merge {
        /// The full model
        model: PathBuf,
        /// The submodel that came back from training
        submodel: PathBuf,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
    },
    /// Show groups, tensors and what a submodel would have; with --print-layout, the layout file
    Inspect {
        /// The full model
        model: PathBuf,
        #[command(flatten)]
        which: Which,
        /// Print the layout as a file, to be corrected and given to --layout
        #[arg(long)]
        print_layout: bool,
    },
}

/// Which units.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which units")]
struct Which {
    /// What belongs together; inferred if absent
    #[arg(long, value_name = "FILE")]
    layout: Option<PathBuf>,
    /// How the model's framework writes weights; for inference
    #[arg(long, value_enum, default_value = "torch")]
    convention: Framework,
    /// Fraction of the units of each group that is kept
    #[arg(long, value_name = "FRACTION", default_value = "0.75")]
    keep: f64,
    /// The same for one group; may be repeated
    #[arg(long, value_name = "GROUP=FRACTION", value_parser = parse_group)]
    keep_group: Vec<(String, f64)>,
    /// How units are chosen
    #[arg(long, value_enum, default_value = "random")]
    strategy: How,
    /// What a random choice derives from
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// Where a rolling window starts, such as the number of the round
    #[arg(long, value_name = "N", default_value = "0")]
    offset: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Framework {
    /// dense [out, in], convolution [out, in, height, width], flattened channel first
    Torch,
    /// dense [in, out], convolution [out, in, height, width], flattened channel first
    Burn,
    /// dense [in, out], convolution [height, width, in, out], flattened channel last
    Keras,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// Drawn without replacement, from the seed
    Random,
    /// The first ones
    Ordered,
    /// A window from the offset on, around the end
    Rolling,
}

fn parse_group(text: &str) -> Result<(String, f64), String> {
    let parsed =
        text.split_once('=').and_then(|(name, f)| Some((name.to_owned(), f.parse().ok()?)));
    parsed.ok_or_else(|| "expected is GROUP=FRACTION, such as fc1=0.5".to_owned())
}

impl Which {
    fn layout(&self, model: &Model) -> Result<Layout> {
        if let Some(path) = &self.layout {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            return Layout::from_toml(&text).with_context(|| path.display().to_string());
        }
        let convention = match self.convention {
            Framework::Torch => Convention::Torch,
            Framework::Burn => Convention::Burn,
            Framework::Keras => Convention::Keras,
        };
        let inferred = Layout::infer(&model.float_shapes(), convention);
        inferred.with_context(|| "give a layout file to --layout")
    }

    fn selection(&self, layout: &Layout) -> Result<Selection> {
        let groups: BTreeMap<_, _> = self.keep_group.iter().cloned().collect();
        let keep = Keep { default: self.keep, groups };
        let rule = match self.strategy {
            How::Random => Rule::Random { seed: self.seed },
            How::Ordered => Rule::Ordered,
            How::Rolling => Rule::Rolling { offset: self.offset },
        };
        Ok(Choice { rule, keep }.select(layout)?)
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    groups: Vec<GroupReport>,
    tensors: Vec<TensorReport>,
    values: usize,
    values_kept: usize,
}

#[derive(Serialize)]
struct GroupReport {
    name: String,
    units: usize,
    kept: usize,
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    shape: Vec<usize>,
    kept: Vec<usize>,
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    match &args.action {
        Action::Pack { model, which, place } => {
            let full = Model::open(model)?;
            let layout = which.layout(&full)?;
            let packed = full.pack(&layout, &which.selection(&layout)?)?;
            write(&packed, model, place, console)?;
        }
        Action::Merge { model, submodel, which, place } => {
            let mut full = Model::open(model)?;
            let layout = which.layout(&full)?;
            full.merge(&layout, &which.selection(&layout)?, &Model::open(submodel)?)?;
            write(&full, model, place, console)?;
        }
        Action::Inspect { model, which, print_layout } => {
            let full = Model::open(model)?;
            let layout = which.layout(&full)?;
            if *print_layout {
                console.print(&layout.to_toml())?;
            } else {
                inspect(&full, &layout, &which.selection(&layout)?, console)?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn write(model: &Model, like: &Path, place: &Place, console: &Console) -> Result<()> {
    let nowhere = || Err(Usage::new("where to write: give -o FILE").into());
    let destination: Destination = place.destination(nowhere)?;
    model.write(&destination, like, place.force)?;
    console.note(&format!("{}: {} values", destination.name(), model.n_values()));
    Ok(())
}

fn inspect(model: &Model, layout: &Layout, selection: &Selection, console: &Console) -> Result<()> {
    let packed = model.pack(layout, selection)?;
    let group = |(i, group): (usize, &fedpress_fl::Group)| GroupReport {
        name: group.name.clone(),
        units: group.units,
        kept: selection.n_kept(i),
    };
    let tensor = |((name, shape), (_, kept)): ((String, Vec<usize>), (String, Vec<usize>))| {
        TensorReport { name, shape, kept }
    };
    let report = Report {
        groups: layout.groups().iter().enumerate().map(group).collect(),
        tensors: model.shapes().into_iter().zip(packed.shapes()).map(tensor).collect(),
        values: model.n_values(),
        values_kept: packed.n_values(),
    };
    if console.json {
        return console.print_json("submodel inspect", report);
    }
    let mut groups = Table::new(1, ["group", "units", "kept"]);
    for GroupReport { name, units, kept } in &report.groups {
        groups.row([name.clone(), units.to_string(), kept.to_string()]);
    }
    let mut tensors = Table::new(1, ["tensor", "shape", "kept"]);
    for TensorReport { name, shape, kept } in &report.tensors {
        tensors.row([name.clone(), dimensions(shape), dimensions(kept)]);
    }
    let Report { values, values_kept, .. } = report;
    let ratio = values as f64 / values_kept.max(1) as f64;
    console.print(&format!(
        "{groups}\n{tensors}\n{values} values, {values_kept} kept: {ratio:.3}x fewer\n"
    ))
}

fn dimensions(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
