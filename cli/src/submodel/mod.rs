//! `fedpress submodel`: Federated Dropout for those who train elsewhere.

mod model;
mod which;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use fedpress_fl::Selection;
use serde::Serialize;

use crate::args::Place;
use crate::console::Console;
use crate::destination::Destination;
use crate::exit::{Outcome, Usage};
use crate::help;
use crate::table::{Table, visible};
use model::Model;
pub use which::NoLayout;
use which::{Found, Which};

/// Cut a smaller dense model out of a model, and put it back (Federated Dropout)
///
/// Some units of each hidden layer are kept: their rows, columns and filters make a smaller model of
/// the same kind, which a weak device can train. Which axis of which tensor belongs to which units is
/// recognized for torchvision's ResNets and MobileNets, transformers with the names of BERT, ViT, GPT-2,
/// Llama and their kin (hidden units of MLPs, and heads where their number is known) and LoRA adapters;
/// inferred for plain sequences of dense and convolutional layers whose order names or shapes show, or
/// --order tells; or read from a layout file.
///
/// Tensors that the layout does not have are kept whole. The same options select the same units, so
/// merge is given what pack was given.
#[derive(Debug, Args)]
#[command(after_long_help = help::SUBMODEL)]
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
    /// Show what the model was recognized as, groups, tensors and what a submodel would have; with
    /// --print-layout, the layout file
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

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// Where the layout comes from.
    layout: String,
    /// What is kept whole, and why.
    notes: Vec<String>,
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
            let found = find(which, model, &full, console)?;
            let packed = full.pack(&found.layout, &which.selection(&found.layout)?)?;
            write(&packed, model, place, console)?;
        }
        Action::Merge { model, submodel, which, place } => {
            let mut full = Model::open(model)?;
            let found = find(which, model, &full, console)?;
            let selection = which.selection(&found.layout)?;
            full.merge(&found.layout, &selection, &Model::open(submodel)?)?;
            write(&full, model, place, console)?;
        }
        Action::Inspect { model, which, print_layout } => {
            let full = Model::open(model)?;
            let found = which.layout(model, &full);
            if *print_layout {
                let text = found.as_ref().map_or_else(start, |found| Some(found.layout.to_toml()));
                console.print(&text.unwrap_or_default())?;
                found?;
            } else {
                let found = found?;
                inspect(&full, &found, &which.selection(&found.layout)?, console)?;
            }
        }
    }
    Ok(Outcome::Done)
}

/// The text to start from where no layout was found.
fn start(error: &anyhow::Error) -> Option<String> {
    error.downcast_ref::<NoLayout>().map(|error| error.text.clone())
}

/// The layout of a model; says where it comes from.
fn find(which: &Which, path: &Path, model: &Model, console: &Console) -> Result<Found> {
    let found = which.layout(path, model)?;
    console.note(&format!("layout: {}", found.origin));
    found.notes.iter().for_each(|note| console.note(note));
    Ok(found)
}

fn write(model: &Model, like: &Path, place: &Place, console: &Console) -> Result<()> {
    let nowhere = || Err(Usage::new("where to write: give -o FILE").into());
    let destination: Destination = place.destination(nowhere)?;
    model.write(&destination, like, place.force)?;
    console.note(&format!("{}: {} values", destination.name(), model.n_values()));
    Ok(())
}

fn inspect(model: &Model, found: &Found, selection: &Selection, console: &Console) -> Result<()> {
    let layout = &found.layout;
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
        layout: found.origin.clone(),
        notes: found.notes.clone(),
        groups: layout.groups().iter().enumerate().map(group).collect(),
        tensors: model.shapes().into_iter().zip(packed.shapes()).map(tensor).collect(),
        values: model.n_values(),
        values_kept: packed.n_values(),
    };
    if console.json {
        return console.print_json("submodel inspect", report);
    }
    let mut head = format!("layout: {}\n", report.layout);
    for note in &report.notes {
        head += &format!("{}\n", visible(note));
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
        "{head}\n{groups}\n{tensors}\n{values} values, {values_kept} kept: {ratio:.3}x fewer\n"
    ))
}

fn dimensions(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
