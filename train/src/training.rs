//! [`Training`]: any of the algorithms, as a runner sees it.

use super::{Algorithm, Device, GktSimulation, RoundRecord, Simulation, TrainConfig, class_counts};
use fedpress_fl::{Parameter, Result};

/// A training by the algorithm that its configuration names.
pub enum Training {
    /// Federated averaging, with or without Federated Dropout.
    FedAvg(Box<Simulation>),
    /// Group knowledge transfer.
    FedGkt(Box<GktSimulation>),
}

/// What the edge pays, as architecture and data say it; all of it per client but `samples`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeCost {
    /// Parameters of the network that a client trains.
    pub parameters: usize,
    /// Multiply-adds of its forward pass over one example.
    pub multiply_adds: u64,
    /// Parameters of the whole model that is used in the end.
    pub whole_parameters: usize,
    /// Multiply-adds of that.
    pub whole_multiply_adds: u64,
    /// Values of an example's features; 0 where none travel.
    pub features: usize,
    /// Training examples of all clients.
    pub samples: usize,
}

impl Training {
    /// Reads the data, deals it out and makes the first networks.
    ///
    /// # Errors
    /// `InvalidArgument` for a configuration that contradicts itself; what reading data refuses.
    pub fn new(config: TrainConfig) -> Result<Self> {
        Ok(match config.algorithm {
            Algorithm::FedAvg => Self::FedAvg(Box::new(Simulation::new(config)?)),
            Algorithm::FedGkt => Self::FedGkt(Box::new(GktSimulation::new(config)?)),
        })
    }

    /// Goes on where [`save`](Self::save) was called.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it was another configuration, or other data.
    pub fn restore(config: TrainConfig, bytes: &[u8]) -> Result<Self> {
        Ok(match config.algorithm {
            Algorithm::FedAvg => Self::FedAvg(Box::new(Simulation::restore(config, bytes)?)),
            Algorithm::FedGkt => Self::FedGkt(Box::new(GktSimulation::restore(config, bytes)?)),
        })
    }

    /// The same, trained and evaluated on a [`device`](super::device()) of choice; else the processor.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        match self {
            Self::FedAvg(training) => Self::FedAvg(Box::new(training.on(device))),
            Self::FedGkt(training) => Self::FedGkt(Box::new(training.on(device))),
        }
    }

    /// Everything that the rounds so far have changed.
    ///
    /// # Errors
    /// As of the algorithm.
    pub fn save(&self) -> Result<Vec<u8>> {
        match self {
            Self::FedAvg(training) => training.save(),
            Self::FedGkt(training) => training.save(),
        }
    }

    /// One round, on up to `threads` threads.
    ///
    /// # Errors
    /// As of the algorithm.
    pub fn round(&mut self, threads: usize) -> Result<&RoundRecord> {
        match self {
            Self::FedAvg(training) => training.round(threads),
            Self::FedGkt(training) => training.round(threads),
        }
    }

    /// What it was made from.
    pub fn config(&self) -> &TrainConfig {
        match self {
            Self::FedAvg(training) => training.config(),
            Self::FedGkt(training) => training.config(),
        }
    }

    /// The rounds so far.
    pub fn records(&self) -> &[RoundRecord] {
        match self {
            Self::FedAvg(training) => training.records(),
            Self::FedGkt(training) => training.records(),
        }
    }

    /// Whether all rounds are over, or (of FedGKT) all clients have vanished.
    pub fn is_done(&self) -> bool {
        match self {
            Self::FedAvg(training) => training.is_done(),
            Self::FedGkt(training) => training.is_done(),
        }
    }

    /// What has been trained: the model, and layers that clients have of their own as `client/K/NAME`; of
    /// FedGKT the networks of the server and of each client,
    /// their parameters as `server/NAME` and `client/K/NAME`.
    pub fn parameters(&self) -> Vec<Parameter> {
        let named = |prefix: &str, parameters: &[Parameter]| -> Vec<Parameter> {
            let named =
                |p: &Parameter| Parameter { name: format!("{prefix}{}", p.name), ..p.clone() };
            parameters.iter().map(named).collect()
        };
        match self {
            Self::FedAvg(training) => {
                let own = training.owners();
                let own = own.flat_map(|(k, own)| named(&format!("client/{k}/"), own));
                training.model().iter().cloned().chain(own).collect()
            }
            Self::FedGkt(training) => {
                let clients = (0..).map_while(|k| Some((k, training.client(k)?)));
                let clients = clients.flat_map(|(k, own)| named(&format!("client/{k}/"), own));
                named("server/", training.server()).into_iter().chain(clients).collect()
            }
        }
    }

    /// What the edge pays.
    ///
    /// # Errors
    /// None once the training is made.
    pub fn edge_cost(&self) -> Result<EdgeCost> {
        let (samples, whole, edge, features) = match self {
            Self::FedAvg(training) => {
                let model = training.architecture();
                (training.n_examples(), model.clone(), model, 0)
            }
            Self::FedGkt(training) => {
                let model = training.model();
                let features = model.server().input().iter().product();
                (training.n_examples(), model.joined()?, model.client(), features)
            }
        };
        Ok(EdgeCost {
            parameters: edge.n_parameters(),
            multiply_adds: edge.multiply_adds(),
            whole_parameters: whole.n_parameters(),
            whole_multiply_adds: whole.multiply_adds(),
            features,
            samples,
        })
    }

    /// How many times less travels down and up by the papers' formula: 32 / (q s), times how many times
    /// fewer parameters a client's model has (Caldas et al. 2018; no tiers, no headers). Of
    /// FedGKT, 32 / (q s) of features and answers.
    ///
    /// # Errors
    /// None once the training is made.
    pub fn formula_ratios(&self) -> Result<(f64, f64)> {
        let (down, up) = self.config().specs()?;
        let fewer = match self {
            Self::FedAvg(training) => training.fewer_parameters()?,
            Self::FedGkt(_) => 1.0,
        };
        Ok((down.formula_ratio() * fewer, up.formula_ratio() * fewer))
    }

    /// How many examples of each class each client has.
    ///
    /// # Errors
    /// None once the training is made.
    pub fn class_counts(&self) -> Result<Vec<Vec<u64>>> {
        let (data, shards) = match self {
            Self::FedAvg(training) => training.shards(),
            Self::FedGkt(training) => training.shards(),
        };
        class_counts(data.labels(), shards, data.n_classes())
    }

    /// How many values the uploads so far stand for: parameters, or features.
    pub fn values_up(&self) -> u64 {
        match self {
            Self::FedAvg(training) => {
                let updates: usize = training.records().iter().map(|r| r.updates).sum();
                (updates * training.n_shared()) as u64
            }
            Self::FedGkt(training) => training.values_up(),
        }
    }
}
