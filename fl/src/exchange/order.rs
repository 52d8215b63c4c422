//! [`TensorOrder`]: which tensor of a message has to come next, and what it has to look like.

use super::header::label_dtype;
use crate::message::Reason;
use fedpress::{ChunkDecoder, DType, DecodeOptions, EncodedChunk, ErrorKind, TensorDesc};

/// Why a message is refused, before it is known whose rejection that makes.
pub(super) type Refusal = (Reason, String);

/// A tensor of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Ids,
    Labels,
    Features,
    Logits,
}

/// An upload of a client that has none yet.
pub(super) const FIRST_UPLOAD: &[Part] = &[Part::Ids, Part::Labels, Part::Features, Part::Logits];
/// Another upload: labels do not travel again.
pub(super) const LATER_UPLOAD: &[Part] = &[Part::Ids, Part::Features, Part::Logits];
/// The server's answer.
pub(super) const ANSWER: &[Part] = &[Part::Ids, Part::Logits];

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Labels => "labels",
            Self::Features => "features",
            Self::Logits => "logits",
        }
    }

    /// The tensor of batch `batch` with `n` samples.
    pub(super) fn desc(self, batch: u64, n: u64, shape: &[usize], classes: usize) -> TensorDesc {
        let row = shape.iter().map(|d| *d as u64);
        let (dtype, shape) = match self {
            Self::Ids => (DType::U32, vec![n]),
            Self::Labels => (label_dtype(classes), vec![n]),
            Self::Features => (DType::F32, std::iter::once(n).chain(row).collect()),
            Self::Logits => (DType::F32, vec![n, classes as u64]),
        };
        TensorDesc::new(format!("{batch}/{}", self.name()), dtype, &shape)
    }
}

/// Follows the tensors of a message: batch by batch, in each the parts of its kind.
pub(super) struct TensorOrder {
    parts: &'static [Part],
    shape: Vec<usize>,
    classes: usize,
    batch: u64,
    /// Which part is due.
    at: usize,
    /// Samples of this batch, from its ids on.
    n: u64,
    /// Samples of the batches before.
    n_before: u64,
    /// Samples that a message may have.
    most: u64,
}

/// Decodes chunks of any message, one after the other.
pub(super) struct Bench {
    decoder: ChunkDecoder,
    elements: Vec<u8>,
}

impl Bench {
    pub(super) fn new(options: &DecodeOptions) -> Self {
        Self { decoder: ChunkDecoder::new(options), elements: Vec::new() }
    }

    /// The elements of a chunk, little-endian.
    pub(super) fn decode(&mut self, chunk: &EncodedChunk) -> Result<&[u8], Refusal> {
        self.elements.resize(chunk.meta().dtype().byte_len(chunk.n_values()), 0);
        chunk.decode(&mut self.decoder, &mut self.elements).map_err(undecodable)?;
        Ok(&self.elements)
    }
}

impl TensorOrder {
    pub(super) fn new(parts: &'static [Part], shape: &[usize], classes: usize, most: u64) -> Self {
        let shape = shape.to_vec();
        Self { parts, shape, classes, batch: 0, at: 0, n: 0, n_before: 0, most }
    }

    /// A tensor begins: it has to be the part that is due. Its samples and the part.
    pub(super) fn begin(&mut self, desc: &TensorDesc) -> Result<(Part, u64), Refusal> {
        let due = self.parts[self.at];
        if due == Part::Ids {
            self.n = desc.shape.first().copied().unwrap_or(0);
            let most = self.most - self.n_before;
            if self.n > most {
                let n = self.n_before.saturating_add(self.n);
                return Err((
                    Reason::BadSamples,
                    format!("{n} samples, at most {} are taken", self.most),
                ));
            }
        }
        let expected = due.desc(self.batch, self.n, &self.shape, self.classes);
        if *desc != expected || self.n == 0 {
            return Err((self.reason(desc), mismatch(&expected, desc)));
        }
        Ok((due, self.n))
    }

    /// Whether it is a matter of labels, which come with the first upload and no other.
    fn reason(&self, found: &TensorDesc) -> Reason {
        let due = self.parts[self.at];
        let is = |part: Part| found.name == format!("{}/{}", self.batch, part.name());
        if due == Part::Labels && is(Part::Features) {
            return Reason::MissingLabel;
        }
        match !self.parts.contains(&Part::Labels) && is(Part::Labels) {
            true => Reason::SecondLabel,
            false => Reason::WrongShape,
        }
    }

    /// The part that is on its way.
    pub(super) fn part(&self) -> Part {
        self.parts[self.at]
    }

    /// A tensor is complete.
    pub(super) fn end(&mut self) {
        self.at += 1;
        if self.at == self.parts.len() {
            (self.at, self.batch) = (0, self.batch + 1);
            self.n_before += self.n;
        }
    }

    /// The message is complete: not inside a batch, and not without one.
    pub(super) fn finish(&self) -> Result<u64, Refusal> {
        if self.at > 0 {
            let due = self.parts[self.at].name();
            return Err((
                Reason::WrongShape,
                format!("batch {} ends before its {due}", self.batch),
            ));
        }
        match self.n_before {
            0 => Err((Reason::BadSamples, "no samples".into())),
            n => Ok(n),
        }
    }
}

fn mismatch(expected: &TensorDesc, found: &TensorDesc) -> String {
    let say = |desc: &TensorDesc| {
        // A name may be as long as a stranger likes.
        let name: String = desc.name.chars().take(64).collect();
        let open = if desc.open { ", open" } else { "" };
        format!("{name:?}, {}, {:?}{open}", desc.dtype, desc.shape)
    };
    format!("expected {}, found {}", say(expected), say(found))
}

/// What the codec found wrong.
pub(super) fn undecodable(error: fedpress::Error) -> Refusal {
    let too_large = matches!(error.kind(), ErrorKind::LimitExceeded { .. });
    (if too_large { Reason::TooLarge } else { Reason::Malformed }, error.to_string())
}

pub(super) fn malformed(what: impl std::fmt::Display) -> Refusal {
    (Reason::Malformed, what.to_string())
}

/// Little-endian f32, all of them finite.
pub(super) fn finite(elements: &[u8], part: Part) -> Result<impl Iterator<Item = f32>, Refusal> {
    let values = || elements.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    match values().find(|v| !v.is_finite()) {
        Some(value) => Err((Reason::NotFinite, format!("{value} among the {}", part.name()))),
        None => Ok(values()),
    }
}

/// Ids as they travel.
pub(super) fn ids(elements: &[u8]) -> impl Iterator<Item = u32> {
    elements.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b))
}
