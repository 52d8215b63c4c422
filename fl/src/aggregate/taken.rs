//! [`Taken`]: what an aggregator holds of the updates it has folded, and its tensors in a saved state.

use super::kept::{Kept, Values};
use super::sums::{MAX_VALUE, Sums};
use super::{AggregatorOptions, Averaging};
use crate::submodel::Gather;
use crate::{Error, Layout, Result};
use fedpress::{DType, Spec, Tensor, TensorView, Writer};

/// Bits of the largest magnitude that one unit of weight can add to a sum, whatever the bounds.
const UNIT_BITS: u32 = 91;

/// Sums where the average is one, the updates themselves where it is not.
pub(super) enum Taken {
    /// One for each parameter of the layout.
    Sums(Vec<Sums>),
    Kept(Kept),
}

impl Taken {
    pub(super) fn new(averaging: Averaging, layout: &Layout) -> Self {
        if averaging.is_robust() {
            return Self::Kept(Kept::default());
        }
        let n_values = |i| layout.shape(i).iter().product();
        Self::Sums((0..layout.params().len()).map(|i| Sums::zeros(n_values(i))).collect())
    }

    /// Takes the checked values of an update.
    pub(super) fn add(&mut self, client: u64, values: Values, weight: u32) {
        match self {
            Self::Kept(kept) => drop(kept.0.insert(client, values)),
            Self::Sums(all) => {
                for ((gather, values), sums) in values.iter().zip(all) {
                    let mut taken = 0;
                    for (at, n) in gather.runs() {
                        sums.add(at, &values[taken..taken + n], weight);
                        taken += n;
                    }
                }
            }
        }
    }

    /// Adds what another of the same layout and options holds, of other clients.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Sums(ours), Self::Sums(theirs)) => {
                ours.iter_mut().zip(&theirs).for_each(|(ours, theirs)| ours.merge(theirs));
            }
            (Self::Kept(ours), Self::Kept(mut theirs)) => ours.0.append(&mut theirs.0),
            // Of the same options they are of the same kind.
            (Self::Sums(_), Self::Kept(_)) | (Self::Kept(_), Self::Sums(_)) => {}
        }
    }

    /// Writes all of it, lossless tensors.
    pub(super) fn write(&self, writer: &mut Writer<Vec<u8>>, layout: &Layout) -> Result<()> {
        let lossless = Spec::lossless();
        let mut put = |name: String, dtype, shape: &[usize], data: &[u8]| {
            writer.tensor(&TensorView { name: &name, dtype, shape, data }, &lossless)
        };
        match self {
            Self::Sums(all) => {
                for (param, sums) in layout.params().iter().zip(all) {
                    let n = sums.values.len();
                    let values: Vec<u8> =
                        sums.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                    let weights: Vec<u8> =
                        sums.weights.iter().flat_map(|w| w.to_le_bytes()).collect();
                    put(format!("sum/{}", param.name), DType::U8, &[n, 16], &values)?;
                    put(format!("weight/{}", param.name), DType::U64, &[n], &weights)?;
                }
            }
            Self::Kept(kept) => {
                for (client, update) in &kept.0 {
                    for (param, (_, values)) in layout.params().iter().zip(update) {
                        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                        let name = format!("update/{client}/{}", param.name);
                        put(name, DType::F32, &[values.len()], &data)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills an empty one with what [`write`](Self::write) wrote of the clients `folded`, with where
    /// their values belong, whose weights are `weight` in all.
    ///
    /// # Errors
    /// `Corrupt` where tensors are missing, of other names or shapes, or have values that no updates
    /// make.
    pub(super) fn read(
        &mut self,
        tensors: &[Tensor],
        layout: &Layout,
        options: &AggregatorOptions,
        weight: u64,
        folded: Vec<(u64, Vec<Gather>)>,
    ) -> Result<()> {
        let n_params = layout.params().len();
        let expected = match self {
            Self::Sums(_) => 2 * n_params,
            Self::Kept(_) => n_params * folded.len(),
        };
        if tensors.len() != expected {
            let found = tensors.len();
            return Err(Error::corrupt(format!("expected {expected} tensors, found {found}")));
        }
        match self {
            Self::Sums(all) => {
                for ((param, sums), pair) in
                    layout.params().iter().zip(all).zip(tensors.chunks_exact(2))
                {
                    let unit = largest_unit(options.max_norm_of(param.role));
                    let read = read_sums(pair, &param.name, sums.values.len(), weight, unit);
                    *sums = read.map_err(|e| e.in_parameter(&param.name))?;
                }
            }
            Self::Kept(kept) => {
                let mut tensors = tensors.iter();
                for (client, gathers) in folded {
                    let own = tensors.by_ref().take(n_params);
                    let update = read_update(client, gathers, own, layout, options)?;
                    kept.0.insert(client, update);
                }
            }
        }
        Ok(())
    }
}

fn read_update<'a>(
    client: u64,
    gathers: Vec<Gather>,
    tensors: impl Iterator<Item = &'a Tensor>,
    layout: &Layout,
    options: &AggregatorOptions,
) -> Result<Values> {
    let read = |((gather, param), tensor): ((Gather, &crate::ParamLayout), &Tensor)| {
        let (name, n) = (format!("update/{client}/{}", param.name), gather.n_packed());
        if tensor.name != name || (tensor.dtype, &tensor.shape[..]) != (DType::F32, &[n]) {
            let found = (&tensor.name, &tensor.shape);
            return Err(Error::corrupt(format!("expected {name:?} of {n}, found {found:?}")));
        }
        let values = tensor.to_f32().unwrap_or_default();
        let most = options.max_norm_of(param.role);
        let possible = |v: &f32| v.abs() < MAX_VALUE && f64::from(v.abs()) <= most;
        match values.iter().position(|v| !possible(v)) {
            Some(at) => Err(Error::corrupt(format!("{name}: value {at} is beyond the bounds"))),
            None => Ok((gather, values)),
        }
    };
    gathers.into_iter().zip(layout.params()).zip(tensors).map(read).collect()
}

/// The largest magnitude that one unit of weight can add to a sum, where no value is beyond this
/// norm; rounding of the product included.
fn largest_unit(max_norm: f64) -> u128 {
    // A cast of what is too large saturates.
    let bound = (max_norm * (1u64 << 60) as f64).ceil() as u128;
    bound.saturating_add(1).min(1 << UNIT_BITS)
}

fn read_sums(pair: &[Tensor], name: &str, n: usize, most: u64, unit: u128) -> Result<Sums> {
    let [values, weights] = pair else { return Err(Error::corrupt("a sum without its weight")) };
    let fits = values.name == format!("sum/{name}")
        && (values.dtype, &values.shape[..]) == (DType::U8, &[n, 16])
        && weights.name == format!("weight/{name}")
        && (weights.dtype, &weights.shape[..]) == (DType::U64, &[n]);
    if !fits {
        let found = (&values.name, &values.shape, &weights.name, &weights.shape);
        return Err(Error::corrupt(format!("expected {n} sums and weights, found {found:?}")));
    }
    let values = values.data.as_chunks::<16>().0.iter().map(|b| i128::from_le_bytes(*b));
    let weights = weights.data.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b));
    let sums = Sums { values: values.collect(), weights: weights.collect() };
    // What could not have come from updates could overflow later.
    let possible = |(value, weight): (&i128, &u64)| {
        *weight <= most && value.unsigned_abs() <= u128::from(*weight) * unit
    };
    match sums.values.iter().zip(&sums.weights).position(|pair| !possible(pair)) {
        Some(at) => Err(Error::corrupt(format!("sum {at} is larger than its weight allows"))),
        None => Ok(sums),
    }
}
