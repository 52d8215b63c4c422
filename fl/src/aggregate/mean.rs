//! What an aggregator makes of what it has taken: means, with noise where that is asked for.

use super::kept::all_but_the_middle;
use super::{Aggregator, Averaging, Gather, Taken};
use crate::{IntegerSum, Result, Role};

impl Aggregator {
    /// The average change of parameter `i`, coordinate by coordinate; none where nobody trained it, or
    /// too few. Running statistics always average over those who sent them and trained the whole model;
    /// those of submodels are not counted. Where there is [noise](super::Noise) every coordinate that may have
    /// been trained has some, and so a change, whether anyone trained it or not.
    ///
    /// Of integers, all parameters are turned back for the one that is asked for.
    pub fn mean(&self, i: usize) -> Vec<Option<f64>> {
        // What is turned back was found right when the first codes came.
        self.mean_by(i, &self.decoded().unwrap_or_default())
    }

    /// The same of each parameter.
    pub(crate) fn means(&self) -> Result<impl Iterator<Item = Vec<Option<f64>>>> {
        let decoded = self.decoded()?;
        Ok((0..self.layout.params().len()).map(move |i| self.mean_by(i, &decoded)))
    }

    /// The means of integers, as values of the submodel; empty where updates are none, or there is none.
    fn decoded(&self) -> Result<Vec<f32>> {
        match &self.taken {
            Taken::Integers(sum, _) => self.mean_of_integers(sum),
            _ => Ok(Vec::new()),
        }
    }

    fn mean_of_integers(&self, sum: &IntegerSum) -> Result<Vec<f32>> {
        let divisor = match self.options.divisor {
            Some(divisor) => divisor,
            None if self.n_folded == 0 => return Ok(Vec::new()),
            None => self.n_folded as u64,
        };
        match &self.options.noise {
            Some(noise) => noise.mean_of_integers(sum, [self.run, self.round, 0], divisor as f64),
            None => sum.mean(divisor as f64, || 0),
        }
    }

    fn mean_by(&self, i: usize, decoded: &[f32]) -> Vec<Option<f64>> {
        let n: usize = self.layout.shape(i).iter().product();
        let sums = match &self.taken {
            Taken::Sums(sums) => &sums[i],
            Taken::Kept(kept) => {
                let trim = |n| match self.options.averaging {
                    Averaging::TrimmedMean { trim } => trim as usize,
                    _ => all_but_the_middle(n),
                };
                return kept.trimmed_means(i, n, trim);
            }
            Taken::Integers(_, gathers) => return part(gathers, i, decoded, n),
        };
        let divisor = self.options.divisor;
        if let (Some(noise), Some(divisor)) = (&self.options.noise, divisor) {
            let use_of = [self.run, self.round, i as u64];
            let own = self.options.submodel.as_ref().map(|all| Gather::all(&self.layout, all));
            // A submodel of all that is not of the layout has no client.
            let runs = match own.and_then(Result::ok) {
                Some(gathers) => gathers[i].runs().collect(),
                None => vec![(0, n)],
            };
            return noise.means(sums, use_of, divisor, runs.into_iter());
        }
        let counted = self.options.averaging == Averaging::Counted
            || self.layout.params()[i].role == Role::Statistic;
        let weight = divisor.unwrap_or(self.weight);
        let mean = |(at, own): (usize, u64)| {
            (own > 0).then(|| sums.mean(at, if counted { own } else { weight }))
        };
        sums.weights().enumerate().map(mean).collect()
    }
}

/// Parameter `i`, of `n` values in the full model, of the values of a submodel.
fn part(gathers: &[Gather], i: usize, decoded: &[f32], n: usize) -> Vec<Option<f64>> {
    let mut full = vec![None; n];
    let start: usize = gathers[..i].iter().map(Gather::n_packed).sum();
    if let Some(own) = decoded.get(start..start + gathers[i].n_packed()) {
        let own: Vec<_> = own.iter().map(|value| Some(f64::from(*value))).collect();
        gathers[i].scatter(&own, &mut full);
    }
    full
}
