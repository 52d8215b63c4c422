//! A training as bytes, between rounds.

use super::saved::{Saved, Saver};
use super::{Simulation, TrainConfig, round_options};
use fedpress::DecodeOptions;
use fedpress_fl::{Coordinator, Feedback, Result};

impl Simulation {
    /// Everything that the rounds so far have changed, as a codec stream of byte tensors: the
    /// configuration, the log, the server, and of each client what error feedback holds and the layers of
    /// its own.
    ///
    /// # Errors
    /// As [`Coordinator::save`].
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut saver = Saver::new(&self.config, &self.records)?;
        saver.data(&self.train, &self.test)?;
        saver.bytes("coordinator", &self.coordinator.save()?)?;
        for (client, feedback) in &self.feedback {
            saver.bytes(&format!("feedback/{client}"), &feedback.save()?)?;
        }
        saver.json("owners", &self.own.keys().collect::<Vec<_>>())?;
        for (client, own) in &self.own {
            saver.parameters(&format!("own/{client}"), own)?;
        }
        saver.finish()
    }

    /// Goes on where [`save`](Self::save) was called: the rounds that follow are those of a training
    /// that was never interrupted. More `rounds` than before may be asked for, and
    /// the files of the data set may lie elsewhere.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it was another configuration, or other data.
    pub fn restore(config: TrainConfig, bytes: &[u8]) -> Result<Self> {
        let mut saved = Saved::open(&config, bytes)?;
        let mut simulation = Self::new(config)?;
        saved.check_data(&simulation.train, &simulation.test)?;
        simulation.records = saved.records()?;
        let layout = simulation.coordinator.layout().clone();
        let options = DecodeOptions::default();
        let rounds = round_options(&simulation.config, &layout)?;
        let state = saved.bytes("coordinator")?;
        simulation.coordinator = Coordinator::restore(&state, layout, rounds, &options)?;
        for (client, state) in saved.each("feedback/")? {
            let layout = simulation.coordinator.layout();
            let feedback = Feedback::restore(&state, layout, &options)?;
            simulation.feedback.insert(client, feedback);
        }
        for client in saved.json::<Vec<u64>>("owners")? {
            let mut own = simulation.first_own.clone();
            saved.parameters(&format!("own/{client}"), &mut own)?;
            simulation.own.insert(client, own);
        }
        Ok(simulation)
    }
}
