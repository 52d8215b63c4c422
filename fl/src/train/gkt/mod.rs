//! FedGKT (He et al. 2020) in one process: small networks on the clients and a large one on the
//! server teach each other through features and logits, in the bytes of real messages.
//!
//! A client's cycle: train the small network (cross-entropy, and from the first answer on the
//! server's logits), extract features and logits of the next view of its samples, upload. A turn of
//! the server: train on what has arrived, all clients' samples shuffled together, then send each
//! client whose upload is new the logits for it. What happens when is decided on a virtual clock,
//! from speeds and sizes alone, so waiting for everyone and waiting for nobody are two settings of
//! [`Pace`], and the same seed gives the same result.

mod config;
mod edge;
mod pair;
mod queue;
mod record;
mod server;
mod state;
#[cfg(test)]
mod tests;

pub use config::{Clock, GktConfig, Pace};
pub use pair::Pair;
pub use record::GktRecord;

use super::random::{Draws, Purpose};
use super::simulation::{purpose, timed};
use super::{Dataset, Device, RoundRecord, SplitModel, TrainConfig, cpu, in_parallel};
use crate::exchange::{FeatureSpecs, FeatureStore, StoreOptions, Upload, decode_logits};
use crate::{Error, Parameter, Result};
use edge::{Cycle, Teacher, Worked};
use fedpress::{DecodeOptions, ErrorKind, Spec, derive_key};
use queue::{Event, Queue};
use record::Tally;
use server::{Plateau, Turn};
use std::collections::BTreeMap;
use std::time::Instant;

/// A client as the simulation sees it.
#[derive(Debug, Clone)]
struct Edge {
    parameters: Vec<Parameter>,
    teacher: Option<Teacher>,
    /// Multiply-adds a virtual second.
    speed: f64,
    /// Uploads so far.
    uploads: u64,
    /// Uploads up to the last that the server has answered.
    answered: u64,
    /// The turn that could use its last upload first.
    arrived: u64,
    /// Since when it waits for an answer.
    waits: Option<f64>,
    /// Virtual seconds that it has waited.
    idle: f64,
}

/// A training by FedGKT: each [`round`](Self::round) is a turn of the server, and what happened
/// since the one before.
pub struct GktSimulation {
    config: TrainConfig,
    model: SplitModel,
    specs: FeatureSpecs,
    down: Spec,
    train: Dataset,
    test: Dataset,
    shards: Vec<Vec<u32>>,
    device: Device,
    edges: Vec<Edge>,
    server: Vec<Parameter>,
    plateau: Plateau,
    store: FeatureStore,
    /// First and last upload of each client: what makes the store again.
    uploads: BTreeMap<u64, [Vec<u8>; 2]>,
    queue: Queue,
    now: f64,
    /// Clients whose cycle begins now.
    starting: Vec<u64>,
    /// Uploads since the last turn began, by client, with their cycle.
    fresh: BTreeMap<u64, u64>,
    /// When the next turn begins in any case.
    due: Option<f64>,
    /// Whether the server works.
    busy: bool,
    /// When it last stopped, and how long it has waited in all.
    rests: (f64, f64),
    tally: Tally,
    records: Vec<RoundRecord>,
}

impl GktSimulation {
    /// Reads the data, deals it out and makes the first networks.
    ///
    /// # Errors
    /// `InvalidArgument` for a configuration that contradicts itself; what reading data refuses.
    pub fn new(config: TrainConfig) -> Result<Self> {
        config.check()?;
        config.gkt.check(config.clients)?;
        config.local.check()?;
        let (train, test) = config.datasets()?;
        let model = config.split_model(&train)?;
        let (down, up) = config.specs()?;
        let key = |purpose| derive_key(&[config.seed, purpose]);
        let partition = &config.partition;
        let shards = partition.split(train.labels(), config.clients, key(purpose::PARTITION))?;
        if let Some(client) = shards.iter().position(|shard| shard.len() < 2) {
            return Err(Error::invalid(format!("client {client}: expected at least two examples")));
        }
        let specs = FeatureSpecs { features: up, logits: Spec::lossless() };
        let edge = |client| Edge::new(&config, &model, client);
        let edges: Vec<Edge> = (0..config.clients as u64).map(edge).collect();
        Ok(Self {
            server: model.server().initial_parameters(key(purpose::WEIGHTS)),
            plateau: Plateau::new(config.gkt.training.learning_rate),
            store: empty_store(&config, &model)?,
            uploads: BTreeMap::new(),
            queue: Queue::default(),
            now: 0.0,
            starting: (0..config.clients as u64).collect(),
            fresh: BTreeMap::new(),
            due: None,
            busy: false,
            rests: (0.0, 0.0),
            tally: Tally::default(),
            records: Vec::new(),
            device: cpu(),
            specs,
            down,
            model,
            train,
            test,
            shards,
            edges,
            config,
        })
    }

    /// What it was made from.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The networks of clients and server.
    pub fn model(&self) -> &SplitModel {
        &self.model
    }

    /// Training examples of all clients.
    pub fn n_examples(&self) -> usize {
        self.train.len()
    }

    /// Feature values that the uploads so far stand for.
    pub fn values_up(&self) -> u64 {
        let features: usize = self.model.server().input().iter().product();
        let sent = |(client, edge): (usize, &Edge)| edge.uploads * self.shards[client].len() as u64;
        self.edges.iter().enumerate().map(sent).sum::<u64>() * features as u64
    }

    /// The server's parameters.
    pub fn server(&self) -> &[Parameter] {
        &self.server
    }

    /// A client's parameters; none if there is no such client.
    pub fn client(&self, client: usize) -> Option<&[Parameter]> {
        self.edges.get(client).map(|edge| &edge.parameters[..])
    }

    /// The turns so far.
    pub fn records(&self) -> &[RoundRecord] {
        &self.records
    }

    /// Whether all turns are over.
    pub fn is_done(&self) -> bool {
        self.records.len() as u64 >= self.config.rounds
    }

    /// Up to the end of the server's next turn, on up to `threads` threads.
    ///
    /// # Errors
    /// `InvalidArgument` when the training is over, diverges, or has no client left.
    pub fn round(&mut self, threads: usize) -> Result<&RoundRecord> {
        if self.is_done() {
            return Err(Error::invalid(format!("all {} turns are over", self.config.rounds)));
        }
        let start = Instant::now();
        loop {
            self.start_cycles(threads)?;
            let enough = self.fresh.len() >= self.config.gkt.quorum(self.edges.len());
            let overdue = self.due.is_some_and(|due| due <= self.now);
            if !self.busy && (enough || overdue) {
                self.begin_turn(threads)?;
            }
            let Some((time, event)) = self.queue.next() else {
                return Err(Error::invalid("no client is left, and nothing will arrive"));
            };
            self.now = time;
            match event {
                Event::Upload { client, message } => self.upload(client, message)?,
                Event::Answer { client, cycle, message } => self.answer(client, cycle, &message)?,
                Event::Deadline => {}
                Event::TurnOver => break,
            }
        }
        self.end_turn(threads, start)?;
        Ok(&self.records[self.records.len() - 1])
    }

    /// Computes the cycles that begin now, and plans when their uploads arrive.
    fn start_cycles(&mut self, threads: usize) -> Result<()> {
        let clients = std::mem::take(&mut self.starting);
        let stays = |client: &u64| !self.vanishes(*client);
        let clients: Vec<u64> = clients.into_iter().filter(stays).collect();
        let this = &*self;
        let jobs = clients.iter().map(|client| move || this.cycle(*client).run()).collect();
        let worked = in_parallel(threads, jobs)?.into_iter().collect::<Result<Vec<Worked>>>()?;
        for (client, worked) in clients.into_iter().zip(worked) {
            let samples = self.shards[client as usize].len();
            let seconds = self.working_seconds(client) + self.up_seconds(&worked.message);
            self.tally
                .cycle(&worked, Cycle::multiply_adds(&self.model, &self.config.local, samples));
            let edge = &mut self.edges[client as usize];
            edge.parameters = worked.parameters;
            let message = worked.message;
            self.queue.plan(self.now + seconds, Event::Upload { client, message });
        }
        Ok(())
    }

    fn cycle(&self, client: u64) -> Cycle<'_> {
        let edge = &self.edges[client as usize];
        Cycle {
            model: &self.model,
            data: &self.train,
            shard: &self.shards[client as usize],
            local: &self.config.local,
            gkt: &self.config.gkt,
            specs: &self.specs,
            device: &self.device,
            seed: self.config.seed,
            client,
            cycle: edge.uploads,
            parameters: &edge.parameters,
            teacher: edge.teacher.as_ref(),
        }
    }

    /// Whether a client is never heard of again instead of beginning its next cycle.
    fn vanishes(&self, client: u64) -> bool {
        let edge = &self.edges[client as usize];
        let seed = derive_key(&[self.config.seed, client, edge.uploads]);
        Draws::new(seed, Purpose::Clock, 1).unit() < self.config.gkt.clock.vanish
    }

    /// Training takes three times a forward pass, extraction one.
    fn working_seconds(&self, client: u64) -> f64 {
        let passes = 3 * u64::from(self.config.local.epochs) + 1;
        let samples = self.shards[client as usize].len() as u64;
        let work = passes * samples * self.model.client().multiply_adds();
        work as f64 / self.edges[client as usize].speed
    }

    fn up_seconds(&self, message: &[u8]) -> f64 {
        message.len() as f64 / self.config.gkt.clock.up
    }

    /// An upload has come to the server.
    fn upload(&mut self, client: u64, message: Vec<u8>) -> Result<()> {
        let turn = self.records.len() as u64 + u64::from(self.busy);
        let edge = &mut self.edges[client as usize];
        let cycle = edge.uploads;
        let decode = &mut self.tally.seconds.decode;
        match timed(decode, || self.store.receive(client, cycle, &message))? {
            Upload::Taken { .. } => {}
            Upload::Rejected(rejection) => return Err(Error::invalid(rejection.to_string())),
            Upload::More => return Err(Error::corrupt(format!("client {client}: cut short"))),
        }
        (edge.uploads, edge.arrived) = (cycle + 1, turn);
        match edge.uploads - edge.answered <= self.config.gkt.pace.lead {
            true => self.starting.push(client),
            false => edge.waits = Some(self.now),
        }
        self.tally.bytes_up += message.len() as u64;
        match self.uploads.get_mut(&client) {
            Some([_, last]) => *last = message,
            None => drop(self.uploads.insert(client, [message, Vec::new()])),
        }
        self.fresh.insert(client, cycle);
        if let (None, Some(deadline)) = (self.due, self.config.gkt.pace.deadline) {
            self.due = Some(self.now + deadline);
            self.queue.plan(self.now + deadline, Event::Deadline);
        }
        Ok(())
    }

    /// The server's logits have come to a client.
    fn answer(&mut self, client: u64, cycle: u64, message: &[u8]) -> Result<()> {
        let decode = &mut self.tally.seconds.decode;
        let found = timed(decode, || decode_logits(message, &DecodeOptions::default()))?;
        let samples: Vec<u32> = (0..self.shards[client as usize].len() as u32).collect();
        let logits = found.in_order(&samples)?;
        let edge = &mut self.edges[client as usize];
        edge.teacher = Some(Teacher { view: cycle + 1, logits });
        edge.answered = cycle + 1;
        let goes_on = edge.uploads - edge.answered <= self.config.gkt.pace.lead;
        if let Some(since) = edge.waits.take_if(|_| goes_on) {
            edge.idle += self.now - since;
            self.starting.push(client);
        }
        Ok(())
    }

    /// The server goes to work on what it has.
    fn begin_turn(&mut self, threads: usize) -> Result<()> {
        let (turn, gkt) = (self.records.len() as u64, &self.config.gkt);
        let stale = |client: &u64| turn - self.edges[*client as usize].arrived > gkt.pace.staleness;
        let known = self.store.clients().map(|(client, _, _)| client);
        let clients: Vec<u64> = known.filter(|client| !stale(client)).collect();
        let (store, device, seed) = (&self.store, &self.device, self.config.seed);
        let turn = Turn { model: &self.model, gkt, store, device, seed, turn, clients: &clients };
        let (start, rate) = (&self.server, self.plateau.learning_rate);
        let trained = timed(&mut self.tally.seconds.server, || {
            on_threads(threads, || turn.train(start, rate))
        })??;
        let samples: usize = clients.iter().map(|c| self.shards[*c as usize].len()).sum();
        let jobs = self.fresh.iter().map(|(client, cycle)| {
            let (turn, trained, down) = (&turn, &trained.parameters, &self.down);
            move || turn.answer(trained, *client, *cycle, down)
        });
        let messages =
            timed(&mut self.tally.seconds.server, || in_parallel(threads, jobs.collect()))?
                .into_iter()
                .collect::<Result<Vec<_>>>()?;
        let passes = 3 * u64::from(gkt.training.epochs) + 1;
        let work = passes * samples as u64 * self.model.server().multiply_adds();
        let over = self.now + work as f64 / gkt.clock.server_speed;
        self.tally.turn(trained.loss, clients.len(), samples, rate);
        self.plateau.step(trained.loss, gkt);
        self.rests.1 += self.now - self.rests.0;
        for ((client, cycle), message) in std::mem::take(&mut self.fresh).into_iter().zip(messages)
        {
            self.tally.bytes_down += message.len() as u64;
            let arrives = over + message.len() as f64 / self.config.gkt.clock.down;
            self.queue.plan(arrives, Event::Answer { client, cycle, message });
        }
        self.queue.plan(over, Event::TurnOver);
        (self.server, self.busy, self.due) = (trained.parameters, true, None);
        Ok(())
    }

    fn end_turn(&mut self, threads: usize, start: Instant) -> Result<()> {
        (self.busy, self.rests.0) = (false, self.now);
        let waits = |edge: &Edge| edge.idle + edge.waits.map_or(0.0, |since| self.now - since);
        let idle = self.edges.iter().map(waits).sum();
        let round = self.records.len() as u64 + 1;
        let mut record =
            std::mem::take(&mut self.tally).record(round, self.now, idle, self.rests.1);
        if round.is_multiple_of(self.config.evaluate_every) || round >= self.config.rounds {
            let begun = Instant::now();
            record::evaluate(self, threads, &mut record)?;
            record.seconds.evaluate = begun.elapsed().as_secs_f64();
        }
        record.seconds.round = start.elapsed().as_secs_f64();
        self.records.push(record);
        Ok(())
    }
}

impl Edge {
    fn new(config: &TrainConfig, model: &SplitModel, client: u64) -> Self {
        let clock = &config.gkt.clock;
        let normal = Draws::new(config.seed, Purpose::Clock, client).normal();
        Self {
            // Random, and each its own: there is no common start (He et al. 2020, without the
            // pretrained one of the published code).
            parameters: model.client().initial_parameters(derive_key(&[
                config.seed,
                purpose::WEIGHTS,
                client,
            ])),
            teacher: None,
            speed: clock.client_speed * libm::exp(clock.spread * normal),
            uploads: 0,
            answered: 0,
            arrived: 0,
            waits: None,
            idle: 0.0,
        }
    }
}

/// A store without what an earlier training, or a later turn of this one, left in its folder: what
/// is to be in it is in the saved training.
fn empty_store(config: &TrainConfig, model: &SplitModel) -> Result<FeatureStore> {
    let (client, cut) = (model.client(), model.cut());
    let mut options = StoreOptions::new(config.seed, &client.features(cut)?, client.n_classes());
    options.memory = config.gkt.memory;
    options.folder.clone_from(&config.gkt.folder);
    options.max_clients = config.clients;
    options.max_samples = u32::MAX;
    let mut store = FeatureStore::open(options)?;
    let known: Vec<u64> = store.clients().map(|(client, _, _)| client).collect();
    known.into_iter().try_for_each(|client| store.remove(client))?;
    Ok(store)
}

/// Runs `work` in a pool of so many threads, which matrix products share.
fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    let pool = pool.map_err(|e| {
        Error::new(ErrorKind::Io(std::io::ErrorKind::Other), format!("no thread: {e}"))
    })?;
    Ok(pool.install(work))
}
