//! Who has which examples: partitions of a data set over clients.

use super::random::{Draws, Purpose};
use fedpress_fl::{Error, Result};
use serde::{Deserialize, Serialize};

/// Draws of a Dirichlet partition before giving up.
const ATTEMPTS: u64 = 1000;

/// A rule that deals examples out to clients. In files: `kind = "dirichlet"`, then the fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Partition {
    /// Shuffled and cut into equal parts (sizes differ by at most one).
    Iid,
    /// Sorted by class, cut into equal shards, and `per_client` random shards to each client
    /// (McMahan et al. 2017, who take 2: most clients then have examples of two classes only).
    Shards {
        /// Shards of a client.
        per_client: usize,
    },
    /// The examples of each class are shared out by Dirichlet(alpha) proportions, in which clients
    /// that already have their equal share of all examples get none (the rule of FedNova's and
    /// FedGKT's code). Drawn again until the smallest client has `smallest`.
    Dirichlet {
        /// Concentration: 0.1 is very uneven, 100 nearly even.
        alpha: f64,
        /// Examples that every client has at least.
        #[serde(default = "ten")]
        smallest: usize,
    },
    /// Shuffled and cut into parts whose sizes are proportional to lognormal draws, of at least one
    /// example.
    Unbalanced {
        /// Standard deviation of the logarithm of the size; 0 is even.
        sigma: f64,
    },
}

fn ten() -> usize {
    10
}

impl Partition {
    /// For each of `n_clients`, the indices of its examples, ascending; every example is in exactly
    /// one list. Depends on `labels` (a class for each example), the count and `seed` alone.
    ///
    /// # Errors
    /// `InvalidArgument` for no clients, too few examples, settings that are no numbers above 0, or
    /// a Dirichlet rule that left some client too small in 1,000 draws.
    pub fn split(&self, labels: &[u16], n_clients: usize, seed: u64) -> Result<Vec<Vec<u32>>> {
        let n = labels.len();
        if n_clients == 0 || u32::try_from(n).is_err() {
            return Err(Error::invalid("expected clients, and at most 2^32 - 1 examples"));
        }
        if n_clients > n {
            return Err(Error::invalid(format!("{n} examples for {n_clients} clients")));
        }
        let wrong = |what: &str| Err(Error::invalid(format!("expected {what}, found {self:?}")));
        let mut parts = match *self {
            Self::Iid => iid(n, &vec![1.0; n_clients], seed)?,
            Self::Shards { per_client: 0 } => return wrong("at least one shard per client"),
            Self::Shards { per_client } => shards(labels, n_clients, per_client, seed)?,
            Self::Dirichlet { alpha, .. } if !(alpha.is_normal() && alpha > 0.0) => {
                return wrong("an alpha above 0");
            }
            Self::Dirichlet { alpha, smallest } => {
                dirichlet(labels, n_clients, alpha, smallest, seed)?
            }
            Self::Unbalanced { sigma } if !(0.0..=10.0).contains(&sigma) => {
                return wrong("a sigma from 0 to 10");
            }
            Self::Unbalanced { sigma } => {
                let mut draws = Draws::new(seed, Purpose::Partition, 1);
                let weights: Vec<f64> =
                    (0..n_clients).map(|_| libm::exp(sigma * draws.normal())).collect();
                iid(n, &weights, seed)?
            }
        };
        parts.iter_mut().for_each(|part| part.sort_unstable());
        Ok(parts)
    }
}

/// How many examples of each class each client has: one row for each of `parts`.
///
/// # Errors
/// `InvalidArgument` for an index that has no label, or a label that is not below `n_classes`.
pub fn class_counts(labels: &[u16], parts: &[Vec<u32>], n_classes: usize) -> Result<Vec<Vec<u64>>> {
    let count = |part: &Vec<u32>| {
        let mut counts = vec![0; n_classes];
        for i in part {
            let label = labels.get(*i as usize).map(|label| usize::from(*label));
            match label.and_then(|label| counts.get_mut(label)) {
                Some(count) => *count += 1,
                None => {
                    let n = labels.len();
                    return Err(Error::invalid(format!(
                        "expected examples below {n} of classes below {n_classes}, found example {i} of class {label:?}"
                    )));
                }
            }
        }
        Ok(counts)
    };
    parts.iter().map(count).collect()
}

/// Where to cut `n` items into parts proportional to `weights`: as many cuts as weights, the last
/// of them at `n`.
fn cuts(n: usize, weights: &[f64]) -> Vec<usize> {
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let mut cuts: Vec<usize> = weights
        .iter()
        .map(|weight| {
            sum += weight;
            // Rounding may leave a sum a little beyond the total.
            ((sum / total * n as f64).floor() as usize).min(n)
        })
        .collect();
    cuts.pop();
    cuts.push(n);
    cuts
}

/// Cuts shuffled examples by weight, with at least one for each client.
fn iid(n: usize, weights: &[f64], seed: u64) -> Result<Vec<Vec<u32>>> {
    let spare = n.checked_sub(weights.len()).ok_or_else(|| too_few(n, weights.len()))?;
    let mut order: Vec<u32> = (0..n as u32).collect();
    Draws::new(seed, Purpose::Partition, 0).shuffle(&mut order);
    let ends = cuts(spare, weights).into_iter().enumerate().map(|(i, cut)| cut + i + 1);
    let mut start = 0;
    Ok(ends.map(|end| order[std::mem::replace(&mut start, end)..end].to_vec()).collect())
}

fn too_few(examples: usize, needed: usize) -> Error {
    Error::invalid(format!("expected at least {needed} examples, found {examples}"))
}

fn shards(labels: &[u16], n_clients: usize, per_client: usize, seed: u64) -> Result<Vec<Vec<u32>>> {
    let n_shards = n_clients.checked_mul(per_client).filter(|n| *n <= labels.len());
    let n_shards =
        n_shards.ok_or_else(|| too_few(labels.len(), n_clients.saturating_mul(per_client)))?;
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    order.sort_by_key(|i| labels[*i as usize]);
    let mut deal: Vec<u32> = (0..n_shards as u32).collect();
    Draws::new(seed, Purpose::Partition, 0).shuffle(&mut deal);
    let cut = |shard: usize| (shard as u128 * order.len() as u128 / n_shards as u128) as usize;
    let shard = |s: &u32| order[cut(*s as usize)..cut(*s as usize + 1)].iter().copied();
    Ok(deal.chunks(per_client).map(|dealt| dealt.iter().flat_map(shard).collect()).collect())
}

fn dirichlet(
    labels: &[u16],
    n_clients: usize,
    alpha: f64,
    smallest: usize,
    seed: u64,
) -> Result<Vec<Vec<u32>>> {
    let needed = n_clients.saturating_mul(smallest);
    if labels.len() < needed {
        return Err(too_few(labels.len(), needed));
    }
    let n_classes = labels.iter().max().map_or(0, |max| usize::from(*max) + 1);
    let mut classes = vec![Vec::new(); n_classes];
    for (i, label) in labels.iter().enumerate() {
        classes[usize::from(*label)].push(i as u32);
    }
    for attempt in 0..ATTEMPTS {
        let draws = Draws::new(seed, Purpose::Partition, attempt);
        let parts = share_out(&classes, labels.len(), n_clients, alpha, draws);
        if parts.iter().all(|part| part.len() >= smallest) {
            return Ok(parts);
        }
    }
    Err(Error::invalid(format!(
        "no Dirichlet({alpha}) partition in {ATTEMPTS} draws gave all {n_clients} clients \
         {smallest} of {} examples; raise alpha, or take fewer clients",
        labels.len()
    )))
}

/// One draw of the rule, class by class.
fn share_out(
    classes: &[Vec<u32>],
    n: usize,
    n_clients: usize,
    alpha: f64,
    mut draws: Draws,
) -> Vec<Vec<u32>> {
    let mut parts = vec![Vec::new(); n_clients];
    for class in classes {
        let mut examples = class.clone();
        draws.shuffle(&mut examples);
        let logs: Vec<f64> = (0..n_clients).map(|_| draws.log_gamma_variable(alpha)).collect();
        // Those with their equal share, part.len() >= n / n_clients, are left out.
        let open: Vec<bool> = parts.iter().map(|p: &Vec<u32>| p.len() * n_clients < n).collect();
        let max = logs.iter().zip(&open).filter(|(_, open)| **open).map(|(log, _)| *log);
        let max = max.fold(f64::NEG_INFINITY, f64::max);
        let weight = |(log, open): (&f64, &bool)| if *open { libm::exp(log - max) } else { 0.0 };
        let weights: Vec<f64> = logs.iter().zip(&open).map(weight).collect();
        let mut start = 0;
        for (part, end) in parts.iter_mut().zip(cuts(examples.len(), &weights)) {
            part.extend_from_slice(&examples[start..end.max(start)]);
            start = end.max(start);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(n: usize) -> Vec<u16> {
        (0..n).map(|i| (i * 7 % 10) as u16).collect()
    }

    const RULES: [Partition; 6] = [
        Partition::Iid,
        Partition::Shards { per_client: 2 },
        Partition::Dirichlet { alpha: 0.5, smallest: 10 },
        Partition::Dirichlet { alpha: 0.01, smallest: 0 },
        Partition::Unbalanced { sigma: 0.0 },
        Partition::Unbalanced { sigma: 2.0 },
    ];

    #[test]
    fn every_example_is_in_one_part() {
        let labels = labels(1003);
        for rule in RULES {
            for (n_clients, seed) in [(1, 1), (2, 2), (16, 3), (16, 4)] {
                let parts = rule.split(&labels, n_clients, seed).unwrap();
                assert_eq!(parts.len(), n_clients);
                assert!(parts.iter().all(|p| p.is_sorted()));
                let mut all = parts.concat();
                all.sort_unstable();
                assert_eq!(all, (0..1003).collect::<Vec<u32>>(), "{rule:?}");
                assert_eq!(rule.split(&labels, n_clients, seed).unwrap(), parts);
                if n_clients > 1 {
                    assert_ne!(rule.split(&labels, n_clients, seed + 10).unwrap(), parts);
                }
                let counts = class_counts(&labels, &parts, 10).unwrap();
                assert_eq!(counts.iter().flatten().sum::<u64>(), 1003);
            }
        }
    }

    #[test]
    fn sizes_are_those_of_the_rules() {
        let labels = labels(1003);
        let sizes = |rule: &Partition| -> Vec<usize> {
            rule.split(&labels, 16, 7).unwrap().iter().map(Vec::len).collect()
        };
        assert!(sizes(&RULES[0]).iter().all(|n| [62, 63].contains(n)));
        assert_eq!(sizes(&RULES[4]), sizes(&RULES[0]));
        let uneven = sizes(&RULES[5]);
        let (min, max) = (uneven.iter().min().unwrap(), uneven.iter().max().unwrap());
        assert!(*min >= 1 && *max > 10 * min, "{uneven:?}");
        assert!(sizes(&RULES[2]).iter().all(|n| *n >= 10));
    }

    #[test]
    fn two_shards_have_two_classes() {
        let labels = labels(2000);
        let parts = Partition::Shards { per_client: 2 }.split(&labels, 100, 7).unwrap();
        for counts in class_counts(&labels, &parts, 10).unwrap() {
            assert_eq!(counts.iter().sum::<u64>(), 20);
            assert!(counts.iter().filter(|n| **n > 0).count() <= 2);
        }
    }

    /// Dirichlet(alpha) shares have mean 1/k and variance (1/k)(1 - 1/k) / (k alpha + 1). Measured
    /// on the first class, before any client is full; four standard errors of 2,000 draws.
    #[test]
    fn shares_are_dirichlet() {
        let (k, n, alpha) = (5usize, 1000u32, 0.5);
        let classes = [(0..n).collect::<Vec<u32>>()];
        let mut shares = Vec::new();
        for attempt in 0..2000 {
            let draws = Draws::new(7, Purpose::Partition, attempt);
            // Counted as if there were many more examples: no client is ever full.
            let parts = share_out(&classes, usize::MAX, k, alpha, draws);
            shares.push(parts[1].len() as f64 / f64::from(n));
        }
        let count = shares.len() as f64;
        let mean = shares.iter().sum::<f64>() / count;
        let variance = shares.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>() / count;
        let expected = 0.2 * 0.8 / (k as f64 * alpha + 1.0);
        assert!((mean - 0.2).abs() < 4.0 * (expected / count).sqrt(), "{mean}");
        assert!((variance / expected - 1.0).abs() < 0.15, "{variance} {expected}");
    }

    #[test]
    fn small_alphas_are_uneven() {
        let labels = labels(10_000);
        let spread = |alpha| {
            let rule = Partition::Dirichlet { alpha, smallest: 0 };
            let parts = rule.split(&labels, 10, 7).unwrap();
            let counts = class_counts(&labels, &parts, 10).unwrap();
            counts.iter().flatten().filter(|n| **n == 0).count()
        };
        assert!(spread(0.1) > 30 && spread(100.0) == 0);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let labels = labels(100);
        for (rule, n_clients) in [
            (Partition::Iid, 0),
            (Partition::Iid, 101),
            (Partition::Shards { per_client: 0 }, 5),
            (Partition::Shards { per_client: usize::MAX }, 5),
            (Partition::Dirichlet { alpha: 0.0, smallest: 1 }, 5),
            (Partition::Dirichlet { alpha: f64::NAN, smallest: 1 }, 5),
            (Partition::Dirichlet { alpha: 1.0, smallest: 10 }, 11),
            (Partition::Unbalanced { sigma: -1.0 }, 5),
            (Partition::Unbalanced { sigma: f64::INFINITY }, 5),
        ] {
            let error = rule.split(&labels, n_clients, 7).unwrap_err();
            assert_eq!(*error.kind(), fedpress::ErrorKind::InvalidArgument, "{rule:?}");
        }
        // One class, which one client gets nearly all of.
        let rule = Partition::Dirichlet { alpha: 0.001, smallest: 10 };
        let error = rule.split(&[0; 100], 5, 7).unwrap_err();
        assert!(error.to_string().contains("in 1000 draws"), "{error}");
        assert!(class_counts(&labels, &[vec![100]], 10).is_err());
        assert!(class_counts(&labels, &[vec![1]], 3).is_err());
    }
}
