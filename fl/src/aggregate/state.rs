//! The state of an aggregator as bytes: to survive a restart, and to join others into a tree.

use super::{Aggregator, AggregatorOptions, Base, MAX_WEIGHT, Weighting, uncounted};
use crate::bytes::{Fields, STATE_VERSION, split_state};
use crate::message::Digest;
use crate::submodel::Gather;
use crate::{Choice, Error, Layout, Result};
use fedpress::{DecodeOptions, EncodeOptions, Seeds, Writer};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The codec record that holds everything but the sums.
const RECORD: u8 = 0xA1;

impl Aggregator {
    /// Everything folded so far, as a codec stream (MESSAGES.md, "State"). Updates that are still on
    /// their way are not part of it: after [`restore`](Self::restore) their clients are
    /// [`missing`](Self::missing), and send again.
    ///
    /// # Errors
    /// `InvalidArgument` beyond about a million clients, or 200,000 with a submodel each: split them
    /// over more aggregators.
    pub fn save(&self) -> Result<Vec<u8>> {
        let seeds = Seeds::new(0, 0).in_round(self.round);
        let mut writer = Writer::new(Vec::new(), EncodeOptions::new(seeds))?;
        writer.record(RECORD, &self.head())?;
        self.taken.write(&mut writer, &self.layout)?;
        Ok(writer.finish()?)
    }

    fn head(&self) -> Vec<u8> {
        let mut out = vec![STATE_VERSION];
        self.options.write_rules(&mut out);
        for field in [self.run, self.round, self.weight, self.n_clipped as u64] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.layout.digest().0);
        out.extend_from_slice(&(self.bases.len() as u32).to_le_bytes());
        for (digest, base) in &self.bases {
            out.extend_from_slice(&digest.0);
            base.choice.write_to(&mut out);
        }
        let number: HashMap<_, _> = self.bases.keys().zip(0u32..).collect();
        out.extend_from_slice(&(self.clients.len() as u32).to_le_bytes());
        for (client, (base, folded)) in &self.clients {
            out.extend_from_slice(&client.to_le_bytes());
            out.extend_from_slice(&number[base].to_le_bytes());
            out.push(u8::from(*folded));
        }
        out
    }

    /// From what [`save`](Self::save) made. The decoded state, 24 bytes for each coordinate of the
    /// model, or 4 for each value of the updates that are kept, counts against the limit of `decode`.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it belongs to another layout or other options;
    /// `LimitExceeded` if its clients are more than [`AggregatorOptions::max_kept_bytes`] has room for.
    pub fn restore(
        bytes: &[u8],
        layout: Arc<Layout>,
        options: AggregatorOptions,
        decode: &DecodeOptions,
    ) -> Result<Self> {
        let (head, stream, rest) = split_state(bytes, RECORD, decode)?;
        if !rest.is_empty() {
            return Err(Error::corrupt(format!("{} bytes behind the state", rest.len())));
        }
        let tensors = fedpress::decode(stream, decode)?;
        let mut fields = Fields(&head);
        let mut aggregator = Self::new(layout, 0, 0, options)?;
        aggregator.read_head(&mut fields)?;
        fields.finish()?;
        let folded = aggregator.gathers_of_folded()?;
        let Self { layout, options, weight, taken, .. } = &mut aggregator;
        taken.read(&tensors, layout, options, *weight, folded)?;
        Ok(aggregator)
    }

    /// The clients that have been folded, with where the values of each belong; nobody where that is
    /// not needed.
    fn gathers_of_folded(&self) -> Result<Vec<(u64, Vec<Gather>)>> {
        if !self.options.averaging.is_robust() {
            return Ok(Vec::new());
        }
        let folded = self.clients.iter().filter(|(_, (_, folded))| *folded);
        let gathers = |(client, (base, _)): (&u64, &(Digest, bool))| {
            let mut gathers = Gather::all(&self.layout, &self.bases[base].choice)?;
            for i in uncounted(&self.layout, gathers.iter()) {
                gathers[i] = gathers[i].nothing();
            }
            Ok((*client, gathers))
        };
        folded.map(gathers).collect()
    }

    fn read_head(&mut self, fields: &mut Fields<'_>) -> Result<()> {
        fields.state_version()?;
        self.options.read_rules(fields)?;
        self.run = fields.u64("run")?;
        self.round = fields.u64("round")?;
        self.weight = fields.u64("sum of weights")?;
        let n_clipped = fields.u64("updates that were clipped")?;
        let (expected, found) = (self.layout.digest(), Digest(fields.array("layout")?));
        if expected != found {
            return Err(Error::invalid(format!("layout: expected {expected}, found {found}")));
        }
        self.read_clients(fields)?;
        self.n_clipped = usize::try_from(n_clipped).unwrap_or(usize::MAX);
        if self.n_clipped > self.n_folded {
            let n = self.n_folded;
            return Err(Error::corrupt(format!("{n_clipped} updates of {n} were clipped")));
        }
        self.check_room(self.clients.len())?;
        self.check_weight()
    }

    fn read_clients(&mut self, fields: &mut Fields<'_>) -> Result<()> {
        let mut digests = Vec::new();
        for _ in 0..fields.u32("number of bases")? {
            let digest = Digest(fields.array("base")?);
            let choice = Choice::read_from(&mut fields.0)?;
            choice.select(&self.layout)?;
            if digests.last().is_some_and(|last| *last >= digest) {
                return Err(Error::corrupt(format!("base {digest} is out of order")));
            }
            self.bases.insert(digest, Base { choice });
            digests.push(digest);
        }
        for _ in 0..fields.u32("number of clients")? {
            let client = fields.u64("client")?;
            let number = fields.u32("base of a client")? as usize;
            let folded = fields.flag("whether a client was folded")?;
            let digest = digests.get(number);
            let digest = digest.ok_or_else(|| Error::corrupt(format!("base {number}")))?;
            if self.clients.last_key_value().is_some_and(|(last, _)| *last >= client) {
                return Err(Error::corrupt(format!("client {client} is out of order")));
            }
            self.clients.insert(client, (*digest, folded));
            self.n_folded += usize::from(folded);
        }
        Ok(())
    }

    /// Whether these clients can weigh this much.
    fn check_weight(&self) -> Result<()> {
        let least = self.n_folded as u64;
        let most_of = |client| match self.options.weighting {
            Weighting::Samples => u64::from(self.options.most_samples(client)),
            Weighting::Uniform => 1,
        };
        let folded = self.clients.iter().filter(|(_, (_, folded))| *folded);
        let most = folded.map(|(client, _)| most_of(*client)).fold(0, u64::saturating_add);
        let most = most.min(MAX_WEIGHT);
        match (least..=most).contains(&self.weight) {
            true => Ok(()),
            false => Err(Error::corrupt(format!(
                "sum of weights of {least} clients: expected {least} to {most}, found {}",
                self.weight
            ))),
        }
    }

    /// Adds what another aggregator of the same round has folded, from what it
    /// [`save`](Self::save)d. All or nothing. While it lasts there is a second aggregator in memory,
    /// and its state decoded.
    ///
    /// # Errors
    /// As [`restore`](Self::restore); `InvalidArgument` for another run or round, for a client that
    /// both have folded ([`Error::is_overlap`]: sums cannot be taken apart, so nothing of the other is
    /// taken), that each expects from another base, for a base that is of two choices, or
    /// when the weights leave their bound.
    pub fn merge(&mut self, bytes: &[u8], decode: &DecodeOptions) -> Result<()> {
        self.add(self.restore_other(bytes, decode)?)
    }

    /// Another aggregator, of the same layout and options, from what it saved.
    pub(crate) fn restore_other(&self, bytes: &[u8], decode: &DecodeOptions) -> Result<Self> {
        Self::restore(bytes, self.layout.clone(), self.options.clone(), decode)
    }

    /// Whom it expects or has folded, and what each was sent.
    pub(crate) fn sent_to(&self) -> impl Iterator<Item = (u64, &Base)> {
        self.clients.iter().map(|(client, (digest, _))| (*client, &self.bases[digest]))
    }

    /// Adds another, but of clients in `unsent` only what was folded: what they would have to answer
    /// to is for this one to know.
    pub(crate) fn add_folded(&mut self, mut other: Self, unsent: &BTreeSet<u64>) -> Result<()> {
        other.clients.retain(|client, (_, folded)| *folded || !unsent.contains(client));
        let used: BTreeSet<Digest> = other.clients.values().map(|(digest, _)| *digest).collect();
        other.bases.retain(|digest, _| used.contains(digest));
        self.add(other)
    }

    fn add(&mut self, other: Self) -> Result<()> {
        let (ours, theirs) = ((self.run, self.round), (other.run, other.round));
        if ours != theirs {
            return Err(Error::invalid(format!(
                "run and round: expected {ours:?}, found {theirs:?}"
            )));
        }
        self.check_disjoint(&other)?;
        let more = other.clients.keys().filter(|client| !self.is_expected(**client)).count();
        self.check_room(self.clients.len() + more)?;
        for (client, (base, folded)) in other.clients {
            let ours = self.clients.entry(client).or_insert((base, false));
            if folded {
                ours.1 = true;
                self.incoming.remove(&client);
            }
        }
        self.n_folded += other.n_folded;
        self.n_clipped += other.n_clipped;
        self.bases.extend(other.bases);
        self.weight += other.weight;
        self.taken.merge(other.taken);
        Ok(())
    }

    /// Whether what another has folded can be added: nothing twice, and from the same bases.
    fn check_disjoint(&self, other: &Self) -> Result<()> {
        for (client, (base, folded)) in &other.clients {
            let Some((our_base, our_folded)) = self.clients.get(client) else { continue };
            if *folded && *our_folded {
                return Err(Error::overlap(*client));
            }
            if base != our_base {
                return Err(Error::invalid(format!(
                    "client {client}: expected base {our_base}, found {base}"
                )));
            }
        }
        let differs = |(digest, base)| self.bases.get(digest).is_some_and(|ours| ours != base);
        if let Some((digest, _)) = other.bases.iter().find(|base| differs(*base)) {
            return Err(Error::invalid(format!("base {digest} is of another choice")));
        }
        let sum = self.weight + other.weight;
        if sum > MAX_WEIGHT {
            let message = format!("sum of weights: expected up to {MAX_WEIGHT}, found {sum}");
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}
