//! [`RoundRecord`]: what is known of a round when it is over.

use crate::GktRecord;
use serde::{Deserialize, Serialize};

/// One line of the log of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// From 1 on.
    pub round: u64,
    /// Fraction of the test set that the server's model gets right; absent where not evaluated. Where
    /// clients have layers of their own, or the configuration says `by_client`, the mean over clients of
    /// what each gets right of test images as its own are.
    pub accuracy: Option<f64>,
    /// Where accuracy is by client: that of the tenth of clients that have the least, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_tenth: Option<f64>,
    /// Mean cross-entropy on the test set.
    pub test_loss: Option<f64>,
    /// Mean loss of the clients while they trained what they sent; absent where nobody could.
    pub train_loss: Option<f64>,
    /// Bytes of all broadcasts of the round, each counted as often as it was sent.
    pub bytes_down: u64,
    /// Bytes of all updates of the round.
    pub bytes_up: u64,
    /// Multiply-adds of the clients' forward passes in training, all together; training takes about
    /// three times as many. Passes without training count a third.
    pub multiply_adds: u64,
    /// Updates that were folded.
    pub updates: usize,
    /// Clients of the round whose training diverged, or brought weights that are too large.
    #[serde(default)]
    pub clients_missing: usize,
    /// How long it took.
    pub seconds: Seconds,
    /// What there is beside, in FedGKT, whose rounds are turns of the server: there `accuracy` is
    /// the mean of the clients' pairs, broadcasts are answers, and `updates` counts the uploads that
    /// were new to the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gkt: Option<GktRecord>,
}

/// Processor time of the parts of a round, over all clients, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Building submodels and encoding, both sides.
    pub encode: f64,
    /// Decoding, checking and adding, both sides.
    pub decode: f64,
    /// Training on clients.
    pub train: f64,
    /// Training on the server, and its answers; wall time.
    #[serde(default)]
    pub server: f64,
    /// Evaluation.
    pub evaluate: f64,
    /// Wall time of the whole round.
    pub round: f64,
}

impl std::ops::AddAssign for Seconds {
    /// Each part to its own.
    fn add_assign(&mut self, other: Self) {
        self.encode += other.encode;
        self.decode += other.decode;
        self.train += other.train;
        self.server += other.server;
        self.evaluate += other.evaluate;
        self.round += other.round;
    }
}

impl Seconds {
    /// Encoding and decoding as a fraction of them and training.
    pub fn codec_share(&self) -> f64 {
        let codec = self.encode + self.decode;
        if codec == 0.0 { 0.0 } else { codec / (codec + self.train + self.server) }
    }
}
