//! [`Rejection`]: why an update or an upload was not taken. A value, not an error: the round goes on.

use super::{Header, encode};
use crate::Result;
use fedpress::{Seeds, Spec};
use std::fmt;

/// Why an update, or an upload of features, was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Reason {
    /// Not a message, cut short, or corrupt.
    Malformed = 1,
    /// More bytes than one client may send, or more memory to decode them.
    TooLarge = 2,
    /// Another run or another round.
    WrongRound = 3,
    /// Trained from something else than this client was sent.
    WrongBase = 4,
    /// In the name of another client.
    WrongClient = 5,
    /// Other tensors than the submodel has.
    WrongShape = 6,
    /// NaN, infinity, or a value of 2^31 and more.
    NotFinite = 7,
    /// No examples, more than a client may claim, or more than fit in what is left of a round.
    BadSamples = 8,
    /// A second update in the same round.
    Duplicate = 9,
    /// Not one of the clients of this round.
    NotSelected = 10,
    /// Too many updates are on their way, or this one took too long; worth trying again.
    Busy = 11,
    /// The round is over.
    Late = 12,
    /// A sample that the client's first upload did not name.
    UnknownSample = 13,
    /// A sample twice in one upload.
    RepeatedSample = 14,
    /// An upload without one of the client's samples.
    MissingSample = 15,
    /// A label where the labels are known already.
    SecondLabel = 16,
    /// No labels in the first upload that is taken from a client.
    MissingLabel = 17,
    /// A label that is no class.
    BadLabel = 18,
    /// A change of a larger norm than one client's may have.
    TooFar = 19,
    /// A code that no update makes.
    OutOfRange = 20,
}

impl Reason {
    /// From its number in a message.
    pub(crate) fn from_u8(number: u8) -> Option<Self> {
        const ALL: [Reason; 20] = [
            Reason::Malformed,
            Reason::TooLarge,
            Reason::WrongRound,
            Reason::WrongBase,
            Reason::WrongClient,
            Reason::WrongShape,
            Reason::NotFinite,
            Reason::BadSamples,
            Reason::Duplicate,
            Reason::NotSelected,
            Reason::Busy,
            Reason::Late,
            Reason::UnknownSample,
            Reason::RepeatedSample,
            Reason::MissingSample,
            Reason::SecondLabel,
            Reason::MissingLabel,
            Reason::BadLabel,
            Reason::TooFar,
            Reason::OutOfRange,
        ];
        ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

/// Why an update, or an upload of features, was not taken, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which training this is.
    pub run: u64,
    /// The round of the server.
    pub round: u64,
    /// Who sent it.
    pub client: u64,
    /// What is wrong with it.
    pub reason: Reason,
    /// What was expected and what was found.
    pub detail: String,
}

impl Rejection {
    /// The message that tells the client.
    ///
    /// # Errors
    /// `InvalidArgument` if the detail is longer than a record may be.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let seeds = Seeds::new(0, 0).in_round(self.round).of_client(self.client, 0);
        encode(&Header::Rejection(self.clone()), &[], &Spec::lossless().into(), seeds)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, client, reason, detail, .. } = self;
        write!(f, "client {client}, round {round}: {reason:?}: {detail}")
    }
}
