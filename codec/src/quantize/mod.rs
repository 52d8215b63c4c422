//! Quantizers: coefficients to packed codes and back.

mod uniform;

pub(crate) use uniform::Uniform;

use crate::Result;
use crate::bytes::Cursor;
use crate::spec::put;
use crate::stage::{Options, Stage};
use std::fmt;
use std::ops::Range;

/// A run of whole blocks of the coefficients of a group that are to be coded.
pub(crate) struct Coefficients<'a> {
    /// How many the group has in all.
    pub(crate) of: usize,
    /// Which of them these are.
    pub(crate) span: Range<usize>,
    /// Their values.
    pub(crate) values: &'a [f32],
    /// What will be read next.
    pub(crate) ahead: &'a [f32],
}

/// How coefficients become codes. Numbers 0x20..=0x2f on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Quantizer {
    Uniform(Uniform),
}

impl Quantizer {
    /// Whether decoded coefficients differ from the original in expectation.
    pub(crate) fn is_biased(&self) -> bool {
        match self {
            Self::Uniform(uniform) => uniform.nearest,
        }
    }

    /// The names of quantizers in a spec.
    pub(crate) const NAMES: &[&str] = &[Uniform::NAME];

    /// The quantizer of that name, or `None` if the name is not one of a quantizer.
    pub(crate) fn parse(options: &mut Options<'_>) -> Result<Option<Self>> {
        Ok(match options.name {
            Uniform::NAME => Some(Self::Uniform(Uniform::parse(options)?)),
            _ => None,
        })
    }

    /// Whether decoding draws from the shared seed.
    pub(crate) fn is_seeded(&self) -> bool {
        match self {
            Self::Uniform(_) => false,
        }
    }

    pub(crate) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform(uniform) => uniform.print(f),
        }
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Uniform(uniform) => put(Some(uniform), out),
        }
    }

    /// The quantizer of that number, or `None` if the number is not one of a quantizer.
    pub(crate) fn read_from(id: u8, cursor: &mut Cursor<'_>) -> Result<Option<Self>> {
        Ok(match id {
            Uniform::ID => Some(Self::Uniform(Uniform::read_from(cursor)?)),
            _ => None,
        })
    }

    /// Bits of a code, its share of the scales aside.
    pub(crate) fn bits(&self) -> f64 {
        match self {
            Self::Uniform(uniform) => f64::from(uniform.q),
        }
    }

    /// Block size in coefficients.
    pub(crate) fn block(&self) -> usize {
        match self {
            Self::Uniform(uniform) => uniform.block(),
        }
    }

    /// Bytes of `n` coded coefficients with their scales.
    pub(crate) fn coded_len(&self, n: usize) -> usize {
        match self {
            Self::Uniform(uniform) => uniform.coded_len(n),
        }
    }
}
