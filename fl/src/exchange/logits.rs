//! [`SampleLogits`]: what a client makes of the server's answer.

use super::header::Logits;
use super::order::{ANSWER, Bench, Part, Refusal, TensorOrder, finite, ids};
use crate::message::{Header, RECORD, check_record, no_header};
use crate::{Error, Result};
use fedpress::{DecodeOptions, Decoder, ErrorKind, Event};
use std::collections::HashMap;

/// The server's logits for samples of one client, by their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleLogits {
    /// Run, round, client and classes.
    pub header: Logits,
    /// The samples, in the order in which they came, none of them twice.
    pub ids: Vec<u32>,
    /// As many as there are classes for each sample.
    pub values: Vec<f32>,
}

impl SampleLogits {
    /// The logits of exactly these samples, in this order.
    ///
    /// # Errors
    /// `InvalidArgument` if one is missing, comes twice, or others are there.
    pub fn in_order(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut rows: HashMap<u32, &[f32]> = HashMap::with_capacity(self.ids.len());
        rows.extend(self.ids.iter().copied().zip(self.values.chunks(self.header.classes.max(1))));
        let mut ordered = Vec::with_capacity(self.values.len());
        for id in ids {
            let row = rows.remove(id);
            let missing = || Error::invalid(format!("no logits for sample {id}, or asked twice"));
            ordered.extend_from_slice(row.ok_or_else(missing)?);
        }
        match rows.into_keys().min() {
            Some(id) => Err(Error::invalid(format!("logits for sample {id}, which is not known"))),
            None => Ok(ordered),
        }
    }
}

/// Takes a whole answer apart. The limit of `options` holds for ids and values, and again for what
/// it takes to decode them.
///
/// # Errors
/// As [`crate::message::decode`]; `Corrupt` also for another kind of message, a tensor that is not
/// due, an id that comes twice, NaN and infinity.
pub fn decode_logits(message: &[u8], options: &DecodeOptions) -> Result<SampleLogits> {
    let mut decoder = Decoder::with_records(options.clone());
    let mut incoming =
        Incoming { bench: Bench::new(options), memory: options.memory, batches: None, found: None };
    let mut input = message;
    while let Some(event) = decoder.next(&mut input)? {
        if matches!(event, Event::End { .. }) && !input.is_empty() {
            return Err(Error::corrupt(format!("{} bytes behind the message", input.len())));
        }
        incoming.event(event)?;
    }
    decoder.finish()?;
    let found = incoming.found.ok_or_else(no_header)?;
    let mut sorted = found.ids.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::corrupt(format!("sample {} comes twice", pair[0]))),
        None => Ok(found),
    }
}

struct Incoming {
    bench: Bench,
    /// What ids and values may still take.
    memory: u64,
    batches: Option<TensorOrder>,
    found: Option<SampleLogits>,
}

impl Incoming {
    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Record { kind: RECORD, body } if self.found.is_none() => {
                let header = Header::logits_from_bytes(&body)?;
                let most = u64::from(u32::MAX);
                self.batches = Some(TensorOrder::new(ANSWER, &[], header.classes, most));
                self.found = Some(SampleLogits { header, ids: Vec::new(), values: Vec::new() });
                Ok(())
            }
            Event::Record { kind, .. } => check_record(kind),
            event => {
                let Some((batches, found)) = self.batches.as_mut().zip(self.found.as_mut()) else {
                    return match event {
                        Event::Tensor(_) | Event::End { .. } => Err(no_header()),
                        _ => Ok(()),
                    };
                };
                take(event, batches, found, &mut self.bench, &mut self.memory)
            }
        }
    }
}

fn take(
    event: Event,
    batches: &mut TensorOrder,
    found: &mut SampleLogits,
    bench: &mut Bench,
    memory: &mut u64,
) -> Result<()> {
    match event {
        Event::Tensor(meta) => {
            if let (Part::Ids, n) = batches.begin(meta.desc()).map_err(as_error)? {
                // Ids twice: sorted once more to look for doubles.
                let needed = n.saturating_mul(8 + 4 * found.header.classes as u64);
                let limit = *memory;
                *memory = limit.checked_sub(needed).ok_or_else(|| {
                    let message = format!("{needed} bytes of logits, the limit has {limit} left");
                    Error::new(ErrorKind::LimitExceeded { limit, needed }, message)
                })?;
            }
        }
        Event::Chunk(chunk) => {
            let elements = bench.decode(&chunk).map_err(as_error)?;
            match batches.part() {
                Part::Ids => found.ids.extend(ids(elements)),
                part => found.values.extend(finite(elements, part).map_err(as_error)?),
            }
        }
        Event::TensorEnd { .. } => batches.end(),
        Event::Manifest(_) => return Err(Error::corrupt("a manifest")),
        Event::End { .. } => drop(batches.finish().map_err(as_error)?),
        _ => {}
    }
    Ok(())
}

/// What is wrong with it, in words: nobody is told, so the number of the reason is of no use.
fn as_error((_, detail): Refusal) -> Error {
    Error::corrupt(detail)
}
