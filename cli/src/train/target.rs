//! What it takes to be as good as the first run: rounds, bytes and multiply-adds until an accuracy.

use fedpress_train::RoundRecord;

use super::curves::groups;
use super::report::{Finished, times};
use super::section::Section;

/// The target is so much below what the first name ends with, in accuracy.
const MARGIN: f64 = 0.01;

const HEADS: [&str; 6] =
    ["run", "reached_by", "rounds", "less_down", "less_up", "less_compute_to_target"];

/// Sums up to the round that reached the target.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Spent {
    rounds: f64,
    down: f64,
    up: f64,
    compute: f64,
}

/// None if it never came that far. Accuracy is known where it was evaluated, so rounds are up to the
/// next evaluation.
fn spent(records: &[RoundRecord], target: f64) -> Option<Spent> {
    let reached = records.iter().position(|r| r.accuracy.is_some_and(|a| a >= target))?;
    let sum =
        |part: fn(&RoundRecord) -> u64| records[..=reached].iter().map(part).sum::<u64>() as f64;
    Some(Spent {
        rounds: reached as f64 + 1.0,
        down: sum(|r| r.bytes_down),
        up: sum(|r| r.bytes_up),
        compute: sum(|r| r.multiply_adds),
    })
}

/// On average over those that reached it.
fn mean(members: &[&Finished], target: f64) -> Option<(usize, Spent)> {
    let all: Vec<Spent> = members.iter().filter_map(|run| spent(&run.records, target)).collect();
    let n = all.len() as f64;
    let mean = |part: fn(&Spent) -> f64| all.iter().map(part).sum::<f64>() / n;
    (!all.is_empty()).then(|| {
        let spent = Spent {
            rounds: mean(|s| s.rounds),
            down: mean(|s| s.down),
            up: mean(|s| s.up),
            compute: mean(|s| s.compute),
        };
        (all.len(), spent)
    })
}

fn target(first: &[&Finished]) -> Option<f64> {
    let last: Vec<f64> = first.iter().filter_map(|run| run.accuracy).collect();
    (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64 - MARGIN)
}

fn rows(runs: &[Finished]) -> Vec<[String; 6]> {
    let groups = groups(runs);
    let Some((_, first)) = groups.first().filter(|_| groups.len() > 1) else { return Vec::new() };
    let Some(target) = target(first) else { return Vec::new() };
    let Some((_, other)) = mean(first, target) else { return Vec::new() };
    let row = |(name, members): &(&str, Vec<&Finished>)| {
        let n = members.len();
        match mean(members, target) {
            None => [*name, &format!("0 of {n}"), "-", "-", "-", "-"].map(str::to_owned),
            Some((reached, own)) => [
                (*name).to_owned(),
                format!("{reached} of {n}"),
                format!("{:.1}", own.rounds),
                times(other.down, own.down),
                times(other.up, own.up),
                times(other.compute, own.compute),
            ],
        }
    };
    groups.iter().map(row).collect()
}

/// Without rows where there is nothing to compare.
pub fn section(runs: &[Finished]) -> Section<6> {
    Section {
        heading: "To a target",
        text: "The target is a point of accuracy below what the first name ends with, on average over \
               its seeds. Rounds are up to the first evaluation that reaches it; bytes and \
               multiply-adds are sums up to there, against the first name.",
        heads: HEADS,
        rows: rows(runs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<RoundRecord> {
        let record = |(round, accuracy): (u64, Option<f64>)| RoundRecord {
            round,
            accuracy,
            worst_tenth: None,
            test_loss: None,
            train_loss: None,
            bytes_down: 10,
            bytes_up: 3,
            multiply_adds: 100,
            updates: 1,
            clients_missing: 0,
            seconds: Default::default(),
            gkt: None,
        };
        let accuracies = [None, Some(0.5), None, Some(0.8), Some(0.7)];
        (1..).zip(accuracies).map(record).collect()
    }

    #[test]
    fn what_is_spent_is_summed_up_to_the_evaluation_that_reaches_it() {
        let at = |target| spent(&records(), target).map(|s| (s.rounds, s.down, s.up, s.compute));
        assert_eq!(at(0.5), Some((2.0, 20.0, 6.0, 200.0)));
        assert_eq!(at(0.6), Some((4.0, 40.0, 12.0, 400.0)));
        assert_eq!(at(0.81), None);
    }
}
