//! `fedpress diff`: how far two sets of tensors are apart.

mod limit;
mod side;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use fedpress::{Comparison, ErrorKind};
use serde::Serialize;

use crate::args::{Reading, TensorFile};
use crate::console::Console;
use crate::exit::{Outcome, Usage};
use crate::files::{Input, Source, TensorInfo, n_values};
use crate::help;
use crate::piece::{PIECE, fill};
use crate::table::{Table, printable, visible};
use limit::Limit;

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
    /// Fail if a tensor, or all of them together, are above that: nmse, max_error, differ, signs,
    /// zeros_lost, +-0, nonfinite; repeatable
    #[arg(long, value_name = "COLUMN=NUMBER")]
    fail_above: Vec<Limit>,
    /// The same below: cosine
    #[arg(long, value_name = "COLUMN=NUMBER")]
    fail_below: Vec<Limit>,
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
    /// Tensors that cannot be compared.
    problems: Vec<String>,
    /// What is beyond a limit.
    broken: Vec<String>,
    tensors: Vec<Row>,
    total: Row,
}

/// A line of the table; numbers that are none are null in JSON.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    values: u64,
    different: u64,
    nmse: f64,
    cosine: f64,
    max_error: f64,
    sign_flips: u64,
    zeros_lost: u64,
    zero_signs: u64,
    non_finite: u64,
}

impl Row {
    fn new(name: &str, values: u64, c: &Comparison) -> Self {
        Self {
            name: name.to_owned(),
            values,
            different: c.n_different(),
            nmse: c.nmse(),
            cosine: c.cosine(),
            max_error: c.max_error(),
            sign_flips: c.n_sign_flips(),
            zeros_lost: c.n_zeros_lost(),
            zero_signs: c.n_zero_signs(),
            non_finite: c.n_non_finite(),
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
        unsupported: None,
        pieces: [vec![0; PIECE], vec![0; PIECE]],
    };
    let tensors = pair.compare(console)?;
    let total = Row::new("total", tensors.iter().map(|row| row.values).sum(), &pair.total);
    let above = args.fail_above.iter().map(|limit| (limit, true));
    let limits: Vec<_> = above.chain(args.fail_below.iter().map(|limit| (limit, false))).collect();
    let rows = || tensors.iter().chain([&total]);
    let broken: Vec<String> = limits
        .into_iter()
        .flat_map(|(limit, above)| rows().filter_map(move |row| limit.broken(row, above)))
        .collect();
    let report = Report {
        a: args.a.display().to_string(),
        b: args.b.display().to_string(),
        same_structure: pair.problems.is_empty(),
        problems: pair.problems,
        broken,
        tensors,
        total,
    };
    let is_good = report.same_structure && report.broken.is_empty();
    if console.json {
        console.print_json("diff", report)?;
    } else {
        let table = if console.is_quiet() { String::new() } else { table(&report).to_string() };
        let lines = report.problems.iter().chain(&report.broken);
        console.print(&lines.fold(table, |text, line| text + &visible(line) + "\n"))?;
    }
    match pair.unsupported {
        Some(error) => Err(error),
        None if is_good => Ok(Outcome::Done),
        None => Ok(Outcome::Failed),
    }
}

fn table(report: &Report) -> Table {
    let heads = [
        "tensor",
        "values",
        "differ",
        "nmse",
        "cosine",
        "max_error",
        "signs",
        "zeros_lost",
        "+-0",
        "nonfinite",
    ];
    let mut table = Table::new(1, heads);
    for row in report.tensors.iter().chain([&report.total]) {
        table.row([
            row.name.clone(),
            row.values.to_string(),
            row.different.to_string(),
            format!("{:.3e}", row.nmse),
            format!("{:.6}", row.cosine),
            format!("{:.3e}", row.max_error),
            row.sign_flips.to_string(),
            row.zeros_lost.to_string(),
            row.zero_signs.to_string(),
            row.non_finite.to_string(),
        ]);
    }
    table
}

/// Two sources of tensors.
struct Pair {
    a: Box<dyn Source>,
    b: Box<dyn Source>,
    total: Comparison,
    problems: Vec<String>,
    /// The first tensor that this program does not know.
    unsupported: Option<anyhow::Error>,
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
            match self.tensor(i, j, info, &progress) {
                Ok(row) => rows.push(row),
                Err(error) if is_unsupported(&error) => {
                    self.problems.push(format!("not supported: {:?}", info.name));
                    self.unsupported.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
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
                // Of elements of less than a byte, the last byte may hold more than there are.
                let values = match info.dtype.bits() {
                    bits if bits % 8 != 0 => n_values(&info.shape),
                    _ => comparison.n_values(),
                };
                return Ok(Row::new(&info.name, values, &comparison));
            }
        }
    }
}

fn is_unsupported(error: &anyhow::Error) -> bool {
    let kind = |error: &fedpress::Error| matches!(error.kind(), ErrorKind::Unsupported { .. });
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = io.and_then(|inner| inner.downcast_ref::<fedpress::Error>());
        cause.downcast_ref::<fedpress::Error>().or(inner).is_some_and(kind)
    })
}

fn mismatch(a: &TensorInfo, b: &TensorInfo) -> Option<String> {
    let show = |info: &TensorInfo| format!("{} {:?}", info.dtype, info.shape);
    let differs = a.dtype != b.dtype || a.shape != b.shape;
    differs.then(|| format!("differs: {:?} is {} in A, {} in B", a.name, show(a), show(b)))
}
