//! Runs that differ in their seeds alone, taken together: means, and differences seed by seed.

use super::curves::groups;
use super::report::{Finished, times};
use super::section::Section;

const HEADS: [&str; 8] =
    ["run", "seeds", "accuracy_%", "difference", "error", "less_down", "less_up", "less_compute"];

/// One row for each name: its mean accuracy, and against the first name the mean difference of equal
/// seeds with its standard error (the deviation of the differences over the root of their number),
/// and how many times less its updates take. Empty unless some name has several seeds.
fn rows(runs: &[Finished]) -> Vec<[String; 8]> {
    let groups = groups(runs);
    let Some((_, first)) = groups.first() else { return Vec::new() };
    if groups.iter().all(|(_, members)| members.len() < 2) {
        return Vec::new();
    }
    groups.iter().map(|(name, members)| row(name, members, first)).collect()
}

fn row(name: &str, own: &[&Finished], first: &[&Finished]) -> [String; 8] {
    let accuracies: Vec<f64> = own.iter().filter_map(|run| run.accuracy).collect();
    let partner = |run: &&&Finished| first.iter().find(|other| other.seed() == run.seed());
    let pairs: Vec<(&Finished, &Finished)> =
        own.iter().filter_map(|run| Some((*run, *partner(&run)?))).collect();
    let differences: Vec<f64> =
        pairs.iter().filter_map(|(run, other)| Some(run.accuracy? - other.accuracy?)).collect();
    let less = |part: fn(&Finished) -> f64| {
        let own: f64 = pairs.iter().map(|(run, _)| part(run)).sum();
        let other: f64 = pairs.iter().map(|(_, other)| part(other)).sum();
        times(other, own)
    };
    let percent = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.2}", 100.0 * x));
    [
        name.to_owned(),
        own.len().to_string(),
        percent(mean(&accuracies)),
        mean(&differences).map_or("-".into(), |x| format!("{:+.2}", 100.0 * x)),
        percent(standard_error(&differences)),
        less(Finished::down_per_update),
        less(Finished::up_per_update),
        less(Finished::compute_per_update),
    ]
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Of the mean; of fewer than two values nothing is known.
fn standard_error(values: &[f64]) -> Option<f64> {
    let (n, mean) = (values.len() as f64, mean(values)?);
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt())
}

/// Without rows where seeds do not repeat.
pub fn section(runs: &[Finished]) -> Section<8> {
    Section {
        heading: "Seeds taken together",
        text: "Differences are those of runs with equal seeds, against \
         the first name, in points; the error is that of their mean.",
        heads: HEADS,
        rows: rows(runs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_the_mean() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
        assert_eq!(standard_error(&[5.0]), None);
        // Deviation of 1, 2, 6 is sqrt(7); over sqrt(3).
        let error = standard_error(&[1.0, 2.0, 6.0]).unwrap();
        assert!((error - (7.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }
}
