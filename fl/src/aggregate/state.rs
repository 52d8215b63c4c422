//! The state of an aggregator as bytes: to survive a restart, and to join others into a tree.

use super::{Aggregator, AggregatorOptions, Base, Sums};
use crate::bytes::Fields;
use crate::message::Digest;
use crate::{Choice, Error, Layout, Result};
use fedpress::{
    DType, DecodeOptions, Decoder, EncodeOptions, Event, Seeds, Spec, Tensor, TensorView, Writer,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The codec record that holds everything but the sums.
const RECORD: u8 = 0xA1;

/// Version of that record.
const VERSION: u8 = 0;

/// Bits of the largest magnitude that one unit of weight can add to a sum.
const UNIT_BITS: u32 = 91;

impl Aggregator {
    /// Everything folded so far, as a codec stream (MESSAGES.md, "State"). Updates that are still on
    /// their way are not part of it: after [`restore`](Self::restore) their clients are
    /// [`missing`](Self::missing), and send again.
    ///
    /// # Errors
    /// `InvalidArgument` beyond about 300,000 clients: split them over more aggregators.
    pub fn save(&self) -> Result<Vec<u8>> {
        let seeds = Seeds { shared: 0, private: 0, round: self.round, client: 0 };
        let mut writer = Writer::new(Vec::new(), EncodeOptions::new(seeds))?;
        writer.record(RECORD, &self.head())?;
        let lossless = Spec::lossless();
        for (parameter, sums) in self.layout.params().iter().zip(&self.sums) {
            let n = sums.values.len() as u64;
            let values: Vec<u8> = sums.values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let weights: Vec<u8> = sums.weights.iter().flat_map(|w| w.to_le_bytes()).collect();
            let mut put = |kind: &str, dtype, shape: &[u64], data: &[u8]| {
                let name = format!("{kind}/{}", parameter.name);
                writer.tensor(&TensorView { name: &name, dtype, shape, data }, &lossless)
            };
            put("sum", DType::U8, &[n, 16], &values)?;
            put("weight", DType::U64, &[n], &weights)?;
        }
        Ok(writer.finish()?)
    }

    fn head(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.options.averaging as u8, self.options.weighting as u8];
        for field in [self.run, self.round, self.weight] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.layout.digest().0);
        out.extend_from_slice(&(self.bases.len() as u32).to_le_bytes());
        for (digest, base) in &self.bases {
            out.extend_from_slice(&digest.0);
            out.push(u8::from(base.scaled));
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

    /// From what [`save`](Self::save) made.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it belongs to another layout or other options.
    pub fn restore(
        bytes: &[u8],
        layout: Arc<Layout>,
        options: AggregatorOptions,
        decode: &DecodeOptions,
    ) -> Result<Self> {
        let (head, tensors) = read(bytes, decode)?;
        let mut fields = Fields(&head);
        let mut aggregator = Self::new(layout, 0, 0, options)?;
        aggregator.read_head(&mut fields)?;
        fields.finish()?;
        let n_sums = aggregator.sums.len();
        if tensors.len() != 2 * n_sums {
            let found = tensors.len();
            return Err(Error::corrupt(format!("expected {} tensors, found {found}", 2 * n_sums)));
        }
        let most = aggregator.weight;
        for (i, pair) in tensors.chunks_exact(2).enumerate() {
            let name = &aggregator.layout.params()[i].name;
            let read = read_sums(pair, name, aggregator.sums[i].values.len(), most);
            aggregator.sums[i] = read.map_err(|e| e.in_parameter(name))?;
        }
        Ok(aggregator)
    }

    fn read_head(&mut self, fields: &mut Fields<'_>) -> Result<()> {
        let version = fields.u8("version of the state")?;
        let kinds = [fields.u8("averaging")?, fields.u8("weighting")?];
        let expected = [self.options.averaging as u8, self.options.weighting as u8];
        if version != VERSION {
            return Err(Error::corrupt(format!("expected state version 0, found {version}")));
        }
        if kinds != expected {
            return Err(Error::invalid(format!(
                "averaging and weighting: expected {expected:?}, found {kinds:?}"
            )));
        }
        self.run = fields.u64("run")?;
        self.round = fields.u64("round")?;
        self.weight = fields.u64("sum of weights")?;
        if self.weight > super::MAX_WEIGHT {
            return Err(Error::corrupt(format!("sum of weights {}", self.weight)));
        }
        let (expected, found) = (self.layout.digest(), Digest(fields.array("layout")?));
        if expected != found {
            return Err(Error::invalid(format!("layout: expected {expected}, found {found}")));
        }
        let mut digests = Vec::new();
        for _ in 0..fields.u32("number of bases")? {
            let digest = Digest(fields.array("base")?);
            let scaled = fields.u8("whether a base is scaled")? != 0;
            let choice = Choice::read_from(&mut fields.0)?;
            let selection = Arc::new(choice.select(&self.layout)?);
            self.bases.insert(digest, Base { choice, scaled, selection });
            digests.push(digest);
        }
        for _ in 0..fields.u32("number of clients")? {
            let client = fields.u64("client")?;
            let number = fields.u32("base of a client")? as usize;
            let folded = fields.u8("whether a client was folded")? != 0;
            let digest = digests.get(number);
            let digest = digest.ok_or_else(|| Error::corrupt(format!("base {number}")))?;
            self.clients.insert(client, (*digest, folded));
        }
        Ok(())
    }

    /// Adds what another aggregator of the same round has folded, from what it
    /// [`save`](Self::save)d. All or nothing.
    ///
    /// # Errors
    /// As [`restore`](Self::restore); `InvalidArgument` for another run or round, for a client that
    /// both have folded, or when the weights leave their bound.
    pub fn merge(&mut self, bytes: &[u8], decode: &DecodeOptions) -> Result<()> {
        let other = Self::restore(bytes, self.layout.clone(), self.options.clone(), decode)?;
        let (ours, theirs) = ((self.run, self.round), (other.run, other.round));
        if ours != theirs {
            return Err(Error::invalid(format!(
                "run and round: expected {ours:?}, found {theirs:?}"
            )));
        }
        let folded = |of: &BTreeMap<u64, (Digest, bool)>, client| {
            of.get(client).is_some_and(|(_, folded)| *folded)
        };
        let mut theirs = other.clients.keys();
        if let Some(client) = theirs.find(|c| folded(&self.clients, c) && folded(&other.clients, c))
        {
            return Err(Error::invalid(format!("client {client} was folded by both")));
        }
        if self.weight + other.weight > super::MAX_WEIGHT {
            let sum = self.weight + other.weight;
            return Err(Error::invalid(format!("sum of weights {sum}")));
        }
        for (client, (base, folded)) in other.clients {
            let ours = self.clients.entry(client).or_insert((base, false));
            if folded {
                *ours = (base, true);
                self.partials.remove(&client);
            }
        }
        self.bases.extend(other.bases);
        self.weight += other.weight;
        self.sums.iter_mut().zip(&other.sums).for_each(|(ours, theirs)| ours.merge(theirs));
        Ok(())
    }
}

/// The head record and the tensors of a state.
fn read(bytes: &[u8], options: &DecodeOptions) -> Result<(Vec<u8>, Vec<Tensor>)> {
    let mut decoder = Decoder::with_records(options.clone());
    let mut input = bytes;
    loop {
        match decoder.next(&mut input)? {
            Some(Event::Record { kind: RECORD, body }) => {
                return Ok((body, fedpress::decode(bytes, options)?));
            }
            Some(Event::Stream { .. }) => {}
            _ => return Err(Error::corrupt("not the state of an aggregator")),
        }
    }
}

fn read_sums(pair: &[Tensor], name: &str, n: usize, most: u64) -> Result<Sums> {
    let [values, weights] = pair else { return Err(Error::corrupt("a sum without its weight")) };
    let fits = values.name == format!("sum/{name}")
        && (values.dtype, &values.shape[..]) == (DType::U8, &[n as u64, 16])
        && weights.name == format!("weight/{name}")
        && (weights.dtype, &weights.shape[..]) == (DType::U64, &[n as u64]);
    if !fits {
        let found = (&values.name, &values.shape, &weights.name, &weights.shape);
        return Err(Error::corrupt(format!("expected {n} sums and weights, found {found:?}")));
    }
    let values = values.data.as_chunks::<16>().0.iter().map(|b| i128::from_le_bytes(*b));
    let weights = weights.data.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b));
    let sums = Sums { values: values.collect(), weights: weights.collect() };
    // What could not have come from updates could overflow later.
    let possible = |(value, weight): (&i128, &u64)| {
        *weight <= most && value.unsigned_abs() <= u128::from(*weight) << UNIT_BITS
    };
    match sums.values.iter().zip(&sums.weights).position(|pair| !possible(pair)) {
        Some(at) => Err(Error::corrupt(format!("sum {at} is larger than its weight allows"))),
        None => Ok(sums),
    }
}
