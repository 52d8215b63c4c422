//! Basis transforms: values of a group to coefficients and back.
//!
//! Each works in units ([`Unit`]) that are independent of each other, so that a unit stays
//! in the first-level cache (or on one GPU multiprocessor) from the first to the last stage.

mod hadamard;
mod kashin;

pub(crate) use hadamard::Hadamard;
pub(crate) use kashin::Kashin;

use crate::Result;
use crate::blocks::blocks;
use crate::bytes::Cursor;
use crate::kernel::Kernel;
use crate::random::Keys;
use crate::spec::put;
use crate::stage::{Options, Stage};
use std::fmt;
use std::ops::Range;

/// Which basis the values are sent in. Numbers 0x01..=0x0f on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Transform {
    Identity,
    Hadamard(Hadamard),
    Kashin(Kashin),
}

/// What the transform of one group needs besides the values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransformContext {
    pub(crate) kernel: Kernel,
    pub(crate) signs: Keys,
    pub(crate) window_signs: Keys,
    /// Number of the group in its tensor.
    pub(crate) group: u64,
}

impl Transform {
    /// Coefficients of a group of `n` values.
    pub(crate) fn n_coefficients(&self, n: usize) -> usize {
        match self {
            Self::Identity | Self::Hadamard(_) => n,
            Self::Kashin(kashin) => kashin.n_coefficients(n),
        }
    }

    /// Block size in coefficients; spans are cut at multiples of it.
    pub(crate) fn block(&self) -> usize {
        match self {
            Self::Identity => 1,
            Self::Hadamard(hadamard) => hadamard.block(),
            Self::Kashin(kashin) => kashin.block(),
        }
    }

    /// Writes the coefficients of `span`, whose start is a multiple of [`block`](Self::block);
    /// returns the bits of the largest magnitude among the values that went into them.
    pub(crate) fn forward(
        &self,
        context: &TransformContext,
        values: &[f32],
        span: Range<usize>,
        coefficients: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> u32 {
        match self {
            Self::Identity => {
                let values = &values[span];
                coefficients.copy_from_slice(values);
                context.kernel.peak_bits(values)
            }
            Self::Hadamard(hadamard) => {
                hadamard.forward(context, &values[span.clone()], span.start, coefficients, scratch)
            }
            Self::Kashin(kashin) => kashin.forward(context, values, span, coefficients, scratch),
        }
    }

    /// Turns coefficients, from `start` on and to the end of a span, back in place. Afterwards a
    /// transform without redundancy has the values where the coefficients were; Kashin's are
    /// collected by [`Kashin::gather`].
    pub(crate) fn inverse(
        &self,
        context: &TransformContext,
        start: usize,
        coefficients: &mut [f32],
    ) {
        if *self == Self::Identity {
            return;
        }
        for unit in blocks(coefficients.len(), self.block()) {
            Unit::new(context, start + unit.start, unit.len(), self.block())
                .inverse(&mut coefficients[unit]);
        }
    }

    /// Whether the coefficients stand for other values in expectation.
    pub(crate) fn is_biased(&self) -> bool {
        match self {
            Self::Identity | Self::Hadamard(_) => false,
            Self::Kashin(kashin) => kashin.clip,
        }
    }

    /// Whether coefficients, turned back, are the values in their places; otherwise
    /// [`collect`](Self::collect) finds them.
    pub(crate) fn is_in_place(&self) -> bool {
        match self {
            Self::Identity | Self::Hadamard(_) => true,
            Self::Kashin(_) => false,
        }
    }

    /// The values of a whole group from its coefficients, turned back.
    pub(crate) fn collect(&self, coefficients: &[f32], values: &mut [f32]) {
        match self {
            Self::Identity | Self::Hadamard(_) => values.copy_from_slice(coefficients),
            Self::Kashin(kashin) => kashin.gather(coefficients, values),
        }
    }

    /// The names of transforms in a spec.
    pub(crate) const NAMES: &[&str] = &["identity", Hadamard::NAME, Kashin::NAME];

    /// The transform of that name, or `None` if the name is not one of a transform.
    pub(crate) fn parse(options: &mut Options<'_>) -> Result<Option<Self>> {
        Ok(match options.name {
            "identity" => {
                options.end("nothing")?;
                Some(Self::Identity)
            }
            Hadamard::NAME => Some(Self::Hadamard(Hadamard::parse(options)?)),
            Kashin::NAME => Some(Self::Kashin(Kashin::parse(options)?)),
            _ => None,
        })
    }

    /// Whether it draws from the shared seed.
    pub(crate) fn is_seeded(&self) -> bool {
        match self {
            Self::Identity => false,
            Self::Hadamard(_) | Self::Kashin(_) => true,
        }
    }

    pub(crate) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity"),
            Self::Hadamard(hadamard) => hadamard.print(f),
            Self::Kashin(kashin) => kashin.print(f),
        }
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Identity => 0,
            Self::Hadamard(hadamard) => put(Some(hadamard), out),
            Self::Kashin(kashin) => put(Some(kashin), out),
        }
    }

    /// The transform of that number, or `None` if the number is not one of a transform.
    pub(crate) fn read_from(id: u8, cursor: &mut Cursor<'_>) -> Result<Option<Self>> {
        Ok(match id {
            Hadamard::ID => Some(Self::Hadamard(Hadamard::read_from(cursor)?)),
            Kashin::ID => Some(Self::Kashin(Kashin::read_from(cursor)?)),
            _ => None,
        })
    }
}

/// The rotation of one unit of `x.len()` coefficients (FORMAT.md, section 7.1): signs and
/// a normalized Walsh-Hadamard transform on the first b, the largest power of two that is at most
/// `block` and fits; if the unit is longer, then a second one, with signs of its own, on its last b.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    kernel: Kernel,
    key: u64,
    window_key: u64,
    b: usize,
}

impl Unit {
    /// The unit of `len` coefficients that starts at coefficient `start` of the group.
    pub(crate) fn new(context: &TransformContext, start: usize, len: usize, block: usize) -> Self {
        let number = start / block;
        let b = block.min(1 << len.max(1).ilog2());
        Self {
            kernel: context.kernel,
            key: context.signs.block(context.group, number),
            window_key: context.window_signs.block(context.group, number),
            b,
        }
    }

    /// Returns the bits of the largest magnitude of `x`.
    pub(crate) fn forward(&self, x: &[f32], y: &mut [f32], scratch: &mut Vec<f32>) -> u32 {
        let (len, b) = (x.len(), self.b);
        let mut peak = self.kernel.rotate(&x[..b], &mut y[..b], self.key);
        if len > b {
            peak = peak.max(self.kernel.peak_bits(&x[b..]));
            y[b..].copy_from_slice(&x[b..]);
            scratch.clear();
            scratch.extend_from_slice(&y[len - b..]);
            self.kernel.rotate(scratch, &mut y[len - b..], self.window_key);
        }
        peak
    }

    pub(crate) fn inverse(&self, y: &mut [f32]) {
        let (len, b) = (y.len(), self.b);
        if len > b {
            self.kernel.unrotate(&mut y[len - b..], self.window_key);
        }
        self.kernel.unrotate(&mut y[..b], self.key);
    }
}
