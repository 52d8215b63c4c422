//! The pipeline as the user writes it: stages joined by `|`.

use crate::bytes::Cursor;
use crate::entropy::Lossless;
use crate::quantize::{Quantizer, Uniform};
use crate::stage::{Options, Stage};
use crate::subsample::Subsample;
use crate::transform::{Hadamard, Kashin, Transform};
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A pipeline: transform, subsample, quantize, lossless stage, each of them optional.
///
/// As text, stages stand in that order (Caldas et al. 2018) and are joined by `|`; each has a
/// name, a value and options: `name=value,option=value,flag`.
///
/// | stage | meaning |
/// |---|---|
/// | `identity` | no transform |
/// | `hadamard[,block=4096]` | random signs and a Walsh-Hadamard transform in blocks of 256 to 32768 |
/// | `kashin[,lambda=1.25,iterations=3,eta=0.9,delta=1,block=4096,clip]` | Kashin representation in a frame of redundancy lambda, 1 to 2; `clip` bounds it and makes it biased |
/// | `subsample=S` | keep the fraction S of the coefficients, chosen by the seed |
/// | `q=Q[,nearest,block=4096]` | Q bits a coefficient, 1 to 16: 2^Q levels between the smallest and the largest of a block; stochastic rounding, or to the nearest level |
/// | `shuffle` | transpose the bytes of elements (only without `q`) |
/// | `zstd[=1]` | zstd level -7 to 22, for each chunk that gets smaller by it |
/// | `none` | no stage at all |
/// | `lossless` | the same as `shuffle\|zstd` |
///
/// The name of a [preset](PRESETS) stands for its spec. Printing is canonical: what parses to the
/// same pipeline prints the same, and a printed spec parses to itself.
///
/// ```
/// use fedpress::Spec;
/// let spec: Spec = " hadamard,block=4096 | q=4 | zstd=1".parse()?;
/// assert_eq!(spec.to_string(), "hadamard|q=4|zstd");
/// assert!(spec.is_lossy() && spec.is_unbiased());
/// assert_eq!(spec, Spec::hadamard().quantized(4)?.zstd(1)?);
/// # Ok::<(), fedpress::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub(crate) transform: Transform,
    pub(crate) subsample: Option<Subsample>,
    pub(crate) quantizer: Option<Quantizer>,
    pub(crate) lossless: Lossless,
}

/// A pipeline with a name.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Stands for the spec wherever a spec is parsed.
    pub name: &'static str,
    /// The spec it stands for.
    pub spec: &'static str,
    /// What it is good for, in a sentence.
    pub purpose: &'static str,
}

/// The presets, from exact to smallest.
pub const PRESETS: &[Preset] = &[
    Preset { name: "lossless", spec: "shuffle|zstd", purpose: "every bit back" },
    Preset { name: "careful", spec: "hadamard|q=8|zstd", purpose: "weights, when in doubt" },
    Preset { name: "balanced", spec: "hadamard|q=4|zstd", purpose: "weights, server to clients" },
    Preset {
        name: "spread",
        spec: "kashin|q=2|zstd",
        purpose: "the paper's spread representation at few bits",
    },
    Preset {
        name: "uplink",
        spec: "hadamard|subsample=0.5|q=2|zstd",
        purpose: "updates, averaged over clients (each with its own seed) or rounds",
    },
    Preset {
        name: "tiny",
        spec: "hadamard|subsample=0.25|q=1|zstd",
        purpose: "updates of very many clients, likewise",
    },
    Preset {
        name: "features",
        spec: "identity|q=4,nearest|zstd",
        purpose: "sparse activations; biased",
    },
];

impl Spec {
    fn empty(transform: Transform) -> Self {
        Self { transform, subsample: None, quantizer: None, lossless: Lossless::default() }
    }

    /// No stage at all: the bytes as they are.
    pub fn none() -> Self {
        Self::empty(Transform::Identity)
    }

    /// Byte shuffle and zstd: what small tensors, integers and f64 get.
    pub fn lossless() -> Self {
        Self { lossless: Lossless { shuffle: true, zstd: Some(1) }, ..Self::none() }
    }

    /// Starts with no transform; the same as [`none`](Self::none) until more is added.
    pub fn identity() -> Self {
        Self::none()
    }

    /// Starts with the randomized Hadamard transform in blocks of 4096.
    pub fn hadamard() -> Self {
        Self::empty(Transform::Hadamard(Hadamard::default()))
    }

    /// Starts with Kashin's representation of the given redundancy, 1 to 2.
    pub fn kashin(lambda: f32) -> Result<Self> {
        Ok(Self::empty(Transform::Kashin(Kashin::with_lambda(lambda)?)))
    }

    /// Keeps a fraction of the coefficients, above 0 and up to 1.
    pub fn subsampled(self, fraction: f32) -> Result<Self> {
        Self { subsample: Some(Subsample::new(fraction)?), ..self }.ordered()
    }

    /// Quantizes to `q` bits, 1 to 16, with unbiased stochastic rounding.
    pub fn quantized(self, q: u8) -> Result<Self> {
        let quantizer = Quantizer::Uniform(Uniform::new(q, false)?);
        Self { quantizer: Some(quantizer), ..self }.ordered()
    }

    /// Quantizes to `q` bits, 1 to 16, rounding to the nearest level (biased).
    pub fn quantized_nearest(self, q: u8) -> Result<Self> {
        let quantizer = Quantizer::Uniform(Uniform::new(q, true)?);
        Self { quantizer: Some(quantizer), ..self }.ordered()
    }

    /// Ends with zstd at a level from -7 to 22.
    pub fn zstd(self, level: i8) -> Result<Self> {
        let lossless = Lossless { zstd: Some(Lossless::level(level)?), ..self.lossless };
        Self { lossless, ..self }.ordered()
    }

    fn ordered(self) -> Result<Self> {
        if self.lossless.shuffle && self.is_lossy() {
            return Err(Error::invalid(
                "shuffle is for lossless pipelines: codes have no bytes to transpose",
            ));
        }
        Ok(self)
    }

    /// Whether decoded values may differ from the original in any bit.
    pub fn is_lossy(&self) -> bool {
        self.transform != Transform::Identity
            || self.subsample.is_some()
            || self.quantizer.is_some()
    }

    /// Whether the expectation of the decoded values, over the seeds, is the original: true
    /// unless something rounds to nearest or clips. That is up to the rounding of f32 arithmetic
    /// and, for f16 and bf16 tensors, up to the rounding of what is decoded to their precision and
    /// range.
    pub fn is_unbiased(&self) -> bool {
        !self.transform.is_biased() && !self.quantizer.as_ref().is_some_and(Quantizer::is_biased)
    }

    /// How often a value of q bits goes into one of 32, over the fraction that is kept: the ratio that
    /// papers give (Caldas et al. 2018). It leaves out what a redundant frame, ranges,
    /// padding and headers cost and what a lossless stage saves; what a stream takes is known when it
    /// is written.
    ///
    /// ```
    /// let spec: fedpress::Spec = "hadamard|subsample=0.25|q=8".parse()?;
    /// assert_eq!(spec.formula_ratio(), 16.0);
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn formula_ratio(&self) -> f64 {
        let kept = self.subsample.as_ref().map_or(1.0, |subsample| f64::from(subsample.fraction()));
        let bits = self.quantizer.as_ref().map_or(32.0, Quantizer::bits);
        32.0 / (bits * kept)
    }

    /// Whether decoding needs the shared seed.
    pub(crate) fn is_seeded(&self) -> bool {
        self.transform.is_seeded()
            || self.subsample.is_some()
            || self.quantizer.as_ref().is_some_and(Quantizer::is_seeded)
    }

    /// The stages on the wire: a count, then each number with its parameters.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.push(0);
        let mut count = self.transform.write_to(out);
        count += put(self.subsample.as_ref(), out);
        count += self.quantizer.as_ref().map_or(0, |q| q.write_to(out));
        count += self.lossless.write_to(out);
        out[at] = count;
    }

    /// The stages back; wrong order or repetition is corrupt, an unknown number unsupported.
    pub(crate) fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let count = cursor.u8("number of stages")?;
        let mut spec = Self::none();
        let mut last = 0;
        for _ in 0..count {
            let id = cursor.u8("stage")?;
            if id <= last {
                return Err(Error::corrupt(format!("stage {id:#04x} after stage {last:#04x}")));
            }
            // The high half is the slot: a pipeline has at most one transform, one subsampling,
            // one quantizer.
            if id >> 4 == last >> 4 && last != 0 && id >> 4 < 3 {
                return Err(Error::corrupt(format!("stage {id:#04x} beside stage {last:#04x}")));
            }
            last = id;
            spec.read_stage(id, cursor)?;
        }
        spec.ordered().map_err(|_| Error::corrupt("shuffle in a lossy pipeline"))
    }

    fn read_stage(&mut self, id: u8, cursor: &mut Cursor<'_>) -> Result<()> {
        if let Some(transform) = Transform::read_from(id, cursor)? {
            self.transform = transform;
        } else if id == Subsample::ID {
            self.subsample = Some(Subsample::read_from(cursor)?);
        } else if let Some(quantizer) = Quantizer::read_from(id, cursor)? {
            self.quantizer = Some(quantizer);
        } else if !self.lossless.read_from(id, cursor)? {
            return Err(Error::unsupported(
                format!("stage {id:#04x}"),
                "the stages of FORMAT.md, version 0.1",
            ));
        }
        Ok(())
    }
}

/// Writes a stage if it is there; returns how many that were.
pub(crate) fn put<S: Stage>(stage: Option<&S>, out: &mut Vec<u8>) -> u8 {
    let Some(stage) = stage else { return 0 };
    out.push(S::ID);
    stage.write_to(out);
    1
}

/// Longest spec, in bytes: many times what names every stage with every option.
const MAX_TEXT: usize = 4096;

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > MAX_TEXT {
            return Err(Error::invalid(format!(
                "a spec of {} bytes, at most {MAX_TEXT} are allowed",
                text.len()
            )));
        }
        let text = text.trim();
        if let Some(preset) = PRESETS.iter().find(|p| p.name == text) {
            return preset.spec.parse();
        }
        if text == "none" {
            return Ok(Self::none());
        }
        let mut spec = Self::none();
        let mut last = 0;
        for part in text.split('|') {
            let mut options = Options::split(part);
            let slot = spec.parse_stage(&mut options)?;
            if slot <= last {
                return Err(Error::invalid(format!(
                    "spec {text:?}: {:?} stands too late or twice; the order is transform, subsample, q, shuffle, zstd",
                    options.name
                )));
            }
            last = slot;
        }
        spec.ordered()
    }
}

impl Spec {
    /// Parses one stage into its place; returns the place.
    fn parse_stage(&mut self, options: &mut Options<'_>) -> Result<u8> {
        if let Some(transform) = Transform::parse(options)? {
            self.transform = transform;
            return Ok(1);
        }
        if options.name == Subsample::NAME {
            self.subsample = Some(Subsample::parse(options)?);
            return Ok(2);
        }
        if let Some(quantizer) = Quantizer::parse(options)? {
            self.quantizer = Some(quantizer);
            return Ok(3);
        }
        self.lossless.parse(options)?.ok_or_else(|| {
            let stages =
                [Transform::NAMES, &[Subsample::NAME], Quantizer::NAMES, Lossless::NAMES].concat();
            let presets: Vec<_> = PRESETS.iter().map(|p| p.name).collect();
            Error::invalid(format!(
                "unknown stage {:?}; the stages are {}; a spec may also be \"none\" or a preset: {}",
                options.name,
                stages.join(", "),
                presets.join(", ")
            ))
        })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::none() {
            return f.write_str("none");
        }
        let mut bar = "";
        if self.is_lossy() {
            self.transform.print(f)?;
            bar = "|";
        }
        if let Some(subsample) = &self.subsample {
            f.write_str(bar)?;
            subsample.print(f)?;
        }
        if let Some(quantizer) = &self.quantizer {
            f.write_str(bar)?;
            quantizer.print(f)?;
        }
        self.lossless.print(bar, f)
    }
}
