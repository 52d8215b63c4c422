//! [`Aggregator`]: from updates to their mean, in memory that clients do not determine.

mod partial;
mod state;
mod sums;

use crate::message::{Digest, Reason, Rejection, Update};
use crate::{Choice, Error, Layout, Result, Role, Selection, scale};
use fedpress::{ChunkDecoder, DecodeOptions};
use partial::{Partial, Refusal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use sums::{MAX_VALUE, MAX_WEIGHT, Sums};

/// What becomes of coordinates that not every client trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Averaging {
    /// A client that lacks a coordinate counts as one that did not change it (Caldas et al. 2018):
    /// trained by m of C clients, it moves by m/C of their mean.
    ZeroFilled = 0,
    /// The mean of those who trained it.
    #[default]
    Counted = 1,
}

/// What an update weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Weighting {
    /// Its number of examples (McMahan et al. 2017).
    #[default]
    Samples = 0,
    /// The same as any other.
    Uniform = 1,
}

/// How to aggregate, and how much to take from whom.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregatorOptions {
    /// What becomes of coordinates that not every client trained.
    pub averaging: Averaging,
    /// What an update weighs.
    pub weighting: Weighting,
    /// Most bytes of one update.
    pub max_update_bytes: u64,
    /// Most updates on their way at the same time.
    pub max_in_flight: usize,
    /// Most examples that a client may claim, below 2^32.
    pub max_samples: u32,
    /// Most memory that decoding one update may take beside its values, in bytes.
    pub decode_memory: u64,
}

impl Default for AggregatorOptions {
    /// Counted, by samples; 1 GiB and a million examples a client, 64 on their way, 256 MiB.
    fn default() -> Self {
        Self {
            averaging: Averaging::default(),
            weighting: Weighting::default(),
            max_update_bytes: 1 << 30,
            max_in_flight: 64,
            max_samples: 1_000_000,
            decode_memory: 256 << 20,
        }
    }
}

/// What became of bytes from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// The update has not ended yet.
    More,
    /// It was complete and right, and is part of the sums.
    Folded {
        /// Its examples.
        samples: u64,
    },
    /// It was not taken; nothing of it is in the sums.
    Rejected(Rejection),
}

/// What one client was sent.
#[derive(Debug, Clone, PartialEq)]
struct Base {
    choice: Choice,
    scaled: bool,
    selection: Arc<Selection>,
}

/// Sums the updates of one round.
///
/// An update stays encoded until its end record has come and everything is checked; then it is
/// decoded once, and folded into exact sums. So memory is: 24 bytes for each coordinate of the
/// model, one decoded update, at most [`AggregatorOptions::max_in_flight`] encoded ones, and some
/// fifty bytes of bookkeeping for each client expected. The order of arrival does not show in the
/// result, nor does the way clients are spread over aggregators whose [`save`](Self::save)d states
/// are [`merge`](Self::merge)d.
///
/// ```
/// use fedpress_fl::{Aggregator, AggregatorOptions, Broadcast, Choice, Download, Layout, Parameter, Received};
/// use std::sync::Arc;
/// let layout = Arc::new(Layout::from_toml(r#"
///     [groups]
///     [[parameters]]
///     name = "w"
///     axes = ["2"]
/// "#)?);
/// let broadcast = Broadcast {
///     run: 1, round: 0, client: None, seed: 7, choice: Choice::full(), scaled: false,
///     up: fedpress::Spec::lossless(), task: String::new(), exact: vec![],
/// };
/// let model = [Parameter { name: "w".into(), shape: vec![2], values: vec![1.0, 2.0] }];
/// let message = broadcast.encode(&model, &fedpress::Spec::lossless(), 0x5eed)?;
///
/// let download = Download::decode(&message, &Default::default())?;
/// let mut trained = download.base.clone();
/// trained[0].values[1] += 0.5;
/// let update = download.update(3, &trained, 600, 0xfeed)?;
///
/// let mut aggregator = Aggregator::new(layout, 1, 0, AggregatorOptions::default())?;
/// aggregator.expect(3, download.digest, &broadcast.choice, false)?;
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
    partials: BTreeMap<u64, Partial>,
    sums: Vec<Sums>,
    weight: u64,
    worker: ChunkDecoder,
}

impl Aggregator {
    /// Nothing received yet, nobody expected.
    ///
    /// # Errors
    /// `InvalidArgument` if `max_in_flight` or `max_samples` is zero.
    pub fn new(
        layout: Arc<Layout>,
        run: u64,
        round: u64,
        options: AggregatorOptions,
    ) -> Result<Self> {
        if options.max_in_flight == 0 || options.max_samples == 0 {
            return Err(Error::invalid("max_in_flight and max_samples: at least 1 each"));
        }
        let n_values = |i| layout.shape(i).iter().product();
        let sums = (0..layout.params().len()).map(|i| Sums::zeros(n_values(i))).collect();
        let mut decode = DecodeOptions::default();
        decode.memory = options.decode_memory;
        Ok(Self {
            layout,
            run,
            round,
            bases: BTreeMap::new(),
            clients: BTreeMap::new(),
            partials: BTreeMap::new(),
            sums,
            weight: 0,
            worker: ChunkDecoder::new(&decode),
            options,
        })
    }

    /// From now on an update of this client is welcome, trained from the broadcast with this digest.
    ///
    /// # Errors
    /// `InvalidArgument` if the choice does not fit the layout, or the client is expected already.
    pub fn expect(
        &mut self,
        client: u64,
        base: Digest,
        choice: &Choice,
        scaled: bool,
    ) -> Result<()> {
        if self.clients.contains_key(&client) {
            return Err(Error::invalid(format!("client {client} is expected already")));
        }
        if !self.bases.contains_key(&base) {
            let selection = Arc::new(choice.select(&self.layout)?);
            self.bases.insert(base, Base { choice: choice.clone(), scaled, selection });
        }
        self.clients.insert(client, (base, false));
        Ok(())
    }

    /// The next bytes of a client, whose identity the transport vouches for; cut anywhere.
    pub fn receive(&mut self, client: u64, bytes: &[u8]) -> Received {
        let partial = self.partials.remove(&client);
        match self.advance(client, partial, bytes) {
            Ok(received) => received,
            Err((reason, detail)) => Received::Rejected(self.rejection(client, reason, detail)),
        }
    }

    fn advance(
        &mut self,
        client: u64,
        partial: Option<Partial>,
        bytes: &[u8],
    ) -> std::result::Result<Received, Refusal> {
        let base = match self.clients.get(&client) {
            None => return Err((Reason::NotSelected, "not a client of this round".into())),
            Some((_, true)) => {
                return Err((Reason::Duplicate, "its update was taken already".into()));
            }
            Some((base, false)) => *base,
        };
        let mut partial = match partial {
            Some(partial) => partial,
            None => self.begin(&base)?,
        };
        let n_bytes = partial.n_bytes() + bytes.len() as u64;
        if n_bytes > self.options.max_update_bytes {
            let most = self.options.max_update_bytes;
            return Err((Reason::TooLarge, format!("{n_bytes} bytes, at most {most} are taken")));
        }
        if !partial.push(bytes, |update| self.check(client, base, update))? {
            self.partials.insert(client, partial);
            return Ok(Received::More);
        }
        let samples = self.fold(base, partial)?;
        self.clients.insert(client, (base, true));
        Ok(Received::Folded { samples })
    }

    fn begin(&self, base: &Digest) -> std::result::Result<Partial, Refusal> {
        if self.partials.len() >= self.options.max_in_flight {
            let most = self.options.max_in_flight;
            return Err((Reason::Busy, format!("{most} updates are on their way")));
        }
        let selection = &self.bases[base].selection;
        let partial = Partial::new(&self.layout, selection, self.options.decode_memory);
        partial.map_err(|e| (Reason::WrongShape, e.to_string()))
    }

    /// What can be told from the header.
    fn check(
        &self,
        client: u64,
        base: Digest,
        update: &Update,
    ) -> std::result::Result<(), Refusal> {
        let expect = |reason, what: &str, expected: String, found: String| match expected == found {
            true => Ok(()),
            false => Err((reason, format!("{what}: expected {expected}, found {found}"))),
        };
        let found = |number: u64| number.to_string();
        expect(Reason::WrongRound, "run", found(self.run), found(update.run))?;
        expect(Reason::WrongRound, "round", found(self.round), found(update.round))?;
        expect(Reason::WrongClient, "client", found(client), found(update.client))?;
        if base != update.base {
            expect(Reason::WrongBase, "base", base.to_string(), update.base.to_string())?;
            return Err((Reason::WrongBase, "another base".into()));
        }
        let most = u64::from(self.options.max_samples);
        let fits = (self.weight + self.weigh(update)) <= MAX_WEIGHT;
        if update.samples == 0 || update.samples > most || !fits {
            let samples = update.samples;
            return Err((Reason::BadSamples, format!("{samples} examples, 1 to {most} are taken")));
        }
        Ok(())
    }

    fn weigh(&self, update: &Update) -> u64 {
        match self.options.weighting {
            Weighting::Samples => update.samples.min(u64::from(u32::MAX)),
            Weighting::Uniform => 1,
        }
    }

    /// Decodes a complete update, checks every value, and only then adds.
    fn fold(&mut self, base: Digest, partial: Partial) -> std::result::Result<u64, Refusal> {
        let Some(update) = partial.header else {
            return Err((Reason::Malformed, "no header".into()));
        };
        // Others may have been folded since the header was checked.
        self.check(update.client, base, &update)?;
        let weight = self.weigh(&update);
        let mut decoded = partial.decode(&mut self.worker)?;
        let Base { scaled, selection, .. } = &self.bases[&base];
        for (i, (_, values)) in decoded.iter_mut().enumerate() {
            if *scaled {
                let factor = (1.0 / scale(&self.layout, selection, i)) as f32;
                values.iter_mut().for_each(|v| *v *= factor);
            }
            if let Some(at) = values.iter().position(|v| v.is_nan() || v.abs() >= MAX_VALUE) {
                let (name, value) = (&self.layout.params()[i].name, values[at]);
                return Err((Reason::NotFinite, format!("{name:?}, value {at}: {value}")));
            }
        }
        for ((gather, values), sums) in decoded.iter().zip(&mut self.sums) {
            let mut taken = 0;
            for (at, n) in gather.runs() {
                sums.add(at, &values[taken..taken + n], weight as u32);
                taken += n;
            }
        }
        self.weight += weight;
        Ok(update.samples)
    }

    pub(crate) fn rejection(&self, client: u64, reason: Reason, detail: String) -> Rejection {
        Rejection { run: self.run, round: self.round, client, reason, detail }
    }

    /// This client will not finish its update; what has come of it is forgotten.
    pub fn forget(&mut self, client: u64) {
        self.partials.remove(&client);
    }

    /// The layout of the model.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Updates folded so far.
    pub fn n_folded(&self) -> usize {
        self.clients.values().filter(|(_, folded)| *folded).count()
    }

    /// Clients whose update is expected and has not been folded.
    pub fn missing(&self) -> impl Iterator<Item = u64> + '_ {
        self.clients.iter().filter(|(_, (_, folded))| !folded).map(|(client, _)| *client)
    }

    /// The sum of the weights folded so far.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The mean change of parameter `i`, coordinate by coordinate; none where nobody trained it.
    /// Running statistics always average over those who sent them.
    pub fn mean(&self, i: usize) -> Vec<Option<f64>> {
        let counted = self.options.averaging == Averaging::Counted
            || self.layout.params()[i].role == Role::Statistic;
        let sums = &self.sums[i];
        let mean = |(at, own): (usize, &u64)| {
            (*own > 0).then(|| sums.mean(at, if counted { *own } else { self.weight }))
        };
        sums.weights.iter().enumerate().map(mean).collect()
    }
}
