//! Networks of clients with layers of their own.

use super::{Simulation, TrainConfig};
use fedpress_fl::{Download, Error, Layout, Parameter, Personal, Result, gains};

/// A network to train, and what a client has of it.
pub(super) struct Joined {
    pub(super) network: Vec<Parameter>,
    pub(super) gains: Vec<f32>,
    /// Whole; nothing where all travels.
    pub(super) own: Vec<Parameter>,
}

/// The layers that do not travel, if there are any.
pub(super) fn personal(config: &TrainConfig, layout: &Layout) -> Result<Option<Personal>> {
    fn layer(name: &str) -> &str {
        name.rsplit_once('.').map_or(name, |(layer, _)| layer)
    }
    for own in &config.personal {
        if !layout.params().iter().any(|param| layer(&param.name) == own) {
            return Err(Error::invalid(format!("personal: the model has no layer {own:?}")));
        }
    }
    if config.personal.is_empty() {
        return Ok(None);
    }
    let is_own = |name: &str| config.personal.iter().any(|own| own == layer(name));
    Personal::new(layout.clone(), is_own).map(Some)
}

impl Simulation {
    /// What a client makes of what it was sent.
    pub(super) fn joined(&self, client: u64, download: &Download) -> Result<Joined> {
        let header = &download.header;
        let Some(personal) = &self.personal else {
            let (network, gains) = (download.base.clone(), header.gains.clone());
            return Ok(Joined { network, gains, own: Vec::new() });
        };
        let own = self.own.get(&client).unwrap_or(&self.first_own).clone();
        let network = personal.join(&header.choice, download.base.clone(), &own)?;
        let is_scaled = !header.gains.is_empty();
        let selection = personal.select(&header.choice)?;
        let gains = if is_scaled { gains(personal.whole(), &selection) } else { Vec::new() };
        Ok(Joined { network, gains, own })
    }

    /// What travels of a trained network; the rest goes into `own`.
    pub(super) fn parted(
        &self,
        download: &Download,
        trained: Vec<Parameter>,
        own: &mut [Parameter],
    ) -> Result<Vec<Parameter>> {
        match &self.personal {
            Some(personal) => personal.part(&download.header.choice, trained, own),
            None => Ok(trained),
        }
    }

    /// The whole network of a client: the server's model, and its own layers.
    pub(super) fn own_network(&self, client: u64) -> Result<Vec<Parameter>> {
        let shared = self.coordinator.model().to_vec();
        let own = self.own.get(&client).unwrap_or(&self.first_own);
        match &self.personal {
            Some(personal) => personal.join(&fedpress_fl::Choice::full(), shared, own),
            None => Ok(shared),
        }
    }

    /// Clients that have been asked, each with its own layers; none where all travels.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (u64, &[Parameter])> {
        self.own.iter().map(|(client, own)| (*client, &own[..]))
    }
}
