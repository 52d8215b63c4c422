//! A training as bytes, between rounds.

use super::{RoundRecord, Simulation, TrainConfig, round_options};
use crate::{Coordinator, Error, Feedback, Result};
use fedpress::{DType, DecodeOptions, EncodeOptions, Seeds, Spec, Tensor, TensorView, Writer};

impl Simulation {
    /// Everything that the rounds so far have changed, as a codec stream of byte tensors: the
    /// configuration, the log, the server, and what error feedback holds of each client.
    ///
    /// # Errors
    /// As [`Coordinator::save`].
    pub fn save(&self) -> Result<Vec<u8>> {
        let seeds = Seeds { shared: 0, private: 0, round: 0, client: 0 };
        let mut writer = Writer::new(Vec::new(), EncodeOptions::new(seeds))?;
        let mut put = |name: &str, data: &[u8]| {
            let shape = [data.len() as u64];
            let view = TensorView { name, dtype: DType::U8, shape: &shape, data };
            writer.tensor(&view, &Spec::lossless())
        };
        put("config", self.config.to_toml().as_bytes())?;
        let log = serde_json::to_vec(&self.records);
        put("log", &log.map_err(|e| Error::invalid(format!("log: {e}")))?)?;
        put("coordinator", &self.coordinator.save()?)?;
        for (client, feedback) in &self.feedback {
            put(&format!("feedback/{client}"), &feedback.save()?)?;
        }
        Ok(writer.finish()?)
    }

    /// Goes on where [`save`](Self::save) was called: the rounds that follow are those of a training
    /// that was never interrupted. More `rounds` than before may be asked for.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it was another configuration.
    pub fn restore(config: TrainConfig, bytes: &[u8]) -> Result<Self> {
        let options = DecodeOptions::default();
        let tensors = fedpress::decode(bytes, &options)?;
        let [saved, log, coordinator, feedback @ ..] = &tensors[..] else {
            return Err(Error::corrupt("not a saved training"));
        };
        let mut before = TrainConfig::from_toml(text(saved, "config")?)?;
        before.rounds = config.rounds;
        if before != config {
            let (before, now) = (before.to_toml(), config.to_toml());
            let differs = before.lines().zip(now.lines()).find(|(a, b)| a != b);
            let (before, now) = differs.unwrap_or(("", ""));
            return Err(Error::invalid(format!("saved with {before:?}, asked for {now:?}")));
        }
        let mut simulation = Self::new(config)?;
        let records = serde_json::from_str::<Vec<RoundRecord>>(text(log, "log")?);
        simulation.records = records.map_err(|e| Error::corrupt(format!("log: {e}")))?;
        let layout = simulation.coordinator.layout().clone();
        let rounds = round_options(&simulation.config)?;
        let state = named(coordinator, "coordinator")?;
        simulation.coordinator = Coordinator::restore(state, layout, rounds, &options)?;
        for tensor in feedback {
            let client = tensor.name.strip_prefix("feedback/").and_then(|c| c.parse().ok());
            let client = client.ok_or_else(|| Error::corrupt("not a saved training"))?;
            let feedback =
                Feedback::restore(&tensor.data, simulation.coordinator.layout(), &options)?;
            simulation.feedback.insert(client, feedback);
        }
        Ok(simulation)
    }
}

fn named<'a>(tensor: &'a Tensor, name: &str) -> Result<&'a [u8]> {
    match tensor.name == name && tensor.dtype == DType::U8 {
        true => Ok(&tensor.data),
        false => Err(Error::corrupt(format!("expected {name:?}, found {:?}", tensor.name))),
    }
}

fn text<'a>(tensor: &'a Tensor, name: &str) -> Result<&'a str> {
    let text = std::str::from_utf8(named(tensor, name)?);
    text.map_err(|e| Error::corrupt(format!("{name}: {e}")))
}
