//! [`IncomingUpload`]: an upload on its way, checked as far as it has come.

use super::header::Features;
use super::options::StoreOptions;
use super::order::{
    Bench, FIRST_UPLOAD, LATER_UPLOAD, Part, Refusal, TensorOrder, finite, ids, malformed,
    undecodable,
};
use super::samples::{Samples, Table, sum};
use super::sink::Sink;
use crate::Error;
use crate::message::{Header, RECORD, Reason, check_record, no_header};
use fedpress::{DecodeOptions, Decoder, EncodedChunk, Event};
use std::collections::HashSet;

/// Why an upload goes no further.
pub(super) enum Fault {
    /// The client's mistake.
    Refused(Refusal),
    /// Ours, or the disk's.
    Failed(Error),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What of the store an upload is held against.
pub(super) struct Context<'a> {
    pub(super) options: &'a StoreOptions,
    /// What the client sent before.
    pub(super) known: Option<&'a Samples>,
    /// Bytes of features that may be in memory, those of this upload included; none: they are not.
    pub(super) room: Option<u64>,
    pub(super) bench: &'a mut Bench,
}

/// An upload that has not ended.
pub(super) struct IncomingUpload {
    pub(super) round: u64,
    client: u64,
    decoder: Decoder,
    n_bytes: u64,
    /// From the header on.
    header: Option<(Features, TensorOrder)>,
    pub(super) table: Table,
    seen: HashSet<u32>,
    /// The features of a sample that are there so far.
    sample: Vec<u8>,
    sink: Sink,
    /// Bytes of features that are in memory, or will be when the batch is complete.
    pub(super) claimed: u64,
}

impl IncomingUpload {
    pub(super) fn new(client: u64, round: u64, options: &StoreOptions, sink: Sink) -> Self {
        let mut decode = DecodeOptions::default();
        decode.memory = options.decode_memory;
        Self {
            round,
            client,
            decoder: Decoder::with_records(decode),
            n_bytes: 0,
            header: None,
            table: Table::default(),
            seen: HashSet::new(),
            sample: Vec::new(),
            sink,
            claimed: 0,
        }
    }

    /// Takes the next piece; true when the upload is complete.
    pub(super) fn push(
        &mut self,
        mut piece: &[u8],
        context: &mut Context<'_>,
    ) -> Result<bool, Fault> {
        self.n_bytes = self.n_bytes.saturating_add(piece.len() as u64);
        let most = context.options.max_message_bytes;
        if self.n_bytes > most {
            let detail = format!("{} bytes, at most {most} are taken", self.n_bytes);
            return Err((Reason::TooLarge, detail).into());
        }
        loop {
            match self.decoder.next(&mut piece).map_err(undecodable)? {
                None => return Ok(false),
                Some(Event::End { .. }) if !piece.is_empty() => {
                    return Err(malformed(format!("{} bytes behind it", piece.len())).into());
                }
                Some(Event::End { .. }) => return self.end(context).map(|()| true),
                Some(event) => self.event(event, context)?,
            }
        }
    }

    fn event(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Fault> {
        match event {
            Event::Record { kind: RECORD, body } if self.header.is_none() => {
                let header = Header::features_from_bytes(&body).map_err(malformed)?;
                self.check(&header, context.options)?;
                let first = context.known.is_none();
                let parts = if first { FIRST_UPLOAD } else { LATER_UPLOAD };
                let most = u64::from(context.options.max_samples);
                let batches = TensorOrder::new(parts, &header.shape, header.classes, most);
                self.header = Some((header, batches));
            }
            Event::Record { kind, .. } => check_record(kind).map_err(malformed)?,
            // The decoder would hold it to the end.
            Event::Manifest(_) => return Err(malformed("a manifest").into()),
            Event::Tensor(meta) => {
                let (_, batches) = self.header.as_mut().ok_or_else(|| malformed(no_header()))?;
                let (part, n) = batches.begin(meta.desc())?;
                if part == Part::Features {
                    self.claim(n, context)?;
                }
            }
            Event::Chunk(chunk) => self.chunk(&chunk, context)?,
            Event::TensorEnd { .. } => {
                if let Some((_, batches)) = &mut self.header {
                    batches.end();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What can be told from the header.
    fn check(&self, header: &Features, options: &StoreOptions) -> Result<(), Refusal> {
        let same = |reason, what: &str, expected: u64, found: u64| match expected == found {
            true => Ok(()),
            false => Err((reason, format!("{what}: expected {expected}, found {found}"))),
        };
        same(Reason::WrongRound, "run", options.run, header.run)?;
        same(Reason::WrongRound, "round", self.round, header.round)?;
        same(Reason::WrongClient, "client", self.client, header.client)?;
        let (expected, found) = (options.classes as u64, header.classes as u64);
        same(Reason::WrongShape, "classes", expected, found)?;
        match options.shape == header.shape {
            true => Ok(()),
            false => {
                let (expected, found) = (&options.shape, &header.shape);
                let detail = format!("shape: expected {expected:?}, found {found:?}");
                Err((Reason::WrongShape, detail))
            }
        }
    }

    /// Features of `n` samples more are to come: whether there is room.
    fn claim(&mut self, n: u64, context: &Context<'_>) -> Result<(), Refusal> {
        let Some(room) = context.room else { return Ok(()) };
        let needed = n.saturating_mul(context.options.sample_bytes() as u64);
        let claimed = self.claimed.saturating_add(needed);
        if claimed > room {
            let detail = format!("{claimed} bytes of features, there is room for {room}");
            return Err((Reason::TooLarge, detail));
        }
        self.claimed = claimed;
        Ok(())
    }

    fn chunk(&mut self, chunk: &EncodedChunk, context: &mut Context<'_>) -> Result<(), Fault> {
        let Some((_, batches)) = &self.header else { return Ok(()) };
        let part = batches.part();
        let elements = context.bench.decode(chunk)?;
        match part {
            Part::Ids => {
                for id in ids(elements) {
                    if context.known.is_some_and(|known| known.row(id).is_none()) {
                        return Err((Reason::UnknownSample, format!("sample {id}")).into());
                    }
                    if !self.seen.insert(id) {
                        return Err((Reason::RepeatedSample, format!("sample {id}")).into());
                    }
                    self.table.ids.push(id);
                }
            }
            Part::Labels => {
                let labels = labels(elements, chunk.meta().dtype().byte_len(1));
                let classes = context.options.classes;
                for label in labels {
                    if usize::from(label) >= classes {
                        let detail = format!("label {label} of {classes} classes");
                        return Err((Reason::BadLabel, detail).into());
                    }
                    self.table.labels.push(label);
                }
            }
            Part::Features => {
                drop(finite(elements, part)?);
                let n = context.options.sample_bytes();
                put_samples(elements, n, &mut self.sample, &mut self.table.sums, &mut self.sink)?;
            }
            Part::Logits => self.table.logits.extend(finite(elements, part)?),
        }
        Ok(())
    }

    fn end(&mut self, context: &Context<'_>) -> Result<(), Fault> {
        let (_, batches) = self.header.as_ref().ok_or_else(|| malformed(no_header()))?;
        batches.finish()?;
        let Some(known) = context.known else { return Ok(()) };
        if let Some(id) = known.ids().iter().find(|id| !self.seen.contains(id)) {
            return Err((Reason::MissingSample, format!("sample {id}")).into());
        }
        let label = |id: &u32| known.row(*id).map_or(0, |row| known.label(row));
        self.table.labels = self.table.ids.iter().map(label).collect();
        Ok(())
    }

    /// Header, table and features of a complete upload.
    pub(super) fn into_parts(self) -> Option<(Features, Table, Sink)> {
        self.header.map(|(header, _)| (header, self.table, self.sink))
    }
}

/// One or two bytes each.
fn labels(elements: &[u8], size: usize) -> impl Iterator<Item = u16> {
    elements.chunks(size).map(|b| u16::from_le_bytes([b[0], b.get(1).copied().unwrap_or(0)]))
}

/// Cuts elements into samples of `n` bytes, the first of which may have begun before.
fn put_samples(
    mut elements: &[u8],
    n: usize,
    begun: &mut Vec<u8>,
    sums: &mut Vec<u64>,
    sink: &mut Sink,
) -> crate::Result<()> {
    while !elements.is_empty() {
        let (head, rest) = elements.split_at(elements.len().min(n - begun.len()));
        elements = rest;
        let whole = match begun.is_empty() && head.len() == n {
            true => head,
            false => {
                begun.extend_from_slice(head);
                &begun[..]
            }
        };
        if whole.len() < n {
            return Ok(());
        }
        sums.push(sum(whole));
        sink.put(whole)?;
        begun.clear();
    }
    Ok(())
}
