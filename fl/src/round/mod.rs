//! [`Coordinator`]: rounds of training as a state machine without clock, threads or I/O.

mod action;
mod open;
mod options;
mod private;
mod routes;
mod send;
mod state;

pub use action::{Action, RoundSummary};
pub use options::{Cohort, RoundOptions};

use crate::aggregate::{Base, norms};
use crate::delta::Chain;
use crate::message::EVERYONE;
use crate::seed::Purpose;
use crate::{
    Aggregator, AggregatorOptions, Choice, Error, Layout, Parameter, Policy, Reason, Received,
    Rejection, Result, Role, RoundingSeed, ServerOptimizer,
};
use fedpress::DecodeOptions;
use open::Open;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;
use routes::Routes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The server's side of training: select, broadcast, collect, aggregate, commit.
///
/// The caller brings bytes, time and the list of clients that are there, [`send`](Self::send)s each
/// client that is asked its broadcast, and does what the returned [`Action`]s say.
/// [`save`](Self::save) works at any moment. Broadcasts are made when they are asked for; kept is, while
/// a round is open, only what all clients with the same choice get, where they share it
/// ([`Scope::Round`](crate::Scope::Round)).
///
/// # Trees
/// Servers near the clients may send broadcasts and fold updates in the place of this one: each is a
/// leaf, with an [`Aggregator`] made with [`aggregator_options`](Self::aggregator_options), whose saved
/// state the root [`merge`](Self::merge)s. A leaf makes the broadcasts of its clients with a coordinator
/// restored from the root's state, and the root makes none of them again: it checks that they were of
/// the choice it would have made, and takes the leaf's word for the bytes as it does for the sums.
/// Leaves have disjoint clients, dealt out by the root: sums cannot be taken apart, so where one client
/// was folded by two leaves, the second is refused whole ([`Error::is_overlap`]). A leaf that takes
/// whoever comes lets any client do that to it. Trimmed means and medians are no sums: there a leaf
/// hands on the updates themselves, and a tree spares the root the connections and the checks, but
/// neither memory nor bytes.
///
/// ```
/// use fedpress_fl::{
///     Coordinator, Download, Layout, Parameter, PrivateSeed, RoundOptions, RoundingSeed,
/// };
/// # let drawn = || 0x1f3a_9c55_0d21_7be4; // in place of the operating system's generator
/// let layout = Layout::from_toml("[groups]\n[[parameters]]\nname = \"w\"\naxes = [\"2\"]\n")?;
/// let model = vec![Parameter { name: "w".into(), shape: vec![2], values: vec![1.0, 2.0] }];
/// let mut options = RoundOptions::new(1, 7, PrivateSeed::new(*b"32 bytes of the operating system"));
/// (options.n_updates, options.min_updates) = (2, 2);
/// let mut server = Coordinator::new(layout, model, options)?;
///
/// for client in server.begin(&[10, 11, 12], 0)? {
///     let message = server.send(client)?;
///     let download = Download::decode(&message, &Default::default())?;
///     let mut trained = download.base.clone();
///     trained[0].values[0] += 1.0;
///     server.receive(client, &download.update(client, &trained, 5, RoundingSeed(drawn()))?, 1)?;
/// }
/// assert_eq!(server.model()[0].values, [2.0, 2.0]);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
pub struct Coordinator {
    options: RoundOptions,
    layout: Arc<Layout>,
    model: Vec<Parameter>,
    optimizer: ServerOptimizer,
    /// What clients hold, where they are sent deltas.
    deltas: Option<Chain>,
    routes: Routes,
    /// The number of the open round, or of the next.
    round: u64,
    open: Option<Open>,
}

impl Coordinator {
    /// Before the first round.
    ///
    /// # Errors
    /// `InvalidArgument` if the model does not fit the layout, options contradict each other, a rule
    /// for specs matches no parameter, or there is privacy, or updates are integers, and the layout has
    /// running statistics.
    pub fn new(layout: Layout, model: Vec<Parameter>, options: RoundOptions) -> Result<Self> {
        options.check()?;
        layout.check(&model)?;
        options.policy.check(&layout)?;
        let optimizer = ServerOptimizer::new(options.rule, &model);
        let routes = Routes::new(&options, &layout)?;
        let layout = Arc::new(layout);
        let deltas = options.deltas.map(|deltas| Chain::new(deltas, layout.clone(), routes.down()));
        let new = Self { options, layout, model, optimizer, deltas, routes, round: 0, open: None };
        // What cannot be aggregated is found out now, and not by the first round.
        new.check_aggregation()?;
        Ok(new)
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
    /// `InvalidArgument` while a round is open, or for submodels of single clients where updates are integers; those
    /// of [`Policy::check`](crate::Policy::check).
    pub fn set_policy(&mut self, policy: Policy) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::invalid(format!("round {} is open", self.round)));
        }
        policy.check(&self.layout)?;
        let before = std::mem::replace(&mut self.options.policy, policy);
        if let Err(error) = self.options.check().and_then(|()| self.check_aggregation()) {
            self.options.policy = before;
            return Err(error);
        }
        Ok(())
    }

    /// Puts running statistics of the full model in their place, as they are taken where submodels were
    /// trained, whose own are not averaged (static batch norm, Diao et al. 2021). Of other parameters
    /// `model` is not looked at.
    ///
    /// # Errors
    /// `InvalidArgument` while a round is open, or for a model of another layout.
    pub fn set_statistics(&mut self, model: &[Parameter]) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::invalid(format!("round {} is open", self.round)));
        }
        self.layout.check(model)?;
        let params = self.layout.params().iter().zip(self.model.iter_mut().zip(model));
        for (_, (ours, given)) in params.filter(|(param, _)| param.role == Role::Statistic) {
            ours.values.clone_from(&given.values);
        }
        Ok(())
    }

    /// Whether a round is collecting.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens a round among the clients that are there; returns those that are asked, each of which
    /// is to be [sent](Self::send) its broadcast. Of a [Poisson](Cohort::Poisson) cohort that may be nobody; the
    /// next [`tick`](Self::tick) then closes the round.
    ///
    /// # Errors
    /// `InvalidArgument` if a round is open, fewer clients are there than a round needs, or one is
    /// called 2^64 - 1; `LimitExceeded` if the averaging is robust and has to keep more than it may
    /// ([`AggregatorOptions::max_kept_bytes`]); as encoding what the first broadcast says beside the model. No round is open
    /// then.
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
        // What cannot be said to one cannot be said to the others.
        if let Some(first) = asked.first() {
            let choice = self.options.policy.choice(&self.options.private, self.round, *first, 0);
            let route = self.routes.of(*first);
            let header = self.header(&choice, route, Some(*first), Vec::new())?;
            header.encode(&[], &route.down, RoundingSeed(0))?;
        }
        let aggregator = self.aggregator()?;
        aggregator.check_room(asked.len())?;
        self.open = Some(Open {
            aggregator,
            ends_at: now.saturating_add(self.options.deadline),
            unsent: asked.iter().copied().collect(),
            gone: BTreeSet::new(),
            n_asked: asked.len(),
            positions: self.options.policy.positions(asked.iter().copied()),
            shared: Vec::new(),
            began: BTreeMap::new(),
        });
        if let Some(chain) = &mut self.deltas {
            chain.advance(self.round, &self.model);
        }
        Ok(asked)
    }

    /// How updates of the open round, or of the next, are aggregated: the options of this server with
    /// the bounds on norms that follow from its model. Leaves of a tree need the same.
    ///
    /// # Errors
    /// None that options do not exclude, but for headroom of integers that a changed policy took away.
    pub fn aggregator_options(&self) -> Result<AggregatorOptions> {
        let mut options = self.options.aggregator.clone();
        let [weights, statistics] = norms(&self.layout, &self.model);
        options.max_norm = options.max_norm.min(self.options.max_norm.of(weights));
        let bound = self.options.max_statistic_norm.of(statistics);
        options.max_statistic_norm = options.max_statistic_norm.min(bound);
        self.make_private(&mut options)?;
        Ok(options)
    }

    /// One for the open round, or for the next, that expects nobody.
    fn aggregator(&self) -> Result<Aggregator> {
        let options = self.aggregator_options()?;
        Aggregator::new(self.layout.clone(), self.options.run, self.round, options)
    }

    fn check_aggregation(&self) -> Result<()> {
        self.aggregator_options()?.check_for(&self.layout)
    }

    /// Draws who is asked, without replacement, by private seed and round.
    fn sample(&self, mut clients: Vec<u64>) -> Vec<u64> {
        if self.options.cohort != Cohort::Fixed {
            return self.sample_poisson(clients);
        }
        let private = &self.options.private;
        let state = |part| private.derive(Purpose::Cohort, &[self.round, part]);
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
        let known = self.open.as_ref().and_then(|open| open.positions.get(&client));
        let position = known.copied().unwrap_or(0);
        self.options.policy.choice(&self.options.private, self.round, client, position)
    }

    /// Clients whose update is still expected, ascending: those to send to once more after
    /// [`restore`](Self::restore).
    pub fn missing(&self) -> Vec<u64> {
        self.open.as_ref().map(Open::missing).unwrap_or_default()
    }

    /// Bytes of a client, whose identity the transport vouches for; cut anywhere.
    ///
    /// # Errors
    /// None that bytes can cause; those of [`ServerOptimizer::step`] and [`send`](Self::send).
    pub fn receive(&mut self, client: u64, bytes: &[u8], now: u64) -> Result<Vec<Action>> {
        let mut actions = self.tick(now)?;
        let is_own = |action: &Action| matches!(action, Action::Reject(r) if r.client == client);
        if actions.iter().any(is_own) {
            return Ok(actions); // these bytes are the rest of what has just been let go
        }
        if self.open.as_ref().is_some_and(|open| open.unsent.contains(&client)) {
            self.send(client)?; // it may have the bytes from elsewhere, or from before a restart
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
            }
        }
        actions.extend(self.close_if_complete()?);
        Ok(actions)
    }

    /// Updates that another aggregator of this round has folded, as it [`save`](Aggregator::save)d
    /// them: servers near the clients stack into a [tree](Self#trees), and the model is the same as
    /// without. No broadcast is made for it.
    ///
    /// # Errors
    /// Those of [`Aggregator::merge`], which change nothing; `InvalidArgument` if no round is open, its
    /// time is over and [`tick`](Self::tick) has not been told, or the state has a client that was
    /// not asked, or an update of a submodel that was not its client's.
    pub fn merge(&mut self, state: &[u8], now: u64, decode: &DecodeOptions) -> Result<Vec<Action>> {
        let closed = || Error::invalid("no round is open");
        let open = self.open.as_ref().filter(|open| now < open.ends_at).ok_or_else(closed)?;
        let other = open.aggregator.restore_other(state, decode)?;
        // What they were sent elsewhere has to be what they are sent here.
        for (client, base) in other.sent_to() {
            if open.unsent.contains(&client) {
                let own = Base { choice: self.choice(client) };
                if *base != own {
                    let message = format!("client {client}: it is to be sent another submodel");
                    return Err(Error::invalid(message));
                }
            } else if !open.aggregator.is_expected(client) {
                return Err(Error::invalid(format!("client {client} was not asked")));
            }
        }
        let open = self.open.as_mut().ok_or_else(closed)?;
        let Open { aggregator, gone, began, unsent, .. } = open;
        aggregator.add_folded(other, unsent)?;
        unsent.retain(|client| !aggregator.is_expected(*client));
        gone.retain(|client| unsent.contains(client) || aggregator.is_missing(*client));
        began.retain(|client, _| aggregator.is_missing(*client));
        let mut actions = self.let_go_of_slow(now);
        actions.extend(self.close_if_complete()?);
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
        actions.extend(self.close_if_complete()?);
        Ok(actions)
    }

    /// Time passes; call it at least when [`ends_at`](Self::ends_at) comes, and after a round
    /// [began](Self::begin) that asks nobody.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn tick(&mut self, now: u64) -> Result<Vec<Action>> {
        let Some(open) = &self.open else { return Ok(Vec::new()) };
        if now >= open.ends_at {
            return Ok(vec![self.close()?]);
        }
        let mut actions = self.let_go_of_slow(now);
        actions.extend(self.close_if_complete()?);
        Ok(actions)
    }

    /// Updates that have been on their way for too long lose their place.
    fn let_go_of_slow(&mut self, now: u64) -> Vec<Action> {
        let Some(open) = &mut self.open else { return Vec::new() };
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
        open.take_slow(now, patience).into_iter().map(reject).collect()
    }

    /// When the open round ends.
    pub fn ends_at(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.ends_at)
    }

    /// Closes the round if it has what it needs, or nobody is left.
    fn close_if_complete(&mut self) -> Result<Option<Action>> {
        let Some(open) = &self.open else { return Ok(None) };
        let (expected, n_folded) =
            (open.aggregator.n_expected() + open.unsent.len(), open.aggregator.n_folded());
        let left = expected - n_folded - open.gone.len();
        if left > 0 && !self.is_enough(n_folded) { Ok(None) } else { self.close().map(Some) }
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
            n_clipped: open.aggregator.n_clipped(),
            weight: open.aggregator.weight(),
        };
        if let Some(chain) = &mut self.deltas {
            // Who answers a broadcast has it.
            for (client, choice) in open.aggregator.folded() {
                chain.acknowledge(client, self.round, choice)?;
            }
        }
        self.round += 1;
        if summary.n_folded < self.options.min_updates {
            return Ok(Action::Abandoned(summary));
        }
        let before = self.deltas.is_some().then(|| self.model.clone());
        self.optimizer.step(&mut self.model, &open.aggregator)?;
        if let (Some(chain), Some(before)) = (&mut self.deltas, before) {
            chain.moved(&before, &self.model);
        }
        Ok(Action::Committed(summary))
    }
}
