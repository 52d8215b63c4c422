//! What came of the trainings: a table, and one page that opens offline.

use std::path::Path;

use anyhow::Result;
use fedpress_fl::train::{EdgeCost, Grid, RoundRecord, Run, TrainConfig, Training};
use serde::Serialize;

use super::chart::{Chart, Line, escaped};
use super::edge::{self, Edge};
use super::paired;
use super::section::Section;
use crate::size::human;

/// A training that is over, or was stopped.
#[derive(Debug, Serialize)]
pub struct Finished {
    pub name: String,
    rounds: usize,
    accuracy: Option<f64>,
    bytes_down: u64,
    bytes_up: u64,
    multiply_adds: u64,
    codec_share: f64,
    edge_parameters: usize,
    edge_multiply_adds: u64,
    bits_per_value_up: f64,
    /// What there is beside, of FedGKT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
    #[serde(skip)]
    group: String,
    #[serde(skip)]
    pub cost: EdgeCost,
    #[serde(skip)]
    config: TrainConfig,
    #[serde(skip)]
    records: Vec<RoundRecord>,
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
        let mut seconds = fedpress_fl::train::Seconds::default();
        records.iter().for_each(|record| seconds += record.seconds);
        let bytes_up = sum(|r| r.bytes_up);
        Ok(Self {
            name: run.name.clone(),
            group: run.group.clone(),
            rounds: records.len(),
            accuracy: records.iter().rev().find_map(|r| r.accuracy),
            bytes_down: sum(|r| r.bytes_down),
            bytes_up,
            multiply_adds: sum(|r| r.multiply_adds),
            codec_share: seconds.codec_share(),
            edge_parameters: cost.parameters,
            edge_multiply_adds: cost.multiply_adds,
            bits_per_value_up: 8.0 * bytes_up as f64 / training.values_up().max(1) as f64,
            edge: Edge::new(training.config(), records, &cost),
            cost,
            config: training.config().clone(),
            records: records.to_vec(),
        })
    }

    /// What runs that differ in their seeds alone are called.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The seed it was made with.
    pub fn seed(&self) -> u64 {
        self.config.seed
    }

    /// Where it ended.
    pub fn accuracy(&self) -> Option<f64> {
        self.accuracy
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

    fn per_update(&self, sum: u64) -> f64 {
        let updates: usize = self.records.iter().map(|r| r.updates).sum();
        sum as f64 / updates.max(1) as f64
    }
}

/// How often the first goes into the second.
pub fn times(first: f64, own: f64) -> String {
    if own == 0.0 { "-".into() } else { format!("{:.2}x", first / own) }
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

/// The tables of the terminal.
pub fn table(runs: &[Finished]) -> String {
    let tables =
        [section(runs).lines(), paired::section(runs).lines(), edge::section(runs).lines()];
    tables.concat().trim_start().to_owned()
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
    page += &edge::section(runs).html();
    for (heading, chart) in charts(runs) {
        page += &format!("<h2>{heading}</h2>\n{}", chart.svg());
    }
    page += "<h2>Configurations</h2>\n";
    for run in runs {
        let (name, toml) = (escaped(&run.name), escaped(&run.config.to_toml()));
        page += &format!("<details><summary>{name}</summary><pre>{toml}</pre></details>\n");
    }
    page + "</body>\n</html>\n"
}

fn charts(runs: &[Finished]) -> Vec<(&'static str, Chart)> {
    let chart = |x_label, x_log, x: fn(&RoundRecord, f64) -> f64| {
        let line = |run: &Finished| {
            let mut bytes = 0.0;
            let mut points = Vec::new();
            for record in &run.records {
                bytes += (record.bytes_down + record.bytes_up) as f64;
                let at = Some(x(record, bytes)).filter(|x| x.is_finite());
                points.extend(at.zip(record.accuracy.map(|a| 100.0 * a)));
            }
            Line { name: run.name.clone(), points }
        };
        let lines = runs.iter().map(line).collect();
        Chart { x_label, x_log, y_label: "accuracy on the test set, %", lines }
    };
    let mut charts = vec![
        ("Accuracy against rounds", chart("rounds", false, |record, _| record.round as f64)),
        ("Accuracy against bytes", chart("megabytes, both ways", true, |_, bytes| bytes / 1e6)),
    ];
    let clock = |record: &RoundRecord, _| record.gkt.as_ref().map_or(f64::NAN, |gkt| gkt.clock);
    if runs.iter().any(|run| run.records.iter().any(|r| r.gkt.is_some())) {
        let heading = "FedGKT: accuracy against virtual time";
        charts.push((heading, chart("virtual seconds", false, clock)));
    }
    charts
}
