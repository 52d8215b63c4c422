//! [`Keep::by_cost`]: which groups to drop units of, where a submodel has to be of a size.

use super::Keep;
use super::choice::is_fraction;
use crate::{Error, Group, Layout, Result};
use std::collections::BTreeMap;

impl Keep {
    /// Fractions that leave at most `share` of the model's values, at the least noise: a group of which the
    /// fraction k is kept adds 1/k - 1, the variance, over the square of what is kept, of a sum that is
    /// compensated by 1/k. So the first layers of convolutional networks stay whole, and others whose
    /// units cost little. No group keeps less than half of `share` of its units.
    ///
    /// Steps of a hundredth of a group, each where it saves most for its noise; a function of its arguments
    /// alone.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no fraction.
    ///
    /// ```
    /// use fedpress_fl::{Keep, Layout};
    /// // Two hidden layers of 200 behind 784 inputs: a unit of the first has 985 weights, of the second 210.
    /// let layout = Layout::from_toml(r#"
    ///     [groups]
    ///     fc1 = 200
    ///     fc2 = 200
    ///     [[parameters]]
    ///     name = "fc1.weight"
    ///     axes = ["fc1", "784"]
    ///     [[parameters]]
    ///     name = "fc2.weight"
    ///     axes = ["fc2", "fc1"]
    ///     [[parameters]]
    ///     name = "fc3.weight"
    ///     axes = ["10", "fc2"]
    /// "#)?;
    /// let keep = Keep::by_cost(&layout, 0.75)?;
    /// assert_eq!((keep.groups["fc1"], keep.groups["fc2"]), (0.74, 1.0));
    /// # Ok::<(), fedpress_fl::Error>(())
    /// ```
    pub fn by_cost(layout: &Layout, share: f64) -> Result<Self> {
        if !is_fraction(share) {
            let message = format!("share: expected a fraction above 0 and up to 1, found {share}");
            return Err(Error::invalid(message));
        }
        let full = layout.groups();
        let most = (share * values(layout, full) as f64) as usize;
        let mut left = full.to_vec();
        while values(layout, &left) > most {
            let saves = |group: usize| {
                let fewer = with_step_less(&left, full, group, share)?;
                let saved = values(layout, &left) - values(layout, &fewer);
                let noise = |left: &Group| full[group].units as f64 / left.units as f64;
                Some((saved as f64 / (noise(&fewer[group]) - noise(&left[group])), fewer))
            };
            let steps = (0..left.len()).filter_map(saves);
            // Of equals the first.
            let best = steps.reduce(|best, other| if other.0 > best.0 { other } else { best });
            match best {
                Some((_, fewer)) => left = fewer,
                // What is never dropped is more than that.
                None => break,
            }
        }
        let fraction = |(full, left): (&Group, &Group)| {
            (full.name.clone(), left.units as f64 / full.units as f64)
        };
        let groups: BTreeMap<String, f64> = full.iter().zip(&left).map(fraction).collect();
        Ok(Self { default: 1.0, groups })
    }
}

/// Values of the model whose groups have so many units.
fn values(layout: &Layout, groups: &[Group]) -> usize {
    let length = |param: &crate::ParamLayout| -> usize {
        param.axes.iter().map(|axis| axis.len(groups)).product()
    };
    layout.params().iter().map(length).sum()
}

/// With a hundredth of a group's units less, if the group still has half of its share.
fn with_step_less(left: &[Group], full: &[Group], group: usize, share: f64) -> Option<Vec<Group>> {
    let units = full[group].units;
    let least = ((share / 2.0 * units as f64) as usize).max(1);
    let step = (units / 100).max(1).min(left[group].units.checked_sub(least)?);
    let mut fewer = left.to_vec();
    fewer[group].units -= step;
    (step > 0).then_some(fewer)
}
