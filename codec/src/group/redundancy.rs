//! Whether it is worth finding out how long a group is without loss.
//!
//! Masks kept as f32, pruned weights and gradients of embeddings take less room without loss than
//! quantized, and so do tables whose neighbours differ by the same; ordinary weights never do, and
//! compressing each group to see would cost many times what coding it costs. So a sample decides who is
//! tried: the exact lengths decide the rest.

use crate::entropy::Zstandard;
use crate::{DType, Result, arrays};

/// Values that are compared with each other, one from anywhere in each of as many parts of the group:
/// equal distances would see one column of a matrix.
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
    // NaN and zeros of both signs are compared by their bits, and so are differences of neighbours.
    let bits = |i: usize| u32::from_le_bytes(values[i]);
    let repeats = Repeats::of(places(values.len()).map(bits));
    let differences =
        Repeats::of(places(values.len() - 1).map(|i| bits(i + 1).wrapping_sub(bits(i))));
    let may_pay = |repeats: &Repeats| repeats.may_pay(values.len(), lossy);
    Ok(may_pay(&repeats) || may_pay(&differences))
}

/// Where a sample of `n` values is taken, ascending.
fn places(n: usize) -> impl Iterator<Item = usize> {
    let parts = SAMPLE.min(n);
    (0..parts).map(move |i| {
        let (start, end) = (i * n / parts, (i + 1) * n / parts);
        // Fibonacci hashing, so that places have no period.
        let hash = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        start + ((hash * (end - start) as u64) >> 32) as usize
    })
}

/// What is equal in a sample of values.
struct Repeats {
    n: u64,
    /// Pairs of equal values.
    n_pairs: u64,
    /// Values that are like no other.
    n_single: u64,
}

/// Slots of the table in which equal values meet.
const SLOTS: usize = 2 * SAMPLE;

impl Repeats {
    fn of(sample: impl Iterator<Item = u32>) -> Self {
        // Open addressing; a slot without a count is empty.
        let mut slots = [(0u32, 0u32); SLOTS];
        let mut repeats = Self { n: 0, n_pairs: 0, n_single: 0 };
        for value in sample {
            let mut at = (value.wrapping_mul(0x9E37_79B9) >> (32 - SLOTS.ilog2())) as usize;
            while slots[at].1 > 0 && slots[at].0 != value {
                at = (at + 1) % SLOTS;
            }
            let count = slots[at].1;
            slots[at] = (value, count + 1);
            repeats.n += 1;
            repeats.n_pairs += u64::from(count);
            match count {
                0 => repeats.n_single += 1,
                1 => repeats.n_single -= 1,
                _ => {}
            }
        }
        repeats
    }

    fn may_pay(&self, n_values: usize, lossy: usize) -> bool {
        let bits_of_singles = self.n_single * LEAST_BITS * n_values as u64 / self.n.max(1);
        self.n_pairs >= PAIRS.min(self.n / 16).max(1) && bits_of_singles <= 8 * lossy as u64
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
    planes.extend(sample.iter().step_by(2));
    planes.extend(sample.iter().skip(1).step_by(2));
    let length = match zstandard.compress(1, &planes, planes.len(), &mut frame)? {
        true => frame.len(),
        false => planes.len(),
    };
    Ok((length as u64 * elements.len() as u64 / sample.len().max(1) as u64) as usize)
}
