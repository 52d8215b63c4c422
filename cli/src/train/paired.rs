//! Runs that differ in their seeds alone, taken together: means, and differences seed by seed.

use super::curves::groups;
use super::report::{Finished, times};
use super::section::Section;

const HEADS: [&str; 9] = [
    "run",
    "seeds",
    "accuracy_%",
    "difference",
    "95_%_interval",
    "less_down",
    "less_up",
    "less_compute",
    "less_seconds",
];

/// One row for each name: its mean accuracy, and against the first name the mean difference of equal
/// seeds with Student's interval, and how many times less its updates take: bytes, multiply-adds by
/// count, and seconds of training as measured. Empty unless some name has several seeds.
fn rows(runs: &[Finished]) -> Vec<[String; 9]> {
    let groups = groups(runs);
    let Some((_, first)) = groups.first() else { return Vec::new() };
    if groups.iter().all(|(_, members)| members.len() < 2) {
        return Vec::new();
    }
    groups.iter().map(|(name, members)| row(name, members, first)).collect()
}

/// Runs with those of `first` that have their seeds.
fn pairs<'a>(own: &[&'a Finished], first: &[&'a Finished]) -> Vec<(&'a Finished, &'a Finished)> {
    let partner = |run: &Finished| first.iter().find(|other| other.seed() == run.seed());
    own.iter().filter_map(|run| Some((*run, *partner(run)?))).collect()
}

/// Mean, mean difference of pairs, and its interval, in points.
fn compared(
    own: &[&Finished],
    pairs: &[(&Finished, &Finished)],
    accuracy: fn(&Finished) -> Option<f64>,
) -> [String; 3] {
    let accuracies: Vec<f64> = own.iter().filter_map(|run| accuracy(run)).collect();
    let difference =
        |(run, other): &(&Finished, &Finished)| Some(accuracy(run)? - accuracy(other)?);
    let differences: Vec<f64> = pairs.iter().filter_map(difference).collect();
    [
        mean(&accuracies).map_or("-".into(), |x| format!("{:.2}", 100.0 * x)),
        mean(&differences).map_or("-".into(), |x| format!("{:+.2}", 100.0 * x)),
        interval(&differences)
            .map_or("-".into(), |[low, high]| format!("{:+.2}..{:+.2}", 100.0 * low, 100.0 * high)),
    ]
}

fn row(name: &str, own: &[&Finished], first: &[&Finished]) -> [String; 9] {
    let pairs = pairs(own, first);
    let [accuracy, difference, interval] = compared(own, &pairs, |run| run.accuracy);
    let less = |part: fn(&Finished) -> f64| {
        let own: f64 = pairs.iter().map(|(run, _)| part(run)).sum();
        let other: f64 = pairs.iter().map(|(_, other)| part(other)).sum();
        times(other, own)
    };
    [
        name.to_owned(),
        own.len().to_string(),
        accuracy,
        difference,
        interval,
        less(Finished::down_per_update),
        less(Finished::up_per_update),
        less(Finished::compute_per_update),
        less(Finished::training_per_update),
    ]
}

/// The same of the second number that there is about accuracy.
pub fn second(runs: &[Finished]) -> Section<6> {
    let groups = groups(runs);
    let first = groups.first().map(|(_, members)| &members[..]).unwrap_or_default();
    let of = |(name, own): &(&str, Vec<&Finished>)| {
        let (what, _) = own.first()?.second()?;
        let value = |run: &Finished| run.second().map(|(_, value)| value);
        let [accuracy, difference, interval] = compared(own, &pairs(own, first), value);
        let n = own.len().to_string();
        Some([(*name).to_owned(), n, what.to_owned(), accuracy, difference, interval])
    };
    let repeats = groups.iter().any(|(_, members)| members.len() > 1);
    Section {
        heading: "Seeds taken together: clients",
        text: "own: what clients' networks of FedGKT reach without the server's. worst tenth: of all                clients the tenth with the least accuracy.",
        heads: ["run", "seeds", "of", "accuracy_%", "difference", "95_%_interval"],
        rows: if repeats { groups.iter().filter_map(of).collect() } else { Vec::new() },
    }
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

/// The 95 % interval of the mean by Student's t, for differences that are about normal; of fewer than
/// two values nothing is known.
fn interval(values: &[f64]) -> Option<[f64; 2]> {
    let (mean, error) = (mean(values)?, standard_error(values)?);
    let half = quantile(values.len() - 1) * error;
    Some([mean - half, mean + half])
}

/// The 97.5 % quantile of Student's t with so many degrees of freedom, at least 1; beyond the table that
/// of the last, which is too large rather than too small.
fn quantile(freedom: usize) -> f64 {
    const TABLE: [f64; 12] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179];
    TABLE[freedom.clamp(1, TABLE.len()) - 1]
}

/// Without rows where seeds do not repeat.
pub fn section(runs: &[Finished]) -> Section<9> {
    Section {
        heading: "Seeds taken together",
        text: "Differences are those of runs with equal seeds, against the first name, in points, with \
               the 95 % interval of their mean (Student's t). Compute counts multiply-adds; seconds \
               of training are measured.",
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
        // t of 2 degrees of freedom is 4.303.
        let [low, high] = interval(&[1.0, 2.0, 6.0]).unwrap();
        assert!((high - 3.0 - 4.303 * error).abs() < 1e-12 && (low + high - 6.0).abs() < 1e-12);
        assert_eq!(interval(&[5.0]), None);
        assert_eq!(quantile(1000), 2.179);
    }
}
