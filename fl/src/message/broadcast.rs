//! [`Broadcast`]: the model a client is to train, and [`Download`]: what the client makes of it.

use super::{Digest, EVERYONE, Header, RECORD, Update, decode, encode, header};
use crate::aggregate::CODES;
use crate::feedback::Feedback;
use crate::{
    Choice, ClientPrivacy, Error, IntegerSpec, Layout, Parameter, PrivateSeed, Result,
    RoundingSeed, TensorSpecs,
};
use fedpress::{DType, DecodeOptions, EncodeOptions, Seeds, Spec, TensorView, Writer};

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
    /// How updates are integers that can be summed before they are seen; none: they are encoded as `up` says.
    pub integers: Option<IntegerSpec>,
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

    /// Encodes the message. `rounding` is the server's, drawn for this broadcast.
    ///
    /// # Errors
    /// What encoding refuses: duplicate names, shapes that do not match, client 2^64 - 1, specs for
    /// more than 65,536 tensors by name.
    pub fn encode(
        &self,
        model: &[Parameter],
        down: &TensorSpecs,
        rounding: RoundingSeed,
    ) -> Result<Vec<u8>> {
        if self.client == Some(EVERYONE) {
            return Err(Error::invalid(format!("client {EVERYONE}: the number means everyone")));
        }
        header::check_named(self.up.by_tensor.len()).map_err(Error::invalid)?;
        // Rounding is the same for everyone who gets the same bytes.
        let client = self.client.unwrap_or(EVERYONE);
        let seeds = Seeds::new(self.seed, rounding.0).in_round(self.round).of_client(client, 0);
        encode(&Header::Broadcast(Box::new(self.clone())), model, down, seeds)
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
                Ok(Self { header: *header, base, digest })
            }
            Header::Delta(_) => Err(Error::invalid(
                "a delta, which only a replica of what the client holds can be added to",
            )),
            other => Err(Error::corrupt(format!("expected a broadcast, found {}", other.name()))),
        }
    }

    /// The update message of a client that trained the model to `trained` on `samples` examples.
    /// `rounding` is its own, drawn for this message.
    ///
    /// Rotation and subsampling get a shared seed of the client's own, which travels with the
    /// tensors: what one client's subsampling leaves out, another's keeps, so the mean of the
    /// clients has less error than each.
    ///
    /// Where the broadcast asks for [integers](Broadcast::integers), rotation and range are the round's, and
    /// `samples` is not told.
    ///
    /// # Errors
    /// `InvalidArgument` if `trained` has other names, shapes or order than the base; of integers, where a value
    /// is not finite, or there is to be noise, which takes a secret ([`private_update`](Self::private_update)).
    pub fn update(
        &self,
        client: u64,
        trained: &[Parameter],
        samples: u64,
        rounding: RoundingSeed,
    ) -> Result<Vec<u8>> {
        let delta = self.delta(trained)?;
        if let Some(spec) = &self.header.integers {
            if spec.deviation > 0.0 {
                return Err(Error::invalid("noise for privacy takes a secret, not a number"));
            }
            let codes = self.codes_by(client, delta, &PrivateSeed::from_number(rounding.0))?;
            return self.encode_codes(client, spec, &codes);
        }
        self.encode_update(client, &delta, samples, rounding)
    }

    /// The same of a client that clips its update and adds noise before it is encoded, and rounds by its
    /// secret. The noise that a broadcast of integers asks for is drawn from that, too.
    ///
    /// # Errors
    /// As [`update`](Self::update); `InvalidArgument` for a clip that is not above 0, a deviation that is not finite and
    /// at least 0, or an update with NaN or infinity, whose norm nothing bounds.
    pub fn private_update(
        &self,
        client: u64,
        trained: &[Parameter],
        samples: u64,
        privacy: &ClientPrivacy,
    ) -> Result<Vec<u8>> {
        let Broadcast { run, round, integers, .. } = &self.header;
        if let Some(spec) = integers {
            return self.encode_codes(client, spec, &self.codes(client, trained, privacy)?);
        }
        let use_of = [*run, *round, client];
        let mut delta = self.delta(trained)?;
        privacy.apply(&mut delta, &use_of)?;
        let rounding = privacy.seed.rounding(&use_of);
        self.encode_update(client, &delta, samples, rounding)
    }

    /// The codes of the update, integers below 2^b in the order in which they are packed: what a secure
    /// aggregation masks in the place of the message that [`private_update`](Self::private_update) makes of
    /// them, and what its sum goes back as ([`Coordinator::receive_sum`](crate::Coordinator::receive_sum)).
    ///
    /// # Errors
    /// As [`private_update`](Self::private_update); `InvalidArgument` where the broadcast does not ask for integers.
    pub fn codes(
        &self,
        client: u64,
        trained: &[Parameter],
        privacy: &ClientPrivacy,
    ) -> Result<Vec<u32>> {
        let mut delta = self.delta(trained)?;
        privacy.apply(&mut delta, &[self.header.run, self.header.round, client])?;
        self.codes_by(client, delta, &privacy.seed)
    }

    fn codes_by(
        &self,
        client: u64,
        delta: Vec<Parameter>,
        secret: &PrivateSeed,
    ) -> Result<Vec<u32>> {
        let Broadcast { run, round, seed, integers, .. } = &self.header;
        let Some(spec) = integers else {
            return Err(Error::invalid("codes, and the broadcast does not ask for integers"));
        };
        spec.codes(*seed, *round, delta, secret, &[*run, *round, client])
    }

    fn encode_codes(&self, client: u64, spec: &IntegerSpec, codes: &[u32]) -> Result<Vec<u8>> {
        let Broadcast { run, round, .. } = &self.header;
        let update = Update { run: *run, round: *round, client, base: self.digest, samples: 1 };
        let packed = spec.pack(codes);
        let mut writer = Writer::new(Vec::new(), EncodeOptions::new(Seeds::new(0, 0)))?;
        writer.record(RECORD, &Header::Update(update).to_bytes())?;
        let (shape, dtype) = ([packed.len()], DType::U8);
        let view = TensorView { name: CODES, dtype, shape: &shape, data: &packed };
        // Masked codes do not compress.
        writer.tensor(&view, &Spec::none())?;
        Ok(writer.finish()?)
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
    /// As [`update`](Self::update); also if layout or feedback belong to another model, or the broadcast asks for
    /// integers. The feedback is then as it was.
    pub fn update_with_feedback(
        &self,
        client: u64,
        trained: &[Parameter],
        samples: u64,
        rounding: RoundingSeed,
        layout: &Layout,
        feedback: &mut Feedback,
    ) -> Result<Vec<u8>> {
        let Broadcast { choice, integers, .. } = &self.header;
        if integers.is_some() {
            return Err(Error::invalid("feedback, and the broadcast asks for integers"));
        }
        let selection = choice.select(layout)?;
        let mut delta = self.delta(trained)?;
        feedback.add_to(layout, &selection, &mut delta)?;
        let message = self.encode_update(client, &delta, samples, rounding)?;
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
        rounding: RoundingSeed,
    ) -> Result<Vec<u8>> {
        let Broadcast { run, round, seed, up, .. } = &self.header;
        let update = Update { run: *run, round: *round, client, base: self.digest, samples };
        let seeds = Seeds::new(*seed, rounding.0).in_round(*round).of_client(client, 0);
        encode(&Header::Update(update), delta, up, seeds)
    }
}
