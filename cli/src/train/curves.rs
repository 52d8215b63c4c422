//! Pictures of trainings: how they went, and where they ended.

use fedpress_train::RoundRecord;

use super::chart::{Chart, Line};
use super::report::Finished;

/// Runs that differ in their seeds alone, under their common name.
pub fn groups(runs: &[Finished]) -> Vec<(&str, Vec<&Finished>)> {
    let mut groups: Vec<(&str, Vec<&Finished>)> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|(name, _)| *name == run.group) {
            Some((_, members)) => members.push(run),
            None => groups.push((&run.group, vec![run])),
        }
    }
    groups
}

/// Both coordinates, each on average.
fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let (n, sum) =
        (points.len() as f64, |part: fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>());
    (sum(|p| p.0) / n, sum(|p| p.1) / n)
}

const ACCURACY: &str = "accuracy on the test set, %";

/// What the page shows, with headings.
pub fn charts(runs: &[Finished]) -> Vec<(&'static str, Chart)> {
    let chart = |x_label, x_log, x: fn(&RoundRecord, f64) -> f64| {
        let points = |run: &&Finished| -> Vec<Option<(f64, f64)>> {
            let mut bytes = 0.0;
            let point = |record: &RoundRecord| {
                bytes += (record.bytes_down + record.bytes_up) as f64;
                let at = Some(x(record, bytes)).filter(|x| x.is_finite());
                at.zip(record.accuracy.map(|a| 100.0 * a))
            };
            run.records.iter().map(point).collect()
        };
        let line = |(name, members): (&str, Vec<&Finished>)| {
            // Of those that have come furthest: the mean of the same runs all along.
            let rounds = members.iter().map(|run| run.records.len()).max().unwrap_or(0);
            let furthest = members.iter().filter(|run| run.records.len() == rounds);
            let all: Vec<_> = furthest.map(points).collect();
            let round = |i: usize| all.iter().map(|points| points[i]).collect::<Option<Vec<_>>>();
            let points = (0..rounds).filter_map(round).map(|points| mean(&points)).collect();
            Line { name: name.to_owned(), points }
        };
        let lines = groups(runs).into_iter().map(line).collect();
        Chart { x_label, x_log, y_label: ACCURACY, dots: false, lines }
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
    charts.extend(ends(runs).map(|chart| ("Where they end", chart)));
    charts
}

/// The last accuracy of what is finished against what an update weighs; of one training alone there is
/// nothing to compare.
fn ends(runs: &[Finished]) -> Option<Chart> {
    let end = |run: &&Finished| -> Option<(f64, f64)> {
        let bytes = run.down_per_update() + run.up_per_update();
        Some((bytes / 1e3, 100.0 * run.accuracy?))
    };
    let line = |(name, members): (&str, Vec<&Finished>)| {
        let finished = members.iter().filter(|run| run.is_done());
        let points: Vec<_> = finished.filter_map(end).collect();
        (!points.is_empty()).then(|| Line { name: name.to_owned(), points: vec![mean(&points)] })
    };
    let lines: Vec<Line> = groups(runs).into_iter().filter_map(line).collect();
    let x_label = "kilobytes an update, both ways";
    let chart = Chart { x_label, x_log: true, y_label: ACCURACY, dots: true, lines };
    (chart.lines.len() > 1).then_some(chart)
}

/// That picture alone, for a document.
pub fn frontier(runs: &[Finished]) -> Option<String> {
    ends(runs).map(|chart| chart.svg())
}
