//! [`Layout::verify`]: does the network compute what the layout says?

use super::Layout;
use crate::{Choice, Error, Keep, Parameter, Result, Rule, merge, pack};

/// Submodels that are tried of each group.
const TRIES: u64 = 3;

impl Layout {
    /// Checks a layout against the network it is of: a wrong axis trains nonsense without an error.
    ///
    /// `forward` is the network: it computes outputs for some fixed inputs, with the parameters of the
    /// full model or of a submodel, whose shapes say which. A submodel has to compute what the full
    /// model does whose other units have weights of 0, to `tolerance` times the largest output: for each
    /// group of units alone, so that an error names it, and for all together. `model` should have weights
    /// that are not 0, and inputs that reach every unit. Norms that mix units (layer norms, group norms) do not
    /// pass where what they mix is dropped: a submodel's are of fewer units.
    ///
    /// ```
    /// # use fedpress_fl::{Layout, Parameter};
    /// // y = b relu(a x), of 3 hidden units.
    /// let layout = Layout::from_toml(r#"
    ///     [groups]
    ///     hidden = 3
    ///     [[parameters]]
    ///     name = "a"
    ///     axes = ["hidden", "2"]
    ///     [[parameters]]
    ///     name = "b"
    ///     axes = ["1", "hidden"]
    ///     inputs = [1]
    /// "#)?;
    /// let forward = |model: &[Parameter]| {
    ///     let hidden = model[0].values.chunks(2).map(|a| (a[0] * 0.5 + a[1] * 2.0).max(0.0));
    ///     Ok(vec![hidden.zip(&model[1].values).map(|(h, b)| h * b).sum::<f32>()])
    /// };
    /// let parameter = |name: &str, shape: &[usize], values: &[f32]| Parameter {
    ///     name: name.into(),
    ///     shape: shape.to_vec(),
    ///     values: values.to_vec(),
    /// };
    /// let model =
    ///     [parameter("a", &[3, 2], &[1., 2., 3., 1., 2., 2.]), parameter("b", &[1, 3], &[1., 5., 9.])];
    /// layout.verify(&model, 1e-5, forward)?;
    /// # Ok::<(), fedpress_fl::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` that names the group where outputs differ, or where they do not depend on it, which
    /// shows nothing; for a model of another layout; as `forward`.
    pub fn verify(
        &self,
        model: &[Parameter],
        tolerance: f32,
        mut forward: impl FnMut(&[Parameter]) -> Result<Vec<f32>>,
    ) -> Result<()> {
        self.check(model)?;
        let whole = forward(model)?;
        let groups = self.groups().iter().filter(|group| group.units > 1);
        for group in groups.clone() {
            let mut keep = Keep::from(1.0);
            keep.groups.insert(group.name.clone(), 0.5);
            let mut shows = false;
            for seed in 0..TRIES {
                let masked = self.compare(model, &keep, seed, tolerance, &mut forward);
                let masked =
                    masked.map_err(|e| e.in_parameter(&format!("group {}", group.name)))?;
                shows |= differ(&masked, &whole, tolerance).is_some();
            }
            if !shows {
                let message = "outputs do not depend on its units, which shows nothing";
                return Err(Error::invalid(message).in_parameter(&format!("group {}", group.name)));
            }
        }
        if groups.count() > 0 {
            self.compare(model, &Keep::from(0.5), TRIES, tolerance, &mut forward)?;
        }
        Ok(())
    }

    /// What the full model without the dropped units computes, if the submodel does, too.
    fn compare(
        &self,
        model: &[Parameter],
        keep: &Keep,
        seed: u64,
        tolerance: f32,
        forward: &mut impl FnMut(&[Parameter]) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let choice = Choice { rule: Rule::Random { seed }, keep: keep.clone() };
        let selection = choice.select(self)?;
        let packed = pack(self, &selection, model)?;
        let mut masked = model.to_vec();
        masked.iter_mut().for_each(|parameter| parameter.values.fill(0.0));
        merge(self, &selection, &packed, &mut masked)?;
        let (small, masked) = (forward(&packed)?, forward(&masked)?);
        match differ(&small, &masked, tolerance) {
            None => Ok(masked),
            Some((small, masked)) => Err(Error::invalid(format!(
                "a submodel computes {small} where the full model without the dropped units has {masked}"
            ))),
        }
    }
}

/// The first outputs that are further apart than `tolerance` times the largest; a missing one counts as
/// NaN.
fn differ(some: &[f32], others: &[f32], tolerance: f32) -> Option<(f32, f32)> {
    let largest = others.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let n = some.len().max(others.len());
    let at = |values: &[f32], i: usize| values.get(i).copied().unwrap_or(f32::NAN);
    let pairs = (0..n).map(|i| (at(some, i), at(others, i)));
    // NaN is near nothing.
    let near = |(a, b): &(f32, f32)| (a - b).abs() <= tolerance * largest;
    pairs.into_iter().find(|pair| !near(pair))
}
