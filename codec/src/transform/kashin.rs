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
use super::{TransformContext, Unit};
use crate::blocks::blocks;
use crate::bytes::Cursor;
use crate::stage::{Options, Stage, block_log2, read_block_log2};
use crate::{Error, Result};
use std::fmt;
use std::ops::Range;

/// Parameters of the stage. Only the block size and lambda travel as what decoding needs, and
/// `clip` because a receiver may want to know that the values are biased.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Kashin {
    block_log2: u8,
    lambda: f32,
    pub(crate) clip: bool,
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

    pub(crate) fn block(&self) -> usize {
        1 << self.block_log2
    }

    /// The parameters as numbers.
    pub(crate) fn frame(&self) -> crate::Frame {
        crate::Frame {
            block_log2: u32::from(self.block_log2),
            iterations: u32::from(self.iterations),
            eta: self.eta,
            delta: self.delta,
            clip: self.clip,
        }
    }

    /// N = round(lambda n), half up.
    pub(crate) fn n_coefficients(&self, n: usize) -> usize {
        (f64::from(self.lambda) * n as f64 + 0.5) as usize
    }

    /// Coefficients of the units of `span`.
    pub(crate) fn forward(
        &self,
        context: &TransformContext,
        values: &[f32],
        span: Range<usize>,
        coefficients: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> u32 {
        let slots = Slots { n_values: values.len(), n_slots: self.n_coefficients(values.len()) };
        let mut peak = 0;
        for unit in blocks(span.len(), self.block()) {
            let positions = span.start + unit.start..span.start + unit.end;
            let rotation = Unit::new(context, positions.start, unit.len(), self.block());
            let coefficients = &mut coefficients[unit];
            peak = peak.max(self.represent(
                &rotation,
                slots,
                positions,
                values,
                coefficients,
                scratch,
            ));
        }
        peak
    }

    /// The iteration on one unit: clip the rotated residual at a level, keep it, subtract what it
    /// represents, lower the level; the last pass takes all that is left. Returns the bits of the
    /// largest magnitude of the values.
    fn represent(
        &self,
        rotation: &Unit,
        slots: Slots,
        positions: Range<usize>,
        values: &[f32],
        coefficients: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> u32 {
        let len = positions.len();
        let mut residual = vec![0.0f32; len];
        let mut taken = vec![false; len];
        let mut n_inputs = 0u32;
        for (input, slot) in slots.of(positions.clone()) {
            residual[slot - positions.start] = values[input];
            taken[slot - positions.start] = true;
            n_inputs += 1;
        }
        let peak = residual.iter().map(|v| v.to_bits() & 0x7fff_ffff).fold(0, u32::max);
        if peak >= f32::INFINITY.to_bits() {
            return peak;
        }
        let energy = sum_of_squares(&residual);
        let mut level = (energy / (f64::from(self.delta) * f64::from(n_inputs))).sqrt() as f32;
        let mut rotated = vec![0.0f32; len];
        coefficients.fill(0.0);
        for _ in 1..self.iterations {
            rotation.forward(&residual, &mut rotated, scratch);
            for (c, r) in coefficients.iter_mut().zip(&mut rotated) {
                *r = r.clamp(-level, level);
                *c += *r;
            }
            rotation.inverse(&mut rotated);
            for ((x, r), taken) in residual.iter_mut().zip(&rotated).zip(&taken) {
                if *taken {
                    *x -= r;
                }
            }
            level *= self.eta;
        }
        rotation.forward(&residual, &mut rotated, scratch);
        for (c, r) in coefficients.iter_mut().zip(&rotated) {
            *c += if self.clip { r.clamp(-level, level) } else { *r };
        }
        if self.clip {
            let norm = sum_of_squares(coefficients);
            let gain = if norm > 0.0 { (energy / norm).sqrt() as f32 } else { 1.0 };
            coefficients.iter_mut().for_each(|c| *c *= gain);
        }
        peak
    }

    /// Collects the values from the positions of a whole group.
    pub(crate) fn gather(&self, positions: &[f32], values: &mut [f32]) {
        let slots = Slots { n_values: values.len(), n_slots: positions.len() };
        for (input, slot) in slots.of(0..positions.len()) {
            values[input] = positions[slot];
        }
    }
}

/// Where the values of a group stand among its coefficients.
#[derive(Clone, Copy)]
struct Slots {
    n_values: usize,
    n_slots: usize,
}

impl Slots {
    /// (value, position) for every position of the range that holds a value.
    fn of(self, positions: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let (n, slots) = (self.n_values as u64, self.n_slots as u64);
        let first = (positions.start as u64 * n).div_ceil(slots);
        (first..n)
            .map(move |i| (i as usize, (i * slots / n) as usize))
            .take_while(move |(_, slot)| *slot < positions.end)
    }
}

/// Sum of squares in f64 by a tree over index bits: neighbours first, then pairs, and so on; a
/// missing partner counts as zero. The order is fixed so that every machine finds the same level.
fn sum_of_squares(x: &[f32]) -> f64 {
    let mut sums: Vec<f64> = x.iter().map(|v| f64::from(*v) * f64::from(*v)).collect();
    while sums.len() > 1 {
        sums = sums.chunks(2).map(|pair| pair.iter().sum()).collect();
    }
    sums.first().copied().unwrap_or(0.0)
}

impl Stage for Kashin {
    const ID: u8 = 0x02;
    const NAME: &'static str = "kashin";

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
