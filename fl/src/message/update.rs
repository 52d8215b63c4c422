//! [`Update`]: what training changed.

use super::Digest;

/// What an update says beside its tensors, which are trained minus decoded download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Which training this is.
    pub run: u64,
    /// The round it answers.
    pub round: u64,
    /// Who trained.
    pub client: u64,
    /// The broadcast it started from.
    pub base: Digest,
    /// Examples it was trained on; the weight of the update in the mean (McMahan et al. 2017).
    pub samples: u64,
}
