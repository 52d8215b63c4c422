//! Seeded subsampling (Konecny et al. 2016; Caldas et al. 2018): k of N coefficients, without
//! replacement, chosen by the shared seed; the decoder knows which and multiplies them by N/k.

use crate::bytes::Cursor;
use crate::random::SelectionStream;
use crate::stage::{Options, Stage};
use crate::{Error, Result};
use std::fmt;

/// Keep this fraction of the coefficients of each group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Subsample {
    fraction: f32,
}

impl Subsample {
    pub(crate) fn new(fraction: f32) -> Result<Self> {
        if fraction > 0.0 && fraction <= 1.0 {
            return Ok(Self { fraction });
        }
        Err(Error::invalid(format!(
            "subsample: expected a fraction above 0 and up to 1, found {fraction}"
        )))
    }

    /// s.
    pub(crate) fn fraction(&self) -> f32 {
        self.fraction
    }

    /// k = max(1, round(s N)), half up; none of none.
    pub(crate) fn n_kept(&self, n: usize) -> usize {
        let kept = (f64::from(self.fraction) * n as f64 + 0.5) as usize;
        kept.max(1).min(n)
    }

    /// N/k, rounded once to f32.
    pub(crate) fn gain(&self, n: usize) -> f32 {
        (n as f64 / self.n_kept(n) as f64) as f32
    }

    /// The kept positions, ascending (Knuth's algorithm S: position i is kept with probability
    /// needed / left, one draw each).
    pub(crate) fn select(&self, n: usize, mut stream: SelectionStream, positions: &mut Vec<u32>) {
        let n_kept = self.n_kept(n);
        // One more than is kept: each position is written, and the next one overwrites it unless
        // it was kept. A branch here would be mispredicted half of the time.
        positions.clear();
        positions.resize(n_kept + 1, 0);
        let mut at = 0;
        for i in 0..n as u32 {
            positions[at] = i;
            let needed = (n_kept - at) as u32;
            at += usize::from(stream.below(n as u32 - i) < needed);
        }
        positions.truncate(n_kept);
    }
}

impl Stage for Subsample {
    const ID: u8 = 0x10;
    const NAME: &'static str = "subsample";

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        let fraction = options
            .value()?
            .ok_or_else(|| Error::invalid("subsample needs a fraction, as in subsample=0.5"))?;
        options.end("nothing")?;
        Self::new(fraction)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", Self::NAME, self.fraction)
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.extend(self.fraction.to_le_bytes());
    }

    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let fraction = cursor.f32("subsample fraction")?;
        Self::new(fraction).map_err(|_| {
            Error::corrupt(format!(
                "subsample fraction: expected above 0 and up to 1, found {fraction}"
            ))
        })
    }
}
