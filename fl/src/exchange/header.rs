//! [`Features`] and [`Logits`]: what the two messages of an exchange say beside their batches.

use crate::bytes::Fields;
use crate::message::EVERYONE;
use crate::{Error, Result};
use fedpress::DType;

/// Most classes: a label fits 16 bits.
const MAX_CLASSES: usize = 1 << 16;

/// Most dimensions of one sample's features.
const MAX_DIMS: usize = 8;

/// Head of an upload: a client's features and logits, sample by sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Which training this is.
    pub run: u64,
    /// The round of training.
    pub round: u64,
    /// Whose samples these are, not 2^64 - 1.
    pub client: u64,
    /// Of the features of one sample, outermost first: channels, height, width.
    pub shape: Vec<usize>,
    /// How many classes there are, and so logits for each sample.
    pub classes: usize,
}

/// Head of the answer: the server's logits for the samples of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logits {
    /// Which training this is.
    pub run: u64,
    /// The round of training.
    pub round: u64,
    /// Whose samples these are, not 2^64 - 1.
    pub client: u64,
    /// How many classes there are, and so logits for each sample.
    pub classes: usize,
}

impl Features {
    pub(super) fn check(&self) -> Result<()> {
        check_client(self.client)?;
        n_values(&self.shape)?;
        check_classes(self.classes)
    }

    /// What follows run, round and client.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.classes as u32).to_le_bytes());
        out.push(self.shape.len() as u8);
        self.shape.iter().for_each(|n| out.extend_from_slice(&(*n as u32).to_le_bytes()));
    }

    pub(crate) fn read_from(
        fields: &mut Fields<'_>,
        [run, round, client]: [u64; 3],
    ) -> Result<Self> {
        let classes = fields.u32("number of classes")? as usize;
        let n_dims = usize::from(fields.u8("number of dimensions")?).min(MAX_DIMS + 1);
        let shape = (0..n_dims).map(|_| fields.u32("dimension").map(|n| n as usize));
        let features = Self { run, round, client, shape: shape.collect::<Result<_>>()?, classes };
        features.check().map_err(|e| Error::corrupt(e.to_string()))?;
        Ok(features)
    }
}

impl Logits {
    pub(super) fn check(&self) -> Result<()> {
        check_client(self.client)?;
        check_classes(self.classes)
    }

    /// What follows run, round and client.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.classes as u32).to_le_bytes());
    }

    pub(crate) fn read_from(
        fields: &mut Fields<'_>,
        [run, round, client]: [u64; 3],
    ) -> Result<Self> {
        let classes = fields.u32("number of classes")? as usize;
        let logits = Self { run, round, client, classes };
        logits.check().map_err(|e| Error::corrupt(e.to_string()))?;
        Ok(logits)
    }
}

fn check_client(client: u64) -> Result<()> {
    match client == EVERYONE {
        true => Err(Error::invalid(format!("client {EVERYONE}: nobody's number"))),
        false => Ok(()),
    }
}

pub(super) fn check_classes(classes: usize) -> Result<()> {
    match (1..=MAX_CLASSES).contains(&classes) {
        true => Ok(()),
        false => {
            Err(Error::invalid(format!("classes: expected 1 to {MAX_CLASSES}, found {classes}")))
        }
    }
}

/// Values in the features of one sample, below 2^32.
pub(super) fn n_values(shape: &[usize]) -> Result<usize> {
    let product = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let fits = (1..=MAX_DIMS).contains(&shape.len());
    match product.filter(|n| fits && (1..=u32::MAX as usize).contains(n)) {
        Some(n) => Ok(n),
        None => Err(Error::invalid(format!(
            "shape of a sample's features: expected 1 to {MAX_DIMS} dimensions and 1 to 2^32 - 1 \
             values, found {shape:?}"
        ))),
    }
}

/// What labels travel as.
pub(super) fn label_dtype(classes: usize) -> DType {
    if classes <= 256 { DType::U8 } else { DType::U16 }
}
