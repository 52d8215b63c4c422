//! How good a model is to each client: on test images as its own are.

use super::{RoundRecord, Simulation};
use crate::{Evaluation, class_counts, evaluate, in_parallel};
use fedpress_fl::{Parameter, Result};

impl Simulation {
    /// Accuracy on the classes of each client, as frequent as among its training examples, of the network
    /// that it has: the mean over all clients, and the mean of the tenth that has the least.
    pub(super) fn evaluate_by_client(
        &self,
        record: &mut RoundRecord,
        threads: usize,
    ) -> Result<()> {
        let classes = self.by_class();
        let shares = class_counts(self.train.labels(), &self.shards, self.train.n_classes())?;
        let clients: Vec<u64> = (0..self.shards.len() as u64).collect();
        let shared = match &self.personal {
            Some(_) => None,
            None => Some(self.on_classes(self.model(), &classes, |_| true, threads)?),
        };
        let job = |client: &u64| {
            let (client, shared, classes) = (*client, &shared, &classes);
            let counts = &shares[client as usize];
            move || match shared {
                Some(shared) => Ok(weighted(counts, shared)),
                None => {
                    let network = self.own_network(client)?;
                    let own = self.on_classes(&network, classes, |class| counts[class] > 0, 1)?;
                    Ok(weighted(counts, &own))
                }
            }
        };
        let found = in_parallel(threads, clients.iter().map(job).collect())?;
        let found = found.into_iter().collect::<Result<Vec<[f64; 2]>>>()?;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let mut accuracies: Vec<f64> = found.iter().map(|[accuracy, _]| *accuracy).collect();
        accuracies.sort_by(f64::total_cmp);
        record.accuracy = Some(mean(&accuracies));
        record.worst_tenth = Some(mean(&accuracies[..accuracies.len().div_ceil(10)]));
        record.test_loss = Some(mean(&found.iter().map(|[_, loss]| *loss).collect::<Vec<_>>()));
        Ok(())
    }

    /// The test examples of each class.
    fn by_class(&self) -> Vec<Vec<u32>> {
        let mut classes = vec![Vec::new(); self.test.n_classes()];
        for (i, label) in (0..).zip(self.test.labels()) {
            classes[usize::from(*label)].push(i);
        }
        classes
    }

    /// A network on the test examples of each class that is asked for and has some.
    fn on_classes(
        &self,
        network: &[Parameter],
        classes: &[Vec<u32>],
        asked: impl Fn(usize) -> bool,
        threads: usize,
    ) -> Result<Vec<Option<Evaluation>>> {
        let of = |(class, examples): (usize, &Vec<u32>)| {
            if examples.is_empty() || !asked(class) {
                return Ok(None);
            }
            let work = || evaluate(&self.architecture, network, &self.test, examples, &self.device);
            Ok(Some(if threads > 1 { crate::on_threads(threads, work)?? } else { work()? }))
        };
        classes.iter().enumerate().map(of).collect()
    }
}

/// Accuracy and loss on classes as frequent as `counts`; those without test examples do not count.
fn weighted(counts: &[u64], found: &[Option<Evaluation>]) -> [f64; 2] {
    let (mut sums, mut total) = ([0.0; 2], 0.0);
    for (count, evaluation) in counts.iter().zip(found) {
        if let Some(evaluation) = evaluation {
            let count = *count as f64;
            sums[0] += count * evaluation.accuracy();
            sums[1] += count * evaluation.loss;
            total += count;
        }
    }
    sums.map(|sum| if total == 0.0 { 0.0 } else { sum / total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_weigh_as_much_as_the_client_has_of_them() {
        let of = |correct| Some(Evaluation { correct, examples: 10, loss: 1.0 });
        let [accuracy, loss] = weighted(&[3, 0, 1, 7], &[of(10), of(0), of(2), None]);
        assert!((accuracy - 0.8).abs() < 1e-12 && loss == 1.0, "{accuracy} {loss}");
        assert_eq!(weighted(&[0, 1], &[of(10), None]), [0.0, 0.0]);
    }
}
