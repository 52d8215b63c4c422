//! [`Kept`]: the updates of a small cohort themselves, for averages that no sum gives.

use crate::submodel::Gather;
use std::collections::BTreeMap;

/// The values of one update and where they belong, parameter by parameter.
pub(super) type Values = Vec<(Gather, Vec<f32>)>;

/// The updates that have been folded, by client. So no order of arrival shows.
#[derive(Debug, Default)]
pub(super) struct Kept(pub(super) BTreeMap<u64, Values>);

impl Kept {
    /// For each coordinate of parameter `i`, which has `n` in the full model: the mean of what is left
    /// of the values of those who have it when the `trim` lowest and the `trim` highest are taken away,
    /// as `trim` of how many there are says; none where nothing is left.
    ///
    /// Takes 4 bytes for each coordinate and update while it lasts.
    pub(super) fn trimmed_means(
        &self,
        i: usize,
        n: usize,
        trim: impl Fn(usize) -> usize,
    ) -> Vec<Option<f64>> {
        // Values are finite, so NaN says that a client lacks the coordinate.
        let rows: Vec<Vec<f32>> = self.0.values().map(|update| full(&update[i], n)).collect();
        let mut present = Vec::with_capacity(rows.len());
        let mean = |at: usize| {
            present.clear();
            present.extend(rows.iter().map(|row| row[at]).filter(|value| !value.is_nan()));
            let trim = trim(present.len());
            let left =
                present.len().checked_sub(trim.saturating_mul(2)).filter(|left| *left > 0)?;
            present.sort_unstable_by(f32::total_cmp);
            Some(mean_of_ascending(&present[trim..trim + left]))
        };
        (0..n).map(mean).collect()
    }
}

fn full((gather, values): &(Gather, Vec<f32>), n: usize) -> Vec<f32> {
    let mut row = vec![f32::NAN; n];
    gather.scatter(values, &mut row);
    row
}

/// Of at least one value; never outside their range, however the sum rounds.
fn mean_of_ascending(values: &[f32]) -> f64 {
    let [lowest, highest] = [values[0], values[values.len() - 1]].map(f64::from);
    let sum: f64 = values.iter().copied().map(f64::from).sum();
    (sum / values.len() as f64).clamp(lowest, highest)
}

/// What is trimmed from either end of `n` values so that the middle one is left, or the middle two.
pub(super) fn all_but_the_middle(n: usize) -> usize {
    n.saturating_sub(1) / 2
}
