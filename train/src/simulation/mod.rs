//! Federated training in one process: server, clients and the bytes between them.

mod by_client;
pub(super) mod config;
mod own;
mod private;
mod record;
pub(super) mod saved;
mod state;
#[cfg(test)]
mod tests;

pub use config::{Algorithm, Tier, TrainConfig};
pub use private::{Budget, Integers};
pub use record::{RoundRecord, Seconds};

use super::{
    Architecture, Dataset, Device, Network, cpu, evaluate, in_parallel, on_threads, train,
};
use fedpress::{DecodeOptions, derive_key};
use fedpress_fl::{
    Action, Coordinator, Download, Error, Feedback, Gather, Layout, Parameter, Personal, Policy,
    PrivateSeed, Reason, Result, Role, RoundOptions, RoundingSeed,
};
use own::Joined;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What a key derived from the seed of a training is for.
pub(super) mod purpose {
    pub(crate) const PARTITION: u64 = 1;
    pub(crate) const WEIGHTS: u64 = 2;
    pub(crate) const SHUFFLE: u64 = 3;
    pub(crate) const ROUNDING: u64 = 4;
    pub(crate) const SERVER: u64 = 5;
    pub(crate) const ROUNDS: u64 = 6;
}

/// A training: each [`round`](Self::round) does the six steps of Caldas et al. 2018, figure 1.
///
/// Everything between server and clients is the bytes of real messages. Results depend on the
/// configuration alone: private seeds, too, derive from its seed here, where nobody is to be kept
/// from knowing them.
pub struct Simulation {
    config: TrainConfig,
    architecture: Architecture,
    coordinator: Coordinator,
    train: Dataset,
    test: Dataset,
    shards: Vec<Vec<u32>>,
    feedback: BTreeMap<u64, Feedback>,
    /// Which layers stay with clients, if any do.
    personal: Option<Personal>,
    /// Such layers as all begin with, and of clients that have trained.
    first_own: Vec<Parameter>,
    own: BTreeMap<u64, Vec<Parameter>>,
    records: Vec<RoundRecord>,
    device: Device,
}

/// Training examples that running statistics of the full model are taken on.
const STATISTICS_EXAMPLES: usize = 500;

/// What a client is sent, and what it has kept of its updates.
struct Sent {
    client: u64,
    message: Arc<[u8]>,
    feedback: Option<Feedback>,
}

/// What comes out of a client's part of a round.
struct Trip {
    client: u64,
    message: Vec<u8>,
    feedback: Option<Feedback>,
    own: Vec<Parameter>,
    loss: f64,
    multiply_adds: u64,
    seconds: Seconds,
}

impl Simulation {
    /// Reads the data, deals it out and makes the first model.
    ///
    /// # Errors
    /// `InvalidArgument` for a configuration that contradicts itself; what reading data refuses.
    pub fn new(config: TrainConfig) -> Result<Self> {
        config.check()?;
        let (train, test) = config.datasets()?;
        let architecture = config.architecture(&train)?;
        let layout = Layout::from_toml(&architecture.layout_toml())?;
        let key = |purpose| derive_key(&[config.seed, purpose]);
        // First, as it refuses more clients than there are examples for.
        let shards =
            config.partition.split(train.labels(), config.clients, key(purpose::PARTITION))?;
        let model = config.initial.parameters(&architecture, key(purpose::WEIGHTS));
        let personal = own::personal(&config, &layout)?;
        let (layout, (model, first_own)) = match &personal {
            Some(personal) => (personal.shared().clone(), personal.split(model)?),
            None => (layout, (model, Vec::new())),
        };
        let options = round_options(&config, &layout)?;
        let coordinator = Coordinator::new(layout, model, options)?;
        Ok(Self {
            personal,
            first_own,
            own: BTreeMap::new(),
            architecture,
            coordinator,
            train,
            test,
            shards,
            feedback: BTreeMap::new(),
            records: Vec::new(),
            device: cpu(),
            config,
        })
    }

    /// The same, trained and evaluated on a [`device`](super::device()) of choice; else the processor.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// What it was made from.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The full model's architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Parameters of the full model over those that a client without a tier gets.
    pub(crate) fn fewer_parameters(&self) -> Result<f64> {
        fewer_parameters(self.coordinator.layout(), &self.config)
    }

    /// Trained values that travel of a whole model.
    pub(crate) fn n_shared(&self) -> usize {
        let layout = self.coordinator.layout().params().iter();
        let trained = layout.zip(self.model()).filter(|(param, _)| param.role == Role::Weight);
        trained.map(|(_, parameter)| parameter.values.len()).sum()
    }

    /// Who has which of the training examples.
    pub(crate) fn shards(&self) -> (&Dataset, &[Vec<u32>]) {
        (&self.train, &self.shards)
    }

    /// Training examples of all clients.
    pub fn n_examples(&self) -> usize {
        self.train.len()
    }

    /// The server's model: what travels.
    pub fn model(&self) -> &[Parameter] {
        self.coordinator.model()
    }

    /// The rounds so far.
    pub fn records(&self) -> &[RoundRecord] {
        &self.records
    }

    /// Whether all rounds are over.
    pub fn is_done(&self) -> bool {
        self.records.len() as u64 >= self.config.rounds
    }

    /// One round, with up to `threads` clients at the same time. A client whose training diverges, or
    /// brings weights that are too large for the server, drops out of the round; where nobody is left,
    /// the model stays as it is.
    ///
    /// # Errors
    /// `InvalidArgument` when the training is over, or the server refuses what a client sends.
    pub fn round(&mut self, threads: usize) -> Result<&RoundRecord> {
        if self.is_done() {
            return Err(Error::invalid(format!("all {} rounds are over", self.config.rounds)));
        }
        let start = Instant::now();
        let round = self.coordinator.round();
        let mut seconds = Seconds::default();
        let sent = self.send(round, &mut seconds)?;
        let bytes_down = sent.iter().map(|sent| sent.message.len() as u64).sum();
        let this = &*self;
        let job = |sent: Sent| move || (sent.client, this.client(round, sent));
        let done = in_parallel(threads, sent.into_iter().map(job).collect())?;
        let (mut trips, mut lost) = (Vec::new(), Vec::new());
        for (client, trip) in done {
            match trip {
                Err(why) if why.is_divergence() => lost.push(client),
                trip => trips.push(trip?),
            }
        }
        let mut record = RoundRecord {
            round: round + 1,
            accuracy: None,
            worst_tenth: None,
            test_loss: None,
            train_loss: mean(trips.iter().map(|t| t.loss)),
            bytes_down,
            bytes_up: trips.iter().map(|t| t.message.len() as u64).sum(),
            multiply_adds: trips.iter().map(|t| t.multiply_adds).sum(),
            updates: 0,
            clients_missing: lost.len(),
            seconds,
            gkt: None,
        };
        for trip in trips {
            record.seconds += trip.seconds;
            self.deliver(trip, round, &mut record)?;
        }
        for client in lost {
            self.coordinator.gone(client, round)?;
        }
        // A round that has asked nobody.
        self.coordinator.tick(round)?;
        if self.is_due(&record) {
            self.take_statistics(threads)?;
            self.evaluate_into(&mut record, threads)?;
        }
        record.seconds.round = start.elapsed().as_secs_f64();
        self.records.push(record);
        Ok(&self.records[self.records.len() - 1])
    }

    /// The broadcasts of a round.
    fn send(&mut self, round: u64, seconds: &mut Seconds) -> Result<Vec<Sent>> {
        let everyone: Vec<u64> = (0..self.config.clients as u64).collect();
        let asked = self.coordinator.begin(&everyone, round)?;
        let mut sent = Vec::with_capacity(asked.len());
        for client in asked {
            let message = timed(&mut seconds.encode, || self.coordinator.send(client))?;
            let feedback = self.config.feedback.then(|| {
                let known = self.feedback.get(&client).cloned();
                known.unwrap_or_else(|| Feedback::new(self.coordinator.layout()))
            });
            sent.push(Sent { client, message, feedback });
        }
        Ok(sent)
    }

    /// What happens on a client: bytes in, bytes out.
    fn client(&self, round: u64, sent: Sent) -> Result<Trip> {
        let Sent { client, message, mut feedback } = sent;
        let mut seconds = Seconds::default();
        let options = DecodeOptions::default();
        let download = if self.config.deltas.is_some() {
            // All that a client has of the model is what the server knows it to have.
            let mut replica = self.coordinator.replica(client)?;
            timed(&mut seconds.decode, || replica.decode(&message, &options))?
        } else {
            timed(&mut seconds.decode, || Download::decode(&message, &options))?
        };
        let Joined { network, gains, mut own } = self.joined(client, &download)?;
        let architecture = self.architecture.with_widths_of(&network)?.with_gains(gains)?;
        let shard = &self.shards[client as usize];
        let key = |purpose| derive_key(&[self.config.seed, purpose, round, client]);
        let trained = timed(&mut seconds.train, || {
            let seed = key(purpose::SHUFFLE);
            let (base, data) = (&network, &self.train);
            let mut local = self.config.local.clone();
            local.learning_rate *= self.config.decay.powf(round as f64);
            train(&architecture, base, data, shard, &local, seed, &self.device)
        })?;
        let (samples, rounding) = (shard.len() as u64, RoundingSeed(key(purpose::ROUNDING)));
        let (loss, used) = (trained.loss, trained.used);
        let parameters = &self.parted(&download, trained.parameters, &mut own)?;
        let private_of = self.config.client_privacy(rounding.0);
        let message = timed(&mut seconds.encode, || match (&mut feedback, &private_of) {
            (None, Some(privacy)) => download.private_update(client, parameters, samples, privacy),
            (None, None) => download.update(client, parameters, samples, rounding),
            (Some(feedback), _) => {
                let layout = self.coordinator.layout();
                download
                    .update_with_feedback(client, parameters, samples, rounding, layout, feedback)
            }
        })?;
        let multiply_adds = architecture.multiply_adds() * used;
        Ok(Trip { client, message, feedback, own, loss, multiply_adds, seconds })
    }

    /// Hands an update to the server.
    fn deliver(&mut self, trip: Trip, now: u64, record: &mut RoundRecord) -> Result<()> {
        let seconds = &mut record.seconds.decode;
        let actions = timed(seconds, || self.coordinator.receive(trip.client, &trip.message, now))?;
        for action in actions {
            match action {
                Action::Taken { .. } => record.updates += 1,
                Action::Reject(why) if why.reason == Reason::NotFinite => {
                    record.clients_missing += 1;
                    self.coordinator.gone(trip.client, now)?;
                    return Ok(());
                }
                Action::Reject(why) => return Err(Error::invalid(why.to_string())),
                _ => {}
            }
        }
        if let Some(feedback) = trip.feedback {
            self.feedback.insert(trip.client, feedback);
        }
        if self.personal.is_some() {
            self.own.insert(trip.client, trip.own);
        }
        Ok(())
    }

    /// Whether the model is evaluated after this round.
    fn is_due(&self, record: &RoundRecord) -> bool {
        record.round.is_multiple_of(self.config.evaluate_every)
            || record.round >= self.config.rounds
    }

    /// Running statistics where submodels are trained, whose own are of other networks: those of the
    /// full model on some training examples, for which a federation asks its clients.
    fn take_statistics(&mut self, threads: usize) -> Result<()> {
        let layout = self.coordinator.layout();
        let has_statistics = layout.params().iter().any(|p| p.role == Role::Statistic);
        if !has_statistics || !self.config.drops() {
            return Ok(());
        }
        let some = self.train.len().min(STATISTICS_EXAMPLES) as u32;
        let some: Vec<u32> = (0..some).collect();
        let (images, _) = self.train.batch(&some, &self.device)?;
        let (architecture, model) = (&self.architecture, self.own_network(0)?);
        let model = on_threads(threads, || Network::statistics(architecture, &model, images))??;
        let model = match &self.personal {
            Some(personal) => personal.split(model)?.0,
            None => model,
        };
        self.coordinator.set_statistics(&model)
    }

    fn evaluate_into(&self, record: &mut RoundRecord, threads: usize) -> Result<()> {
        let start = Instant::now();
        if self.config.by_client || self.personal.is_some() {
            self.evaluate_by_client(record, threads)?;
            record.seconds.evaluate = start.elapsed().as_secs_f64();
            return Ok(());
        }
        let (architecture, model) = (&self.architecture, self.coordinator.model());
        let (test, device) = (&self.test, &self.device);
        let evaluate = || evaluate(architecture, model, test, &test.indices(), device);
        let result = on_threads(threads, evaluate)??;
        record.seconds.evaluate = start.elapsed().as_secs_f64();
        record.accuracy = Some(result.accuracy());
        record.test_loss = Some(result.loss);
        Ok(())
    }
}

/// None of none.
fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let n = values.len();
    (n > 0).then(|| values.sum::<f64>() / n as f64)
}

pub(super) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *seconds += start.elapsed().as_secs_f64();
    result
}

fn fewer_parameters(layout: &Layout, config: &TrainConfig) -> Result<f64> {
    let policy = Policy { clients: BTreeMap::new(), ..config.policy(layout)? };
    let selection =
        policy.choice(&PrivateSeed::from_number(config.seed), 0, 0, 0).select(layout)?;
    let kept = |i| Ok(Gather::new(layout, &selection, i)?.n_packed());
    let kept: usize = (0..layout.params().len()).map(kept).sum::<Result<usize>>()?;
    Ok(layout.n_values() as f64 / kept as f64)
}

fn round_options(config: &TrainConfig, layout: &Layout) -> Result<RoundOptions> {
    let (down, up) = config.specs()?;
    let key = |purpose| derive_key(&[config.seed, purpose]);
    let private = PrivateSeed::from_number(key(purpose::SERVER));
    let mut options = RoundOptions::new(1, key(purpose::ROUNDS), private);
    options.n_updates = config.clients_per_round;
    options.min_updates = 1;
    options.policy = config.policy(layout)?;
    (options.down, options.up) = (down.into(), up.into());
    options.scaled = config.scaled;
    options.deltas = config.deltas;
    options.client_specs = config.client_specs()?;
    options.aggregator.averaging = config.averaging;
    options.aggregator.weighting = config.weighting;
    options.rule = config.server;
    config.make_private(&mut options)?;
    Ok(options)
}
