//! [`Versions`]: the server's side of deltas by itself, for servers whose rounds are their own.

use super::chain::Chain;
use super::options::DeltaOptions;
use super::replica::Replica;
use crate::message::EVERYONE;
use crate::{Broadcast, Choice, Error, Layout, Parameter, Result, TensorSpecs};
use fedpress::DecodeOptions;
use std::sync::Arc;

/// The versions of a model that clients hold, and who holds which; a [`Coordinator`](crate::Coordinator) has
/// the same inside. In memory are, in f32, the versions that some client holds, the last one, and the model
/// that it was made of.
///
/// ```
/// use fedpress_fl::{
///     Broadcast, Choice, DeltaOptions, Layout, Parameter, Replica, TensorSpecs, Versions,
/// };
/// let layout = Layout::whole(&[("w".to_owned(), vec![10_000])])?;
/// let lossless = TensorSpecs::from(fedpress::Spec::lossless());
/// let mut versions = Versions::new(layout.clone(), DeltaOptions::default(), &lossless)?;
/// let mut replica = Replica::new(layout);
/// let mut sizes = Vec::new();
/// for round in 0..3 {
///     let draw = |seed, i| fedpress::derive_key(&[seed, i]) as i64 as f32 / 2f32.powi(63);
///     let values = (0..10_000).map(|i| draw(99, i) + 0.01 * draw(round, i)).collect();
///     versions.advance(round, vec![Parameter { name: "w".into(), shape: vec![10_000], values }])?;
///     let message = versions.message(Broadcast {
///         run: 1,
///         round,
///         client: Some(10),
///         seed: 7,
///         choice: Choice::full(),
///         gains: Vec::new(),
///         up: lossless.clone(),
///         task: String::new(),
///         integers: None,
///     })?;
///     sizes.push(message.len());
///     replica.decode(&message, &Default::default())?;
///     versions.acknowledge(10, round, &Choice::full())?;
/// }
/// assert!(sizes[2] < sizes[0] / 2, "what changed is less than the model: {sizes:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Versions {
    chain: Chain,
    /// What the last version was made of; nothing before the first, or if it is not known.
    model: Vec<Parameter>,
}

impl Versions {
    /// No version yet. Statistics are exact in every version, and so is what `down` names with a lossless spec;
    /// other specs of it are not looked at.
    ///
    /// # Errors
    /// `InvalidArgument` if an option is out of its range.
    pub fn new(layout: Layout, options: DeltaOptions, down: &TensorSpecs) -> Result<Self> {
        options.check()?;
        Ok(Self { chain: Chain::new(options, Arc::new(layout), down), model: Vec::new() })
    }

    /// Makes the version of a round. What the model has moved since the last one decides how fine it is.
    ///
    /// # Errors
    /// `InvalidArgument` for a model of another layout, or a round that is not behind all others.
    pub fn advance(&mut self, round: u64, model: Vec<Parameter>) -> Result<()> {
        self.chain.layout.check(&model)?;
        if let Some(last) = self.round().filter(|last| *last >= round) {
            return Err(Error::invalid(format!("round {round}: the last one was {last}")));
        }
        if !self.model.is_empty() {
            self.chain.moved(&self.model, &model);
        }
        self.chain.advance(round, &model);
        self.model = model;
        Ok(())
    }

    /// The round of the last version.
    pub fn round(&self) -> Option<u64> {
        self.chain.versions.last_key_value().map(|(round, _)| *round)
    }

    /// Encodes the version of the broadcast's round as what its client lacks of it; for everyone, as for
    /// those who hold nothing. Clients with the same history get the same tensors.
    ///
    /// # Errors
    /// `InvalidArgument` if the round has no version any more, or for client 2^64 - 1; `Corrupt` if gains are
    /// not as many as parameters; as encoding.
    pub fn message(&self, broadcast: Broadcast) -> Result<Vec<u8>> {
        if broadcast.client == Some(EVERYONE) {
            return Err(Error::invalid(format!("client {EVERYONE}: the number means everyone")));
        }
        broadcast.check_gains(self.chain.layout.params().len())?;
        let history = broadcast.client.map(|client| self.chain.history(client)).unwrap_or_default();
        self.chain.encode(broadcast, &history)
    }

    /// A client has shown that it holds what it was sent of a version, as by an update that was taken. Of a
    /// version that is not kept any more nothing changes: the client is then sent what leads from an earlier
    /// one, or the model whole.
    ///
    /// # Errors
    /// `InvalidArgument` if the client holds that version or a later one, or for a choice of another layout.
    pub fn acknowledge(&mut self, client: u64, version: u64, choice: &Choice) -> Result<()> {
        let latest = self.chain.histories.get(&client).and_then(|history| history.latest());
        if let Some(latest) = latest.filter(|latest| *latest >= version) {
            let message = format!("client {client}, version {version}: it holds version {latest}");
            return Err(Error::invalid(message));
        }
        self.chain.acknowledge(client, version, choice)
    }

    /// A client says that it holds nothing, as one does that is
    /// [out of step](Error::is_out_of_step).
    pub fn forget(&mut self, client: u64) {
        self.chain.forget(client);
    }

    /// The round of the last version that a client is known to hold, where there is one.
    pub fn held_by(&self, client: u64) -> Option<u64> {
        self.chain.history(client).latest()
    }

    /// What a client is known to hold, as its own replica has it.
    ///
    /// # Errors
    /// None that these versions do not exclude.
    pub fn replica(&self, client: u64) -> Result<Replica> {
        self.chain.replica(client)
    }

    /// Bytes from which a server that was restarted goes on; the model that the last version was made of, which
    /// it has anyway, is not among them.
    ///
    /// # Errors
    /// `InvalidArgument` beyond 2^27 bytes of histories, some two million clients with one version each.
    pub fn save(&self) -> Result<Vec<u8>> {
        self.chain.save()
    }

    /// From what [`save`](Self::save) made, for the same layout and specs. `model` is what the last version was made
    /// of; where it is empty, the next version is as fine as the last.
    ///
    /// # Errors
    /// Those of [`new`](Self::new) and of decoding; `InvalidArgument` for a model of another layout; `Corrupt` if the
    /// state belongs to another layout, or does not hold together.
    pub fn restore(
        bytes: &[u8],
        layout: Layout,
        options: DeltaOptions,
        down: &TensorSpecs,
        model: Vec<Parameter>,
        decode: &DecodeOptions,
    ) -> Result<Self> {
        let Self { chain, .. } = Self::new(layout, options, down)?;
        if !model.is_empty() {
            chain.layout.check(&model)?;
        }
        let (chain, rest) = chain.restore(bytes, decode)?;
        match rest {
            [] => Ok(Self { chain, model }),
            _ => Err(Error::corrupt(format!("{} bytes behind the state", rest.len()))),
        }
    }
}
