//! [`Saver`] and [`Saved`]: a training as a codec stream of named tensors.

use super::TrainConfig;
use crate::{Dataset, RoundRecord};
use fedpress::{DType, DecodeOptions, EncodeOptions, Seeds, Spec, Tensor, TensorView, Writer};
use fedpress_fl::{Error, Parameter, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Writes a training, beginning with its configuration and its log.
pub(crate) struct Saver(Writer<Vec<u8>>);

impl Saver {
    pub(crate) fn new(config: &TrainConfig, log: &[RoundRecord]) -> Result<Self> {
        // Lossless: nothing is drawn.
        let seeds = Seeds::new(0, 0);
        let mut saver = Self(Writer::new(Vec::new(), EncodeOptions::new(seeds))?);
        saver.bytes("config", config.to_toml().as_bytes())?;
        saver.json("log", log)?;
        Ok(saver)
    }

    /// What [`Saved::check_data`] compares.
    pub(crate) fn data(&mut self, train: &Dataset, test: &Dataset) -> Result<()> {
        self.bytes("data", &digests(train, test))
    }

    pub(crate) fn bytes(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.put(name, DType::U8, &[data.len()], data)
    }

    pub(crate) fn json(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let text = serde_json::to_vec(value);
        self.bytes(name, &text.map_err(|e| Error::invalid(format!("{name}: {e}")))?)
    }

    pub(crate) fn values(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.put(name, DType::F32, &[values.len()], &data)
    }

    /// Each as `NAME/PARAMETER`.
    pub(crate) fn parameters(&mut self, name: &str, all: &[Parameter]) -> Result<()> {
        all.iter().try_for_each(|p| self.values(&format!("{name}/{}", p.name), &p.values))
    }

    fn put(&mut self, name: &str, dtype: DType, shape: &[usize], data: &[u8]) -> Result<()> {
        Ok(self.0.tensor(&TensorView { name, dtype, shape, data }, &Spec::lossless())?)
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        Ok(self.0.finish()?)
    }
}

fn digests(train: &Dataset, test: &Dataset) -> Vec<u8> {
    [train.digest(), test.digest()].concat()
}

/// A saved training, taken apart.
pub(crate) struct Saved(BTreeMap<String, Tensor>);

impl Saved {
    /// Reads what [`Saver`] wrote, if it was made with `config`; more rounds may be asked for, and
    /// folders may have moved.
    pub(crate) fn open(config: &TrainConfig, bytes: &[u8]) -> Result<Self> {
        let mut options = DecodeOptions::default();
        // It is our own file: what was saved raw, or compressed as weights can be, is read again.
        options.memory = options.memory.max(bytes.len() as u64 * 4);
        let tensors = fedpress::decode(bytes, &options)?;
        let mut saved = Self(tensors.into_iter().map(|t| (t.name.clone(), t)).collect());
        let mut before = TrainConfig::from_toml(&saved.text("config")?)?;
        // What does not change the rounds so far.
        before.rounds = config.rounds;
        before.data.clone_from(&config.data);
        before.gkt.folder.clone_from(&config.gkt.folder);
        if before != *config {
            let (before, now) = (before.to_toml(), config.to_toml());
            let differs = before.lines().zip(now.lines()).find(|(a, b)| a != b);
            let (before, now) = differs.unwrap_or(("", ""));
            return Err(Error::invalid(format!("saved with {before:?}, asked for {now:?}")));
        }
        Ok(saved)
    }

    /// Whether these are the examples that it was made with, wherever they lie now.
    pub(crate) fn check_data(&mut self, train: &Dataset, test: &Dataset) -> Result<()> {
        match self.bytes("data")? == digests(train, test) {
            true => Ok(()),
            false => Err(Error::invalid("saved with other data than there is now")),
        }
    }

    /// The log.
    pub(crate) fn records(&mut self) -> Result<Vec<RoundRecord>> {
        self.json("log")
    }

    pub(crate) fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        self.take(name, DType::U8)
    }

    fn take(&mut self, name: &str, dtype: DType) -> Result<Vec<u8>> {
        match self.0.remove(name) {
            Some(tensor) if tensor.dtype == dtype => Ok(tensor.data),
            _ => Err(Error::corrupt(format!("not a saved training: no {name:?} of {dtype:?}"))),
        }
    }

    fn text(&mut self, name: &str) -> Result<String> {
        let text = String::from_utf8(self.bytes(name)?);
        text.map_err(|e| Error::corrupt(format!("{name}: {e}")))
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let value = serde_json::from_slice(&self.bytes(name)?);
        value.map_err(|e| Error::corrupt(format!("{name}: {e}")))
    }

    pub(crate) fn values(&mut self, name: &str) -> Result<Vec<f32>> {
        let bytes = self.take(name, DType::F32)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Fills the values of parameters that are of the right shape already.
    pub(crate) fn parameters(&mut self, name: &str, all: &mut [Parameter]) -> Result<()> {
        for parameter in all {
            let values = self.values(&format!("{name}/{}", parameter.name))?;
            if values.len() != parameter.values.len() {
                let (expected, found) = (parameter.values.len(), values.len());
                return Err(Error::corrupt(format!("expected {expected} values, found {found}"))
                    .in_parameter(&parameter.name));
            }
            parameter.values = values;
        }
        Ok(())
    }

    /// What begins with `prefix`, by the rest of its name.
    pub(crate) fn each(&mut self, prefix: &str) -> Result<Vec<(u64, Vec<u8>)>> {
        let names: Vec<String> =
            self.0.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let number = |name: &str| name[prefix.len()..].parse::<u64>().ok();
        let one = |name: String| {
            let number = number(&name).ok_or_else(|| Error::corrupt("not a saved training"))?;
            Ok((number, self.bytes(&name)?))
        };
        names.into_iter().map(one).collect()
    }
}
