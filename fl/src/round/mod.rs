//! [`Coordinator`]: rounds of training as a state machine without clock, threads or I/O.

mod action;
mod open;
mod options;
mod state;

pub use action::{Action, RoundSummary};
pub use options::RoundOptions;

use crate::aggregate::norms;
use crate::message::EVERYONE;
use crate::{
    Aggregator, AggregatorOptions, Broadcast, Choice, Digest, Error, Layout, Parameter, Policy,
    Reason, Received, Rejection, Result, Role, Scope, ServerOptimizer, pack, scale,
};
use fedpress::DecodeOptions;
use open::Open;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The server's side of training: select, broadcast, collect, aggregate, commit.
///
/// The caller brings bytes, time and the list of clients that are there, sends each client that is
/// asked its [`message`](Self::message), and does what the returned [`Action`]s say.
/// [`save`](Self::save) works at any moment. Messages are made when they are asked for; kept is, while a
/// round is open, only what all clients with the same choice get, where they share it
/// ([`Scope::Round`]).
///
/// ```
/// use fedpress_fl::{Coordinator, Download, Layout, Parameter, RoundOptions};
/// let layout = Layout::from_toml("[groups]\n[[parameters]]\nname = \"w\"\naxes = [\"2\"]\n")?;
/// let model = vec![Parameter { name: "w".into(), shape: vec![2], values: vec![1.0, 2.0] }];
/// let mut options = RoundOptions::new(1, 7, 0x5eed);
/// (options.n_updates, options.min_updates) = (2, 2);
/// let mut server = Coordinator::new(layout, model, options)?;
///
/// for client in server.begin(&[10, 11, 12], 0)? {
///     let message = server.message(client)?;
///     let download = Download::decode(&message, &Default::default())?;
///     let mut trained = download.base.clone();
///     trained[0].values[0] += 1.0;
///     server.receive(client, &download.update(client, &trained, 5, client)?, 1)?;
/// }
/// assert_eq!(server.model()[0].values, [2.0, 2.0]);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
pub struct Coordinator {
    options: RoundOptions,
    layout: Arc<Layout>,
    model: Vec<Parameter>,
    optimizer: ServerOptimizer,
    /// The number of the open round, or of the next.
    round: u64,
    open: Option<Open>,
}

impl Coordinator {
    /// Before the first round.
    ///
    /// # Errors
    /// `InvalidArgument` if the model does not fit the layout, or options contradict each other.
    pub fn new(layout: Layout, model: Vec<Parameter>, options: RoundOptions) -> Result<Self> {
        options.check()?;
        layout.check(&model)?;
        options.policy.check(&layout)?;
        let optimizer = ServerOptimizer::new(options.rule, &model);
        Ok(Self { options, layout: Arc::new(layout), model, optimizer, round: 0, open: None })
    }

    /// The server's model in full precision.
    pub fn model(&self) -> &[Parameter] {
        &self.model
    }

    /// Its layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How rounds are run.
    pub fn options(&self) -> &RoundOptions {
        &self.options
    }

    /// The number of the open round, or of the next.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Who gets what from the next round on, as a server may decide by what the last one brought. Like
    /// all options it is not saved: [`restore`](Self::restore) takes the policy that was set last.
    ///
    /// # Errors
    /// `InvalidArgument` while a round is open; those of [`Policy::check`](crate::Policy::check).
    pub fn set_policy(&mut self, policy: Policy) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::invalid(format!("round {} is open", self.round)));
        }
        policy.check(&self.layout)?;
        self.options.policy = policy;
        Ok(())
    }

    /// Whether a round is collecting.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens a round among the clients that are there; returns those that are asked, each of which
    /// is to be sent its [`message`](Self::message).
    ///
    /// # Errors
    /// `InvalidArgument` if a round is open, fewer clients are there than a round needs, or one is
    /// called 2^64 - 1; as encoding the first broadcast. No round is open then.
    pub fn begin(&mut self, available: &[u64], now: u64) -> Result<Vec<u64>> {
        if self.open.is_some() {
            return Err(Error::invalid(format!("round {} is open", self.round)));
        }
        let available: BTreeSet<u64> = available.iter().copied().collect();
        if available.contains(&EVERYONE) {
            return Err(Error::invalid(format!("client {EVERYONE}: the number means everyone")));
        }
        if available.len() < self.options.min_updates {
            let (there, needed) = (available.len(), self.options.min_updates);
            return Err(Error::invalid(format!("{there} clients, a round needs {needed}")));
        }
        let asked = self.sample(available.into_iter().collect());
        let aggregator = Aggregator::new(
            self.layout.clone(),
            self.options.run,
            self.round,
            self.aggregator_options(),
        )?;
        self.open = Some(Open {
            aggregator,
            ends_at: now.saturating_add(self.options.deadline),
            unsent: asked.iter().copied().collect(),
            gone: BTreeSet::new(),
            n_asked: asked.len(),
            shared: Vec::new(),
            began: BTreeMap::new(),
        });
        // What cannot be encoded for one cannot be for the others.
        if let Err(error) = asked.first().map_or(Ok(()), |first| self.message(*first).map(drop)) {
            self.open = None;
            return Err(error);
        }
        Ok(asked)
    }

    /// Of this round: with the bounds that follow from the model.
    fn aggregator_options(&self) -> AggregatorOptions {
        let mut options = self.options.aggregator.clone();
        let [weights, statistics] = norms(&self.layout, &self.model);
        options.max_norm = options.max_norm.min(self.options.max_norm.of(weights));
        let bound = self.options.max_statistic_norm.of(statistics);
        options.max_statistic_norm = options.max_statistic_norm.min(bound);
        options
    }

    /// Draws who is asked, without replacement, by seed and round.
    fn sample(&self, mut clients: Vec<u64>) -> Vec<u64> {
        const CLIENTS: u64 = 0x636c_6965_6e74_7300;
        let state = |part| fedpress::derive_key(&[self.options.seed, self.round, CLIENTS, part]);
        let mut generator = Pcg64Mcg::new(u128::from(state(0)) << 64 | u128::from(state(1)));
        let n = self.options.n_asked().min(clients.len());
        for i in 0..n {
            let left = (clients.len() - i) as u128;
            let draw = ((u128::from(generator.next_u64()) * left) >> 64) as usize;
            clients.swap(i, i + draw);
        }
        clients.truncate(n);
        clients.sort_unstable();
        clients
    }

    fn choice(&self, client: u64) -> Choice {
        self.options.policy.choice(self.options.seed, self.round, client)
    }

    /// The broadcast for a client that is asked: encoded now, or once for all clients that get the
    /// same. As often as it is called the bytes are the same, after [`restore`](Self::restore) too.
    ///
    /// # Errors
    /// `InvalidArgument` if no update of this client is expected, or one against other bytes: after
    /// [`restore`](Self::restore) with other seeds, policy or specs; as encoding.
    pub fn message(&mut self, client: u64) -> Result<Arc<[u8]>> {
        let choice = self.choice(client);
        let policy = &self.options.policy;
        let is_own = policy.scope == Scope::Client || policy.masks.contains_key(&client);
        let known = match &self.open {
            Some(open) if open.is_missing(client) => {
                open.shared.iter().find(|(made, _)| *made == choice).map(|(_, made)| made.clone())
            }
            _ => return Err(Error::invalid(format!("client {client}: no update is expected"))),
        };
        let message = match &known {
            Some(message) => message.clone(),
            None => self.broadcast(&choice, is_own.then_some(client))?,
        };
        let Some(open) = &mut self.open else { return Ok(message) };
        let base = Digest::of(&message);
        if open.unsent.contains(&client) {
            open.aggregator.expect(client, base, &choice, self.options.scaled)?;
            open.unsent.remove(&client);
        } else if !open.aggregator.expects(client, base) {
            let message = format!("client {client}: it was sent another broadcast than {base}");
            return Err(Error::invalid(message));
        }
        if known.is_none() && !is_own {
            open.shared.push((choice, message.clone()));
        }
        Ok(message)
    }

    fn broadcast(&self, choice: &Choice, client: Option<u64>) -> Result<Arc<[u8]>> {
        let options = &self.options;
        let selection = choice.select(&self.layout)?;
        let mut submodel = pack(&self.layout, &selection, &self.model)?;
        if options.scaled {
            for (i, parameter) in submodel.iter_mut().enumerate() {
                let factor = scale(&self.layout, &selection, i) as f32;
                parameter.values.iter_mut().for_each(|v| *v *= factor);
            }
        }
        let statistic = |p: &&crate::ParamLayout| p.role == Role::Statistic;
        let exact = self.layout.params().iter().filter(statistic).map(|p| p.name.clone());
        let header = Broadcast {
            run: options.run,
            round: self.round,
            client,
            seed: fedpress::derive_key(&[options.seed, self.round]),
            choice: choice.clone(),
            scaled: options.scaled,
            up: options.up.clone(),
            task: options.task.clone(),
            exact: exact.collect(),
        };
        Ok(header.encode(&submodel, &options.down, options.private)?.into())
    }

    /// Clients whose update is still expected, ascending: those to send to once more after
    /// [`restore`](Self::restore).
    pub fn missing(&self) -> Vec<u64> {
        self.open.as_ref().map(Open::missing).unwrap_or_default()
    }

    /// Bytes of a client, whose identity the transport vouches for; cut anywhere.
    ///
    /// # Errors
    /// None that bytes can cause; those of [`ServerOptimizer::step`] and [`message`](Self::message).
    pub fn receive(&mut self, client: u64, bytes: &[u8], now: u64) -> Result<Vec<Action>> {
        let mut actions = self.tick(now)?;
        let is_own = |action: &Action| matches!(action, Action::Reject(r) if r.client == client);
        if actions.iter().any(is_own) {
            return Ok(actions); // these bytes are the rest of what has just been let go
        }
        if self.open.as_ref().is_some_and(|open| open.unsent.contains(&client)) {
            self.message(client)?; // it may have the bytes from elsewhere, or from before a restart
        }
        let Some(open) = &mut self.open else {
            actions.push(Action::Reject(Rejection {
                run: self.options.run,
                round: self.round,
                client,
                reason: Reason::Late,
                detail: "no round is open".into(),
            }));
            return Ok(actions);
        };
        let received = open.aggregator.receive(client, bytes);
        if !matches!(received, Received::Rejected(_)) {
            open.gone.remove(&client);
        }
        match received {
            Received::More => drop(open.began.entry(client).or_insert(now)),
            _ => drop(open.began.remove(&client)),
        }
        match received {
            Received::More => {}
            Received::Rejected(rejection) => actions.push(Action::Reject(rejection)),
            Received::Folded { samples } => {
                actions.push(Action::Taken { client, samples });
                if open.aggregator.n_folded() >= self.options.n_updates {
                    actions.push(self.close()?);
                }
            }
        }
        actions.extend(self.close_if_nobody_is_left()?);
        Ok(actions)
    }

    /// Updates that another aggregator of this round has folded, as it [`save`](Aggregator::save)d
    /// them: servers near the clients stack into a tree, and the model is the same as without.
    ///
    /// # Errors
    /// Those of [`Aggregator::merge`], which change nothing; `InvalidArgument` if no round is open, its
    /// time is over and [`tick`](Self::tick) has not been told, or the state has a client that was
    /// not asked.
    pub fn merge(&mut self, state: &[u8], now: u64, decode: &DecodeOptions) -> Result<Vec<Action>> {
        let closed = || Error::invalid("no round is open");
        let open = self.open.as_ref().filter(|open| now < open.ends_at).ok_or_else(closed)?;
        // What they were sent elsewhere has to be what they are sent here.
        for client in open.unsent.clone() {
            self.message(client)?;
        }
        let open = self.open.as_mut().ok_or_else(closed)?;
        open.aggregator.merge_known(state, decode)?;
        let Open { aggregator, gone, began, .. } = open;
        gone.retain(|client| aggregator.is_missing(*client));
        began.retain(|client, _| aggregator.is_missing(*client));
        let is_complete = aggregator.n_folded() >= self.options.n_updates;
        let mut actions = self.tick(now)?;
        if is_complete {
            actions.push(self.close()?);
        }
        actions.extend(self.close_if_nobody_is_left()?);
        Ok(actions)
    }

    /// A client has vanished. It may come back while the round is open.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn gone(&mut self, client: u64, now: u64) -> Result<Vec<Action>> {
        let mut actions = self.tick(now)?;
        match &mut self.open {
            Some(open) if open.is_missing(client) => {
                open.aggregator.forget(client);
                open.began.remove(&client);
                open.gone.insert(client);
            }
            _ => {}
        }
        actions.extend(self.close_if_nobody_is_left()?);
        Ok(actions)
    }

    /// Time passes; call it at least when [`ends_at`](Self::ends_at) comes.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn tick(&mut self, now: u64) -> Result<Vec<Action>> {
        let Some(open) = &mut self.open else { return Ok(Vec::new()) };
        if now >= open.ends_at {
            return Ok(vec![self.close()?]);
        }
        let patience = self.options.patience;
        let reject = |client| {
            Action::Reject(Rejection {
                run: self.options.run,
                round: self.round,
                client,
                reason: Reason::Busy,
                detail: format!("the update was on its way for {patience} or longer: begin again"),
            })
        };
        Ok(open.take_slow(now, patience).into_iter().map(reject).collect())
    }

    /// When the open round ends.
    pub fn ends_at(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.ends_at)
    }

    fn close_if_nobody_is_left(&mut self) -> Result<Option<Action>> {
        let Some(open) = &self.open else { return Ok(None) };
        let expected = open.aggregator.n_expected() + open.unsent.len();
        let left = expected - open.aggregator.n_folded() - open.gone.len();
        if left > 0 { Ok(None) } else { self.close().map(Some) }
    }

    /// Ends the round: the model moves if enough was folded.
    fn close(&mut self) -> Result<Action> {
        let Some(open) = self.open.take() else {
            return Err(Error::invalid("no round is open"));
        };
        let summary = RoundSummary {
            round: self.round,
            n_asked: open.n_asked,
            n_folded: open.aggregator.n_folded(),
            weight: open.aggregator.weight(),
        };
        self.round += 1;
        if summary.n_folded < self.options.min_updates {
            return Ok(Action::Abandoned(summary));
        }
        self.optimizer.step(&mut self.model, &open.aggregator)?;
        Ok(Action::Committed(summary))
    }
}
