//! What FedGKT saves the edge, against FedAvg and split learning of the same model and data.

use fedpress_train::{EdgeCost, RoundRecord, TrainConfig};
use serde::Serialize;

use super::report::Finished;
use super::section::Section;
use crate::size::human;

const HEADS: [&str; 10] = [
    "run",
    "own_%",
    "edge_parameters",
    "fewer",
    "edge_multiply_adds",
    "fewer",
    "bytes/round",
    "fedavg",
    "split_learning",
    "idle_%",
];

/// What a training by FedGKT cost its clients.
#[derive(Debug, Serialize)]
pub struct Edge {
    /// Of the clients' own small networks.
    pub own_accuracy: Option<f64>,
    /// Of all clients, both ways, as if each had uploaded once.
    bytes_per_round: u64,
    /// The whole model as f32 to each client and back.
    fedavg_bytes: u64,
    /// Each example's features as f32 up and their gradients down, once an epoch.
    split_learning_bytes: u64,
    /// Virtual time that clients waited, of all of theirs.
    idle: f64,
}

impl Edge {
    /// None where the training was by another algorithm.
    pub fn new(config: &TrainConfig, records: &[RoundRecord], cost: &EdgeCost) -> Option<Self> {
        let gkt = records.last()?.gkt.as_ref()?;
        let clients = config.clients as u64;
        let uploads: u64 = records.iter().map(|r| r.updates as u64).sum();
        let bytes: u64 = records.iter().map(|r| r.bytes_up + r.bytes_down).sum();
        let epochs = u64::from(config.local.epochs);
        Some(Self {
            own_accuracy: records.iter().rev().find_map(|r| r.gkt.as_ref()?.client_accuracy),
            bytes_per_round: bytes * clients / uploads.max(1),
            fedavg_bytes: 2 * 4 * clients * cost.whole_parameters as u64,
            split_learning_bytes: 2 * 4 * epochs * (cost.samples * cost.features) as u64,
            idle: gkt.client_idle / (clients as f64 * gkt.clock),
        })
    }
}

/// One row for each training by FedGKT.
fn rows(runs: &[Finished]) -> Vec<[String; 10]> {
    let row = |run: &Finished| {
        let (edge, cost) = (run.edge.as_ref()?, &run.cost);
        let fewer = |whole: f64, own: f64| format!("{:.2}x", whole / own);
        Some([
            run.name.clone(),
            edge.own_accuracy.map_or("-".into(), |a| format!("{:.2}", 100.0 * a)),
            cost.parameters.to_string(),
            fewer(cost.whole_parameters as f64, cost.parameters as f64),
            cost.multiply_adds.to_string(),
            fewer(cost.whole_multiply_adds as f64, cost.multiply_adds as f64),
            human(edge.bytes_per_round),
            human(edge.fedavg_bytes),
            human(edge.split_learning_bytes),
            format!("{:.1}", 100.0 * edge.idle),
        ])
    };
    runs.iter().filter_map(row).collect()
}

/// Without rows where no training was by FedGKT.
pub fn section(runs: &[Finished]) -> Section<10> {
    Section {
        heading: "What the edge pays",
        text: "own: accuracy of the clients' own small networks. \
         Parameters and multiply-adds of an example's forward pass are those of a client's network, \
         and how many times fewer than of the whole model, extractor and server's. Bytes are \
         measured, both ways, for one upload of each client; beside them, computed for the same clients and data, \
         uncompressed FedAvg of the whole model (every client gets and returns it once a round), \
         and split learning at the same place (features up and gradients down, once an epoch). \
         idle: virtual time that clients waited for the server.",
        heads: HEADS,
        rows: rows(runs),
    }
}
