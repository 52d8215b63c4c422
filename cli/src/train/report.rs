//! What came of the trainings: a table, and one page that opens offline.

use std::path::Path;

use anyhow::Result;
use fedpress_train::{EdgeCost, Grid, RoundRecord, Run, TrainConfig, Training};
use serde::Serialize;

use super::chart::escaped;
use super::curves;
use super::edge::{self, Edge};
use super::paired;
use super::section::Section;
use super::target;
use crate::size::human;

/// A training that is over, or was stopped.
#[derive(Debug, Serialize)]
pub struct Finished {
    pub name: String,
    rounds: usize,
    pub accuracy: Option<f64>,
    /// Of the tenth of clients that have the least, where accuracy is by client.
    #[serde(skip_serializing_if = "Option::is_none")]
    worst_tenth: Option<f64>,
    bytes_down: u64,
    bytes_up: u64,
    multiply_adds: u64,
    codec_share: f64,
    edge_parameters: usize,
    edge_multiply_adds: u64,
    bits_per_value_up: f64,
    /// What the papers' formula gives (`Training::formula_ratios`).
    formula_down: f64,
    formula_up: f64,
    clients_missing: usize,
    /// Seconds that clients trained, as measured.
    seconds_training: f64,
    /// What there is beside, of FedGKT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
    #[serde(skip)]
    pub group: String,
    #[serde(skip)]
    pub cost: EdgeCost,
    #[serde(skip)]
    config: TrainConfig,
    #[serde(skip)]
    pub records: Vec<RoundRecord>,
    #[serde(skip)]
    is_done: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
pub struct Summary<'a> {
    /// One for each training.
    pub runs: &'a [Finished],
    /// Where the page is.
    pub report: &'a Path,
}

impl Finished {
    /// Sums over the rounds.
    pub fn new(run: &Run, training: &Training) -> Result<Self> {
        let records = training.records();
        let cost = training.edge_cost()?;
        let sum = |part: fn(&RoundRecord) -> u64| records.iter().map(part).sum();
        let mut seconds = fedpress_train::Seconds::default();
        records.iter().for_each(|record| seconds += record.seconds);
        let bytes_up = sum(|r| r.bytes_up);
        let (formula_down, formula_up) = training.formula_ratios()?;
        Ok(Self {
            name: run.name.clone(),
            group: run.group.clone(),
            rounds: records.len(),
            accuracy: records.iter().rev().find_map(|r| r.accuracy),
            worst_tenth: records.iter().rev().find_map(|r| r.worst_tenth),
            bytes_down: sum(|r| r.bytes_down),
            bytes_up,
            multiply_adds: sum(|r| r.multiply_adds),
            codec_share: seconds.codec_share(),
            edge_parameters: cost.parameters,
            edge_multiply_adds: cost.multiply_adds,
            bits_per_value_up: 8.0 * bytes_up as f64 / training.values_up().max(1) as f64,
            formula_down,
            formula_up,
            clients_missing: records.iter().map(|r| r.clients_missing).sum(),
            seconds_training: seconds.train,
            is_done: training.is_done(),
            edge: Edge::new(training.config(), records, &cost),
            cost,
            config: training.config().clone(),
            records: records.to_vec(),
        })
    }

    /// Whether all rounds are over.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// The seed it was made with.
    pub fn seed(&self) -> u64 {
        self.config.seed
    }

    /// What there is to know of accuracy beside the first number, and its name: of FedGKT what clients
    /// reach alone.
    pub fn second(&self) -> Option<(&'static str, f64)> {
        let own = self.edge.as_ref().and_then(|edge| edge.own_accuracy);
        let worst = self.worst_tenth.map(|accuracy| ("worst tenth", accuracy));
        own.map(|accuracy| ("own", accuracy)).or(worst)
    }

    /// Bytes down for each update, so that a training that was stopped compares, too.
    pub fn down_per_update(&self) -> f64 {
        self.per_update(self.bytes_down)
    }

    /// The same of bytes up.
    pub fn up_per_update(&self) -> f64 {
        self.per_update(self.bytes_up)
    }

    /// The same of the clients' multiply-adds.
    pub fn compute_per_update(&self) -> f64 {
        self.per_update(self.multiply_adds)
    }

    /// The same of the seconds that clients trained.
    pub fn training_per_update(&self) -> f64 {
        self.seconds_training / self.updates()
    }

    fn per_update(&self, sum: u64) -> f64 {
        sum as f64 / self.updates()
    }

    fn updates(&self) -> f64 {
        self.records.iter().map(|r| r.updates).sum::<usize>().max(1) as f64
    }
}

/// How often the first goes into the second.
pub fn times(first: f64, own: f64) -> String {
    if own == 0.0 || first == 0.0 { "-".into() } else { format!("{:.2}x", first / own) }
}

const HEADS: [&str; 10] = [
    "run",
    "rounds",
    "accuracy_%",
    "down",
    "less_down",
    "up",
    "less_up",
    "less_compute",
    "codec_%",
    "bits_per_value_up",
];

/// One row a training; ratios against the first.
fn rows(runs: &[Finished]) -> Vec<[String; 10]> {
    let Some(first) = runs.first() else { return Vec::new() };
    let row = |run: &Finished| {
        let against = |part: fn(&Finished) -> f64| times(part(first), part(run));
        [
            run.name.clone(),
            run.rounds.to_string(),
            run.accuracy.map_or("-".into(), |a| format!("{:.2}", 100.0 * a)),
            human(run.bytes_down),
            against(Finished::down_per_update),
            human(run.bytes_up),
            against(Finished::up_per_update),
            against(Finished::compute_per_update),
            format!("{:.1}", 100.0 * run.codec_share),
            format!("{:.3}", run.bits_per_value_up),
        ]
    };
    runs.iter().map(row).collect()
}

fn section(runs: &[Finished]) -> Section<10> {
    Section {
        heading: "Trainings",
        text: "Bytes are those of whole messages, headers included, over all clients and rounds; \
               ratios are per update, against the first run. Compute counts multiply-adds of the \
               clients. The codec's share is its part of the clients' and the server's processor \
               time, evaluation aside.",
        heads: HEADS,
        rows: rows(runs),
    }
}

/// What was sent beside what the literature would count; and whose updates are missing.
fn accounting(runs: &[Finished]) -> Section<6> {
    let Some(first) = runs.first() else { return Section::empty() };
    let row = |run: &Finished| {
        let against = |part: fn(&Finished) -> f64| times(part(first), part(run));
        [
            run.name.clone(),
            format!("{:.2}x", run.formula_down),
            against(Finished::down_per_update),
            format!("{:.2}x", run.formula_up),
            against(Finished::up_per_update),
            run.clients_missing.to_string(),
        ]
    };
    Section {
        heading: "By the formula, and on the wire",
        text: "The formula is 32 / (q s), times how many times fewer parameters a client has: what \
               papers report. It knows no headers, ranges, padding or lossless stages. Less on the \
               wire is against the first run. Missing from their rounds are clients whose training \
               diverged.",
        heads: ["run", "formula_down", "wire_down", "formula_up", "wire_up", "clients_missing"],
        rows: runs.iter().map(row).collect(),
    }
}

/// The tables of the terminal.
pub fn table(runs: &[Finished]) -> String {
    let missing = runs.iter().filter(|run| run.clients_missing > 0).map(|run| {
        format!("\n{}: training diverged on {} clients\n", run.name, run.clients_missing)
    });
    let tables = [
        section(runs).lines(),
        paired::section(runs).lines(),
        paired::second(runs).lines(),
        target::section(runs).lines(),
        edge::section(runs).lines(),
    ];
    let text: Vec<String> = tables.into_iter().chain(missing).collect();
    text.concat().trim_start().to_owned()
}

/// The tables of runs with several seeds as Markdown, for a document of results.
pub fn markdown(runs: &[Finished]) -> String {
    [
        paired::section(runs).markdown(),
        paired::second(runs).markdown(),
        target::section(runs).markdown(),
    ]
    .concat()
}

/// The page.
pub fn html(grid: &Grid, runs: &[Finished]) -> String {
    let title = escaped(if grid.title.is_empty() { "fedpress train" } else { &grid.title });
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>{title}</title>\n<style>\nbody {{ font-family: sans-serif; margin: 2em; }}\n\
         table {{ border-collapse: collapse; }}\ntd, th {{ padding: .2em .8em; text-align: right; \
         border-bottom: 1px solid #ddd; }}\ntd:first-child, th:first-child {{ text-align: left; }}\n\
         pre {{ background: #f6f6f6; padding: 1em; }}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    page += &section(runs).html();
    page += &paired::section(runs).html();
    page += &paired::second(runs).html();
    page += &target::section(runs).html();
    page += &accounting(runs).html();
    page += &edge::section(runs).html();
    for (heading, chart) in curves::charts(runs) {
        page += &format!("<h2>{heading}</h2>\n{}", chart.svg());
    }
    page += "<h2>Configurations</h2>\n";
    for run in runs {
        let (name, toml) = (escaped(&run.name), escaped(&run.config.to_toml()));
        page += &format!("<details><summary>{name}</summary><pre>{toml}</pre></details>\n");
    }
    page + "</body>\n</html>\n"
}
