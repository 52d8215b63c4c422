//! What clients are sent: the command that sends, and the query that only looks.

use super::Coordinator;
use super::open::Shared;
use super::routes::Route;
use crate::delta::{History, Replica};
use crate::message::EVERYONE;
use crate::{Broadcast, Choice, Digest, Error, Layout, Result, Scope, gains, pack};
use std::sync::Arc;

impl Coordinator {
    /// Makes the broadcast for a client that is asked, and expects an update against it: encoded now,
    /// or once for all clients that get the same. To be called again where it has to be sent again,
    /// after [`restore`](Self::restore) too: the bytes are the same.
    ///
    /// # Errors
    /// As [`message`](Self::message).
    pub fn send(&mut self, client: u64) -> Result<Arc<[u8]>> {
        let message = self.message(client)?;
        let (choice, history) = (self.choice(client), self.history(client));
        let is_own = self.has_own(client);
        let Some(open) = &mut self.open else { return Ok(message) };
        if open.unsent.contains(&client) {
            let base = Digest::of(&message);
            open.aggregator.expect(client, base, &choice)?;
            open.unsent.remove(&client);
        }
        let route = self.routes.of(client);
        if !is_own && open.shared_with(&choice, route, &history).is_none() {
            let (route, message) = (route.clone(), message.clone());
            open.shared.push(Shared { choice, route, history, message });
        }
        Ok(message)
    }

    /// The broadcast for a client that is asked, as [`send`](Self::send) makes it; nothing changes.
    ///
    /// # Errors
    /// `InvalidArgument` if no update of this client is expected, or one against other bytes: after
    /// [`restore`](Self::restore) with other seeds, policy or specs; as encoding.
    pub fn message(&self, client: u64) -> Result<Arc<[u8]>> {
        let Some(open) = self.open.as_ref().filter(|open| open.is_missing(client)) else {
            return Err(Error::invalid(format!("client {client}: no update is expected")));
        };
        let choice = self.choice(client);
        let (route, history) = (self.routes.of(client), self.history(client));
        let message = match open.shared_with(&choice, route, &history) {
            Some(message) if !self.has_own(client) => message.clone(),
            _ => {
                let to = self.has_own(client).then_some(client);
                self.broadcast(&choice, route, &history, to)?
            }
        };
        if !open.unsent.contains(&client) {
            let base = Digest::of(&message);
            if !open.aggregator.expects(client, base) {
                let message = format!("client {client}: it was sent another broadcast than {base}");
                return Err(Error::invalid(message));
            }
        }
        Ok(message)
    }

    /// Whether a client gets a broadcast that is nobody else's.
    fn has_own(&self, client: u64) -> bool {
        let policy = &self.options.policy;
        policy.scope == Scope::Client || policy.masks.contains_key(&client)
    }

    /// What a client is known to hold; nothing where broadcasts are no deltas.
    fn history(&self, client: u64) -> History {
        self.deltas.as_ref().map(|chain| chain.history(client)).unwrap_or_default()
    }

    fn broadcast(
        &self,
        choice: &Choice,
        route: &Route,
        history: &History,
        client: Option<u64>,
    ) -> Result<Arc<[u8]>> {
        let selection = choice.select(&self.layout)?;
        let is_scaled = self.options.scaled;
        let gains = if is_scaled { gains(&self.layout, &selection) } else { Vec::new() };
        let header = self.header(choice, route, client, gains)?;
        if let Some(chain) = &self.deltas {
            return Ok(chain.encode(header, history)?.into());
        }
        let options = &self.options;
        let submodel = pack(&self.layout, &selection, &self.model)?;
        // Rounding is the same for everyone who gets the same bytes.
        let to = client.unwrap_or(EVERYONE);
        let rounding = options.private.rounding(&[self.round, to]);
        Ok(header.encode(&submodel, &route.down, rounding)?.into())
    }

    /// What a broadcast says beside the model.
    pub(super) fn header(
        &self,
        choice: &Choice,
        route: &Route,
        client: Option<u64>,
        gains: Vec<f32>,
    ) -> Result<Broadcast> {
        let (options, integers) = (&self.options, self.integer_spec()?);
        Ok(Broadcast {
            run: options.run,
            round: self.round,
            client,
            seed: self.shared_seed(),
            choice: choice.clone(),
            gains,
            up: route.up.clone(),
            task: options.task.clone(),
            integers,
        })
    }

    /// The seed of rotations and subsampling of the open round, or of the next.
    pub(super) fn shared_seed(&self) -> u64 {
        fedpress::derive_key(&[self.options.seed, self.round])
    }

    /// A client says that it holds nothing, as one does that is
    /// [out of step](Error::is_out_of_step): its next [broadcast](Self::send) has the model whole, in the
    /// open round, too. That costs the bytes of a model each time: how often a client may say so is for the
    /// transport to bound. Nothing happens where broadcasts are no deltas.
    pub fn forget(&mut self, client: u64) {
        let Some(chain) = &mut self.deltas else { return };
        chain.forget(client);
        if let Some(open) = &mut self.open
            && open.aggregator.withdraw(client)
        {
            open.began.remove(&client);
            open.unsent.insert(client);
        }
    }

    /// What the server knows a client to hold, the whole of what the client's own replica has but for a
    /// version that it has not answered: so a simulation needs no copy for each of its clients. Nothing, where
    /// broadcasts are no deltas.
    ///
    /// # Errors
    /// None that a state of this server does not exclude.
    pub fn replica(&self, client: u64) -> Result<Replica> {
        match &self.deltas {
            Some(chain) => chain.replica(client),
            None => Ok(Replica::new(Layout::clone(&self.layout))),
        }
    }
}
