//! How long the kernels take on this device, beside a copy within its memory.

use crate::device::Cuda;
use crate::error::{Error, Result};
use crate::memory::{span, span_mut, zeros};
use crate::plan::Batch;
use crate::span::Spans;
use cudarc::driver::CudaSlice;
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use fedpress::device::GroupPlan;

/// A time and what happened in it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Measured {
    /// Median of the repetitions.
    pub seconds: f64,
    /// Values that were coded.
    pub values: u64,
    /// Bytes that have to be read or written at least.
    pub bytes: u64,
}

impl Measured {
    /// Bytes a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }
}

/// Buffers of a plan whose kernels do all in one pass.
struct Bench {
    batch: Batch,
    values: CudaSlice<u8>,
    exponents: CudaSlice<i32>,
    peaks: CudaSlice<u32>,
    payloads: CudaSlice<u8>,
    coefficients: CudaSlice<f32>,
}

impl Bench {
    fn new(device: &Cuda, plan: &GroupPlan, n_groups: usize, what: Measure) -> Result<Self> {
        let coefficients = what == Measure::Rotate;
        let batch = Batch::new(plan, 0, n_groups, plan.group_values())?;
        let is_staged = batch.iterates() && what != Measure::Encode;
        if !batch.is_fused() || is_staged || batch.n_whole_units() < batch.n_units() {
            return Err(Error::invalid("only plans of one fused kernel are measured"));
        }
        let stream = device.stream();
        // Bytes that spell floats of ordinary size, in every element type.
        let unit: Vec<u8> = (0..1792)
            .map(|i| if i % 2 == 1 { 0x3c ^ ((i / 7) as u8 & 0x80) } else { (i * 37) as u8 })
            .collect();
        let mut pattern = unit.repeat(batch.value_bytes().div_ceil(unit.len()));
        pattern.truncate(batch.value_bytes());
        let values = stream.clone_htod(&pattern);
        Ok(Self {
            values: values.map_err(|e| Error::driver("copy to the device", pattern.len(), e))?,
            exponents: zeros(stream, n_groups)?,
            peaks: zeros(stream, n_groups)?,
            payloads: zeros(stream, batch.payload_bytes())?,
            coefficients: zeros(stream, if coefficients { batch.n_coefficients() } else { 1 })?,
            batch,
        })
    }

    fn spans(&mut self, device: &Cuda, coefficients: bool) -> Spans {
        let stream = device.stream();
        let mut spans = Spans {
            values: span_mut(stream, &mut self.values),
            exponents: span(stream, &self.exponents),
            payloads: span_mut(stream, &mut self.payloads),
            peaks: span_mut(stream, &mut self.peaks),
            ..Spans::NONE
        };
        if coefficients {
            spans.coefficients = span_mut(stream, &mut self.coefficients);
        }
        spans
    }

    fn payload_bytes(&self) -> usize {
        self.batch.n_groups * self.batch.payload_len
    }
}

/// What is measured of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Values to payloads, Kashin's iterations included.
    Encode,
    /// Payloads to values.
    Decode,
    /// The signed rotation alone, to f32 coefficients; the plan's quantizer is not used.
    Rotate,
}

impl Cuda {
    /// Time to code `n_groups` groups by a plan whose rotation and quantizer cut the same blocks; of
    /// Kashin's plans encoding alone, as decoding takes several kernels.
    ///
    /// # Errors
    /// `InvalidArgument` for another plan; the driver's.
    pub fn measure(
        &self,
        what: Measure,
        plan: &GroupPlan,
        n_groups: usize,
        repeats: usize,
    ) -> Result<Measured> {
        let rotates = what == Measure::Rotate;
        let mut bench = Bench::new(self, plan, n_groups, what)?;
        let (spans, batch) = (bench.spans(self, rotates), bench.batch);
        let (stream, kernels) = (self.stream(), &self.kernels);
        let seconds = match what {
            Measure::Encode | Measure::Rotate => {
                self.median(repeats, || kernels.encode_blocks(stream, &batch, &spans))
            }
            Measure::Decode => {
                kernels.encode_blocks(stream, &batch, &spans)?;
                self.median(repeats, || kernels.decode_blocks(stream, &batch, &spans))
            }
        }?;
        let coded = if rotates { 4 * batch.n_coefficients() } else { bench.payload_bytes() };
        let bytes = (batch.value_bytes() + coded) as u64;
        Ok(Measured { seconds, values: batch.n_values() as u64, bytes })
    }

    /// Time to copy `n_bytes` within the device: every byte is read and written.
    pub fn measure_copy(&self, n_bytes: usize, repeats: usize) -> Result<Measured> {
        let stream = self.stream();
        let from: CudaSlice<u8> = zeros(stream, n_bytes)?;
        let mut to: CudaSlice<u8> = zeros(stream, n_bytes)?;
        let seconds = self.median(repeats, || {
            stream.memcpy_dtod(&from, &mut to).map_err(|e| Error::driver("copy", 0, e))
        })?;
        Ok(Measured { seconds, values: n_bytes as u64 / 4, bytes: 2 * n_bytes as u64 })
    }

    /// The median time of an operation by the clock of the device, after one to warm up.
    fn median(&self, repeats: usize, mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
        let failed = |e| Error::driver("measure time", 0, e);
        let event = || self.context().new_event(Some(CU_EVENT_DEFAULT)).map_err(failed);
        let (start, end) = (event()?, event()?);
        operation()?;
        let mut times = Vec::new();
        for _ in 0..repeats.max(1) {
            start.record(self.stream()).map_err(failed)?;
            operation()?;
            end.record(self.stream()).map_err(failed)?;
            times.push(f64::from(start.elapsed_ms(&end).map_err(failed)?) / 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}
