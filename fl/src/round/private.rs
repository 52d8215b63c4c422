//! How rounds are private, and how their updates are integers.

use super::{Cohort, Coordinator, RoundOptions};
use crate::seed::Purpose;
use crate::submodel::Gather;
use crate::{
    Accountant, Action, AggregatorOptions, Averaging, Choice, Error, Excess, IntegerSpec, Noise,
    NoiseBy, Result, Weighting,
};

/// More than rounding f32 values to the grid of sums, and adding up their squares, can add to a norm.
const ROUNDING: f64 = 1.0 + 1.0 / (1 << 20) as f64;

impl Coordinator {
    /// What rounds so far have told of a client, with the options there are now, those that were abandoned
    /// included; none without [privacy](super::RoundOptions::privacy).
    ///
    /// # Errors
    /// None that options do not exclude.
    pub fn accountant(&self) -> Result<Option<Accountant>> {
        let options = &self.options;
        let Some((privacy, rate)) = options.privacy.zip(options.sampling_rate()) else {
            return Ok(None);
        };
        let mut accountant = Accountant::new();
        accountant.add(rate, privacy.noise_multiplier, self.round)?;
        Ok(Some(accountant))
    }

    /// The sum of the codes of these clients, from a secure aggregation that hides those of each. They are
    /// [taken](Action::Taken) together, or none of them is.
    ///
    /// # Errors
    /// As [`Aggregator::receive_sum`](crate::Aggregator::receive_sum), which changes nothing; `InvalidArgument` if no
    /// round is open or its time is over; then those of [`receive`](Self::receive).
    pub fn receive_sum(&mut self, clients: &[u64], sums: &[u32], now: u64) -> Result<Vec<Action>> {
        let Some(open) = self.open.as_mut().filter(|open| now < open.ends_at) else {
            return Err(Error::invalid("no round is open"));
        };
        open.aggregator.receive_sum(clients, sums)?;
        for client in clients {
            open.gone.remove(client);
            open.began.remove(client);
        }
        let mut actions: Vec<Action> =
            clients.iter().map(|client| Action::Taken { client: *client, samples: 1 }).collect();
        actions.extend(self.close_if_complete()?);
        Ok(actions)
    }

    /// The one submodel of a round, where all clients have the same.
    fn one_for_all(&self) -> Option<Choice> {
        let RoundOptions { policy, private, .. } = &self.options;
        // Any client has it.
        self.options.is_one_for_all().then(|| policy.choice(private, self.round, 0, 0))
    }

    /// What codes of the open round, or of the next, are.
    ///
    /// # Errors
    /// Those of [`IntegerOptions::spec`](crate::IntegerOptions::spec).
    pub(super) fn integer_spec(&self) -> Result<Option<IntegerSpec>> {
        let Some((options, choice)) = self.options.integers.zip(self.one_for_all()) else {
            return Ok(None);
        };
        let n = Gather::all(&self.layout, &choice)?.iter().map(Gather::n_packed).sum();
        options.spec(n, self.options.privacy.as_ref(), self.options.min_updates).map(Some)
    }

    /// What privacy and integers ask of an aggregator.
    pub(super) fn make_private(&self, options: &mut AggregatorOptions) -> Result<()> {
        let integers = self.integer_spec()?;
        if integers.is_some() || self.options.privacy.is_some() {
            (options.weighting, options.averaging) = (Weighting::Uniform, Averaging::ZeroFilled);
            options.submodel = self.one_for_all();
        }
        options.integers = integers.map(|spec| (spec, self.shared_seed()));
        let Some(privacy) = self.options.privacy else { return Ok(()) };
        options.divisor = Some(self.options.n_updates as u64);
        options.excess_norm = Excess::Clip;
        options.max_norm = privacy.clip;
        // What one client can change of the sum: integers keep to it exactly, f32 but for rounding.
        let sensitivity = integers.map_or(privacy.clip * ROUNDING, |spec| spec.norm);
        options.noise = (privacy.noise == NoiseBy::Server).then(|| Noise {
            deviation: privacy.noise_multiplier * sensitivity,
            seed: self.options.private.derive_seed(Purpose::Noise, &[self.options.run]),
        });
        Ok(())
    }

    /// Draws each client by itself. Where sums of integers have no room for all who are drawn, as many as
    /// have are asked, which of them is drawn, too.
    pub(super) fn sample_poisson(&self, clients: Vec<u64>) -> Vec<u64> {
        let Some(rate) = self.options.sampling_rate() else { return clients };
        let draw =
            |client: &u64| self.options.private.derive(Purpose::Cohort, &[self.round, *client]);
        // Of 2^64; the whole of it at a rate of 1.
        let below = (rate * 2f64.powi(64)) as u128;
        let mut asked: Vec<(u64, u64)> =
            clients.iter().map(|client| (draw(client), *client)).collect();
        asked.retain(|(draw, _)| u128::from(*draw) < below);
        asked.sort_unstable();
        let room = self.options.integers.map_or(usize::MAX, |integers| integers.clients as usize);
        asked.truncate(room);
        let mut asked: Vec<u64> = asked.into_iter().map(|(_, client)| client).collect();
        asked.sort_unstable();
        asked
    }

    /// Whether so many updates are all that a round waits for, while others are on their way.
    pub(super) fn is_enough(&self, n_folded: usize) -> bool {
        self.options.cohort == Cohort::Fixed && n_folded >= self.options.n_updates
    }
}
