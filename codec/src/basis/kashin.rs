//! Kashin's representation (Lyubarskii & Vershynin 2010; Caldas et al. 2018, "K"): coefficients in
//! a redundant tight frame, spread so evenly that their range is small.
//!
//! The frame is the rotation of the Hadamard stage on N = round(lambda n) positions, of which the
//! n values take every (N/n)-th: value i stands at position floor(i N / n), zeros elsewhere. The
//! rotation is orthonormal, so the frame is tight for every n and lambda, and lambda = 1 is the
//! Hadamard stage itself.
//!
//! The default (last pass unclipped) represents the values exactly, so a stochastic quantizer
//! behind it stays unbiased; it bounds the coefficients of the first passes only. `clip` bounds
//! all of them and is biased. At equal bits on the wire neither beats the Hadamard stage with a
//! finer quantizer: the table in the crate documentation says by how much.

use super::hadamard::{BLOCK_LOG2, DEFAULT_BLOCK_LOG2};
use super::unit::Unit;
use super::{Peak, Transform, Values};
use crate::aligned::Aligned;
use crate::blocks::blocks;
use crate::flow::{Run, Sink, Source, run_len};
use crate::group::{Elements, Job, Output};
use crate::stage::{Options, Stage, block_log2, read_block_log2};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;
use std::ops::Range;

/// Parameters of the stage. Only the block size and lambda travel as what decoding needs, and
/// `clip` because a receiver may want to know that the values are biased.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kashin {
    block_log2: u8,
    lambda: f32,
    clip: bool,
    /// What only the encoder uses; a stream read back has the defaults here.
    iterations: u8,
    eta: f32,
    delta: f32,
}

const DEFAULT: Kashin = Kashin {
    block_log2: DEFAULT_BLOCK_LOG2,
    lambda: 1.25,
    clip: false,
    iterations: 3,
    eta: 0.9,
    delta: 1.0,
};

impl Kashin {
    pub(crate) fn with_lambda(lambda: f32) -> Result<Self> {
        Self { lambda, ..DEFAULT }.checked()
    }

    fn checked(self) -> Result<Self> {
        let ok = (1.0..=2.0).contains(&self.lambda)
            && (1..=64).contains(&self.iterations)
            && self.eta > 0.0
            && self.eta <= 1.0
            && self.delta > 0.0
            && self.delta <= 16.0;
        if ok {
            return Ok(self);
        }
        Err(Error::invalid(format!(
            "kashin: expected lambda in 1..=2, iterations in 1..=64, eta in (0, 1], delta in (0, 16], found lambda={}, iterations={}, eta={}, delta={}",
            self.lambda, self.iterations, self.eta, self.delta
        )))
    }

    /// Coefficients that are rotated together, a power of two.
    pub fn block(&self) -> usize {
        1 << self.block_log2
    }

    /// Redundancy of the frame, 1 to 2.
    pub fn lambda(&self) -> f32 {
        self.lambda
    }

    /// Whether the last iteration is clipped, too, which makes it biased.
    pub fn clip(&self) -> bool {
        self.clip
    }

    /// Rotations of the residual, the last one included. Only an encoder has it; of a stream that
    /// was read it is the default, as are the next two.
    pub fn iterations(&self) -> u8 {
        self.iterations
    }

    /// What the level is multiplied by after each iteration.
    pub fn eta(&self) -> f32 {
        self.eta
    }

    /// What the energy is divided by for the first level.
    pub fn delta(&self) -> f32 {
        self.delta
    }

    /// The iteration on the unit of coefficients at `positions`, of which `inputs` are the values:
    /// clip the rotated residual at a level, keep it, subtract what it represents, lower the level;
    /// the last pass takes all that is left.
    fn represent(
        &self,
        rotation: &Unit,
        slots: Slots,
        positions: &Range<usize>,
        inputs: (usize, &[f32]),
        coefficients: &mut [f32],
        work: &mut Work,
    ) {
        let Work { residual, rotated, spare, sums } = work;
        let residual = residual.take(coefficients.len());
        let rotated = rotated.take(coefficients.len());
        residual.fill(0.0);
        let (first, values) = inputs;
        for (value, slot) in values.iter().zip(slots.from(first)) {
            residual[slot - positions.start] = *value;
        }
        let energy = sum_of_squares(residual, sums);
        let n_inputs = values.len() as f64;
        let mut level = (energy / (f64::from(self.delta) * n_inputs)).sqrt() as f32;
        coefficients.fill(0.0);
        for _ in 1..self.iterations {
            rotation.forward(residual, rotated, &[], spare);
            for (c, r) in coefficients.iter_mut().zip(&mut *rotated) {
                *r = r.clamp(-level, level);
                *c += *r;
            }
            let represented = sums.values.take(rotated.len());
            rotation.inverse(rotated, represented, spare);
            for (_, slot) in values.iter().zip(slots.from(first)) {
                residual[slot - positions.start] -= represented[slot - positions.start];
            }
            level *= self.eta;
        }
        rotation.forward(residual, rotated, &[], spare);
        for (c, r) in coefficients.iter_mut().zip(rotated) {
            *c += if self.clip { r.clamp(-level, level) } else { *r };
        }
        if self.clip {
            let norm = sum_of_squares(coefficients, sums);
            let gain = if norm > 0.0 { (energy / norm).sqrt() as f32 } else { 1.0 };
            coefficients.iter_mut().for_each(|c| *c *= gain);
        }
    }
}

/// Buffers of the iteration, for a unit each.
#[derive(Default)]
pub(super) struct Work {
    residual: Aligned,
    rotated: Aligned,
    spare: Aligned,
    sums: Sums,
}

#[derive(Default)]
struct Sums {
    squares: Vec<f64>,
    values: Aligned,
}

impl Transform for Kashin {
    /// N = round(lambda n), half up.
    fn n_coefficients(&self, n: usize) -> usize {
        (f64::from(self.lambda) * n as f64 + 0.5) as usize
    }

    fn memory(&self, n: usize) -> usize {
        self.n_coefficients(n).min(2 * self.block()) * (8 * size_of::<f32>() + size_of::<f64>())
    }

    fn forward<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Elements<'a>,
        work: &'a mut super::Work,
    ) -> impl Values + 'a {
        let slots = Slots { n_values: values.len(), n_slots: self.n_coefficients(values.len()) };
        Forward { stage: *self, job, values, work, slots, at: 0, peak: 0 }
    }

    fn inverse<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Output<'a>,
        work: &'a mut super::Work,
    ) -> impl Sink + 'a {
        let slots = Slots { n_values: values.len(), n_slots: self.n_coefficients(values.len()) };
        Inverse { stage: *self, job, values, work, slots, at: 0 }
    }
}

struct Forward<'a> {
    stage: Kashin,
    job: &'a Job<'a>,
    values: Elements<'a>,
    work: &'a mut super::Work,
    slots: Slots,
    at: usize,
    peak: u32,
}

impl Source for Forward<'_> {
    fn unit(&self) -> usize {
        self.stage.block()
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.slots.n_slots - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        let super::Work { input, unit: run, kashin, .. } = &mut *self.work;
        let coefficients = run.take(n);
        for unit in blocks(n, self.stage.block()) {
            let positions = self.at + unit.start..self.at + unit.end;
            let inputs = self.slots.values_at(&positions);
            let first = inputs.start;
            let x = self.values.get(inputs, input);
            let peak = self.job.kernel.peak_bits(x);
            self.peak = self.peak.max(peak);
            // The arithmetic means nothing then, and the group is refused or sent otherwise.
            if peak < f32::INFINITY.to_bits() {
                let rotation = Unit::new(self.job, positions.start, unit.len(), self.stage.block());
                let coefficients = &mut coefficients[unit];
                let (stage, slots) = (self.stage, self.slots);
                stage.represent(&rotation, slots, &positions, (first, x), coefficients, kashin);
            }
        }
        self.at += n;
        Ok(Some(Run { values: coefficients, range: None }))
    }
}

impl Values for Forward<'_> {
    fn peak(&self) -> Peak {
        Peak::exactly(self.peak)
    }
}

struct Inverse<'a> {
    stage: Kashin,
    job: &'a Job<'a>,
    values: Output<'a>,
    work: &'a mut super::Work,
    slots: Slots,
    at: usize,
}

impl Sink for Inverse<'_> {
    fn unit(&self) -> usize {
        self.stage.block()
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        let super::Work { input, unit: positions, spare, kashin, .. } = &mut *self.work;
        for unit in blocks(run.values.len(), self.stage.block()) {
            let at = self.at + unit.start..self.at + unit.end;
            let rotation = Unit::new(self.job, at.start, unit.len(), self.stage.block());
            let turned = positions.take(unit.len());
            rotation.inverse(&run.values[unit], turned, spare);
            let values = self.slots.values_at(&at);
            let picked = kashin.residual.take(values.len());
            for (value, slot) in picked.iter_mut().zip(self.slots.from(values.start)) {
                *value = turned[slot - at.start];
            }
            self.values.put(values.start, picked, input);
        }
        self.at += run.values.len();
        Ok(())
    }
}

/// Where the values of a group stand among its coefficients.
#[derive(Clone, Copy)]
struct Slots {
    n_values: usize,
    n_slots: usize,
}

impl Slots {
    /// The values that stand at a range of positions.
    fn values_at(self, positions: &Range<usize>) -> Range<usize> {
        let (n, slots) = (self.n_values as u64, self.n_slots as u64);
        let from = |position: usize| (position as u64 * n).div_ceil(slots.max(1)).min(n) as usize;
        from(positions.start)..from(positions.end)
    }

    /// Positions of the values from `first` on.
    fn from(self, first: usize) -> impl Iterator<Item = usize> {
        let (n, slots) = (self.n_values as u64, self.n_slots as u64);
        (first as u64..n).map(move |i| (i * slots / n) as usize)
    }
}

/// Sum of squares in f64 by a tree over index bits: neighbours first, then pairs, and so on; a
/// missing partner counts as zero. The order is fixed so that every machine finds the same level.
fn sum_of_squares(x: &[f32], sums: &mut Sums) -> f64 {
    let squares = &mut sums.squares;
    squares.clear();
    squares.extend(x.iter().map(|v| f64::from(*v) * f64::from(*v)));
    while squares.len() > 1 {
        let half = squares.len().div_ceil(2);
        for i in 0..half {
            squares[i] = squares[2 * i] + squares.get(2 * i + 1).copied().unwrap_or(0.0);
        }
        squares.truncate(half);
    }
    squares.first().copied().unwrap_or(0.0)
}

impl Stage for Kashin {
    const ID: u8 = 0x02;
    const NAME: &'static str = "kashin";
    const EXAMPLES: &'static [&'static str] = &[
        "kashin",
        "kashin,lambda=1.75,iterations=5,eta=0.7,delta=2",
        "kashin,lambda=1.1,block=256,clip",
    ];

    fn is_biased(&self) -> bool {
        self.clip
    }

    fn is_seeded(&self) -> bool {
        true
    }

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        let block: u64 = options.option("block")?.unwrap_or(1 << DEFAULT.block_log2);
        let stage = Self {
            block_log2: block_log2(block, BLOCK_LOG2)?,
            lambda: options.option("lambda")?.unwrap_or(DEFAULT.lambda),
            clip: options.flag("clip")?,
            iterations: options.option("iterations")?.unwrap_or(DEFAULT.iterations),
            eta: options.option("eta")?.unwrap_or(DEFAULT.eta),
            delta: options.option("delta")?.unwrap_or(DEFAULT.delta),
        };
        options.end("lambda, iterations, eta, delta, block, clip")?;
        stage.checked()
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)?;
        if self.lambda != DEFAULT.lambda {
            write!(f, ",lambda={}", self.lambda)?;
        }
        if self.iterations != DEFAULT.iterations {
            write!(f, ",iterations={}", self.iterations)?;
        }
        if self.eta != DEFAULT.eta {
            write!(f, ",eta={}", self.eta)?;
        }
        if self.delta != DEFAULT.delta {
            write!(f, ",delta={}", self.delta)?;
        }
        if self.block_log2 != DEFAULT.block_log2 {
            write!(f, ",block={}", self.block())?;
        }
        if self.clip {
            f.write_str(",clip")?;
        }
        Ok(())
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.extend([self.block_log2, u8::from(self.clip)]);
        out.extend(self.lambda.to_le_bytes());
    }

    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let block_log2 = read_block_log2(cursor, BLOCK_LOG2, "kashin block")?;
        let clip = match cursor.u8("kashin flags")? {
            0 => false,
            1 => true,
            flags => return Err(Error::corrupt(format!("kashin flags: {flags:#04x} is reserved"))),
        };
        let lambda = cursor.f32("kashin lambda")?;
        Self { block_log2, clip, lambda, ..DEFAULT }
            .checked()
            .map_err(|_| Error::corrupt(format!("kashin lambda: expected 1..=2, found {lambda}")))
    }
}
