//! [`GktRecord`]: what is known of a turn beside what is known of every round.

use super::{GktSimulation, Pair};
use crate::{Evaluation, RoundRecord, Seconds, Trained, evaluate as evaluate_network, in_parallel};
use fedpress_fl::Result;
use serde::{Deserialize, Serialize};

/// What FedGKT adds to a line of the log. Accuracies are over the evaluated clients' pairs of
/// extractor and server, on the whole test set, with features as they would travel; the record's own
/// is their mean. A client counts with the network behind its last upload, also if it has vanished.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GktRecord {
    /// Of the worst pair; absent where not evaluated.
    pub accuracy_min: Option<f64>,
    /// Of the best pair.
    pub accuracy_max: Option<f64>,
    /// Of the clients' own small classifiers, on average.
    pub client_accuracy: Option<f64>,
    /// Mean loss of the server's steps.
    pub server_loss: f64,
    /// The server's learning rate.
    pub learning_rate: f64,
    /// Clients whose features the server worked with.
    pub clients: usize,
    /// Samples of these.
    pub samples: u64,
    /// Virtual seconds since the beginning.
    pub clock: f64,
    /// Virtual seconds that clients have waited for the server since the beginning, all together.
    pub client_idle: f64,
    /// Virtual seconds that the server has waited for clients.
    pub server_idle: f64,
}

/// What adds up between two records.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) multiply_adds: u64,
    pub(super) seconds: Seconds,
    /// Of the uploads that were new to the turn.
    pub(super) losses: Vec<f64>,
    /// Clients whose training has diverged.
    pub(super) clients_missing: usize,
    gkt: GktRecord,
}

impl Tally {
    /// The server has trained on so many samples of these clients.
    pub(super) fn turn(&mut self, trained: &Trained, samples: u64, clients: &[u64], rate: f64) {
        let gkt = &mut self.gkt;
        (gkt.server_loss, gkt.learning_rate) = (trained.loss, rate);
        (gkt.clients, gkt.samples) = (clients.len(), samples);
    }

    pub(super) fn record(
        mut self,
        round: u64,
        now: f64,
        idle: f64,
        server_idle: f64,
    ) -> RoundRecord {
        (self.gkt.clock, self.gkt.client_idle, self.gkt.server_idle) = (now, idle, server_idle);
        RoundRecord {
            round,
            accuracy: None,
            worst_tenth: None,
            test_loss: None,
            // No turn begins without an upload that is new.
            train_loss: Some(self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64),
            bytes_down: self.bytes_down,
            bytes_up: self.bytes_up,
            multiply_adds: self.multiply_adds,
            updates: self.losses.len(),
            clients_missing: self.clients_missing,
            seconds: self.seconds,
            gkt: Some(self.gkt),
        }
    }
}

/// Evaluates pairs and small classifiers, and notes what they reach.
pub(super) fn evaluate(
    simulation: &GktSimulation,
    threads: usize,
    record: &mut RoundRecord,
) -> Result<()> {
    let limit = simulation.config.gkt.evaluated_clients.unwrap_or(usize::MAX);
    let left = simulation.clients.iter().enumerate().filter(|(_, client)| !client.lost).take(limit);
    let jobs: Vec<_> = left.map(|(client, _)| move || of_client(simulation, client)).collect();
    let n = jobs.len();
    let found = in_parallel(threads, jobs)?.into_iter().collect::<Result<Vec<_>>>()?;
    let mean = |part: fn(&[Evaluation; 2]) -> f64| found.iter().map(part).sum::<f64>() / n as f64;
    let pairs = || found.iter().map(|[pair, _]| pair.accuracy());
    record.accuracy = Some(mean(|[pair, _]| pair.accuracy()));
    record.test_loss = Some(mean(|[pair, _]| pair.loss));
    if let Some(gkt) = &mut record.gkt {
        gkt.accuracy_min = Some(pairs().fold(f64::INFINITY, f64::min));
        gkt.accuracy_max = Some(pairs().fold(0.0, f64::max));
        gkt.client_accuracy = Some(mean(|[_, own]| own.accuracy()));
    }
    Ok(())
}

/// A client's pair with the server, and its own classifier.
fn of_client(simulation: &GktSimulation, client: usize) -> Result<[Evaluation; 2]> {
    let GktSimulation { model, test, device, server, specs, .. } = simulation;
    let own = &simulation.clients[client].parameters;
    let indices = test.indices();
    let pair = Pair::new(model, own, server, device)?.with_features(&specs.features);
    let pair = pair.evaluate(model, test, &indices)?;
    Ok([pair, evaluate_network(model.client(), own, test, &indices, device)?])
}
