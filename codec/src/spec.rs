//! The pipeline as the user writes it: stages joined by `|`.

use crate::basis::{Basis, Hadamard, Identity, Kashin, Rotation};
use crate::code::{LloydMax, MaxError, Quantizer, Raw, Step, Trellis, Uniform};
use crate::entropy::Lossless;
use crate::select::Subsample;
use crate::stage::{Entry, Options, Stage, get, put};
use crate::wire::bytes::Cursor;
use crate::{Error, PRESETS, Result, presets};
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
/// | `rotation[,levels=3]` | random signs and Walsh-Hadamard transforms that mix all values of a group with each other, in 2 or 3 levels |
/// | `subsample=S` | keep the fraction S of the coefficients, chosen by the seed |
/// | `q=Q[,nearest,block=4096]` | Q bits a coefficient, 1 to 16: 2^Q levels between the smallest and the largest of a block; stochastic rounding, or to the nearest level |
/// | `lm=Q` | Q bits a coefficient, 1 to 8: the 2^Q levels that suit Gaussian numbers, one scale a group; unbiased behind `rotation` |
/// | `step=R[,biased]` | R bits a coefficient, .05 to 12 in steps of .001: multiples of one step with subtractive dither and entropy coding, for values with heavy tails or many zeros, as they are, and for feature maps, of which each value tells of those beside it; `biased`: to the nearest, zeros stay zeros |
/// | `max-error=E` | every value within E of the original, a decimal number such as .001; of values as they are. Groups in which floats are too far apart for that go without loss, as do those that hold NaN or infinity |
/// | `trellis=R[,biased]` | R bits a coefficient, .1 to 12 in steps of .001: trellis-coded quantization with entropy coding, for Gaussian numbers, one scale a group; unbiased behind `rotation`, unless `biased` asks for the least error |
/// | `shuffle` | transpose the bytes of elements (only without `q`) |
/// | `zstd[=1]` | zstd level -7 to 22, for each chunk that gets smaller by it |
/// | `none` | no stage at all |
/// | `lossless` | the same as `shuffle\|zstd` |
///
/// Two lossy pipelines may be joined by `or`: each group of values takes the one by which it is expected to
/// have the smaller error. That is known of `trellis` and `lm` behind `rotation`, and of `step` without a
/// transform; their rates should be equal.
///
/// The name of a [preset](crate::PRESETS) stands for its spec, and with `small` and `auto` the rate may follow, and
/// that the least error is asked for: `auto|rate=0.5|biased`. Printing is canonical: what parses to the
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
    pub(crate) basis: Basis,
    pub(crate) subsample: Option<Subsample>,
    pub(crate) quantizer: Quantizer,
    pub(crate) lossless: Lossless,
    /// Number of the first stage that this crate does not know, in a stream that was
    /// read.
    pub(crate) unknown: Option<u8>,
    /// Another one, lossy as this one is, which a group takes if it is expected to have the smaller
    /// error by it.
    pub(crate) or: Option<Box<Spec>>,
}

impl Spec {
    fn empty(basis: Basis) -> Self {
        Self {
            basis,
            subsample: None,
            quantizer: Quantizer::default(),
            lossless: Lossless::default(),
            unknown: None,
            or: None,
        }
    }

    /// No stage at all: the bytes as they are.
    pub fn none() -> Self {
        Self::empty(Basis::default())
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
        Self::empty(Basis::Hadamard(Hadamard::default()))
    }

    /// Starts with Kashin's representation of the given redundancy, 1 to 2.
    pub fn kashin(lambda: f32) -> Result<Self> {
        Ok(Self::empty(Basis::Kashin(Kashin::with_lambda(lambda)?)))
    }

    /// Keeps a fraction of the coefficients, above 0 and up to 1.
    pub fn subsampled(self, fraction: f32) -> Result<Self> {
        Self { subsample: Some(Subsample::new(fraction)?), ..self }.ordered()
    }

    /// Quantizes to `q` bits, 1 to 16, with unbiased stochastic rounding.
    pub fn quantized(self, q: u8) -> Result<Self> {
        let quantizer = Quantizer::Uniform(Uniform::new(q, false)?);
        Self { quantizer, ..self }.ordered()
    }

    /// Quantizes to `q` bits, 1 to 16, rounding to the nearest level (biased).
    pub fn quantized_nearest(self, q: u8) -> Result<Self> {
        let quantizer = Quantizer::Uniform(Uniform::new(q, true)?);
        Self { quantizer, ..self }.ordered()
    }

    /// Ends with zstd at a level from -7 to 22.
    pub fn zstd(self, level: i8) -> Result<Self> {
        let lossless = Lossless { zstd: Some(Lossless::level(level)?), ..self.lossless };
        Self { lossless, ..self }.ordered()
    }

    fn ordered(self) -> Result<Self> {
        if self.lossless.shuffle && self.is_lossy() && self.unknown.is_none() {
            return Err(Error::invalid(
                "shuffle is for lossless pipelines: codes have no bytes to transpose",
            ));
        }
        let mixed = matches!(self.basis, Basis::Rotation(_)) && self.unknown.is_none();
        if mixed && self.subsample.is_some() {
            return Err(Error::invalid(
                "a rotation of whole groups takes no subsampling: fewer bits lose less",
            ));
        }
        let as_they_are = self.basis == Basis::default() && self.subsample.is_none();
        if self.max_error().is_some() && !as_they_are {
            return Err(Error::invalid(
                "max-error bounds the error of values as they are: it takes no transform and no subsampling",
            ));
        }
        Ok(self)
    }

    /// Whether decoded values may differ from the original in any bit.
    pub fn is_lossy(&self) -> bool {
        self.basis != Basis::default()
            || self.subsample.is_some()
            || self.quantizer != Quantizer::default()
            || self.unknown.is_some_and(|id| id < 0x30)
    }

    /// Whether the expectation of the decoded values, over the seeds, is the original: true
    /// unless something rounds to nearest or clips, `lm` behind a `rotation` apart: there the mean is over
    /// rotations, so clients that share one err alike. That is up to the rounding of f32 arithmetic
    /// and, for f16 and bf16 tensors, up to the rounding of what is decoded to their precision and
    /// range.
    pub fn is_unbiased(&self) -> bool {
        let mixed = self.basis.mixes() || !self.quantizer.is_unbiased_if_mixed();
        let other = self.or.as_ref().is_none_or(|or| or.is_unbiased());
        mixed && !self.basis.is_biased() && !self.quantizer.is_biased() && other
    }

    /// The most that a decoded value may be away from the original, where the pipeline promises that.
    ///
    /// ```
    /// let spec: fedpress::Spec = "max-error=0.001".parse()?;
    /// assert_eq!(spec.max_error(), Some(0.001));
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn max_error(&self) -> Option<f64> {
        self.quantizer.max_error()
    }

    /// The same, and another pipeline that groups may take instead, where they are expected to have the
    /// smaller error by it. Both are lossy, and there are no more than two.
    ///
    /// ```
    /// use fedpress::Spec;
    /// let rotated: Spec = "rotation|trellis=2".parse()?;
    /// let spec = rotated.or("identity|step=2".parse()?)?;
    /// assert_eq!(spec.to_string(), "rotation|trellis=2 or identity|step=2");
    /// assert_eq!(spec, "auto|rate=2".parse()?);
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn or(self, other: Self) -> Result<Self> {
        let single = self.or.is_none() && other.or.is_none();
        if !(single && self.is_lossy() && other.is_lossy()) {
            return Err(Error::invalid(format!("{self} or {other}: expected two lossy pipelines")));
        }
        if self.max_error().is_some() || other.max_error().is_some() {
            return Err(Error::invalid(format!(
                "{self} or {other}: a bound of the error holds for all groups or for none"
            )));
        }
        Ok(Self { or: Some(Box::new(other)), ..self })
    }

    /// Its pipelines, one or two.
    pub(crate) fn alternatives(mut self) -> impl Iterator<Item = Self> {
        let other = self.or.take();
        std::iter::once(self).chain(other.map(|or| *or))
    }

    /// The stages one by one; see [`Stages`].
    pub fn stages(&self) -> Stages {
        let Lossless { shuffle, zstd } = self.lossless;
        let subsample = self.subsample;
        let mut stages = Stages { subsample, shuffle, zstd, ..Stages::default() };
        match &self.basis {
            Basis::Identity(Identity) => {}
            Basis::Hadamard(stage) => stages.hadamard = Some(*stage),
            Basis::Kashin(stage) => stages.kashin = Some(*stage),
            Basis::Rotation(stage) => stages.rotation = Some(*stage),
        }
        match &self.quantizer {
            Quantizer::Raw(Raw) => {}
            Quantizer::Uniform(stage) => stages.uniform = Some(*stage),
            Quantizer::LloydMax(stage) => stages.lloyd_max = Some(*stage),
            Quantizer::Step(stage) => stages.step = Some(*stage),
            Quantizer::Trellis(stage) => stages.trellis = Some(*stage),
            Quantizer::MaxError(stage) => stages.max_error = Some(*stage),
        }
        stages
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
        32.0 / (self.quantizer.bits() * kept)
    }

    /// The rates in bits a value that its quantizers, those of all alternatives, may be asked for; `None` where
    /// one has none.
    ///
    /// ```
    /// let spec: fedpress::Spec = "auto".parse()?;
    /// assert_eq!(spec.rates(), Some(0.1..=12.0));
    /// assert_eq!(spec.at_rate(1.5)?, "auto|rate=1.5".parse()?);
    /// assert_eq!("hadamard|q=4".parse::<fedpress::Spec>()?.rates(), None);
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn rates(&self) -> Option<std::ops::RangeInclusive<f64>> {
        let rates = self.quantizer.rates()?;
        let (mut least, mut most) = (*rates.start(), *rates.end());
        if let Some(or) = &self.or {
            let rates = or.quantizer.rates()?;
            (least, most) = (least.max(*rates.start()), most.min(*rates.end()));
        }
        Some(f64::from(least) / 1000.0..=f64::from(most) / 1000.0)
    }

    /// The same at another rate, in bits a value, to a thousandth.
    ///
    /// # Errors
    /// `InvalidArgument` if it is none of its [rates](Self::rates).
    pub fn at_rate(&self, bits: f64) -> Result<Self> {
        let Some(rates) = self.rates() else {
            return Err(Error::invalid(format!(
                "spec {self}: expected stages with a rate, such as auto, or step and trellis"
            )));
        };
        if !rates.contains(&bits) {
            return Err(Error::invalid(format!(
                "spec {self}: expected a rate from {} to {} bits, found {bits}",
                rates.start(),
                rates.end()
            )));
        }
        let mut spec = self.clone();
        let thousandths = (bits * 1000.0).round_ties_even() as u16;
        spec.quantizer.set_rate(thousandths);
        if let Some(or) = &mut spec.or {
            or.quantizer.set_rate(thousandths);
        }
        Ok(spec)
    }

    /// Whether decoding needs the shared seed.
    pub(crate) fn is_seeded(&self) -> bool {
        let other = self.or.as_ref().is_some_and(|or| or.is_seeded());
        self.basis.is_seeded() || self.subsample.is_some() || self.quantizer.is_seeded() || other
    }

    /// The stages on the wire: a count, then each number with its length and parameters.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.push(0);
        let mut count = self.basis.write_to(out);
        count += self.subsample.as_ref().map_or(0, |subsample| put(subsample, out));
        count += self.quantizer.write_to(out);
        count += self.lossless.write_to(out);
        out[at] = count;
    }

    /// The stages back; wrong order or repetition is corrupt.
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
            let length = usize::from(cursor.u8("length of a stage")?);
            spec.read_stage(id, cursor.take(length, "parameters of a stage")?)?;
        }
        spec.ordered().map_err(|e| Error::corrupt(e.to_string()))
    }

    fn read_stage(&mut self, id: u8, parameters: &[u8]) -> Result<()> {
        if let Some(basis) = Basis::read_from(id, parameters)? {
            self.basis = basis;
        } else if id == Subsample::ID {
            self.subsample = Some(get(parameters)?);
        } else if let Some(quantizer) = Quantizer::read_from(id, parameters)? {
            self.quantizer = quantizer;
        } else if !self.lossless.read_from(id, parameters)? {
            self.unknown.get_or_insert(id);
        }
        Ok(())
    }
}

/// The stages of a pipeline one by one, for tools that show or rebuild it; `None` where it has none
/// of that kind.
///
/// ```
/// let spec: fedpress::Spec = "hadamard|q=4,nearest|zstd".parse()?;
/// let stages = spec.stages();
/// assert_eq!(stages.hadamard.unwrap().block(), 4096);
/// assert_eq!(stages.uniform.map(|u| (u.q(), u.nearest())), Some((4, true)));
/// assert_eq!((stages.subsample, stages.zstd), (None, Some(1)));
/// # Ok::<(), fedpress::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Stages {
    /// The randomized Hadamard transform.
    pub hadamard: Option<Hadamard>,
    /// Kashin's representation.
    pub kashin: Option<Kashin>,
    /// The rotation of a whole group.
    pub rotation: Option<Rotation>,
    /// Which part of the coefficients is kept.
    pub subsample: Option<Subsample>,
    /// The uniform quantizer.
    pub uniform: Option<Uniform>,
    /// The Lloyd-Max quantizer.
    pub lloyd_max: Option<LloydMax>,
    /// Multiples of a step.
    pub step: Option<Step>,
    /// The trellis-coded quantizer.
    pub trellis: Option<Trellis>,
    /// A bound of every error.
    pub max_error: Option<MaxError>,
    /// Whether bytes of elements are sorted by significance.
    pub shuffle: bool,
    /// The level of zstd.
    pub zstd: Option<i8>,
}

/// Every stage that a spec may name, slot by slot: transforms, subsampling, quantizers, lossless
/// stages.
///
/// ```
/// assert!(fedpress::stages().any(|stage| stage.name == "hadamard" && stage.id == 1));
/// ```
pub fn stages() -> impl Iterator<Item = Entry> {
    const SUBSAMPLE: &[Entry] = &[Entry::of::<Subsample>()];
    [Basis::STAGES, SUBSAMPLE, Quantizer::STAGES, Lossless::STAGES].into_iter().flatten().copied()
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
        if text == "none" {
            return Ok(Self::none());
        }
        if let Some((one, other)) = text.split_once(" or ") {
            return one.parse::<Self>()?.or(other.parse()?);
        }
        if let Some(spec) = presets::named(text)? {
            return Ok(spec);
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
        if let Some(basis) = Basis::parse(options)? {
            self.basis = basis;
            return Ok(1);
        }
        if options.name == Subsample::NAME {
            self.subsample = Some(Subsample::parse(options)?);
            return Ok(2);
        }
        if let Some(quantizer) = Quantizer::parse(options)? {
            self.quantizer = quantizer;
            return Ok(3);
        }
        self.lossless.parse(options)?.ok_or_else(|| {
            let stages: Vec<_> = stages().map(|stage| stage.name).collect();
            let presets: Vec<_> = PRESETS.iter().map(|p| p.name).collect();
            Error::invalid(format!(
                "unknown stage {:?}; the stages are {}, lossless; a spec may also be \"none\" or a preset: {}",
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
            self.basis.print(f)?;
            bar = "|";
        }
        if let Some(subsample) = &self.subsample {
            f.write_str(bar)?;
            subsample.print(f)?;
        }
        if self.quantizer != Quantizer::default() {
            f.write_str(bar)?;
            self.quantizer.print(f)?;
        }
        if let Some(id) = self.unknown {
            write!(f, "{bar}stage {id:#04x}")?;
            bar = "|";
        }
        self.lossless.print(bar, f)?;
        match &self.or {
            Some(or) => write!(f, " or {or}"),
            None => Ok(()),
        }
    }
}
