//! FedGKT (He et al. 2020) in one process: small networks on the clients and a large one on the
//! server teach each other through features and logits, in the bytes of real messages.
//!
//! A client's cycle: train the small network (cross-entropy, and from the first answer on the
//! server's logits), extract features and logits of the next view of its samples, upload. A turn of
//! the server: train on what has arrived, all clients' samples shuffled together, then send each
//! client whose upload is new the logits for it. What happens when is decided on a virtual clock,
//! from speeds and sizes alone, so waiting for everyone and waiting for nobody are two settings of
//! [`Pace`], and the same seed gives the same result.

mod client;
mod config;
mod edge;
mod pair;
mod queue;
mod record;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod turn;

pub use config::{Clock, GktConfig, Pace};
pub use pair::Pair;
pub use record::GktRecord;

use super::simulation::{purpose, timed};
use super::{Dataset, Device, RoundRecord, SplitModel, TrainConfig, cpu, in_parallel};
use client::{Client, Working};
use edge::{Cycle, Teacher, Worked};
use fedpress::{DecodeOptions, Spec, derive_key};
use fedpress_fl::exchange::{FeatureSpecs, FeatureStore, StoreOptions, Upload, decode_logits};
use fedpress_fl::{Error, Parameter, Reason, Result};
use queue::{Event, Queue};
use record::Tally;
use server::Plateau;
use std::collections::BTreeMap;
use std::time::Instant;

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
    clients: Vec<Client>,
    server: Vec<Parameter>,
    plateau: Plateau,
    store: FeatureStore,
    /// The last upload of each client, where a later turn may use it again: what fills the store
    /// after a restart.
    uploads: BTreeMap<u64, Vec<u8>>,
    queue: Queue,
    now: f64,
    /// Clients whose cycle begins now.
    starting: Vec<u64>,
    /// Uploads since the last turn began, by client: their cycle, and the loss of its training.
    fresh: BTreeMap<u64, (u64, f64)>,
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
    /// `InvalidArgument` for a configuration that contradicts itself, or says what FedGKT has no use
    /// for, and where features fit neither memory nor a folder; what reading data refuses.
    pub fn new(config: TrainConfig) -> Result<Self> {
        config.check()?;
        config.check_fedgkt()?;
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
        let client = |client| Client::new(&config, &model, client);
        let clients: Vec<Client> = (0..config.clients as u64).map(client).collect();
        Ok(Self {
            server: model.server().initial_parameters(key(purpose::WEIGHTS)),
            plateau: Plateau::new(config.gkt.training.learning_rate),
            store: empty_store(&config, &model, &shards)?,
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
            specs: FeatureSpecs { features: up, ..FeatureSpecs::default() },
            down,
            model,
            train,
            test,
            shards,
            clients,
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

    /// The networks of clients and server.
    pub fn model(&self) -> &SplitModel {
        &self.model
    }

    /// Who has which of the training examples.
    pub(crate) fn shards(&self) -> (&Dataset, &[Vec<u32>]) {
        (&self.train, &self.shards)
    }

    /// Training examples of all clients.
    pub fn n_examples(&self) -> usize {
        self.train.len()
    }

    /// Feature values that the uploads so far stand for.
    pub fn values_up(&self) -> u64 {
        let features: usize = self.model.server().input().iter().product();
        let sent = |(k, client): (usize, &Client)| client.uploads * self.shards[k].len() as u64;
        self.clients.iter().enumerate().map(sent).sum::<u64>() * features as u64
    }

    /// The server's parameters.
    pub fn server(&self) -> &[Parameter] {
        &self.server
    }

    /// The parameters behind a client's last upload; none if there is no such client.
    pub fn client(&self, client: usize) -> Option<&[Parameter]> {
        self.clients.get(client).map(|client| &client.parameters[..])
    }

    /// The turns so far.
    pub fn records(&self) -> &[RoundRecord] {
        &self.records
    }

    /// Whether all turns are over, or all clients have vanished.
    pub fn is_done(&self) -> bool {
        self.records.len() as u64 >= self.config.rounds || !self.anyone_is_left()
    }

    /// Whether anything will still arrive at the server.
    fn anyone_is_left(&self) -> bool {
        let goes_on = |event: &Event| match event {
            Event::Upload { .. } => true,
            Event::Answer { client, .. } => {
                let state = &self.clients[*client as usize];
                state.waits.is_some() && !state.vanishes(&self.config, *client)
            }
            Event::Deadline | Event::TurnOver => false,
        };
        let planned = self.queue.planned().any(|(_, event)| goes_on(event));
        planned || !self.starting.is_empty() || !self.fresh.is_empty()
    }

    /// Up to the end of the server's next turn, on up to `threads` threads. After an error, go on
    /// from the last [`save`](Self::save).
    ///
    /// # Errors
    /// `InvalidArgument` when the training is over, or diverges on the server or on every client; one
    /// client's drops out.
    pub fn round(&mut self, threads: usize) -> Result<&RoundRecord> {
        let over = || Error::invalid("the training is over: no turn or no client is left");
        if self.is_done() {
            return Err(over());
        }
        let start = Instant::now();
        loop {
            self.start_cycles(threads)?;
            let enough = self.fresh.len() >= self.quorum();
            let overdue = self.due.is_some_and(|due| due <= self.now);
            if !self.busy && (enough || overdue) {
                self.begin_turn(threads)?;
            }
            let (time, event) = self.queue.next().ok_or_else(over)?;
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
        let this = &*self;
        let jobs = clients.iter().map(|client| move || this.cycle(*client).run()).collect();
        let worked = in_parallel(threads, jobs)?;
        for (client, worked) in clients.into_iter().zip(worked) {
            let Worked { trained, message, seconds } = match worked {
                Err(why) if why.is_divergence() => {
                    self.lose(client, why)?;
                    continue;
                }
                worked => worked?,
            };
            self.tally.seconds += seconds;
            let multiply_adds = self.cycle(client).multiply_adds(&trained);
            let (parameters, loss) = (trained.parameters, trained.loss);
            let state = &mut self.clients[client as usize];
            state.next = Some(Working { parameters, loss, multiply_adds });
            let working = 3.0 * multiply_adds as f64 / state.speed;
            let sending = message.len() as f64 / self.config.gkt.clock.up;
            self.queue.plan(self.now + working + sending, Event::Upload { client, message });
        }
        Ok(())
    }

    /// A client whose training has diverged drops out; an error if nobody is left.
    fn lose(&mut self, client: u64, why: Error) -> Result<()> {
        self.clients[client as usize].lost = true;
        self.tally.clients_missing += 1;
        if self.clients.iter().all(|client| client.lost) { Err(why) } else { Ok(()) }
    }

    /// New uploads that begin a turn: no more than there can be.
    fn quorum(&self) -> usize {
        let left = self.clients.iter().filter(|client| !client.lost).count();
        self.config.gkt.quorum(self.clients.len()).min(left)
    }

    fn cycle(&self, client: u64) -> Cycle<'_> {
        let state = &self.clients[client as usize];
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
            cycle: state.uploads,
            parameters: &state.parameters,
            teacher: state.teacher.as_ref(),
        }
    }

    /// An upload has come to the server.
    fn upload(&mut self, client: u64, message: Vec<u8>) -> Result<()> {
        let turn = self.records.len() as u64 + u64::from(self.busy);
        let state = &mut self.clients[client as usize];
        let cycle = state.uploads;
        let decode = &mut self.tally.seconds.decode;
        let received = timed(decode, || self.store.receive(client, cycle, &message))?;
        if let Upload::Rejected(why) = &received
            && why.reason == Reason::NotFinite
        {
            return self.lose(client, Error::divergence(why.to_string()));
        }
        taken(client, received)?;
        (state.uploads, state.arrived) = (cycle + 1, turn);
        let worked = state.next.take();
        let worked = worked.ok_or_else(|| Error::corrupt("an upload that nobody has made"))?;
        state.parameters = worked.parameters;
        self.tally.multiply_adds += worked.multiply_adds;
        self.tally.bytes_up += message.len() as u64;
        self.fresh.insert(client, (cycle, worked.loss));
        if !self.config.gkt.is_synchronous(self.clients.len()) {
            self.uploads.insert(client, message);
        }
        let state = &mut self.clients[client as usize];
        match state.goes_on(self.config.gkt.pace.lead) {
            true if state.vanishes(&self.config, client) => {}
            true => self.starting.push(client),
            false => state.waits = Some(self.now),
        }
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
        let header = &found.header;
        let classes = self.model.client().n_classes();
        let expected = (self.config.seed, cycle, client, classes);
        if (header.run, header.round, header.client, header.classes) != expected {
            return Err(Error::corrupt(format!("expected an answer {expected:?}: {header:?}")));
        }
        let samples: Vec<u32> = (0..self.shards[client as usize].len() as u32).collect();
        let logits = found.in_order(&samples)?;
        let state = &mut self.clients[client as usize];
        if cycle < state.answered {
            // A later one has overtaken it.
            return Ok(());
        }
        state.teacher = Some(Teacher { cycle, logits });
        state.answered = cycle + 1;
        let goes_on = state.goes_on(self.config.gkt.pace.lead);
        if let Some(since) = state.waits.take_if(|_| goes_on) {
            state.idle += self.now - since;
            if !state.vanishes(&self.config, client) {
                self.starting.push(client);
            }
        }
        Ok(())
    }
}

/// A simulation has no uploads that a server would refuse.
fn taken(client: u64, upload: Upload) -> Result<()> {
    match upload {
        Upload::Taken { .. } => Ok(()),
        Upload::Rejected(rejection) => Err(Error::invalid(rejection.to_string())),
        Upload::More => Err(Error::corrupt(format!("upload of client {client}: cut short"))),
    }
}

/// A store with nothing in it, whatever an earlier training has left in its folder; with a folder
/// only if memory does not hold all features.
fn empty_store(
    config: &TrainConfig,
    model: &SplitModel,
    shards: &[Vec<u32>],
) -> Result<FeatureStore> {
    let (client, cut, gkt) = (model.client(), model.cut(), &config.gkt);
    let shape = client.features(cut)?;
    let mut options = StoreOptions::new(config.seed, &shape, client.n_classes());
    let sizes = || shards.iter().map(|shard| 4 * (shard.len() * shape.iter().product::<usize>()));
    // An upload comes in beside the one that it replaces.
    let needed = (sizes().sum::<usize>() + sizes().max().unwrap_or(0)) as u64;
    options.memory = gkt.memory;
    options.max_clients = config.clients;
    options.max_samples = u32::MAX;
    match (needed > gkt.memory, &gkt.folder) {
        (false, _) => {}
        (true, Some(folder)) => options.folder = Some(folder.clone()),
        (true, None) => {
            let memory = gkt.memory;
            return Err(Error::invalid(format!(
                "features take {needed} bytes, gkt.memory allows {memory}, and gkt.folder is not set"
            )));
        }
    }
    FeatureStore::create(options)
}
