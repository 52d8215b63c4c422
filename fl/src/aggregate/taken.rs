//! [`Taken`]: what an aggregator holds of the updates it has folded, and its tensors in a saved state.

use super::kept::{Kept, Values};
use super::sums::{MAX_VALUE, Sums};
use super::{AggregatorOptions, Gathers};
use crate::submodel::Gather;
use crate::{Error, IntegerSum, Layout, Result};
use fedpress::{DType, Spec, Tensor, TensorView, Writer};

/// Bits of the largest magnitude that one unit of weight can add to a sum, whatever the bounds.
const UNIT_BITS: u32 = 91;

/// Sums where the average is one, the updates themselves where it is not.
pub(super) enum Taken {
    /// One for each parameter of the layout.
    Sums(Vec<Sums>),
    Kept(Kept),
    /// Of codes, and where what they stand for belongs.
    Integers(IntegerSum, Gathers),
}

/// The tensor of a sum of codes.
const INTEGERS: &str = "sum";

impl Taken {
    pub(super) fn new(options: &AggregatorOptions, layout: &Layout, round: u64) -> Result<Self> {
        if options.averaging.is_robust() {
            return Ok(Self::Kept(Kept::default()));
        }
        if let (Some((spec, seed)), Some(choice)) = (options.integers, &options.submodel) {
            let gathers = Gather::all(layout, choice)?;
            let n = gathers.iter().map(Gather::n_packed).sum();
            return Ok(Self::Integers(IntegerSum::new(spec, seed, round, n)?, gathers));
        }
        let grid = options.noise.as_ref().map_or(1, |noise| noise.grid());
        let zeros = |i| Sums::zeros(layout.shape(i).iter().product()).on_grid(grid);
        Ok(Self::Sums((0..layout.params().len()).map(zeros).collect()))
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
            // Codes are no values, and are added as they are.
            Self::Integers(..) => {}
        }
    }

    /// Adds what another of the same layout and options holds, of other clients.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Sums(ours), Self::Sums(theirs)) => {
                ours.iter_mut().zip(&theirs).for_each(|(ours, theirs)| ours.merge(theirs));
            }
            (Self::Kept(ours), Self::Kept(mut theirs)) => ours.0.append(&mut theirs.0),
            (Self::Integers(ours, _), Self::Integers(theirs, _)) => {
                // Of the same options they have as many sums of as many bits.
                ours.add(theirs.sums()).unwrap_or_default();
            }
            // Of the same options they are of the same kind.
            _ => {}
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
                    let n = sums.len();
                    let values: Vec<u8> = sums.values().flat_map(i128::to_le_bytes).collect();
                    let weights: Vec<u8> = sums.weights().flat_map(u64::to_le_bytes).collect();
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
            Self::Integers(sum, _) => {
                let data: Vec<u8> = sum.sums().iter().flat_map(|sum| sum.to_le_bytes()).collect();
                put(INTEGERS.to_owned(), DType::U32, &[sum.sums().len()], &data)?;
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
            Self::Integers(..) => 1,
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
                    let grid = options.noise.as_ref().map_or(1, |noise| noise.grid());
                    let read = read_sums(pair, &param.name, sums.len(), weight, unit);
                    *sums = read.map_err(|e| e.in_parameter(&param.name))?.on_grid(grid);
                }
            }
            Self::Integers(sum, _) => read_integers(sum, tensors)?,
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

/// The tensor of a sum of codes, into a sum of nothing.
fn read_integers(sum: &mut IntegerSum, tensors: &[Tensor]) -> Result<()> {
    let n = sum.sums().len();
    let Some(tensor) = tensors.first().filter(|tensor| {
        tensor.name == INTEGERS && (tensor.dtype, &tensor.shape[..]) == (DType::U32, &[n])
    }) else {
        return Err(Error::corrupt(format!("expected a sum of {n} codes")));
    };
    let codes = tensor.data.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b));
    sum.add(&codes.collect::<Vec<_>>()).map_err(|e| Error::corrupt(e.to_string()))
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
    let (values, weights): (Vec<i128>, Vec<u64>) = (values.collect(), weights.collect());
    // What could not have come from updates could overflow later.
    let possible = |(value, weight): (&i128, &u64)| {
        *weight <= most && value.unsigned_abs() <= u128::from(*weight) * unit
    };
    match values.iter().zip(&weights).position(|pair| !possible(pair)) {
        Some(at) => Err(Error::corrupt(format!("sum {at} is larger than its weight allows"))),
        None => Ok(Sums::new(&values, &weights)),
    }
}
