//! [`Dither`]: numbers that both sides add to what is rounded, shared out over the clients of a round.
//!
//! A client that says how many clients there are takes draws that are the same for up to [`STRATA`] of them, moved
//! by a part of a step of its own: over those clients the dither of a number lies on every part once. What one
//! rounds up another rounds down, so that the errors of equal numbers cancel (stratified or antithetic dither;
//! correlated quantization, Suresh et al. 2022), while each client's own error is what it was. Which client has
//! which part changes from row to row, so that no way in which clients differ lines up with it.

use crate::random::{Drawn, Keys, Purpose, word32};

/// Clients that share draws.
const STRATA: u64 = 256;

/// Orders of the clients over the parts, one row after the other.
pub(crate) const ORDERS: usize = 16;

/// The dither of a group: its draws, and where in a step each row of sixteen numbers begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dither {
    pub(crate) key: u64,
    /// Multiples of 2^-15 in [0, 1).
    pub(crate) offsets: [f32; ORDERS],
}

/// The dither of a tensor, the group not yet absorbed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DitherKeys {
    keys: Keys,
    /// Which of the clients that share draws this is, and how many they are.
    member: Option<(u32, u32)>,
}

impl DitherKeys {
    pub(crate) fn none() -> Self {
        Self { keys: Keys::from_absorbed(0), member: None }
    }

    pub(crate) fn new(seeds: &Drawn, tensor: u64) -> Self {
        let Drawn { shared, round, client, clients, .. } = *seeds;
        let keys = |client| Keys::new(shared, round, client, tensor, Purpose::Dither);
        if clients < 2 || client >= clients {
            // A client's own even where rotations are shared: errors that are alike never average out.
            return Self { keys: keys(client), member: None };
        }
        let first = client / STRATA * STRATA;
        let size = (clients - first).min(STRATA);
        Self { keys: keys(first), member: Some(((client - first) as u32, size as u32)) }
    }

    pub(crate) fn of_group(&self, group: u64) -> Dither {
        let offsets = match self.member {
            None => [0.0; ORDERS],
            Some(member) => offsets(self.keys.block(group, 1), member),
        };
        Dither { key: self.keys.block(group, 0), offsets }
    }
}

/// Where a client's parts begin: those of its rank in [`ORDERS`] orders that are drawn.
fn offsets(key: u64, (client, size): (u32, u32)) -> [f32; ORDERS] {
    std::array::from_fn(|order| {
        let word = |j| word32(key, order as u32 * STRATA as u32 + j);
        let own = word(client);
        let before = |j: &u32| (word(*j), *j) < (own, client);
        let rank = (0..size).filter(before).count() as u32;
        ((rank << 15) / size) as f32 / (1 << 15) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(client: u64, clients: u64) -> Drawn {
        Drawn { shared: 7, round: 3, client, clients, own: true }
    }

    #[test]
    fn clients_that_share_draws_have_every_part_once_in_each_order() {
        for clients in [2, 3, 10, 255, 256] {
            let all =
                (0..clients).map(|client| DitherKeys::new(&seeds(client, clients), 9).of_group(5));
            let all: Vec<Dither> = all.collect();
            assert!(all.iter().all(|dither| dither.key == all[0].key));
            for order in 0..ORDERS {
                let mut found: Vec<f32> = all.iter().map(|dither| dither.offsets[order]).collect();
                found.sort_by(f32::total_cmp);
                let part = |rank: u64| ((rank << 15) / clients) as f32 / 32768.0;
                assert_eq!(found, (0..clients).map(part).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn more_clients_than_parts_draw_in_lots_of_their_own() {
        let of = |client| DitherKeys::new(&seeds(client, 600), 9);
        assert_eq!(of(0).keys, of(255).keys);
        assert_ne!(of(255).keys, of(256).keys);
        assert_eq!(of(599).member, Some((599 - 512, 600 - 512)));
    }

    #[test]
    fn who_does_not_know_how_many_there_are_draws_alone() {
        let of = |client, clients| DitherKeys::new(&seeds(client, clients), 9);
        for (client, clients) in [(3, 0), (0, 1), (10, 10), (11, 10)] {
            let dither = of(client, clients);
            assert_eq!(dither.member, None);
            assert_eq!(dither.of_group(1).offsets, [0.0; ORDERS]);
        }
        assert_ne!(of(3, 0).keys, of(4, 0).keys);
    }

    // Wire constants (FORMAT.md, section 8.5).
    #[test]
    fn offsets_are_those_of_the_format() {
        let found = |member| offsets(42, member).map(|offset| (offset * 32768.0) as u32);
        assert_eq!(found((3, 10))[..4], [26214, 26214, 9830, 19660]);
        assert_eq!(found((44, 51))[..4], [25057, 30840, 8995, 10922]);
    }
}
