//! [`FeatureWriter`] and [`LogitWriter`]: batches in, bytes of a message out, one batch at a time.

use super::header::{Features, Logits, label_dtype, n_values};
use super::order::Part;
use crate::message::{Header, RECORD};
use crate::{Error, Result, RoundingSeed};
use fedpress::{DType, Element, EncodeOptions, NonFinite, Seeds, Spec, TensorView, Writer};
use std::collections::BTreeSet;
use std::io::Write;

/// How features and logits are encoded. Ids and labels always travel losslessly.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpecs {
    /// Of the features.
    pub features: Spec,
    /// Of the logits.
    pub logits: Spec,
}

impl Default for FeatureSpecs {
    /// Features as the preset `features` says, `identity|q=4,nearest|zstd`; logits at 16 bits,
    /// `identity|q=16,nearest`.
    ///
    /// Of what has passed a ReLU half or more are zeros. A rotation spreads them over all
    /// coefficients; without one they stay one level, which zstd makes small, and the range of a
    /// block is that of the rest. `nearest` halves the error and is biased, which is fine here:
    /// features are not averaged over clients, as updates are.
    ///
    /// `cargo run --release -p fedpress-fl --example features` on smoothed, rectified noise, half of
    /// it zeros, all with `zstd`; bits a value of a whole upload, and NMSE:
    ///
    /// | q | `identity,nearest` | `hadamard` | `hadamard,nearest` | `kashin` |
    /// |---|---|---|---|---|
    /// | 1 | 0.250, 8.09e-1 | 1.027, 1.21e1 | 1.027, 8.28e0 | 1.281, 7.00e0 |
    /// | 2 | 0.942, 1.41e-1 | 1.355, 9.94e-1 | 1.203, 5.05e-1 | 1.822, 5.77e-1 |
    /// | 4 | 2.319, 5.65e-3 | 3.231, 3.90e-2 | 3.218, 1.95e-2 | 4.276, 2.31e-2 |
    /// | 8 | 4.837, 1.96e-5 | 7.316, 1.35e-4 | 7.316, 6.74e-5 | 9.360, 8.01e-5 |
    ///
    /// At each q it printed (1, 2, 3, 4, 6, 8) identity with nearest takes fewer bits at less error
    /// than any rotation. Logits are two bytes each, off by about 2^-17 of their range at most.
    fn default() -> Self {
        let features = Spec::identity().quantized_nearest(4).and_then(|spec| spec.zstd(1));
        let logits = Spec::identity().quantized_nearest(16);
        let or_lossless = |spec: fedpress::Result<Spec>| spec.unwrap_or_else(|_| Spec::lossless());
        Self { features: or_lossless(features), logits: or_lossless(logits) }
    }
}

/// What both messages have in common: a stream, its header, and batches that get numbers.
struct BatchWriter<W> {
    writer: Writer<W>,
    shape: Vec<usize>,
    classes: usize,
    batch: u64,
    /// Every id so far.
    ids: BTreeSet<u32>,
}

impl<W: Write> BatchWriter<W> {
    fn new(out: W, header: &Header, shape: &[usize], classes: usize, seeds: Seeds) -> Result<Self> {
        let mut options = EncodeOptions::new(seeds);
        // A client whose training diverged is told so by the server; it must not fail here.
        options.non_finite = NonFinite::Lossless;
        // Each part has its own spec, so that of small ones is meant, too.
        options.min_values = 0;
        let mut writer = Writer::new(out, options)?;
        writer.record(RECORD, &header.to_bytes())?;
        Ok(Self { writer, shape: shape.to_vec(), classes, batch: 0, ids: BTreeSet::new() })
    }

    fn check(&self, ids: &[u32], what: &str, expected: usize, found: usize) -> Result<()> {
        if expected != found {
            let n = ids.len();
            let message =
                format!("{what} of {n} samples: expected {expected} values, found {found}");
            return Err(Error::invalid(message));
        }
        Ok(())
    }

    /// All or none of a batch's ids.
    fn take(&mut self, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::invalid("a batch without samples"));
        }
        for (at, id) in ids.iter().enumerate() {
            if !self.ids.insert(*id) {
                for id in &ids[..at] {
                    self.ids.remove(id);
                }
                return Err(Error::invalid(format!("sample {id} comes twice")));
            }
        }
        Ok(())
    }

    fn put(&mut self, part: Part, n: usize, data: &[u8], spec: &Spec) -> Result<()> {
        let desc = part.desc(self.batch, n as u64, &self.shape, self.classes);
        let shape: Vec<_> = desc.shape.iter().map(|n| *n as usize).collect();
        let view = TensorView { name: &desc.name, dtype: desc.dtype, shape: &shape, data };
        Ok(self.writer.tensor(&view, spec)?)
    }

    fn put_ids(&mut self, ids: &[u32]) -> Result<()> {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.put(Part::Ids, ids.len(), &bytes, &Spec::lossless())
    }

    fn put_f32(&mut self, part: Part, n: usize, values: &[f32], spec: &Spec) -> Result<()> {
        self.put(part, n, &Element::bytes(values), spec)
    }
}

/// Draws of a client are its own: its number enters them.
fn seeds(shared: u64, rounding: RoundingSeed, round: u64, client: u64) -> Seeds {
    Seeds::new(shared, rounding.0).in_round(round).of_client(client, 0)
}

/// Encodes an upload batch by batch: each is written when it is handed in, and only the ids are
/// kept. The bytes depend on batches, specs and seeds alone.
///
/// ```
/// use fedpress_fl::{FeatureSpecs, FeatureWriter, Features, RoundingSeed};
/// let header = Features { run: 1, round: 0, client: 3, shape: vec![2, 2], classes: 3 };
/// let (specs, rounding) = (FeatureSpecs::default(), RoundingSeed(0x5eed));
/// let mut writer = FeatureWriter::new(Vec::new(), header, specs, 7, rounding)?;
/// let features = [0.0, 1.5, 0.0, 0.25];
/// writer.batch(&[40], &features, &[0.1, -1.0, 2.0], Some(&[2]))?;
/// let message = writer.finish()?;
/// # assert!(message.len() > 100);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[must_use = "a message needs its end record: call finish"]
pub struct FeatureWriter<W: Write> {
    batched: BatchWriter<W>,
    n_values: usize,
    specs: FeatureSpecs,
    /// Whether batches have labels; the first one says.
    labelled: Option<bool>,
}

impl<W: Write> FeatureWriter<W> {
    /// Begins a message. `rounding` is the client's, drawn for this message.
    ///
    /// # Errors
    /// `InvalidArgument` for client 2^64 - 1, a shape without values or of more than 8 dimensions,
    /// and classes that are not 1 to 65,536; `Io` where `out` refuses.
    pub fn new(
        out: W,
        header: Features,
        specs: FeatureSpecs,
        shared_seed: u64,
        rounding: RoundingSeed,
    ) -> Result<Self> {
        header.check()?;
        let n_values = n_values(&header.shape)?;
        let seeds = seeds(shared_seed, rounding, header.round, header.client);
        let (shape, classes) = (header.shape.clone(), header.classes);
        let batched = BatchWriter::new(out, &Header::Features(header), &shape, classes, seeds)?;
        Ok(Self { batched, n_values, specs, labelled: None })
    }

    /// The next samples: features and logits one sample after the other. Labels go with every batch
    /// of a client's first upload, and with no batch of a later one.
    ///
    /// # Errors
    /// `InvalidArgument`, and nothing is written, for an empty batch, an id that came before, slices
    /// that do not fit, a label that is no class, labels in some batches only; `Io` where the output
    /// refuses.
    pub fn batch(
        &mut self,
        ids: &[u32],
        features: &[f32],
        logits: &[f32],
        labels: Option<&[u16]>,
    ) -> Result<()> {
        let (n, classes) = (ids.len(), self.batched.classes);
        self.batched.check(ids, "features", n.saturating_mul(self.n_values), features.len())?;
        self.batched.check(ids, "logits", n.saturating_mul(classes), logits.len())?;
        if self.labelled.is_some_and(|labelled| labelled != labels.is_some()) {
            return Err(Error::invalid("labels in some batches only"));
        }
        if let Some(labels) = labels {
            self.batched.check(ids, "labels", n, labels.len())?;
            if let Some(label) = labels.iter().find(|l| usize::from(**l) >= classes) {
                return Err(Error::invalid(format!("label {label} of {classes} classes")));
            }
        }
        self.batched.take(ids)?;
        self.batched.put_ids(ids)?;
        if let Some(labels) = labels {
            let bytes: Vec<u8> = match label_dtype(classes) {
                DType::U8 => labels.iter().map(|l| *l as u8).collect(),
                _ => labels.iter().flat_map(|l| l.to_le_bytes()).collect(),
            };
            self.batched.put(Part::Labels, n, &bytes, &Spec::lossless())?;
        }
        self.labelled = Some(labels.is_some());
        self.batched.put_f32(Part::Features, n, features, &self.specs.features)?;
        self.batched.put_f32(Part::Logits, n, logits, &self.specs.logits)?;
        self.batched.batch += 1;
        Ok(())
    }

    /// Ends the message and returns what it was written to.
    ///
    /// # Errors
    /// `Io` where the output refuses.
    pub fn finish(self) -> Result<W> {
        Ok(self.batched.writer.finish()?)
    }
}

/// Encodes the server's answer, batch by batch, as [`FeatureWriter`] does an upload.
#[must_use = "a message needs its end record: call finish"]
pub struct LogitWriter<W: Write> {
    batched: BatchWriter<W>,
    spec: Spec,
}

impl<W: Write> LogitWriter<W> {
    /// Begins a message. `rounding` is the server's, drawn for this message.
    ///
    /// # Errors
    /// `InvalidArgument` for client 2^64 - 1 and classes that are not 1 to 65,536; `Io` where `out`
    /// refuses.
    pub fn new(
        out: W,
        header: Logits,
        spec: Spec,
        shared_seed: u64,
        rounding: RoundingSeed,
    ) -> Result<Self> {
        header.check()?;
        let seeds = seeds(shared_seed, rounding, header.round, header.client);
        let batched = BatchWriter::new(out, &Header::Logits(header), &[], header.classes, seeds)?;
        Ok(Self { batched, spec })
    }

    /// The logits of the next samples, one sample after the other.
    ///
    /// # Errors
    /// `InvalidArgument`, and nothing is written, for an empty batch, an id that came before, or
    /// logits that do not fit; `Io` where the output refuses.
    pub fn batch(&mut self, ids: &[u32], logits: &[f32]) -> Result<()> {
        let n = ids.len();
        self.batched.check(ids, "logits", n.saturating_mul(self.batched.classes), logits.len())?;
        self.batched.take(ids)?;
        self.batched.put_ids(ids)?;
        self.batched.put_f32(Part::Logits, n, logits, &self.spec)?;
        self.batched.batch += 1;
        Ok(())
    }

    /// Ends the message and returns what it was written to.
    ///
    /// # Errors
    /// `Io` where the output refuses.
    pub fn finish(self) -> Result<W> {
        Ok(self.batched.writer.finish()?)
    }
}
