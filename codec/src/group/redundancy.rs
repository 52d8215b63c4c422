//! Whether it is worth finding out how long a group is without loss.
//!
//! Masks kept as f32, pruned weights and gradients of embeddings take less room without loss than
//! quantized; ordinary weights never do, and compressing each group to see would cost many times
//! what coding it costs. So a sample decides who is tried: the exact lengths decide the rest.

use crate::entropy::{Zstandard, shuffle};
use crate::{DType, Result, arrays};

/// Values that are compared with each other, taken at equal distances.
const SAMPLE: usize = 1024;
/// Equal pairs among them from which a group is suspected. Of f32 values of which each of 2^18 bit
/// patterns is as likely, there would be two.
const PAIRS: u64 = 8;
/// Bits that an f32 which occurs once in the sample takes at the least without loss.
const LEAST_BITS: u64 = 12;
/// Runs of neighbours that are compressed to estimate the length of 16-bit values, and their length.
const RUNS: usize = 8;
const RUN: usize = 512;

/// Whether the lossless form of a group may be as short as `lossy` bytes.
pub(super) fn is_redundant(
    dtype: DType,
    elements: &[u8],
    lossy: usize,
    zstandard: &mut Zstandard,
) -> Result<bool> {
    if elements.len() <= lossy {
        return Ok(true);
    }
    if dtype != DType::F32 {
        // Values of 16 bits are often equal; how many bits their differences take is estimated.
        return Ok(estimate(elements, zstandard)? * 2 <= lossy * 3);
    }
    let values = arrays::split::<_, 4>(elements).0;
    let Repeats { n, n_pairs, n_single } = Repeats::of(values);
    let bits_of_singles = n_single * LEAST_BITS * values.len() as u64 / n.max(1);
    Ok(n_pairs >= PAIRS.min(n / 16).max(1) && bits_of_singles <= 8 * lossy as u64)
}

/// What is equal in a sample of values.
struct Repeats {
    n: u64,
    /// Pairs of equal values.
    n_pairs: u64,
    /// Values that are like no other.
    n_single: u64,
}

impl Repeats {
    /// NaN and zeros of both signs are compared by their bits.
    fn of(values: &[[u8; 4]]) -> Self {
        let step = (values.len() / SAMPLE).max(1);
        let mut sample = [0u32; SAMPLE];
        let mut n = 0;
        for (place, value) in sample.iter_mut().zip(values.iter().step_by(step)) {
            *place = u32::from_le_bytes(*value);
            n += 1;
        }
        let sample = &mut sample[..n];
        sample.sort_unstable();
        let mut repeats = Self { n: n as u64, n_pairs: 0, n_single: 0 };
        for run in sample.chunk_by(|a, b| a == b) {
            let length = run.len() as u64;
            repeats.n_pairs += length * (length - 1) / 2;
            repeats.n_single += u64::from(length == 1);
        }
        repeats
    }
}

/// What the elements would take without loss, from a few runs of them.
fn estimate(elements: &[u8], zstandard: &mut Zstandard) -> Result<usize> {
    let n = elements.len() / 2;
    let step = (n / RUNS).max(RUN);
    let mut sample = Vec::with_capacity(2 * RUNS * RUN);
    for start in (0..n).step_by(step) {
        sample.extend_from_slice(&elements[2 * start..2 * (start + RUN).min(n)]);
    }
    let (mut planes, mut frame) = (Vec::new(), Vec::new());
    shuffle(&sample, 2, &mut planes);
    let length = match zstandard.compress(1, &planes, planes.len(), &mut frame)? {
        true => frame.len(),
        false => planes.len(),
    };
    Ok((length as u64 * elements.len() as u64 / sample.len().max(1) as u64) as usize)
}
