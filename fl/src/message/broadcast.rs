//! [`Broadcast`]: the model a client is to train, and [`Download`]: what the client makes of it.

use super::{Digest, EVERYONE, Header, Update, decode, encode, header};
use crate::feedback::Feedback;
use crate::{Choice, Error, Layout, Parameter, Result, TensorSpecs};
use fedpress::{DecodeOptions, Seeds};

/// What a broadcast says beside the tensors of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Broadcast {
    /// Which training this is; an update of another run is refused.
    pub run: u64,
    /// The round of training.
    pub round: u64,
    /// For whom it is, not 2^64 - 1; none: for everyone of the round.
    pub client: Option<u64>,
    /// The seed that rotation and subsampling derive from, both ways.
    pub seed: u64,
    /// Which submodel it is. A client that trains what it gets need not look at it.
    pub choice: Choice,
    /// For each tensor, by what the sum over its inputs is to be multiplied in training
    /// ([`gains`](crate::gains)); empty: by 1.
    ///
    /// Training code that cannot multiply a layer's input by the gain g multiplies its weight by g
    /// before training, trains it at g^2 times the learning rate (of SGD), and divides what it became
    /// by g: to first order that is the same step.
    pub gains: Vec<f32>,
    /// How the update is to be encoded, by tensor.
    pub up: TensorSpecs,
    /// What else the client has to know, in the words of the training code; may be empty.
    pub task: String,
}

impl Broadcast {
    /// Whether each of so many tensors has a gain, or none has.
    pub(crate) fn check_gains(&self, tensors: usize) -> Result<()> {
        match self.gains.len() {
            gains if gains != 0 && gains != tensors => {
                Err(Error::corrupt(format!("{gains} gains for {tensors} tensors")))
            }
            _ => Ok(()),
        }
    }

    /// Encodes the message. `private` is the server's seed for rounding: drawn, not chosen.
    ///
    /// # Errors
    /// What encoding refuses: duplicate names, shapes that do not match, client 2^64 - 1, specs for
    /// more than 65,536 tensors by name.
    pub fn encode(&self, model: &[Parameter], down: &TensorSpecs, private: u64) -> Result<Vec<u8>> {
        if self.client == Some(EVERYONE) {
            return Err(Error::invalid(format!("client {EVERYONE}: the number means everyone")));
        }
        header::check_named(self.up.by_tensor.len()).map_err(Error::invalid)?;
        // Rounding is the same for everyone who gets the same bytes.
        let client = self.client.unwrap_or(EVERYONE);
        let seeds = Seeds::new(self.seed, private).in_round(self.round).of_client(client, 0);
        encode(&Header::Broadcast(self.clone()), model, down, seeds)
    }
}

/// A broadcast as its receiver holds it.
#[derive(Debug, Clone)]
pub struct Download {
    /// What it says.
    pub header: Broadcast,
    /// The decoded model: where training starts, and what the update is measured against.
    pub base: Vec<Parameter>,
    /// What an update refers to.
    pub digest: Digest,
}

impl Download {
    /// Takes a message apart.
    ///
    /// # Errors
    /// As [`decode`], and `Corrupt` where the message is not a broadcast; `InvalidArgument` for a delta, which
    /// goes through a [`Replica`](crate::Replica).
    pub fn decode(message: &[u8], options: &DecodeOptions) -> Result<Self> {
        let (header, base) = decode(message, options)?;
        Self::of(header, base, Digest::of(message))
    }

    /// From what a message was taken apart to.
    pub(crate) fn of(header: Header, base: Vec<Parameter>, digest: Digest) -> Result<Self> {
        match header {
            Header::Broadcast(header) => {
                header.check_gains(base.len())?;
                Ok(Self { header, base, digest })
            }
            Header::Delta(_) => Err(Error::invalid(
                "a delta, which only a replica of what the client holds can be added to",
            )),
            other => Err(Error::corrupt(format!("expected a broadcast, found {}", other.name()))),
        }
    }

    /// The update message of a client that trained the model to `trained` on `samples` examples.
    /// `private` is its seed for rounding: drawn, not chosen.
    ///
    /// Rotation and subsampling get a shared seed of the client's own, which travels with the
    /// tensors: what one client's subsampling leaves out, another's keeps, so the mean of the
    /// clients has less error than each.
    ///
    /// # Errors
    /// `InvalidArgument` if `trained` has other names, shapes or order than the base.
    pub fn update(
        &self,
        client: u64,
        trained: &[Parameter],
        samples: u64,
        private: u64,
    ) -> Result<Vec<u8>> {
        let delta = self.delta(trained)?;
        self.encode_update(client, &delta, samples, private)
    }

    /// The same with error feedback: what the encoding of this update loses is added to the next
    /// (Seide et al. 2014; Karimireddy et al. 2019). For specs that round to nearest, whose error is
    /// smaller than what they encode; a spec that draws needs none, and where it loses more than
    /// there is (`q=1`, `subsample`) the feedback would grow without end.
    ///
    /// The feedback moves as if the update will be taken: to be able to go back when it is not, keep
    /// a clone.
    ///
    /// # Errors
    /// As [`update`](Self::update); also if layout or feedback belong to another model. The feedback
    /// is then as it was.
    pub fn update_with_feedback(
        &self,
        client: u64,
        trained: &[Parameter],
        samples: u64,
        private: u64,
        layout: &Layout,
        feedback: &mut Feedback,
    ) -> Result<Vec<u8>> {
        let Broadcast { choice, .. } = &self.header;
        let selection = choice.select(layout)?;
        let mut delta = self.delta(trained)?;
        feedback.add_to(layout, &selection, &mut delta)?;
        let message = self.encode_update(client, &delta, samples, private)?;
        let (_, sent) = decode(&message, &DecodeOptions::default())?;
        feedback.keep(layout, &selection, &delta, &sent)?;
        Ok(message)
    }

    fn delta(&self, trained: &[Parameter]) -> Result<Vec<Parameter>> {
        if trained.len() != self.base.len() {
            let (expected, found) = (self.base.len(), trained.len());
            return Err(Error::invalid(format!("expected {expected} parameters, found {found}")));
        }
        let delta = |(trained, base): (&Parameter, &Parameter)| {
            let same = trained.name == base.name && trained.shape == base.shape;
            if !same || trained.values.len() != base.values.len() {
                return Err(Error::invalid(format!(
                    "expected {:?} of shape {:?}, found {:?}",
                    base.name, base.shape, trained.shape
                ))
                .in_parameter(&trained.name));
            }
            let values = trained.values.iter().zip(&base.values).map(|(t, b)| t - b).collect();
            Ok(Parameter { name: base.name.clone(), shape: base.shape.clone(), values })
        };
        trained.iter().zip(&self.base).map(delta).collect()
    }

    fn encode_update(
        &self,
        client: u64,
        delta: &[Parameter],
        samples: u64,
        private: u64,
    ) -> Result<Vec<u8>> {
        let Broadcast { run, round, seed, up, .. } = &self.header;
        let update = Update { run: *run, round: *round, client, base: self.digest, samples };
        let seeds = Seeds::new(*seed, private).in_round(*round).of_client(client, 0);
        encode(&Header::Update(update), delta, up, seeds)
    }
}
