//! Rates for the tensors of a model, so that all of it together takes so many bytes, or errs so much.
//!
//! Of each tensor the expected error is known as a function of its rate: behind a rotation by a formula, of
//! values as they are by a sample. Bits go where they take away most error, until the next bit is worth as
//! much in every tensor (Shoham and Gersho 1988); tensors whose values are large so get more of them. What
//! a stream takes is then measured by encoding, and the bits are corrected by what it is off. Groups that take
//! less without loss are not foreseen: what they leave is found by that correction alone.

mod curve;

use crate::group::{Buffers, Elements, Job, TensorKeys, expected_error, numbers_of};
use crate::kernel::Kernel;
use crate::{
    DType, EncodeOptions, Error, NamedTensor, Result, Spec, TensorView, as_tensor, effective_spec,
    encode_views,
};
use curve::Curve;

/// What a stream is to come to.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// No more bytes than this.
    Bytes(u64),
    /// No more bits than this for each value of all tensors.
    BitsPerValue(f64),
    /// No more bytes than this part of those of the elements: 30 is a thirtieth.
    Ratio(f64),
    /// An expected squared error, over the squared length of all values that are sent lossily, of this.
    Nmse(f64),
}

impl Target {
    /// The most bytes of a stream of so many values in so many bytes; `None` where the target is an error.
    fn bytes(self, n_values: u64, n_bytes: u64) -> Result<Option<u64>> {
        let valid = |x: f64| {
            let error = || Error::invalid(format!("{self:?}: expected a number above 0"));
            (x > 0.0 && x.is_finite()).then_some(x).ok_or_else(error)
        };
        Ok(match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::BitsPerValue(bits) => Some((n_values as f64 * valid(bits)? / 8.0) as u64),
            Self::Ratio(ratio) => Some((n_bytes as f64 / valid(ratio)?) as u64),
            Self::Nmse(nmse) => valid(nmse).map(|_| None)?,
        })
    }
}

/// Looks at tensors and finds their rates.
///
/// ```
/// use fedpress::{DType, EncodeOptions, Planner, Seeds, Spec, Target};
/// let options = EncodeOptions::new(Seeds::new(7, 0x1f3a_9c55));
/// let auto: Spec = "auto".parse()?;
/// let mut planner = Planner::new(&options);
/// for size in [1.0f32, 4.0] {
///     let values: Vec<f32> = (0..4096).map(|i| size * (i as f32).sin()).collect();
///     planner.begin(&auto, 1.0)?;
///     planner.push(DType::F32, bytemuck::cast_slice(&values))?;
/// }
/// let rates = planner.rates_of_bits(3.0 * 8192.0);
/// assert!(rates[1] > rates[0] + 1.5, "four times the size takes about two bits more");
/// # Ok::<(), fedpress::Error>(())
/// ```
pub struct Planner {
    kernel: Kernel,
    group: usize,
    buffers: Buffers,
    curves: Vec<Curve>,
}

impl std::fmt::Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").field("tensors", &self.curves.len()).finish_non_exhaustive()
    }
}

/// Halvings of a range.
const HALVINGS: usize = 64;
/// Streams that are tried to meet a number of bytes.
const TRIES: usize = 8;
/// How far below a number of bytes a stream may stay, and is looked for, in thousandths.
const CLOSE: [u64; 2] = [5, 1];

impl Planner {
    /// For streams of these options.
    pub fn new(options: &EncodeOptions) -> Self {
        let (kernel, group) = (Kernel::new(options.simd), 1 << options.group_log2);
        Self { kernel, group, buffers: Buffers::default(), curves: Vec::new() }
    }

    /// Begins the next tensor, whose pipeline is `spec` at a rate to be found; `weight` is what a squared
    /// error of it counts beside those of the others, 1 unless something is known.
    ///
    /// # Errors
    /// `InvalidArgument` if the spec has no [rate](Spec::rates), or the weight is no number above 0.
    pub fn begin(&mut self, spec: &Spec, weight: f64) -> Result<()> {
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(Error::invalid(format!(
                "weight: expected a number above 0, found {weight}"
            )));
        }
        // Says what is expected.
        spec.at_rate(spec.rates().map_or(0.0, |rates| *rates.start()))?;
        self.curves.extend(Curve::new(spec, weight));
        Ok(())
    }

    /// Takes in elements of the tensor that began last; groups with NaN or infinity count nothing, as they
    /// are sent losslessly.
    ///
    /// # Errors
    /// `InvalidArgument` if no tensor began, the elements are no whole ones, or of a type that is never lossy.
    pub fn push(&mut self, dtype: DType, elements: &[u8]) -> Result<()> {
        let whole = dtype.is_lossy_capable() && elements.len() % dtype.byte_len(1) == 0;
        let Some(curve) = self.curves.last_mut().filter(|_| whole) else {
            return Err(Error::invalid(format!("a plan for {} bytes of {dtype}", elements.len())));
        };
        let keys = TensorKeys::none();
        let job = Job { kernel: self.kernel, keys: &keys, group: 0, shape: &[], dtype };
        for group in elements.chunks(dtype.byte_len(self.group)) {
            let numbers = numbers_of(Elements::new(dtype, group, 0), &mut self.buffers);
            if self.kernel.peak_bits(numbers) >= f32::INFINITY.to_bits() {
                continue;
            }
            let energy = self.kernel.sum_of_products(numbers, numbers);
            curve.add(numbers.len(), energy, |spec| {
                let errors = spec.clone().alternatives();
                errors
                    .map(|spec| expected_error(&job, &spec, numbers))
                    .fold(f64::INFINITY, f64::min)
            });
        }
        Ok(())
    }

    /// The rates of the tensors, in bits a value, at which all of them together take about so many bits and
    /// err least.
    pub fn rates_of_bits(&self, bits: f64) -> Vec<f64> {
        self.rates_where(|rates| self.bits(rates) > bits)
    }

    /// The rates at which all tensors together are expected to have this NMSE in the fewest bits.
    pub fn rates_of_nmse(&self, nmse: f64) -> Vec<f64> {
        let energy: f64 = self.curves.iter().map(|curve| curve.energy).sum();
        self.rates_where(|rates| self.error(rates) < nmse * energy)
    }

    /// Pipelines of the tensors, in their order, by which the stream meets the target: no more bytes, and no
    /// less than by a hundredth where their rates allow it. `encode` says how many bytes a stream of
    /// these pipelines takes, of tensors of `n_values` in `n_bytes`; it is called several times.
    ///
    /// # Errors
    /// `InvalidArgument` if the lowest rates take more, as where lossless tensors alone do; whatever `encode`
    /// returns.
    pub fn specs<E: From<Error>>(
        &self,
        target: Target,
        (n_values, n_bytes): (u64, u64),
        mut encode: impl FnMut(&[Spec]) -> std::result::Result<u64, E>,
    ) -> std::result::Result<Vec<Spec>, E> {
        let Some(target) = target.bytes(n_values, n_bytes)? else {
            let Target::Nmse(nmse) = target else { return Ok(Vec::new()) };
            return Ok(self.at(&self.rates_of_nmse(nmse))?);
        };
        let least: Vec<f64> = self.curves.iter().map(Curve::least).collect();
        let most: Vec<f64> = self.curves.iter().map(Curve::most).collect();
        let (floor, ceiling) = (self.bits(&least), self.bits(&most));
        let mut bits = (8.0 * target as f64).clamp(floor, ceiling);
        let mut best: Option<(u64, Vec<Spec>)> = None;
        for _ in 0..TRIES {
            let rates = if bits > floor { self.rates_of_bits(bits) } else { least.clone() };
            let specs = self.at(&rates)?;
            let found = encode(&specs)?;
            let planned = self.bits(&rates);
            if found <= target {
                if best.as_ref().is_none_or(|(bytes, _)| *bytes < found) {
                    best = Some((found, specs));
                }
                if found >= target - target / 1000 * CLOSE[0] || planned >= ceiling {
                    break;
                }
            } else if planned <= floor {
                break;
            }
            let beside = 8.0 * found as f64 - planned;
            let next = 8.0 * (target - target / 1000 * CLOSE[1]) as f64 - beside;
            bits = next.clamp(floor, ceiling);
        }
        if let Some((_, specs)) = best {
            return Ok(specs);
        }
        let specs = self.at(&least)?;
        let found = encode(&specs)?;
        if found <= target {
            return Ok(specs);
        }
        Err(Error::invalid(format!(
            "a target of {target} bytes: at the lowest rates the stream takes {found}, {} of them beside what has a rate",
            found.saturating_sub((floor / 8.0) as u64)
        )))?
    }

    /// The pipelines at these rates.
    fn at(&self, rates: &[f64]) -> Result<Vec<Spec>> {
        self.curves.iter().zip(rates).map(|(curve, rate)| curve.spec.at_rate(*rate)).collect()
    }

    /// The rates at the lowest price of a bit at which they are not too much.
    fn rates_where(&self, too_much: impl Fn(&[f64]) -> bool) -> Vec<f64> {
        let rates = |price: f64| -> Vec<f64> {
            self.curves.iter().map(|curve| curve.rate(price.exp())).collect()
        };
        // Beyond what squares of f32 can cost.
        let (low, high) = halve((-400.0, 400.0), |price| too_much(&rates(price)));
        // A rate may jump at a price: part of the way then.
        let (more, fewer) = (rates(low), rates(high));
        let between = |part: f64| -> Vec<f64> {
            more.iter().zip(&fewer).map(|(more, fewer)| more + part * (fewer - more)).collect()
        };
        between(halve((0.0, 1.0), |part| too_much(&between(part))).1)
    }

    fn bits(&self, rates: &[f64]) -> f64 {
        self.curves.iter().zip(rates).map(|(curve, rate)| curve.n as f64 * rate).sum()
    }

    fn error(&self, rates: &[f64]) -> f64 {
        self.curves.iter().zip(rates).map(|(curve, rate)| curve.error(*rate)).sum()
    }
}

/// The ends of what is left of a range at whose lower end something holds and at whose upper end it does not.
fn halve((mut low, mut high): (f64, f64), holds: impl Fn(f64) -> bool) -> (f64, f64) {
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        match holds(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    (low, high)
}

/// Encodes tensors into one stream that meets a target, each by `spec` at a rate of its own, where it
/// applies to them ([`effective_spec`] says where). Encodes several times.
///
/// ```
/// use fedpress::{EncodeOptions, Seeds, Target};
/// let options = EncodeOptions::new(Seeds::new(7, 0x1f3a_9c55));
/// let values: Vec<f32> = (0..100_000).map(|i| (i as f32).sin()).collect();
/// let stream = fedpress::encode_to(&[("w", values)], &"auto".parse()?, Target::Bytes(20_000), &options)?;
/// assert!((19_800..=20_000).contains(&stream.len()));
/// # Ok::<(), fedpress::Error>(())
/// ```
///
/// # Errors
/// Those of [`encode`](crate::encode()); `InvalidArgument` if the spec has no [rate](Spec::rates), or the
/// lowest rates take more bytes.
pub fn encode_to<T: NamedTensor>(
    tensors: &[T],
    spec: &Spec,
    target: Target,
    options: &EncodeOptions,
) -> Result<Vec<u8>> {
    let parts: Vec<_> = tensors.iter().map(as_tensor::Parts::of).collect();
    let views: Vec<_> = parts.iter().map(|tensor| (tensor.view(), spec, 1.0)).collect();
    let put = |specs: &[Spec], out: &mut Vec<u8>| {
        out.clear();
        let views = views.iter().map(|(view, ..)| *view).zip(specs);
        encode_views(&views.collect::<Vec<_>>(), options, out)
    };
    let mut out = Vec::new();
    let specs = plan::<Error>(&views, target, options, |specs| {
        put(specs, &mut out).map(|()| out.len() as u64)
    })?;
    put(&specs, &mut out)?;
    Ok(out)
}

/// Pipelines of tensors in memory by which their stream meets a target: those that stand beside them, at rates
/// of their own where they have one. Behind them is what a squared error of the tensor counts beside those of the
/// others, 1 unless something is known. `encode` says how many bytes the stream takes by pipelines of all tensors;
/// it is called several times.
///
/// # Errors
/// `InvalidArgument` if what is lossy has no [rate](Spec::rates), the lowest rates take more bytes, or a weight
/// is no number above 0; whatever `encode` returns.
pub fn plan<E: From<Error>>(
    tensors: &[(TensorView<'_>, &Spec, f64)],
    target: Target,
    options: &EncodeOptions,
    mut encode: impl FnMut(&[Spec]) -> std::result::Result<u64, E>,
) -> std::result::Result<Vec<Spec>, E> {
    let options = options.clone().with_several(options.several || tensors.len() > 1);
    options.check()?;
    let mut planner = Planner::new(&options);
    let (mut specs, mut rated, mut n_values, mut n_bytes) = (Vec::new(), Vec::new(), 0, 0);
    for (i, (view, spec, weight)) in tensors.iter().enumerate() {
        let spec = effective_spec(&view.desc(), spec, &options);
        if spec.is_lossy() && spec.rates().is_some() {
            planner.begin(&spec, *weight)?;
            planner.push(view.dtype, view.data)?;
            rated.push(i);
        }
        specs.push(spec);
        n_values += (8 * view.data.len() / view.dtype.bits().max(1)) as u64;
        n_bytes += view.data.len() as u64;
    }
    if let (true, Some(spec)) = (rated.is_empty(), specs.iter().find(|spec| spec.is_lossy())) {
        // Says what is expected.
        spec.at_rate(0.0)?;
    }
    let set = |chosen: &[Spec], specs: &mut [Spec]| {
        for (i, spec) in rated.iter().zip(chosen) {
            specs[*i] = spec.clone();
        }
    };
    let chosen = planner.specs(target, (n_values, n_bytes), |chosen| {
        set(chosen, &mut specs);
        encode(&specs)
    })?;
    set(&chosen, &mut specs);
    Ok(specs)
}
