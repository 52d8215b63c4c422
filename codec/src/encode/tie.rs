//! Tensors whose values were there before: equal bytes under two names travel once.

use super::{Encoder, State};
use crate::options::effective_spec;
use crate::random::name_key;
use crate::wire::record::{kind, put_record};
use crate::wire::{TensorDesc, TensorMeta, Tied};
use crate::{DType, Error, Result, Spec, TensorView};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A tensor of the stream that others may be tied to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Original {
    /// Where its record starts, from the preamble.
    pub(super) at: u64,
    pub(super) dtype: DType,
    pub(super) n_values: u64,
    pub(super) n_tied: u32,
}

/// Bytes of elements of all originals of a stream: readers hold them, coded.
const MOST_BYTES: u64 = 1 << 29;
/// Tensors that are tied to one, at most (FORMAT.md, section 4.2).
pub(crate) const MOST_TIED: u32 = 63;
/// Tensors that a sample finds alike and a look at all bytes does not.
const MOST_ALIKE: usize = 4;
/// Words of a tensor's sample.
const SAMPLE: usize = 64;

/// What becomes of each tensor of a list.
pub(super) enum Tie {
    /// Its values travel; `kept` where others are tied to it.
    Sent { kept: bool },
    /// It has the values of this one, before it in the list.
    To(usize),
}

impl Encoder {
    /// A tensor that has the values of another, which was [begun as one to be
    /// kept](Self::begin_kept): it costs a few bytes beside its name, and is decoded like any other. The
    /// caller knows that the values are equal; both have the pipeline of the original, at most 63
    /// tensors have one original, and element type and number of values are its own.
    ///
    /// ```
    /// use fedpress::{DType, EncodeOptions, Encoder, Seeds, Spec, TensorDesc};
    /// let mut encoder = Encoder::new(EncodeOptions::new(Seeds::new(7, 0x5eed)))?;
    /// encoder.begin_kept(&TensorDesc::new("embed", DType::U8, &[4, 2]), &Spec::lossless())?;
    /// encoder.push(&[1, 2, 3, 4, 5, 6, 7, 8])?;
    /// encoder.end()?;
    /// encoder.tie(&TensorDesc::new("head", DType::U8, &[8]), "embed")?;
    /// encoder.finish()?;
    /// let tensors = fedpress::decode(encoder.output(), &Default::default())?;
    /// assert_eq!(tensors[0].data, tensors[1].data);
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn tie(&mut self, desc: &TensorDesc, original: &str) -> Result<()> {
        self.check_between()?;
        let in_tensor = |e: Error| e.in_tensor(&desc.name);
        self.check_tensor(desc, &Spec::none()).map_err(in_tensor)?;
        self.check_tied(desc, original).map_err(in_tensor)?;
        self.take_name(desc);
        self.stream.starts.clear();
        self.put_tied(desc, original)?;
        self.state = State::Between;
        Ok(())
    }

    fn check_tied(&self, desc: &TensorDesc, original: &str) -> Result<()> {
        let Some(found) = self.stream.originals.get(original) else {
            let message = format!("tied to {original:?}, which is no tensor that is kept");
            return Err(Error::invalid(message));
        };
        if (desc.dtype, desc.n_values()?) != (found.dtype, Some(found.n_values)) {
            return Err(Error::invalid(format!("tied to {original:?} of other values")));
        }
        if found.n_tied == MOST_TIED {
            let message = format!("a tensor more than {MOST_TIED} that are tied to {original:?}");
            return Err(Error::invalid(message));
        }
        Ok(())
    }

    /// Appends the record of a tied tensor whose name was taken.
    pub(super) fn put_tied(&mut self, desc: &TensorDesc, original: &str) -> Result<()> {
        self.list(name_key(&desc.name));
        self.stream.starts.push(self.n_bytes());
        let found = self.stream.originals.get_mut(original);
        let found = found.ok_or_else(|| Error::invalid("no tensor that is kept"))?;
        found.n_tied += 1;
        let tied = Tied { desc: desc.clone(), original: found.at };
        put_record(kind::TIED, &mut self.out, |out| {
            tied.write_to(out);
            Ok(())
        })
    }

    /// Notes a tensor that others may be tied to, whose record starts here.
    pub(super) fn note_original(&mut self, meta: &TensorMeta) {
        let Some(n_values) = meta.n_values().filter(|n| meta.kept && *n > 0) else { return };
        let (at, dtype) = (self.n_bytes(), meta.dtype());
        let original = Original { at, dtype, n_values, n_tied: 0 };
        self.stream.kept_bytes += dtype.byte_len_of(n_values).unwrap_or(u64::MAX);
        self.stream.originals.insert(meta.name().to_owned(), original);
    }

    /// Which of these tensors have the bytes, the element type and the pipeline of one before them. A
    /// sample of each is looked at first; what is tied was compared byte by byte.
    pub(super) fn ties(&self, tensors: &[(TensorView<'_>, &Spec)]) -> Vec<Tie> {
        let mut ties: Vec<_> = tensors.iter().map(|_| Tie::Sent { kept: false }).collect();
        if !self.options.tie || tensors.len() < 2 {
            return ties;
        }
        let options = self.options.clone().with_several(true);
        let mut alike: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut n_tied = vec![0; tensors.len()];
        let mut left = MOST_BYTES.saturating_sub(self.stream.kept_bytes);
        for (i, (view, spec)) in tensors.iter().enumerate().filter(|(_, (t, _))| !t.data.is_empty())
        {
            let pipeline = effective_spec(&view.desc(), spec, &options);
            let candidates = alike.entry(sample(view)).or_default();
            let same = |j: &&usize| {
                let (other, spec) = &tensors[**j];
                let known = n_tied[**j] > 0 || other.data.len() as u64 <= left;
                known
                    && n_tied[**j] < MOST_TIED
                    && (other.dtype, other.data) == (view.dtype, view.data)
                    && effective_spec(&other.desc(), spec, &options) == pipeline
            };
            match candidates.iter().find(same).copied() {
                Some(j) => {
                    if n_tied[j] == 0 {
                        left -= view.data.len() as u64;
                        ties[j] = Tie::Sent { kept: true };
                    }
                    n_tied[j] += 1;
                    ties[i] = Tie::To(j);
                }
                None if candidates.len() < MOST_ALIKE => candidates.push(i),
                None => {}
            }
        }
        ties
    }
}

/// A hash of element type, length and a few words of the bytes.
fn sample(view: &TensorView<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (view.dtype, view.data.len()).hash(&mut hasher);
    let words = view.data.len() / 8;
    for i in 0..SAMPLE.min(words) {
        let at = i * words / SAMPLE.min(words) * 8;
        view.data[at..at + 8].hash(&mut hasher);
    }
    view.data[words * 8..].hash(&mut hasher);
    hasher.finish()
}
