//! [`IncomingUpdate`]: an update on its way, still encoded.

use super::Gathers;
use super::Values;
use crate::Layout;
use crate::message::{Header, RECORD, Reason, Update, check_record};
use crate::submodel::Gather;
use fedpress::{
    ChunkDecoder, DType, DecodeOptions, Decoder, EncodedChunk, ErrorKind, Event, TensorDesc,
};
use std::sync::Arc;

/// Why an update is refused, before it is known whose rejection that makes.
pub(super) type Refusal = (Reason, String);

/// The one tensor of an update of integers.
pub(crate) const CODES: &str = "codes";

/// What tensors an update has.
pub(super) enum Expected {
    /// One for each parameter of the submodel that this client was sent.
    Parameters(Gathers),
    /// One of so many bytes, in which codes are packed.
    Codes(usize),
}

/// What an update says.
pub(super) enum Decoded {
    /// Values, parameter by parameter, with where they belong.
    Values(Values),
    /// Packed codes.
    Codes(Vec<u8>),
}

/// An update that has not ended: verified chunks, in their encoded form, of tensors that fit.
pub(super) struct IncomingUpdate {
    decoder: Decoder,
    layout: Arc<Layout>,
    expected: Expected,
    pub(super) header: Option<Update>,
    n_tensors: usize,
    chunks: Vec<(usize, EncodedChunk)>,
    n_bytes: u64,
}

impl IncomingUpdate {
    pub(super) fn new(layout: &Arc<Layout>, expected: Expected, memory: u64) -> Self {
        let mut options = DecodeOptions::default();
        options.memory = memory;
        Self {
            decoder: Decoder::with_records(options),
            layout: layout.clone(),
            expected,
            header: None,
            n_tensors: 0,
            chunks: Vec::new(),
            n_bytes: 0,
        }
    }

    /// What no update of these shapes needs more than: a frame at most doubles raw values (FORMAT.md 7),
    /// chunks of 4,096 values add less than an eighth of a byte each, names may be in a manifest too.
    pub(super) fn most_bytes(&self) -> u64 {
        const HEADER: u64 = 64 << 10;
        const PARAMETER: u64 = 4 << 10;
        let gathers = match &self.expected {
            // A byte where a value has four.
            Expected::Codes(n) => return HEADER + PARAMETER + (*n as u64).saturating_mul(9) / 4,
            Expected::Parameters(gathers) => gathers,
        };
        let values: u64 = gathers.iter().map(|gather| gather.n_packed() as u64).sum();
        let names: u64 = self.layout.params().iter().map(|p| p.name.len() as u64).sum();
        HEADER + PARAMETER * gathers.len() as u64 + 3 * names + values * 9
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
            let event = self.decoder.next(&mut piece).map_err(undecodable)?;
            match event {
                None => return Ok(false),
                Some(Event::Record { kind: RECORD, body }) if self.header.is_none() => {
                    let update = Header::update_from_bytes(&body).map_err(malformed)?;
                    check(&update)?;
                    self.header = Some(update);
                }
                // The decoder holds it to the end: it may say what is known, and no more.
                Some(Event::Manifest(tensors)) => self.manifest(&tensors)?,
                Some(Event::Record { kind, .. }) => check_record(kind).map_err(malformed)?,
                Some(Event::Tensor(_)) if self.header.is_none() => {
                    return Err(malformed(crate::message::no_header()));
                }
                Some(Event::Tensor(meta)) => {
                    self.fits(self.n_tensors, meta.desc())?;
                    self.n_tensors += 1;
                }
                Some(Event::Chunk(chunk)) => self.chunks.push((self.n_tensors - 1, chunk)),
                Some(Event::End { .. }) if !piece.is_empty() => {
                    return Err(malformed(format!("{} bytes behind the update", piece.len())));
                }
                Some(Event::End { .. }) => return self.end().map(|()| true),
                Some(_) => {}
            }
        }
    }

    fn manifest(&self, tensors: &[TensorDesc]) -> std::result::Result<(), Refusal> {
        tensors.iter().enumerate().try_for_each(|(i, desc)| self.fits(i, desc))
    }

    /// Whether this is what tensor `i` of the update looks like.
    fn fits(&self, i: usize, desc: &TensorDesc) -> std::result::Result<(), Refusal> {
        let codes;
        let expected = match &self.expected {
            Expected::Parameters(gathers) => {
                let param = self.layout.params().get(i);
                gathers.get(i).zip(param).map(|(gather, p)| (&p.name[..], gather.shape()))
            }
            Expected::Codes(n) => {
                codes = [*n];
                (i == 0).then_some((CODES, &codes[..]))
            }
        };
        let Some((expected, shape)) = expected else {
            let name = &desc.name;
            return Err(misshapen(format!("{i} tensors expected, {name:?} comes after")));
        };
        let of_type = match &self.expected {
            Expected::Parameters(_) => desc.dtype.is_lossy_capable(),
            Expected::Codes(_) => desc.dtype == DType::U8,
        };
        let found = desc.shape.iter().map(|n| usize::try_from(*n).unwrap_or(usize::MAX));
        let same = desc.name == expected && found.eq(shape.iter().copied());
        if !same || desc.open || !of_type {
            let TensorDesc { name, dtype, shape: found, .. } = desc;
            return Err(misshapen(format!(
                "expected {expected:?} of shape {shape:?}, found {name:?}, {dtype}, {found:?}"
            )));
        }
        Ok(())
    }

    fn end(&self) -> std::result::Result<(), Refusal> {
        if self.header.is_none() {
            return Err(malformed(crate::message::no_header()));
        }
        let expected = match &self.expected {
            Expected::Parameters(gathers) => gathers.len(),
            Expected::Codes(_) => 1,
        };
        let found = self.n_tensors;
        if expected != found {
            return Err(misshapen(format!("expected {expected} tensors, found {found}")));
        }
        Ok(())
    }

    /// What a complete update says.
    pub(super) fn decode(self, worker: &mut ChunkDecoder) -> std::result::Result<Decoded, Refusal> {
        let gathers = match self.expected {
            Expected::Parameters(gathers) => gathers,
            Expected::Codes(n) => {
                let mut codes = vec![0; n];
                for (_, chunk) in self.chunks {
                    let at = chunk.first_value() as usize;
                    let bytes = &mut codes[at..at + chunk.n_values()];
                    chunk.decode(worker, bytes).map_err(undecodable)?;
                }
                return Ok(Decoded::Codes(codes));
            }
        };
        let with_room = |gather: Gather| {
            let room = vec![0.0; gather.n_packed()];
            (gather, room)
        };
        let mut decoded: Vec<_> = gathers.into_iter().map(with_room).collect();
        for (i, chunk) in self.chunks {
            let at = chunk.first_value() as usize;
            // The decoder has checked that chunks cover the shape exactly.
            let values = &mut decoded[i].1[at..at + chunk.n_values()];
            chunk.decode_f32(worker, values).map_err(undecodable)?;
        }
        Ok(Decoded::Values(decoded))
    }
}

/// What the codec found wrong.
fn undecodable(error: fedpress::Error) -> Refusal {
    let too_large = matches!(error.kind(), ErrorKind::LimitExceeded { .. });
    (if too_large { Reason::TooLarge } else { Reason::Malformed }, error.to_string())
}

fn malformed(what: impl std::fmt::Display) -> Refusal {
    (Reason::Malformed, what.to_string())
}

fn misshapen(what: String) -> Refusal {
    (Reason::WrongShape, what)
}
