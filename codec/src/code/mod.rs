//! Coders: coefficients to codes and back. Numbers 0x20..=0x2f on the wire.

mod bits;
mod classes;
mod frequencies;
mod lloyd_max;
mod max_error;
mod neighbours;
mod neighbours_setting;
mod pack;
mod rate;
mod raw;
mod step;
mod step_setting;
mod trellis;
mod trellis_setting;
mod trellis_values;
mod uniform;

pub use lloyd_max::LloydMax;
pub use max_error::MaxError;
pub(crate) use neighbours_setting::Work as Compared;
pub(crate) use pack::packed_len;
pub use raw::Raw;
pub use step::Step;
pub(crate) use step::Way;
pub use trellis::Trellis;
pub use uniform::Uniform;

use crate::flow::{Sink, Source};
use crate::group::{Job, Work};
use crate::kernel::rans::MOST_LANES;
use crate::stage::{Stage, registry};
use crate::{Error, Result};
use std::ops::RangeInclusive;

registry! {
    /// How coefficients become codes.
    code::Quantizer by with_coder { Raw, Uniform, LloydMax, Step, Trellis, MaxError } $
}

/// A quantizer as something that numbers flow through.
pub(crate) trait Coder: Stage {
    /// Most bytes that `n` coefficients take. How many they do take, their codes tell themselves.
    fn bound(&self, n: usize) -> usize;

    /// Bits of a code, its share of what stands beside the codes aside.
    fn bits(&self) -> f64;

    /// Bytes that its buffers take for `n` coefficients, at most.
    fn memory(&self, n: usize) -> usize;

    /// Whether it is unbiased only behind a basis that mixes all coefficients with each other.
    fn is_unbiased_if_mixed(&self) -> bool {
        false
    }

    /// What is expected of these numbers, behind a basis that mixes all of them with each other, or as they
    /// are.
    fn error(&self, _: &Job<'_>, _: &[f32], _: Numbers) -> Expected {
        f64::INFINITY.into()
    }

    /// The rates that may be asked for, in thousandths of a bit a coefficient; `None` where its parameters
    /// say something else.
    fn rates(&self) -> Option<RangeInclusive<u16>> {
        None
    }

    /// Asks for another of its [rates](Self::rates).
    fn set_rate(&mut self, _: u16) {}

    /// The most that a decoded value may be away from the original, where that is promised. The encoder of
    /// groups holds what comes out against it.
    fn max_error(&self) -> Option<f64> {
        None
    }

    /// Appends the codes of `n` coefficients.
    fn encoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        work: &'a mut Work,
        out: &'a mut Vec<u8>,
    ) -> impl Sink + 'a;

    /// Whether codes of `n` coefficients decode.
    fn check(&self, n: usize, codes: &[u8]) -> Result<()>;

    /// The coefficients back. Codes that do not [pass](Self::check) are an error here, before
    /// anything flows, or later where `work` says that they may be.
    fn decoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        codes: &'a [u8],
        work: &'a mut Work,
    ) -> Result<impl Source + 'a>;
}

/// What a coder meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Coefficients of a basis that mixes all numbers with each other, which makes them Gaussian.
    Mixed,
    /// The numbers themselves.
    AsTheyAre,
}

/// What the encoder of words may overwrite before them.
const WORDS_SLACK: usize = 32;

/// Room for the words of `n` integers, at the end of which they are written.
fn room_for_words(words: &mut Vec<u8>, n: usize) -> &mut [u8] {
    let room = WORDS_SLACK + size_of::<u32>() * MOST_LANES + size_of::<u16>() * n;
    if words.len() < room {
        // Fresh zeros need not be written.
        *words = vec![0; room];
    }
    &mut words[..room]
}

/// Makes room for the words of `n` integers before those that begin at `end`, and for all states; where they
/// begin now.
fn room_before(words: &mut Vec<u8>, end: usize, n: usize) -> usize {
    let room = WORDS_SLACK + size_of::<u32>() * MOST_LANES + size_of::<u16>() * n;
    if end >= room {
        return end;
    }
    // At least twice as much, so that words are moved a few times only.
    let more = room.max(words.len()).max(1 << 16);
    let mut grown = vec![0; words.len() + more];
    grown[end + more..].copy_from_slice(&words[end..]);
    *words = grown;
    end + more
}

/// What is expected of the codes of numbers.
pub(crate) struct Expected {
    /// The NMSE; infinity where it is not known.
    pub(crate) error: f64,
    /// How they are coded, where that was found out on the way.
    pub(crate) way: Option<Way>,
}

impl From<f64> for Expected {
    fn from(error: f64) -> Self {
        Self { error, way: None }
    }
}

impl Quantizer {
    /// See [`Coder::error`].
    pub(crate) fn error(&self, job: &Job<'_>, numbers: &[f32], meets: Numbers) -> Expected {
        with_coder!(self, coder => coder.error(job, numbers, meets))
    }

    /// See [`Coder::rates`].
    pub(crate) fn rates(&self) -> Option<RangeInclusive<u16>> {
        with_coder!(self, coder => coder.rates())
    }

    /// See [`Coder::set_rate`].
    pub(crate) fn set_rate(&mut self, thousandths: u16) {
        with_coder!(self, coder => coder.set_rate(thousandths));
    }

    /// See [`Coder::bound`].
    pub(crate) fn bound(&self, n: usize) -> usize {
        with_coder!(self, coder => coder.bound(n))
    }

    /// See [`Coder::memory`].
    pub(crate) fn memory(&self, n: usize) -> usize {
        with_coder!(self, coder => coder.memory(n))
    }

    /// See [`Coder::is_unbiased_if_mixed`].
    pub(crate) fn is_unbiased_if_mixed(&self) -> bool {
        with_coder!(self, coder => coder.is_unbiased_if_mixed())
    }

    /// See [`Coder::max_error`].
    pub(crate) fn max_error(&self) -> Option<f64> {
        with_coder!(self, coder => coder.max_error())
    }

    /// See [`Coder::bits`].
    pub(crate) fn bits(&self) -> f64 {
        with_coder!(self, coder => coder.bits())
    }

    /// See [`Coder::check`].
    pub(crate) fn check(&self, n: usize, codes: &[u8]) -> Result<()> {
        with_coder!(self, coder => coder.check(n, codes))
    }
}

/// Coefficients that share a state of rANS, where there are as many.
const VALUES_PER_LANE: usize = 1 << 12;

/// How many states of rANS code `n` coefficients: a power of two from 1 to 64.
fn lanes(n: usize) -> usize {
    1 << (n / VALUES_PER_LANE).max(1).ilog2().min(MOST_LANES.ilog2())
}

/// Codes whose length they tell themselves.
fn check_most(most: usize, codes: &[u8]) -> Result<()> {
    if codes.len() <= most {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "codes of a group: expected at most {most} bytes, found {}",
        codes.len()
    )))
}

/// Codes of a length that is known.
fn check_len(expected: usize, codes: &[u8]) -> Result<()> {
    if codes.len() == expected {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "codes of a group: expected {expected} bytes, found {}",
        codes.len()
    )))
}
