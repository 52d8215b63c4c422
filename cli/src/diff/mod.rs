//! `fedpress diff`: how far two sets of tensors are apart.

mod side;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use fedpress::Comparison;
use serde::Serialize;

use crate::args::{Reading, TensorFile};
use crate::console::Console;
use crate::exit::{Outcome, Usage};
use crate::files::{Input, Source, TensorInfo};
use crate::help;
use crate::piece::{PIECE, fill};
use crate::table::{Table, printable};

/// Compare two tensor files or streams, tensor by tensor
#[derive(Debug, Args)]
#[command(after_long_help = help::DIFF)]
pub struct Arguments {
    /// The original: a tensor file or a stream; - is standard input
    #[arg(value_name = "A")]
    a: PathBuf,
    /// What to compare with it
    #[arg(value_name = "B")]
    b: PathBuf,
    #[command(flatten)]
    file: TensorFile,
    #[command(flatten)]
    reading: Reading,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    a: String,
    b: String,
    same_structure: bool,
    problems: Vec<String>,
    tensors: Vec<Row>,
    total: Row,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    values: u64,
    different: u64,
    nmse: f64,
    cosine: f64,
    max_error: f64,
}

impl Row {
    fn new(name: &str, c: &Comparison) -> Self {
        Self {
            name: name.to_owned(),
            values: c.n_values(),
            different: c.n_different(),
            nmse: c.nmse(),
            cosine: c.cosine(),
            max_error: c.max_error(),
        }
    }
}

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let [a, b] = [&args.a, &args.b].map(|path| Input::from(path.clone()));
    if a == Input::Stdin && b == Input::Stdin {
        Err(Usage::new("only one of the two can be standard input"))?;
    }
    let open = |input| side::open(input, &args.file, &args.reading.options());
    let mut pair = Pair {
        a: open(&a)?,
        b: open(&b)?,
        total: Comparison::default(),
        problems: Vec::new(),
        pieces: [vec![0; PIECE], vec![0; PIECE]],
    };
    let tensors = pair.compare(console)?;
    let report = Report {
        a: args.a.display().to_string(),
        b: args.b.display().to_string(),
        same_structure: pair.problems.is_empty(),
        problems: pair.problems,
        tensors,
        total: Row::new("total", &pair.total),
    };
    let outcome = if report.same_structure { Outcome::Done } else { Outcome::Failed };
    if console.json {
        console.print_json("diff", report)?;
    } else {
        console.print(&text(&report))?;
    }
    Ok(outcome)
}

fn text(report: &Report) -> String {
    let heads = ["tensor", "values", "differ", "nmse", "cosine", "max_error"];
    let mut table = Table::new(1, heads);
    for row in report.tensors.iter().chain([&report.total]) {
        table.row([
            row.name.clone(),
            row.values.to_string(),
            row.different.to_string(),
            format!("{:.3e}", row.nmse),
            format!("{:.6}", row.cosine),
            format!("{:.3e}", row.max_error),
        ]);
    }
    let problems: String = report.problems.iter().map(|p| format!("{p}\n")).collect();
    format!("{table}{problems}")
}

/// Two sources of tensors.
struct Pair {
    a: Box<dyn Source>,
    b: Box<dyn Source>,
    total: Comparison,
    problems: Vec<String>,
    pieces: [Vec<u8>; 2],
}

impl Pair {
    /// Compares what both have, in the order of A. Concatenated streams may have several tensors of
    /// a name: the first of A belongs to the first of B, and so on.
    fn compare(&mut self, console: &Console) -> Result<Vec<Row>> {
        let progress = console.progress(None);
        let (all_a, all_b) = (self.a.tensors().to_vec(), self.b.tensors().to_vec());
        let mut places = HashMap::<&str, VecDeque<usize>>::new();
        for (j, info) in all_b.iter().enumerate() {
            places.entry(&info.name).or_default().push_back(j);
        }
        let alone = |info: &TensorInfo, side| format!("only in {side}: {:?}", info.name);
        let mut rows = Vec::new();
        for (i, info) in all_a.iter().enumerate() {
            let Some(j) = places.get_mut(&*info.name).and_then(VecDeque::pop_front) else {
                self.problems.push(alone(info, "A"));
                continue;
            };
            if let Some(problem) = mismatch(info, &all_b[j]) {
                self.problems.push(problem);
                continue;
            }
            progress.set_message(printable(&info.name));
            rows.push(self.tensor(i, j, info, &progress)?);
        }
        let mut left: Vec<_> = places.into_values().flatten().collect();
        left.sort_unstable();
        self.problems.extend(left.into_iter().map(|j| alone(&all_b[j], "B")));
        progress.finish_and_clear();
        Ok(rows)
    }

    fn tensor(
        &mut self,
        i: usize,
        j: usize,
        info: &TensorInfo,
        progress: &indicatif::ProgressBar,
    ) -> Result<Row> {
        let mut comparison = Comparison::default();
        let (mut a, mut b) = (self.a.read(i)?, self.b.read(j)?);
        let [piece_a, piece_b] = &mut self.pieces;
        loop {
            let n = fill(&mut a, piece_a)?;
            let m = fill(&mut b, piece_b)?;
            ensure!(n == m, "tensor {:?} has not the size that its shape says", info.name);
            comparison.update(info.dtype, &piece_a[..n], &piece_b[..n])?;
            self.total.update(info.dtype, &piece_a[..n], &piece_b[..n])?;
            progress.inc(n as u64);
            if n < PIECE {
                return Ok(Row::new(&info.name, &comparison));
            }
        }
    }
}

fn mismatch(a: &TensorInfo, b: &TensorInfo) -> Option<String> {
    let show = |info: &TensorInfo| format!("{} {:?}", info.dtype, info.shape);
    let differs = a.dtype != b.dtype || a.shape != b.shape;
    differs.then(|| format!("differs: {:?} is {} in A, {} in B", a.name, show(a), show(b)))
}
