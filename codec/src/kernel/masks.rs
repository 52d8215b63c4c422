//! Values moved by masks: those of the set bits together, and back to their places.

use super::Operation;
use super::lanes::{LANES, Lanes};
use crate::arrays;

/// Values of a mask.
const BLOCK: usize = 64;

/// What may be overwritten behind the values, or read.
pub(crate) const SLACK: usize = LANES;

/// The values of the set bits of each block of 64, one behind the other, at the head of `out`, which has
/// [`SLACK`] values to spare. Says how many they are.
pub(super) struct Compress<'a> {
    pub x: &'a [f32],
    pub masks: &'a [u64],
    pub out: &'a mut [f32],
}

impl Operation for Compress<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> usize {
        let Self { x, masks, out } = self;
        let mut at = 0;
        for (block, mask) in arrays::split::<_, BLOCK>(x).0.iter().zip(masks) {
            for (quarter, row) in arrays::split::<_, LANES>(block).0.iter().enumerate() {
                let mask = (mask >> (LANES * quarter)) as u16;
                l.compress(l.load(row), mask, &mut out[at..]);
                at += mask.count_ones() as usize;
            }
        }
        at
    }
}

/// The inverse: values at the set bits of each block, times `gain`, and zeros at the others. `x` has
/// [`SLACK`] values to spare behind those that are used, and says how many these are.
pub(super) struct Expand<'a> {
    pub x: &'a [f32],
    pub masks: &'a [u64],
    pub gain: f32,
    pub out: &'a mut [f32],
}

impl Operation for Expand<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> usize {
        let Self { x, masks, gain, out } = self;
        let gain = l.splat(gain);
        let mut at = 0;
        for (block, mask) in arrays::split_mut::<_, BLOCK>(out).0.iter_mut().zip(masks) {
            for (quarter, row) in arrays::split_mut::<_, LANES>(block).0.iter_mut().enumerate() {
                let mask = (mask >> (LANES * quarter)) as u16;
                l.store(l.expand(&x[at..], gain, mask), row);
                at += mask.count_ones() as usize;
            }
        }
        at
    }
}

/// Of each byte as a set of eight: the numbers of the bits that are set, ascending.
#[cfg(target_arch = "x86_64")]
pub(super) const PLACES: [[u8; 8]; 256] = {
    let mut places = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut count) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                places[byte][count] = bit as u8;
                count += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    places
};

/// Of each byte as a set of eight: how many bits below each one are set.
#[cfg(target_arch = "x86_64")]
pub(super) const RANKS: [[u8; 8]; 256] = {
    let mut ranks = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut count) = (0, 0);
        while bit < 8 {
            ranks[byte][bit] = count;
            count += (byte >> bit & 1) as u8;
            bit += 1;
        }
        byte += 1;
    }
    ranks
};

/// The set `{ p ^ by }` of the positions p of `mask`, for `by` below 64.
#[inline(always)]
pub(crate) fn translated(mut mask: u64, by: u64) -> u64 {
    const LOWER: [u64; 6] = [
        0x5555_5555_5555_5555,
        0x3333_3333_3333_3333,
        0x0f0f_0f0f_0f0f_0f0f,
        0x00ff_00ff_00ff_00ff,
        0x0000_ffff_0000_ffff,
        0x0000_0000_ffff_ffff,
    ];
    for (bit, lower) in LOWER.into_iter().enumerate() {
        let swapped = (mask & lower) << (1 << bit) | mask >> (1 << bit) & lower;
        // A choice without a branch, and that vectors can make, too: all ones where the bit is set.
        let chosen = (by >> bit & 1).wrapping_neg();
        mask ^= (mask ^ swapped) & chosen;
    }
    mask
}

/// Translates each mask by its number.
pub(super) struct Translate<'a> {
    pub masks: &'a mut [u64],
    pub by: &'a [u64],
}

impl Operation for Translate<'_> {
    type Output = ();

    /// A plain loop, which becomes vectors of the instruction set.
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for (mask, by) in self.masks.iter_mut().zip(self.by) {
            *mask = translated(*mask, *by);
        }
    }
}
