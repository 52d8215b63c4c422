//! [`IntegerSpec`]: what clients of a round have to agree on for their codes to add up.

use crate::bytes::Fields;
use crate::{Error, Result};

/// What clients of a round have to agree on for their codes to add up; it travels in the broadcast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntegerSpec {
    /// b: codes and their sums are integers modulo 2^b, 2 to 32.
    pub bits: u8,
    /// L: the codes of a client are -L to L, before noise.
    pub levels: u32,
    /// K: how many clients fit in a sum.
    pub clients: u32,
    /// The L2 norm that an update is held to, all its parameters together.
    pub clip: f64,
    /// Coefficients beyond so many times `clip` / sqrt(n), n how many they are, are cut off. That is their
    /// standard deviation in an update of norm `clip`.
    pub range: f64,
    /// The largest L2 norm of the codes of a client, before noise; rounding is drawn again until it is kept.
    /// Infinity: whatever comes.
    pub norm: f64,
    /// The standard deviation of the discrete Gaussian noise that each client adds to its codes, in steps;
    /// 0 adds none.
    pub deviation: f64,
}

/// Standard deviations of the noise of all clients that the headroom has room for. Beyond, a coefficient of
/// the mean wraps around, one in 500 million: that is an error of it, and no leak.
const REACH: f64 = 6.0;

/// The smallest noise of a client, in steps: sums of discrete Gaussians are then as good as one (Kairouz,
/// Liu & Steinke 2021, theorem 1: apart by less than 10^-37 times clients and values).
const LEAST_NOISE: f64 = 3.0;

impl IntegerSpec {
    /// What one step of a code stands for, in an update of `n` values.
    pub fn step(&self, n: usize) -> f64 {
        self.clip * self.range / (n.max(1) as f64).sqrt() / f64::from(self.levels)
    }

    /// Whether the codes of all clients fit in a sum: K L, and room for the noise, are below 2^(b - 1).
    ///
    /// # Errors
    /// `InvalidArgument`, naming the number.
    pub fn check(&self) -> Result<()> {
        let Self { bits, levels, clients, clip, range, norm, deviation } = *self;
        let refuse = |what: &str, found: f64| {
            Err(Error::invalid(format!("integers: expected {what}, found {found}")))
        };
        if !(2..=32).contains(&bits) {
            return refuse("2 to 32 bits", f64::from(bits));
        }
        if levels == 0 || clients == 0 {
            return refuse("at least one level and one client", 0.0);
        }
        // So that no sum of codes stands for what cannot be turned back.
        if !(clip > 0.0 && clip <= 2f64.powi(30)) {
            return refuse("a clip above 0, up to 2^30", clip);
        }
        if !(range > 0.0 && range <= 2f64.powi(10)) {
            return refuse("a range above 0, up to 2^10", range);
        }
        if norm.is_nan() || norm <= 0.0 {
            return refuse("a norm above 0", norm);
        }
        if !(deviation == 0.0 || (LEAST_NOISE..=f64::from(1 << 25)).contains(&deviation)) {
            return refuse("noise of 0, or of 3 to 2^25 steps for each client", deviation);
        }
        let (needed, most) = self.headroom();
        match needed <= most {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "headroom: {clients} clients of {levels} levels and noise of {deviation} need {needed} \
                 either way, {bits} bits have {most}"
            ))),
        }
    }

    /// What a sum needs either way, and what it has.
    pub(super) fn headroom(&self) -> (f64, f64) {
        let clients = f64::from(self.clients);
        let noise = REACH * self.deviation * clients.sqrt();
        (clients * f64::from(self.levels) + noise, 2f64.powi(i32::from(self.bits) - 1) - 1.0)
    }

    /// What a code may be at most, either way, where that says anything modulo 2^b.
    pub(crate) fn largest(&self) -> Option<u64> {
        // What draws of the noise can be at most.
        let noise = if self.deviation > 0.0 { 64 * (self.deviation as u64 + 2) } else { 0 };
        let largest = u64::from(self.levels) + noise;
        (largest < 1 << (self.bits - 1)).then_some(largest)
    }

    /// The number from -2^(b - 1) on that a code stands for.
    pub(crate) fn centered(&self, code: u32) -> i64 {
        let (code, half) = (i64::from(code), 1i64 << (self.bits - 1));
        if code < half { code } else { code - 2 * half }
    }

    /// A number modulo 2^b.
    pub(crate) fn wrapped(&self, number: i64) -> u32 {
        number as u32 & self.mask()
    }

    /// 2^b - 1.
    pub(crate) fn mask(&self) -> u32 {
        u32::MAX >> (32 - u32::from(self.bits))
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.push(self.bits);
        out.extend_from_slice(&self.levels.to_le_bytes());
        out.extend_from_slice(&self.clients.to_le_bytes());
        for number in [self.clip, self.range, self.norm, self.deviation] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(crate) fn read_from(fields: &mut Fields<'_>) -> Result<Self> {
        let bits = fields.u8("bits of a code")?;
        let (levels, clients) = (fields.u32("levels")?, fields.u32("clients of a sum")?);
        let mut number = |what| fields.array(what).map(f64::from_le_bytes);
        let (clip, range) = (number("clip")?, number("range")?);
        let (norm, deviation) = (number("norm of codes")?, number("deviation of noise")?);
        let spec = Self { bits, levels, clients, clip, range, norm, deviation };
        spec.check().map_err(|e| Error::corrupt(e.to_string()))?;
        Ok(spec)
    }
}
