//! [`Policy`]: the choice of each round and client.

use super::{Choice, Keep, Rule, Selection};
use crate::seed::Purpose;
use crate::{Layout, PrivateSeed, Result};
use bitvec::vec::BitVec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The [`Rule`] of a run, before it is made concrete for a round and a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// [`Rule::Random`] with a fresh seed.
    Random,
    /// [`Rule::Ordered`].
    Ordered,
    /// [`Rule::Rolling`], one unit further each round.
    Rolling,
    /// [`Rule::Permuted`]: of the clients of a round that keep as much, each has the next stretch of one
    /// permutation, so that every unit is trained equally often. With [`Scope::Round`] all have the first.
    Balanced,
}

/// Who shares a submodel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All clients of a round that keep as much: one download for all of them.
    Round,
    /// Nobody: each client has its own (Caldas et al. 2018).
    Client,
}

/// Which submodel each client gets in each round.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How the units are found.
    pub strategy: Strategy,
    /// Who shares a submodel.
    pub scope: Scope,
    /// How many units are kept.
    pub keep: Keep,
    /// Clients that keep something else, as weak devices may.
    pub clients: BTreeMap<u64, Keep>,
    /// Clients that keep exactly these units whatever the rest says, a mask for each group in the order
    /// of the layout, as a server may want that knows which matter. Each gets a download of its own.
    pub masks: BTreeMap<u64, Vec<BitVec>>,
}

impl Policy {
    /// The full model for everyone.
    pub fn full() -> Self {
        let (strategy, scope) = (Strategy::Ordered, Scope::Round);
        Self {
            strategy,
            scope,
            keep: Keep::from(1.0),
            clients: BTreeMap::new(),
            masks: BTreeMap::new(),
        }
    }

    /// Whether all fractions and masks are valid, of all clients.
    ///
    /// # Errors
    /// Those of [`Keep::check`] and [`Selection::from_masks`].
    pub fn check(&self, layout: &Layout) -> Result<()> {
        let mut fractions = std::iter::once(&self.keep).chain(self.clients.values());
        fractions.try_for_each(|keep| keep.check(layout))?;
        let mut masks = self.masks.values();
        masks.try_for_each(|masks| Selection::from_masks(layout, masks.clone()).map(drop))
    }

    /// The choice for a client in a round; a pure function of its arguments. Random choices and the
    /// starts of windows cannot be foreseen without the seed, whatever choices are known; ordered
    /// ones and windows that all share can. A client of a balanced round knows the permutation, and by it
    /// what others of the same round may have, but not who, nor anything of other rounds.
    ///
    /// `position` is where [`positions`](Self::positions) has the client, and matters to
    /// [`Strategy::Balanced`] alone.
    pub fn choice(&self, seed: &PrivateSeed, round: u64, client: u64, position: u64) -> Choice {
        let explicit = self.masks.get(&client).cloned().map(Rule::Explicit);
        let rule = explicit.unwrap_or_else(|| self.rule(seed, round, client, position));
        Choice { rule, keep: self.keep_of(client).clone() }
    }

    /// How many of the clients of a round before each keep as much as it does and have no masks of their
    /// own, for [`choice`](Self::choice).
    pub fn positions(&self, cohort: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u64> {
        let mut taken: Vec<(&Keep, u64)> = Vec::new();
        let mut positions = BTreeMap::new();
        for client in cohort.into_iter().filter(|client| !self.masks.contains_key(client)) {
            let keep = self.keep_of(client);
            let known = taken.iter().position(|(other, _)| *other == keep);
            let i = known.unwrap_or_else(|| {
                taken.push((keep, 0));
                taken.len() - 1
            });
            positions.insert(client, taken[i].1);
            taken[i].1 += 1;
        }
        positions
    }

    fn rule(&self, seed: &PrivateSeed, round: u64, client: u64, position: u64) -> Rule {
        match (self.strategy, self.scope) {
            (Strategy::Balanced, scope) => Rule::Permuted {
                seed: seed.derive(Purpose::Mask, &[round]),
                position: if scope == Scope::Round { 0 } else { position },
            },
            (Strategy::Random, Scope::Round) => {
                Rule::Random { seed: seed.derive(Purpose::Mask, &[round]) }
            }
            (Strategy::Random, Scope::Client) => {
                Rule::Random { seed: seed.derive(Purpose::Mask, &[round, client]) }
            }
            (Strategy::Ordered, _) => Rule::Ordered,
            (Strategy::Rolling, Scope::Round) => Rule::Rolling { offset: round },
            (Strategy::Rolling, Scope::Client) => {
                // Half of the hash: far from where adding rounds would wrap around.
                let start = seed.derive(Purpose::Start, &[client]) >> 32;
                Rule::Rolling { offset: start.wrapping_add(round) }
            }
        }
    }

    /// The fractions a client keeps.
    pub fn keep_of(&self, client: u64) -> &Keep {
        self.clients.get(&client).unwrap_or(&self.keep)
    }
}
