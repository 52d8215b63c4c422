//! [`Aggregator`]: from updates to their mean, in memory that clients do not determine.

mod bound;
mod incoming;
mod integers;
mod kept;
mod mean;
mod noise;
mod options;
mod state;
mod sums;
mod taken;

pub use bound::{Excess, Limit};
pub(crate) use bound::{clip, norms};
pub(crate) use incoming::CODES;
pub use noise::Noise;
pub use options::{AggregatorOptions, Averaging, Weighting};

use crate::integer::packed_len;
use crate::message::{Digest, Reason, Rejection, Update};
use crate::submodel::Gather;
use crate::{Choice, Error, Layout, Result, Role};
use fedpress::{ChunkDecoder, DecodeOptions, ErrorKind};
use incoming::{Decoded, Expected, IncomingUpdate, Refusal};
use kept::Values;
use std::collections::BTreeMap;
use std::sync::Arc;
use sums::{MAX_VALUE, MAX_WEIGHT};
use taken::Taken;

/// What became of bytes from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// The update has not ended yet.
    More,
    /// It was complete and right, and is part of the sums.
    Folded {
        /// Its examples, as they were counted.
        samples: u64,
    },
    /// It was not taken; nothing of it is in the sums.
    Rejected(Rejection),
}

/// Where the values of a submodel belong, one for each parameter.
type Gathers = Vec<Gather>;

/// What one client was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Base {
    pub(crate) choice: Choice,
}

/// Sums the updates of one round.
///
/// An update stays encoded until its end record has come and everything is checked; then it is
/// decoded once, and folded into exact sums; or kept, where the averaging is
/// [robust](Averaging::is_robust) and the cohort small. With sums, memory is: 21 bytes for each coordinate of the
/// model, one decoded update, at most [`AggregatorOptions::max_in_flight`] encoded ones, and for
/// each client expected some eighty bytes of bookkeeping, or 220 where each is sent something else
/// (more with [`Rule::Explicit`](crate::Rule::Explicit)). The order of arrival does not show in the
/// result, nor does the way clients are spread over aggregators whose [`save`](Self::save)d states
/// are [`merge`](Self::merge)d: leaves of a tree, which expect disjoint clients.
///
/// Sums are of values, and not of coefficients ([`fedpress::BasisSum`]), though that would undo one rotation
/// where this undoes one for each client: the client enters the seeds of an update, so that no two
/// rotate alike and their errors are independent even where their updates are not; what a client sends is
/// refused by its values; and clients of submodels hold other coordinates each, which no rotation of the
/// whole has.
///
/// ```
/// use fedpress_fl::{
///     Aggregator, AggregatorOptions, Broadcast, Choice, Download, Layout, Parameter, Received,
///     RoundingSeed,
/// };
/// use std::sync::Arc;
/// let layout = Arc::new(Layout::from_toml(r#"
///     [groups]
///     [[parameters]]
///     name = "w"
///     axes = ["2"]
/// "#)?);
/// let broadcast = Broadcast {
///     run: 1, round: 0, client: None, seed: 7, choice: Choice::full(), gains: vec![],
///     up: fedpress::Spec::lossless().into(), task: String::new(), integers: None,
/// };
/// let model = [Parameter { name: "w".into(), shape: vec![2], values: vec![1.0, 2.0] }];
/// let lossless = fedpress::Spec::lossless().into();
/// let message = broadcast.encode(&model, &lossless, RoundingSeed(0x5eed))?;
///
/// let download = Download::decode(&message, &Default::default())?;
/// let mut trained = download.base.clone();
/// trained[0].values[1] += 0.5;
/// let update = download.update(3, &trained, 600, RoundingSeed(0xfeed))?;
///
/// let mut aggregator = Aggregator::new(layout, 1, 0, AggregatorOptions::default())?;
/// aggregator.expect(3, download.digest, &broadcast.choice)?;
/// assert_eq!(aggregator.receive(3, &update), Received::Folded { samples: 600 });
/// assert_eq!(aggregator.mean(0), [Some(0.0), Some(0.5)]);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
pub struct Aggregator {
    layout: Arc<Layout>,
    run: u64,
    round: u64,
    options: AggregatorOptions,
    bases: BTreeMap<Digest, Base>,
    /// Whom an update is expected from, against what, and whether it has come.
    clients: BTreeMap<u64, (Digest, bool)>,
    /// Those it has come from.
    n_folded: usize,
    /// Of these, those that were beyond a bound on their norm.
    n_clipped: usize,
    incoming: BTreeMap<u64, IncomingUpdate>,
    taken: Taken,
    weight: u64,
    worker: ChunkDecoder,
}

impl Aggregator {
    /// Nothing received yet, nobody expected.
    ///
    /// # Errors
    /// Those of [`AggregatorOptions::check`]; `InvalidArgument` where there is noise, or updates are integers, and
    /// the layout has running statistics.
    pub fn new(
        layout: Arc<Layout>,
        run: u64,
        round: u64,
        options: AggregatorOptions,
    ) -> Result<Self> {
        options.check_for(&layout)?;
        let taken = Taken::new(&options, &layout, round)?;
        let mut decode = DecodeOptions::default();
        decode.memory = options.decode_memory;
        Ok(Self {
            layout,
            run,
            round,
            bases: BTreeMap::new(),
            clients: BTreeMap::new(),
            n_folded: 0,
            n_clipped: 0,
            incoming: BTreeMap::new(),
            taken,
            weight: 0,
            worker: ChunkDecoder::new(&decode),
            options,
        })
    }

    /// From now on an update of this client is welcome, trained from the broadcast with this digest.
    /// In a tree, by one leaf: a client that two leaves expect and fold makes the root refuse the
    /// second of them ([`merge`](Self::merge)).
    ///
    /// # Errors
    /// `InvalidArgument` if the choice does not fit the layout or is not the
    /// [one for all](AggregatorOptions::submodel), the client is expected already, or
    /// the same broadcast was of another choice before; `LimitExceeded` if the averaging is robust
    /// and [`AggregatorOptions::max_kept_bytes`] has no room for one more, or a sum of
    /// [integers](crate::IntegerSpec) has none.
    pub fn expect(&mut self, client: u64, base: Digest, choice: &Choice) -> Result<()> {
        if self.clients.contains_key(&client) {
            return Err(Error::invalid(format!("client {client} is expected already")));
        }
        self.check_room(self.clients.len() + 1)?;
        if self.options.submodel.as_ref().is_some_and(|all| all != choice) {
            return Err(Error::invalid(format!(
                "client {client}: not the submodel of all clients"
            )));
        }
        match self.bases.get(&base) {
            Some(known) if known.choice != *choice => {
                return Err(Error::invalid(format!("base {base} is of another choice")));
            }
            Some(_) => {}
            None => {
                choice.select(&self.layout)?;
                self.bases.insert(base, Base { choice: choice.clone() });
            }
        }
        self.clients.insert(client, (base, false));
        Ok(())
    }

    /// Whether the updates of so many clients can be kept, where they have to be, or summed.
    pub(crate) fn check_room(&self, n_clients: usize) -> Result<()> {
        if let Some((spec, _)) = &self.options.integers {
            let (limit, needed) = (u64::from(spec.clients), n_clients as u64);
            if needed > limit {
                let message =
                    format!("headroom: {needed} clients, {limit} fit in a sum of integers");
                return Err(Error::new(ErrorKind::LimitExceeded { limit, needed }, message));
            }
        }
        let limit = self.options.max_kept_bytes;
        let each = (self.layout.n_values() as u64).saturating_mul(4);
        let needed = each.saturating_mul(n_clients as u64);
        if !self.options.averaging.is_robust() || needed <= limit {
            return Ok(());
        }
        let message = format!(
            "the updates of {n_clients} clients: up to {needed} bytes, {limit} may be kept"
        );
        Err(Error::new(ErrorKind::LimitExceeded { limit, needed }, message))
    }

    /// The next bytes of a client, whose identity the transport vouches for; cut anywhere.
    ///
    /// After a rejection the client may begin another message. What was still to come of the
    /// rejected one is not to be handed in: it would be taken for that other message.
    pub fn receive(&mut self, client: u64, bytes: &[u8]) -> Received {
        let incoming = self.incoming.remove(&client);
        match self.advance(client, incoming, bytes) {
            Ok(received) => received,
            Err((reason, detail)) => Received::Rejected(self.rejection(client, reason, detail)),
        }
    }

    fn advance(
        &mut self,
        client: u64,
        incoming: Option<IncomingUpdate>,
        bytes: &[u8],
    ) -> std::result::Result<Received, Refusal> {
        let base = match self.clients.get(&client) {
            None => return Err((Reason::NotSelected, "not a client of this round".into())),
            Some((_, true)) => {
                return Err((Reason::Duplicate, "its update was taken already".into()));
            }
            Some((base, false)) => *base,
        };
        let mut incoming = match incoming {
            Some(incoming) => incoming,
            None => self.begin(&base)?,
        };
        let most = self.options.max_update_bytes.min(incoming.most_bytes());
        let room = usize::try_from(most - incoming.n_bytes()).unwrap_or(usize::MAX);
        // What fits is looked at first, so that the reason does not depend on how bytes arrive.
        let is_complete = incoming
            .push(&bytes[..room.min(bytes.len())], |update| self.check(client, base, update))?;
        if bytes.len() > room {
            let detail = format!("more than the {most} bytes that are taken of this update");
            return Err((Reason::TooLarge, detail));
        }
        if !is_complete {
            self.incoming.insert(client, incoming);
            return Ok(Received::More);
        }
        let samples = self.fold(base, incoming)?;
        self.clients.insert(client, (base, true));
        self.n_folded += 1;
        Ok(Received::Folded { samples })
    }

    fn begin(&self, base: &Digest) -> std::result::Result<IncomingUpdate, Refusal> {
        if self.incoming.len() >= self.options.max_in_flight {
            let most = self.options.max_in_flight;
            return Err((Reason::Busy, format!("{most} updates are on their way")));
        }
        let expected = match &self.taken {
            Taken::Integers(sum, _) => {
                Expected::Codes(packed_len(sum.sums().len(), sum.spec().bits))
            }
            _ => {
                let gathers = Gather::all(&self.layout, &self.bases[base].choice);
                Expected::Parameters(gathers.map_err(|e| (Reason::WrongShape, e.to_string()))?)
            }
        };
        Ok(IncomingUpdate::new(&self.layout, expected, self.options.decode_memory))
    }

    /// What can be told from the header.
    fn check(
        &self,
        client: u64,
        base: Digest,
        update: &Update,
    ) -> std::result::Result<(), Refusal> {
        let same = |reason, what: &str, expected: u64, found: u64| match expected == found {
            true => Ok(()),
            false => Err((reason, format!("{what}: expected {expected}, found {found}"))),
        };
        same(Reason::WrongRound, "run", self.run, update.run)?;
        same(Reason::WrongRound, "round", self.round, update.round)?;
        same(Reason::WrongClient, "client", client, update.client)?;
        if base != update.base {
            // Not by their printed form, which is short.
            return Err((
                Reason::WrongBase,
                format!("base: expected {base}, found {}", update.base),
            ));
        }
        let samples = self.samples(update)?;
        let (before, own) = (self.weight, self.weigh(samples));
        if before + own > MAX_WEIGHT {
            let detail =
                format!("a weight of {own} and {before} before, {MAX_WEIGHT} fit in a round");
            return Err((Reason::BadSamples, detail));
        }
        Ok(())
    }

    /// The examples that are counted, of those that a client claims.
    fn samples(&self, update: &Update) -> std::result::Result<u64, Refusal> {
        let (claimed, most) = (update.samples, u64::from(self.options.most_samples(update.client)));
        let is_clipped = self.options.excess_samples == Excess::Clip && most > 0;
        match claimed {
            0 => Err((Reason::BadSamples, "no examples".into())),
            _ if claimed <= most => Ok(claimed),
            _ if is_clipped => Ok(most),
            _ => Err((Reason::BadSamples, format!("{claimed} examples, up to {most} are taken"))),
        }
    }

    fn weigh(&self, samples: u64) -> u64 {
        match self.options.weighting {
            Weighting::Samples => samples,
            Weighting::Uniform => 1,
        }
    }

    /// Decodes a complete update, checks every value and holds all of them to the bounds, and only
    /// then adds.
    fn fold(
        &mut self,
        base: Digest,
        incoming: IncomingUpdate,
    ) -> std::result::Result<u64, Refusal> {
        let Some(update) = incoming.header else {
            return Err((Reason::Malformed, "no header".into()));
        };
        // Others may have been folded since the header was checked.
        self.check(update.client, base, &update)?;
        let samples = self.samples(&update)?;
        let weight = self.weigh(samples);
        let is_clipped = match incoming.decode(&mut self.worker)? {
            Decoded::Codes(bytes) => self.fold_codes(&bytes).map(|()| false)?,
            Decoded::Values(values) => self.fold_values(update.client, values, weight as u32)?,
        };
        self.weight += weight;
        self.n_clipped += usize::from(is_clipped);
        Ok(samples)
    }

    /// Adds values, held to the bounds; says whether they had to be.
    fn fold_values(
        &mut self,
        client: u64,
        mut decoded: Values,
        weight: u32,
    ) -> std::result::Result<bool, Refusal> {
        for (i, (_, values)) in decoded.iter().enumerate() {
            if let Some(at) = beyond(values) {
                let (name, value) = (&self.layout.params()[i].name, values[at]);
                return Err((Reason::NotFinite, format!("{name:?}, value {at}: {value}")));
            }
        }
        let is_clipped = bound::hold(&self.options, &self.layout, &mut decoded)?;
        for i in uncounted(&self.layout, decoded.iter().map(|(gather, _)| gather)) {
            decoded[i] = (decoded[i].0.nothing(), Vec::new());
        }
        self.taken.add(client, decoded, weight);
        Ok(is_clipped)
    }

    pub(crate) fn rejection(&self, client: u64, reason: Reason, detail: String) -> Rejection {
        Rejection { run: self.run, round: self.round, client, reason, detail }
    }

    /// This client will not finish its update; what has come of it is forgotten.
    pub fn forget(&mut self, client: u64) {
        self.incoming.remove(&client);
    }

    /// Takes back that an update of this client is expected; false where none is, or it has been folded.
    pub(crate) fn withdraw(&mut self, client: u64) -> bool {
        self.forget(client);
        let is_missing = self.is_missing(client);
        if is_missing {
            self.clients.remove(&client);
        }
        is_missing
    }

    /// The clients whose update has been folded, each with the choice of what it was sent.
    pub(crate) fn folded(&self) -> impl Iterator<Item = (u64, &Choice)> {
        let folded = self.clients.iter().filter(|(_, (_, folded))| *folded);
        folded.filter_map(|(client, (base, _))| Some((*client, &self.bases.get(base)?.choice)))
    }

    /// The clients of whom an update is expected or has been folded, ascending.
    pub(crate) fn expected(&self) -> impl Iterator<Item = u64> + '_ {
        self.clients.keys().copied()
    }

    /// The layout of the model.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Updates folded so far.
    pub fn n_folded(&self) -> usize {
        self.n_folded
    }

    /// Of these, those that were clipped to [`AggregatorOptions::max_norm`] or
    /// [`max_statistic_norm`](AggregatorOptions::max_statistic_norm). Where honest clients are among
    /// them the bound is too tight.
    pub fn n_clipped(&self) -> usize {
        self.n_clipped
    }

    /// Clients whose update is expected and has not been folded.
    pub fn missing(&self) -> impl Iterator<Item = u64> + '_ {
        self.clients.iter().filter(|(_, (_, folded))| !folded).map(|(client, _)| *client)
    }

    /// Whether the update of this client is expected and has not been folded.
    pub(crate) fn is_missing(&self, client: u64) -> bool {
        self.clients.get(&client).is_some_and(|(_, folded)| !folded)
    }

    /// Whether this client has been announced by [`expect`](Self::expect) or came by a merge.
    pub(crate) fn is_expected(&self, client: u64) -> bool {
        self.clients.contains_key(&client)
    }

    /// Whether an update of this client against this base is expected, or was folded.
    pub(crate) fn expects(&self, client: u64, base: Digest) -> bool {
        self.clients.get(&client).is_some_and(|(expected, _)| *expected == base)
    }

    /// Whether it sums this round of this run.
    pub(crate) fn is_of(&self, run: u64, round: u64) -> bool {
        (self.run, self.round) == (run, round)
    }

    /// How many clients are expected, folded ones included.
    pub(crate) fn n_expected(&self) -> usize {
        self.clients.len()
    }

    /// The sum of the weights folded so far.
    pub fn weight(&self) -> u64 {
        self.weight
    }
}

/// Where the first value is that is NaN, or of [`MAX_VALUE`] and more.
fn beyond(values: &[f32]) -> Option<usize> {
    // Magnitudes are ordered as their bits are, infinity and NaN above all; a maximum takes many at once.
    let magnitude = |value: &f32| (value.to_bits() & 0x7fff_ffff) as i32;
    let (most, largest) = (magnitude(&MAX_VALUE), values.iter().map(magnitude).fold(0, i32::max));
    (largest >= most).then(|| values.iter().position(|v| magnitude(v) >= most))?
}

/// The parameters of an update that are checked and not counted: running statistics of a submodel,
/// which are of another network, with smaller sums of fewer inputs.
fn uncounted<'a>(layout: &Layout, gathers: impl Iterator<Item = &'a Gather> + Clone) -> Vec<usize> {
    if gathers.clone().all(|gather| gather.n_packed() == gather.n_full()) {
        return Vec::new();
    }
    let params = layout.params().iter().enumerate();
    params.filter(|(_, param)| param.role == Role::Statistic).map(|(i, _)| i).collect()
}
