//! Bases: the values of a group to coefficients and back. Numbers 0x01..=0x0f on the wire.

mod hadamard;
mod identity;
mod kashin;
mod rotation;
mod unit;

pub use hadamard::Hadamard;
pub use identity::Identity;
pub use kashin::Kashin;
pub use rotation::Rotation;

use crate::flow::{Sink, Source};
use crate::group::{Elements, Job, Output};
use crate::kernel::Range;
use crate::stage::{Stage, registry};

registry! {
    /// Which basis the values are sent in.
    basis::Basis by with_basis { Identity, Hadamard, Kashin, Rotation } $
}

/// A basis as something that numbers flow through.
pub(crate) trait Transform: Stage {
    /// Coefficients of a group of `n` values.
    fn n_coefficients(&self, n: usize) -> usize {
        n
    }

    /// Bytes that its buffers take for a group of `n` values, at most.
    fn memory(&self, n: usize) -> usize;

    /// Whether every coefficient depends on all values of the group.
    fn mixes(&self) -> bool {
        false
    }

    /// The coefficients of a group. Notes what it sees of the values.
    fn forward<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Elements<'a>,
        work: &'a mut Work,
    ) -> impl Values + 'a;

    /// Takes the coefficients of a group and puts its values out.
    fn inverse<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Output<'a>,
        work: &'a mut Work,
    ) -> impl Sink + 'a;
}

impl Basis {
    /// See [`Transform::memory`].
    pub(crate) fn memory(&self, n: usize) -> usize {
        with_basis!(self, stage => stage.memory(n))
    }

    /// See [`Transform::mixes`].
    pub(crate) fn mixes(&self) -> bool {
        with_basis!(self, stage => stage.mixes())
    }
}

/// A source that reads the values of a group.
pub(crate) trait Values: Source {
    /// Between what the largest magnitude of the values read so far lies.
    fn peak(&self) -> Peak;
}

/// The largest magnitude of values, as bits: integer order is value order, and what is at or above the
/// bits of infinity is infinity or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Peak {
    pub(crate) at_least: u32,
    pub(crate) at_most: u32,
}

/// Above what rotations of subnormal numbers make.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

impl Peak {
    pub(crate) fn exactly(bits: u32) -> Self {
        Self { at_least: bits, at_most: bits }
    }

    /// That of the values of a rotation of 2^k of them that makes this range: it can be 2^(k/2) times
    /// as large or as small as that of what they become, and as much again is for rounding. Sums of
    /// subnormals may have been rounded to zero.
    pub(crate) fn behind((lo, hi): Range, k: u32) -> Self {
        let largest = lo.abs().max(hi.abs());
        let factor = f32::from_bits((127 + k / 2 + 2) << 23);
        // Written so that the range of NaN, which is none, knows nothing.
        match lo <= hi {
            true => Self {
                at_least: (largest / factor).to_bits(),
                at_most: (largest.max(TINY) * factor).to_bits(),
            },
            false => Self { at_least: 0, at_most: u32::MAX },
        }
    }

    /// That of these values and others.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            at_least: self.at_least.max(other.at_least),
            at_most: self.at_most.max(other.at_most),
        }
    }
}

/// Buffers of a basis, for a unit each.
#[derive(Default)]
pub(crate) struct Work {
    /// Values as f32, where they do not lie so.
    pub(crate) input: crate::aligned::Aligned,
    /// Coefficients.
    unit: crate::aligned::Aligned,
    /// All coefficients of a group.
    whole: crate::aligned::Aligned,
    /// What a step needs beside them.
    spare: crate::aligned::Aligned,
    kashin: kashin::Work,
}
