//! What FedGKT saves the edge, against FedAvg and split learning of the same model and data.

use super::report::{Finished, html_table};
use crate::size::human;
use crate::table::Table;

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

/// One row for each training by FedGKT.
fn rows(runs: &[Finished]) -> Vec<[String; 10]> {
    let row = |run: &Finished| {
        let last = run.records.last()?;
        let gkt = last.gkt.as_ref()?;
        let own = run.records.iter().rev().find_map(|r| r.gkt.as_ref()?.client_accuracy);
        let (cost, clients) = (&run.cost, run.config.clients as u64);
        // As f32: the whole model there and back for each client, and an example's features up and
        // their gradients down once an epoch.
        let fedavg = 2 * 4 * clients * cost.whole_parameters as u64;
        let epochs = u64::from(run.config.local.epochs);
        let split = 2 * 4 * epochs * (cost.samples * cost.features) as u64;
        let bytes = (run.bytes_up + run.bytes_down) / run.rounds.max(1) as u64;
        let fewer = |whole: f64, own: f64| format!("{:.2}x", whole / own);
        Some([
            run.name.clone(),
            own.map_or("-".into(), |a| format!("{:.2}", 100.0 * a)),
            cost.parameters.to_string(),
            fewer(cost.whole_parameters as f64, cost.parameters as f64),
            cost.multiply_adds.to_string(),
            fewer(cost.whole_multiply_adds as f64, cost.multiply_adds as f64),
            human(bytes),
            human(fedavg),
            human(split),
            format!("{:.1}", 100.0 * gkt.client_idle / (clients as f64 * gkt.clock)),
        ])
    };
    runs.iter().filter_map(row).collect()
}

/// For the terminal; empty where no training was by FedGKT.
pub fn table(runs: &[Finished]) -> String {
    let rows = rows(runs);
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new(1, HEADS);
    rows.into_iter().for_each(|row| table.row(row));
    format!("\n{table}")
}

/// For the page.
pub fn section(runs: &[Finished]) -> String {
    let rows = rows(runs);
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<h2>What the edge pays</h2>\n<p>own: accuracy of the clients' own small networks. \
         Parameters and multiply-adds of an example's forward pass are those of a client's network, \
         and how many times fewer than of the whole model, extractor and server's. Bytes are \
         measured, of all clients, both ways; beside them, computed for the same clients and data, \
         uncompressed FedAvg of the whole model (every client gets and returns it once a round), \
         and split learning at the same place (features up and gradients down, once an epoch). \
         idle: virtual time that clients waited for the server.</p>\n{}",
        html_table(HEADS, rows)
    )
}
