//! [`Partial`]: an update on its way, still encoded.

use crate::message::{Header, RECORD, Reason, Update, check_record};
use crate::submodel::Gather;
use crate::{Layout, Result, Selection};
use fedpress::{ChunkDecoder, DecodeOptions, Decoder, EncodedChunk, Event, TensorMeta};

/// Why an update is refused, before it is known whose rejection that makes.
pub(super) type Refusal = (Reason, String);

/// An update that has not ended: verified chunks, in their encoded form, of tensors that fit.
pub(super) struct Partial {
    decoder: Decoder,
    /// One for each parameter of the submodel that this client was sent.
    gathers: Vec<Gather>,
    names: Vec<String>,
    pub(super) header: Option<Update>,
    n_tensors: usize,
    chunks: Vec<(usize, EncodedChunk)>,
    n_bytes: u64,
}

impl Partial {
    pub(super) fn new(layout: &Layout, selection: &Selection, memory: u64) -> Result<Self> {
        let mut options = DecodeOptions::default();
        options.memory = memory;
        let n = layout.params().len();
        let gathers = (0..n).map(|i| Gather::new(layout, selection, i)).collect::<Result<_>>()?;
        Ok(Self {
            decoder: Decoder::with_records(options),
            gathers,
            names: layout.params().iter().map(|p| p.name.clone()).collect(),
            header: None,
            n_tensors: 0,
            chunks: Vec::new(),
            n_bytes: 0,
        })
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Takes the next piece; true when the update is complete. `check` sees the header first.
    pub(super) fn push(
        &mut self,
        mut piece: &[u8],
        check: impl Fn(&Update) -> std::result::Result<(), Refusal>,
    ) -> std::result::Result<bool, Refusal> {
        self.n_bytes += piece.len() as u64;
        loop {
            let event = self.decoder.next(&mut piece).map_err(malformed)?;
            match event {
                None => return Ok(false),
                Some(Event::Record { kind: RECORD, body }) if self.header.is_none() => {
                    let header = Header::from_bytes(&body).map_err(malformed)?;
                    let Header::Update(update) = header else {
                        return Err(malformed(format!(
                            "expected an update, found {}",
                            header.name()
                        )));
                    };
                    check(&update)?;
                    self.header = Some(update);
                }
                Some(Event::Record { kind, .. }) => check_record(kind).map_err(malformed)?,
                Some(Event::Tensor(_)) if self.header.is_none() => {
                    return Err(malformed(crate::message::no_header()));
                }
                Some(Event::Tensor(meta)) => self.tensor(&meta)?,
                Some(Event::Chunk(chunk)) => self.chunks.push((self.n_tensors - 1, chunk)),
                Some(Event::End { .. }) if !piece.is_empty() => {
                    return Err(malformed(format!("{} bytes behind the update", piece.len())));
                }
                Some(Event::End { .. }) => return self.end().map(|()| true),
                Some(_) => {}
            }
        }
    }

    fn tensor(&mut self, meta: &TensorMeta) -> std::result::Result<(), Refusal> {
        let i = self.n_tensors;
        self.n_tensors += 1;
        let (Some(gather), Some(name)) = (self.gathers.get(i), self.names.get(i)) else {
            return Err(misshapen(format!(
                "{i} parameters expected, {:?} comes after",
                meta.name()
            )));
        };
        let shape = meta.desc().shape.iter().map(|n| usize::try_from(*n).unwrap_or(usize::MAX));
        let shape: Vec<_> = shape.collect();
        let known = meta.n_values().is_some() && meta.dtype().is_lossy_capable();
        if meta.name() != name || shape != gather.shape() || !known {
            let (found, dtype) = (meta.name(), meta.dtype());
            let expected = gather.shape();
            return Err(misshapen(format!(
                "expected {name:?} of shape {expected:?}, found {found:?}, {dtype}, {shape:?}"
            )));
        }
        Ok(())
    }

    fn end(&self) -> std::result::Result<(), Refusal> {
        if self.header.is_none() {
            return Err(malformed(crate::message::no_header()));
        }
        let (expected, found) = (self.gathers.len(), self.n_tensors);
        if expected != found {
            return Err(misshapen(format!("expected {expected} parameters, found {found}")));
        }
        Ok(())
    }

    /// The values of a complete update, parameter by parameter, with where they belong.
    pub(super) fn decode(
        self,
        worker: &mut ChunkDecoder,
    ) -> std::result::Result<Vec<(Gather, Vec<f32>)>, Refusal> {
        let with_room = |gather: Gather| {
            let room = vec![0.0; gather.n_packed()];
            (gather, room)
        };
        let mut decoded: Vec<_> = self.gathers.into_iter().map(with_room).collect();
        for (i, chunk) in self.chunks {
            let at = chunk.first_value() as usize;
            // The decoder has checked that chunks cover the shape exactly.
            let values = &mut decoded[i].1[at..at + chunk.n_values()];
            chunk.add_into(worker, values, 1.0).map_err(malformed)?;
        }
        Ok(decoded)
    }
}

fn malformed(what: impl std::fmt::Display) -> Refusal {
    (Reason::Malformed, what.to_string())
}

fn misshapen(what: String) -> Refusal {
    (Reason::WrongShape, what)
}
