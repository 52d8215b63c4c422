//! [`Coefficients`]: the rotation of a pipeline alone, for those who code coefficients in a way of their own.

use crate::basis::{Basis, Transform, with_basis};
use crate::flow::{Run, Sink, flow};
use crate::group::exponent::LARGEST;
use crate::group::{Elements, Job, TensorKeys, Worker, n_coefficients, values_of};
use crate::kernel::{Kernel, Simd};
use crate::random::{Seeds, name_key};
use crate::{DType, EncodeOptions, Error, Result, Spec, TensorDesc};

/// Values of one group, at most 2^20, to their coefficients in the basis of a spec, and back. Of what
/// follows the basis nothing is looked at. Both ways are linear, up to the rounding of f32, so that sums
/// of coefficients that were made alike are coefficients of sums.
///
/// ```
/// use fedpress::{Coefficients, Rotation, Seeds};
/// let seeds = Seeds::new(7, 0).in_round(3).with_rotation(Rotation::Shared);
/// let mut basis = Coefficients::new(&"rotation".parse()?, "update", &seeds);
/// let values = vec![0.25f32; 5000];
/// let (mut coefficients, mut back) = (vec![0.0; basis.count(5000)], vec![0.0; 5000]);
/// basis.of(&values, &mut coefficients)?;
/// basis.values(&coefficients, &mut back)?;
/// assert!(back.iter().all(|v| (v - 0.25).abs() < 1e-5));
/// # Ok::<(), fedpress::Error>(())
/// ```
pub struct Coefficients {
    basis: Basis,
    keys: TensorKeys,
    worker: Worker,
}

impl Coefficients {
    /// In the basis of `spec`, rotated as group 0 of a tensor of this name is (FORMAT.md, sections 7 and
    /// 8.2).
    pub fn new(spec: &Spec, name: &str, seeds: &Seeds) -> Self {
        let (dtype, open) = (DType::F32, false);
        let desc = TensorDesc { name: name.to_owned(), dtype, shape: Vec::new(), open };
        let meta = EncodeOptions::new(*seeds).meta(&desc, spec.clone(), name_key(name), None);
        let worker = Worker::new(Kernel::new(Simd::Auto));
        Self { basis: spec.basis.clone(), keys: TensorKeys::shared(&meta), worker }
    }

    /// Coefficients of so many values.
    pub fn count(&self, n_values: usize) -> usize {
        n_coefficients(&self.basis, n_values)
    }

    /// The coefficients of `values`.
    ///
    /// # Errors
    /// `InvalidArgument` for more than 2^20 values or another [`count`](Self::count) of coefficients, or
    /// where a value is not finite or of a magnitude of 2^80 or more.
    pub fn of(&mut self, values: &[f32], out: &mut [f32]) -> Result<()> {
        self.check(values.len(), out.len())?;
        self.check_finite(values)?;
        let Self { basis, keys, worker } = self;
        let job = job(worker.kernel, keys);
        let mut to = Collect { out, at: 0 };
        with_basis!(&*basis, stage => {
            let elements = Elements::of_values(values);
            flow(&mut stage.forward(&job, elements, &mut worker.flow.basis), &mut to)
        })
    }

    /// The values of `coefficients`.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn values(&mut self, coefficients: &[f32], out: &mut [f32]) -> Result<()> {
        self.check(out.len(), coefficients.len())?;
        self.check_finite(coefficients)?;
        let job = job(self.worker.kernel, &self.keys);
        values_of(&job, &self.basis, coefficients, &mut self.worker, out)
    }

    fn check(&self, n_values: usize, n_coefficients: usize) -> Result<()> {
        let most = 1 << crate::wire::GROUP_LOG2.end();
        if n_values > most {
            let message = format!("{n_values} values, a group has up to {most}");
            return Err(Error::invalid(message));
        }
        let expected = self.count(n_values);
        match n_coefficients == expected {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "coefficients: expected {expected}, found {n_coefficients}"
            ))),
        }
    }

    fn check_finite(&self, numbers: &[f32]) -> Result<()> {
        let peak = f32::from_bits(self.worker.kernel.peak_bits(numbers));
        // Written so that NaN fails.
        match peak < LARGEST {
            true => Ok(()),
            false => Err(Error::invalid(format!("a magnitude of {peak:e}, below 2^80 is taken"))),
        }
    }
}

fn job(kernel: Kernel, keys: &TensorKeys) -> Job<'_> {
    Job { kernel, keys, group: 0, shape: &[], dtype: DType::F32 }
}

/// Writes numbers one behind the other.
struct Collect<'a> {
    out: &'a mut [f32],
    at: usize,
}

impl Sink for Collect<'_> {
    fn unit(&self) -> usize {
        1
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        self.out[self.at..self.at + run.values.len()].copy_from_slice(run.values);
        self.at += run.values.len();
        Ok(())
    }
}
