//! Multiples of one step that keep every value within a bound, for measurements and simulations: a step of
//! about twice the bound, the nearest multiple, coded as [`super::Step`] codes them.
//!
//! Each group is decoded again as it is encoded. Where a value ends up further away than was asked, as where
//! floats are further apart than that, the group goes without loss.

use super::Coder;
use super::step::{Group, SIZE_BYTES, Way, bound, check_group, held_group, memory, put_group};
use super::step_setting::Plan;
use crate::flow::{Gather, Sink, Source};
use crate::group::{Job, Work};
use crate::kernel::Step as Rounding;
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{DType, Error, Result};
use std::fmt;

/// Every decoded value is within a bound of the original.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaxError {
    bound: f64,
}

/// Bounds that may be asked for.
const BOUNDS: std::ops::RangeInclusive<f64> = 1e-45..=1e38;
/// What is left of a step for the rounding of what it is computed from.
const MARGIN: f64 = 1.0 - 1.0 / 1024.0;
/// To the nearest multiple, which is decoded as it is.
const NEAREST: Rounding = Rounding::Nearest { dead: 0.0, shifts: [0.0; 2] };

impl MaxError {
    /// The most that a decoded value is away from the original.
    pub fn within(&self) -> f64 {
        self.bound
    }

    fn new(bound: f64) -> Result<Self> {
        match BOUNDS.contains(&bound) {
            true => Ok(Self { bound }),
            false => Err(Error::invalid(format!(
                "{}: expected a bound from {:e} to {:e}, found {bound}",
                Self::NAME,
                BOUNDS.start(),
                BOUNDS.end()
            ))),
        }
    }

    /// The step at which values of up to `peak` are met, their rounding to the element type included. At half
    /// of the largest step any rounding is within the bound: one of more than half of it would be to the
    /// value itself.
    fn step(&self, dtype: DType, peak: f32) -> f32 {
        let exponent = i32::from((peak.to_bits() >> 23) as u8) - 127;
        // Half the distance of neighbours, and for f32 what is lost when a value is divided.
        let (digits, least, times) = match dtype {
            DType::F16 => (11, -14, 1.0),
            DType::BF16 => (8, -126, 1.0),
            _ => (24, -126, 3.0),
        };
        let rounding = times * 2f64.powi(exponent.max(least) - digits);
        match rounding * 4.0 < self.bound {
            true => (2.0 * (self.bound - rounding) * MARGIN) as f32,
            false => self.bound as f32,
        }
    }
}

impl Coder for MaxError {
    fn bound(&self, n: usize) -> usize {
        bound(n)
    }

    fn bits(&self) -> f64 {
        // Known when it is written.
        32.0
    }

    fn memory(&self, n: usize) -> usize {
        memory(n)
    }

    fn max_error(&self) -> Option<f64> {
        Some(self.bound)
    }

    fn encoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        work: &'a mut Work,
        out: &'a mut Vec<u8>,
    ) -> impl Sink + 'a {
        let Work { whole, run, bytes, compared, .. } = work;
        let k = run.take(n);
        Gather::new(job.kernel, whole, n, move |numbers, _| {
            let peak = f32::from_bits(job.kernel.peak_bits(numbers));
            let step = self.step(job.dtype, peak);
            // Steps that numbers cannot be divided by are met by none.
            let plan = (peak > 0.5 * step && (1.0 / step).is_finite())
                .then(|| Plan::at(job.kernel, numbers, NEAREST, step))
                .flatten();
            let Some(plan) = plan else {
                out.extend([0; SIZE_BYTES]);
                return Ok(());
            };
            let way = Way::of(job, numbers, NEAREST, plan, None);
            let group = Group { numbers, k: &mut *k, bytes: &mut *bytes, compared: &mut *compared };
            put_group(job.kernel, group, (NEAREST, false), way, out);
            Ok(())
        })
    }

    fn check(&self, n: usize, codes: &[u8]) -> Result<()> {
        check_group(n, codes)
    }

    fn decoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        codes: &'a [u8],
        work: &'a mut Work,
    ) -> Result<impl Source + 'a> {
        held_group(job, n, codes, work, Rounding::nearest)
    }
}

impl Stage for MaxError {
    const ID: u8 = 0x24;
    const NAME: &'static str = "max-error";
    const EXAMPLES: &'static [&'static str] = &["max-error=0.01", "max-error=0.5"];

    fn is_biased(&self) -> bool {
        true
    }

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        let bound: Option<f64> = options.value()?;
        let bound = bound
            .ok_or_else(|| Error::invalid("max-error needs a bound, as in max-error=0.001"))?;
        options.end("nothing")?;
        Self::new(bound)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", Self::NAME, self.bound)
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.extend(self.bound.to_le_bytes());
    }

    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let bound = f64::from_bits(cursor.u64("bound of the error")?);
        Self::new(bound).map_err(|e| Error::corrupt(e.to_string()))
    }
}
