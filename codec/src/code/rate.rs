//! The parameters of coders that are asked for a rate, and not for bits of a code.

use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;
use std::ops::RangeInclusive;

/// A rate, and whether what is coded at it is right in the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// In thousandths of a bit a value.
    pub(super) thousandths: u16,
    /// Whether the error is to be the least, and not right in the mean.
    pub(super) biased: bool,
}

impl Rate {
    /// In bits a value.
    pub(super) fn bits(self) -> f64 {
        f64::from(self.thousandths) / 1000.0
    }

    fn within<S: Stage>(self, range: RangeInclusive<u16>) -> Result<Self> {
        if range.contains(&self.thousandths) {
            return Ok(self);
        }
        Err(Error::invalid(format!(
            "{}: expected a rate from {} to {} bits, found {}",
            S::NAME,
            f64::from(*range.start()) / 1000.0,
            f64::from(*range.end()) / 1000.0,
            self.bits()
        )))
    }

    /// `=R[,biased]`.
    pub(super) fn parse<S: Stage>(
        options: &mut Options<'_>,
        range: RangeInclusive<u16>,
    ) -> Result<Self> {
        let bits: Option<f64> = options.value()?;
        let bits = bits.ok_or_else(|| {
            Error::invalid(format!("{0} needs bits a value, as in {0}=2.5", S::NAME))
        })?;
        let biased = options.flag("biased")?;
        options.end("biased")?;
        // Saturates, and takes NaN for 0: both are out of range.
        let thousandths = (bits * 1000.0).round_ties_even() as u16;
        Self { thousandths, biased }.within::<S>(range)
    }

    pub(super) fn print<S: Stage>(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", S::NAME, self.bits())?;
        if self.biased {
            f.write_str(",biased")?;
        }
        Ok(())
    }

    pub(super) fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.thousandths.to_le_bytes());
        out.push(self.biased.into());
    }

    pub(super) fn read_from<S: Stage>(
        cursor: &mut Cursor<'_>,
        range: RangeInclusive<u16>,
    ) -> Result<Self> {
        let thousandths = u16::from_le_bytes([cursor.u8("rate")?, cursor.u8("rate")?]);
        let flags = cursor.u8("flags of a rate")?;
        if flags > 1 {
            return Err(Error::corrupt(format!("flags of {}: {flags:#04x} is reserved", S::NAME)));
        }
        Self { thousandths, biased: flags == 1 }
            .within::<S>(range)
            .map_err(|e| Error::corrupt(e.to_string()))
    }
}
