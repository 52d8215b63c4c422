//! [`Action`]: what a coordinator says.

use crate::Rejection;

/// What the caller is to do, or to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// An update was folded.
    Taken {
        /// Whose.
        client: u64,
        /// Its examples.
        samples: u64,
    },
    /// Bytes of a client were not taken; [`Rejection::encode`] makes the message that says so.
    Reject(Rejection),
    /// The round is complete and the model has moved.
    Committed(RoundSummary),
    /// Too few updates came in time; the model is as it was. The next round has a new number, so
    /// that what comes late is not taken for an answer to it.
    Abandoned(RoundSummary),
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundSummary {
    /// Its number.
    pub round: u64,
    /// Clients that were asked.
    pub n_asked: usize,
    /// Updates that were folded.
    pub n_folded: usize,
    /// Of these, those that were clipped to a bound on their norm
    /// ([`RoundOptions::max_norm`](crate::RoundOptions)).
    pub n_clipped: usize,
    /// Sum of their weights.
    pub weight: u64,
}
