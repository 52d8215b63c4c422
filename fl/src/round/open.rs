//! [`Open`]: the state of a round that is collecting updates.

use super::routes::Route;
use crate::delta::History;
use crate::{Aggregator, Choice};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A round that is collecting.
pub(super) struct Open {
    pub(super) aggregator: Aggregator,
    pub(super) ends_at: u64,
    /// Clients that are asked, and whose broadcast has not been made yet.
    pub(super) unsent: BTreeSet<u64>,
    /// Clients without an update that will not answer any more.
    pub(super) gone: BTreeSet<u64>,
    pub(super) n_asked: usize,
    /// Where each client is among those that keep as much ([`Policy::positions`](crate::Policy::positions)).
    pub(super) positions: BTreeMap<u64, u64>,
    /// Broadcasts that all clients with the same choice and the same route get, and with deltas the
    /// same history.
    pub(super) shared: Vec<Shared>,
    /// When the updates on their way began.
    pub(super) began: BTreeMap<u64, u64>,
}

/// A broadcast for all clients of whom this is true.
pub(super) struct Shared {
    pub(super) choice: Choice,
    pub(super) route: Arc<Route>,
    pub(super) history: History,
    pub(super) message: Arc<[u8]>,
}

impl Open {
    /// Whether an update of this client may still come.
    pub(super) fn is_missing(&self, client: u64) -> bool {
        self.unsent.contains(&client) || self.aggregator.is_missing(client)
    }

    /// The broadcast that all clients with this choice, this route and this history share, if it has
    /// been made.
    pub(super) fn shared_with(
        &self,
        choice: &Choice,
        route: &Arc<Route>,
        history: &History,
    ) -> Option<&Arc<[u8]>> {
        let same = |made: &&Shared| {
            let same_route = Arc::ptr_eq(&made.route, route) || made.route == *route;
            made.choice == *choice && same_route && made.history == *history
        };
        self.shared.iter().find(same).map(|made| &made.message)
    }

    /// Clients whose update may still come, without those that are gone.
    pub(super) fn missing(&self) -> Vec<u64> {
        let mut missing: Vec<u64> =
            self.aggregator.missing().chain(self.unsent.iter().copied()).collect();
        missing.retain(|client| !self.gone.contains(client));
        missing.sort_unstable();
        missing
    }

    /// Lets go of updates that have been on their way for too long, and says which.
    pub(super) fn take_slow(&mut self, now: u64, patience: u64) -> Vec<u64> {
        let is_slow = |(_, began): &(&u64, &u64)| now.saturating_sub(**began) >= patience;
        let slow: Vec<u64> = self.began.iter().filter(is_slow).map(|(client, _)| *client).collect();
        for client in &slow {
            self.began.remove(client);
            self.aggregator.forget(*client);
        }
        slow
    }
}
