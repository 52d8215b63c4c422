//! Seeded subsampling (Konecny et al. 2016; Caldas et al. 2018): a part of the coefficients, chosen by
//! the shared seed; the decoder knows which and multiplies them by the inverse of their share.
//!
//! Coefficients are cut into blocks of 64. Of each block an affine map of GF(64), drawn for it, puts
//! 0..k on k positions (FORMAT.md, section 8.4). These maps are sharply 2-transitive: every position
//! is kept with probability k/64 and every pair with k(k-1)/(64*63), exactly as in a uniform choice of
//! k among 64, and only these two enter the mean and the covariance of what is decoded. Blocks do not
//! depend on each other, so they may be selected in any order, by vectors or on a GPU.

use crate::aligned::Aligned;
use crate::flow::{Run, Source, run_len};
use crate::group::Job;
use crate::random::word;
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;

/// Positions of a block.
pub(crate) const BLOCK: usize = 64;

/// Keep this fraction of the coefficients of each group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subsample {
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
    pub fn fraction(&self) -> f32 {
        self.fraction
    }

    /// K': how many of the whole blocks of `n` positions are kept, at least one, half up.
    fn n_chosen(&self, n: usize) -> usize {
        let whole = n / BLOCK * BLOCK;
        let chosen = (f64::from(self.fraction) * whole as f64 + 0.5) as usize;
        chosen.max(1).min(whole)
    }

    /// K: those, and all positions behind the last whole block.
    pub(crate) fn n_kept(&self, n: usize) -> usize {
        self.n_chosen(n) + n % BLOCK
    }

    /// What the first K' kept coefficients are multiplied by, rounded once to f32; the others
    /// stay as they are.
    pub(crate) fn gain(&self, n: usize) -> (f32, usize) {
        let (whole, chosen) = (n / BLOCK * BLOCK, self.n_chosen(n));
        (if chosen == 0 { 1.0 } else { (whole as f64 / chosen as f64) as f32 }, chosen)
    }

    /// Which of `n` positions are kept, by the key of a group.
    pub(crate) fn selection(&self, n: usize, key: u64) -> Selection {
        Selection::new(n, self.n_chosen(n), key)
    }
}

/// The choice for one group.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    n: usize,
    /// M: whole blocks.
    n_blocks: u64,
    n_chosen: u64,
    /// r: where the larger counts fall.
    phase: u64,
    key: u64,
    /// Images of 0..k under multiplication by 1..=63, for the two counts k that occur.
    images: [[u64; BLOCK]; 2],
}

impl Selection {
    fn new(n: usize, n_chosen: usize, key: u64) -> Self {
        let (n_blocks, n_chosen) = ((n / BLOCK) as u64, n_chosen as u64);
        let phase = ((u128::from(word(key, 0)) * u128::from(n_blocks)) >> 64) as u64;
        let least = n_chosen.checked_div(n_blocks).unwrap_or(0) as usize;
        let images = [least, (least + 1).min(BLOCK)].map(images_of);
        Self { n, n_blocks, n_chosen, phase, key, images }
    }

    /// Blocks, the last of which may be shorter.
    pub(crate) fn n_blocks(&self) -> usize {
        self.n.div_ceil(BLOCK)
    }

    /// The kept positions of block `j`, one bit each.
    pub(crate) fn mask(&self, j: usize) -> u64 {
        let block = j as u64;
        if block >= self.n_blocks {
            return (1 << (self.n - j * BLOCK)) - 1;
        }
        let before = |blocks: u64| (self.phase + blocks * self.n_chosen) / self.n_blocks;
        let count = before(block + 1) - before(block);
        let larger = usize::from(count > self.n_chosen / self.n_blocks);
        let word = word(self.key, block + 1);
        let factor = 1 + (((word >> 32) * 63) >> 32) as usize;
        translated(self.images[larger][factor], word as u32 & 63)
    }

    /// The kept positions, ascending.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        (0..self.n_blocks()).flat_map(|j| bits_of(self.mask(j)).map(move |bit| j * BLOCK + bit))
    }
}

/// Kept coefficients on their way between blocks of 64 and the runs that a stage wants.
#[derive(Default)]
pub(crate) struct Kept {
    waiting: Waiting,
    /// All coefficients of a run.
    run: Aligned,
}

/// A queue in one piece.
#[derive(Default)]
struct Waiting {
    values: Vec<f32>,
    /// How many of them were taken.
    taken: usize,
}

impl Waiting {
    fn clear(&mut self) {
        self.values.clear();
        self.taken = 0;
    }

    fn len(&self) -> usize {
        self.values.len() - self.taken
    }

    /// Up to `n` of them, the first ones.
    fn take(&mut self, n: usize) -> &[f32] {
        let first = self.taken;
        self.taken = (first + n).min(self.values.len());
        &self.values[first..self.taken]
    }

    /// Moves them to the front: only before more come, when few are left. A run may hold a whole
    /// group, of which a block at a time is taken.
    fn settle(&mut self) {
        self.values.copy_within(self.taken.., 0);
        self.values.truncate(self.values.len() - self.taken);
        self.taken = 0;
    }
}

/// The kept ones of the coefficients that a source makes.
pub(crate) struct Pick<'a, S> {
    from: &'a mut S,
    selection: Selection,
    /// The next block.
    block: usize,
    left: usize,
    kept: &'a mut Kept,
}

impl<'a, S: Source> Pick<'a, S> {
    pub(crate) fn new(
        subsample: &Subsample,
        job: &Job<'_>,
        n: usize,
        from: &'a mut S,
        kept: &'a mut Kept,
    ) -> Self {
        kept.waiting.clear();
        let selection = subsample.selection(n, job.keys.selection.block(job.group, 0));
        Self { from, selection, block: 0, left: subsample.n_kept(n), kept }
    }
}

impl<S: Source> Source for Pick<'_, S> {
    fn unit(&self) -> usize {
        1
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.left, len);
        if n == 0 {
            return Ok(None);
        }
        let waiting = &mut self.kept.waiting;
        if waiting.len() < n {
            waiting.settle();
        }
        while waiting.len() < n {
            let unit = self.from.unit();
            let Some(run) = self.from.next(unit)? else { break };
            for block in run.values.chunks(BLOCK) {
                let mask = self.selection.mask(self.block);
                waiting.values.extend(bits_of(mask).map(|bit| block[bit]));
                self.block += 1;
            }
        }
        self.left -= n;
        if self.left == 0 {
            // What is not kept is looked at all the same: it may be NaN.
            let unit = self.from.unit();
            while self.from.next(unit)?.is_some() {}
        }
        Ok(Some(Run { values: self.kept.waiting.take(n), range: None }))
    }
}

/// The coefficients of a group from a source of the kept ones: those, times their gain, in their
/// places, and zeros.
pub(crate) struct Spread<'a, S> {
    from: &'a mut S,
    selection: Selection,
    gain: f32,
    block: usize,
    left: usize,
    kept: &'a mut Kept,
}

impl<'a, S: Source> Spread<'a, S> {
    pub(crate) fn new(
        subsample: &Subsample,
        job: &Job<'_>,
        n: usize,
        from: &'a mut S,
        kept: &'a mut Kept,
    ) -> Self {
        kept.waiting.clear();
        let selection = subsample.selection(n, job.keys.selection.block(job.group, 0));
        Self { from, selection, gain: subsample.gain(n).0, block: 0, left: n, kept }
    }
}

impl<S: Source> Source for Spread<'_, S> {
    fn unit(&self) -> usize {
        BLOCK
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.left, len);
        if n == 0 {
            return Ok(None);
        }
        let Kept { waiting, run } = &mut *self.kept;
        let out = run.take(n);
        out.fill(0.0);
        for block in out.chunks_mut(BLOCK) {
            let mask = self.selection.mask(self.block);
            let count = mask.count_ones() as usize;
            if waiting.len() < count {
                waiting.settle();
            }
            while waiting.len() < count {
                let unit = self.from.unit();
                let Some(run) = self.from.next(unit)? else { break };
                waiting.values.extend_from_slice(run.values);
            }
            let gain = if (self.block as u64) < self.selection.n_blocks { self.gain } else { 1.0 };
            for (bit, value) in bits_of(mask).zip(waiting.take(count)) {
                block[bit] = *value * gain;
            }
            self.block += 1;
        }
        self.left -= n;
        Ok(Some(Run { values: out, range: None }))
    }
}

/// The numbers of the bits that are set, ascending.
pub(crate) fn bits_of(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}

/// The product in GF(2)`[x]` / (x^6 + x + 1).
const fn product(a: usize, b: usize) -> usize {
    let (mut sum, mut a, mut bit) = (0, a, 0);
    while bit < 6 {
        if b >> bit & 1 == 1 {
            sum ^= a;
        }
        a <<= 1;
        if a & 64 != 0 {
            a ^= 0b100_0011;
        }
        bit += 1;
    }
    sum
}

const PRODUCTS: [[u8; BLOCK]; BLOCK] = {
    let mut all = [[0; BLOCK]; BLOCK];
    let mut a = 0;
    while a < BLOCK {
        let mut b = 0;
        while b < BLOCK {
            all[a][b] = product(a, b) as u8;
            b += 1;
        }
        a += 1;
    }
    all
};

/// For each factor the products with 0..count, as a set.
fn images_of(count: usize) -> [u64; BLOCK] {
    std::array::from_fn(|factor| PRODUCTS[factor][..count].iter().fold(0, |set, p| set | 1 << p))
}

/// The set `{ p ^ by }` of the positions p of `mask`.
fn translated(mut mask: u64, by: u32) -> u64 {
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
        // A choice and not a branch: the bits are random.
        mask = if by >> bit & 1 == 1 { swapped } else { mask };
    }
    mask
}

impl Stage for Subsample {
    const ID: u8 = 0x10;
    const NAME: &'static str = "subsample";
    const EXAMPLES: &'static [&'static str] = &["subsample=0.5", "subsample=0.07", "subsample=1"];

    fn is_seeded(&self) -> bool {
        true
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Over all 63 * 64 maps: each position in k of 64, each pair in k(k-1) of 64*63.
    #[test]
    fn every_position_and_every_pair_is_kept_as_often_as_by_a_uniform_choice() {
        for count in [1, 2, 3, 16, 31, 32, 63, 64] {
            let images = images_of(count);
            let mut pairs = vec![[0u32; BLOCK]; BLOCK];
            for by in 0..64 {
                for image in &images[1..] {
                    let kept: Vec<_> = bits_of(translated(*image, by)).collect();
                    assert_eq!(kept.len(), count);
                    for a in &kept {
                        for b in &kept {
                            pairs[*a][*b] += 1;
                        }
                    }
                }
            }
            let of = |k: usize| k as u32;
            for (a, row) in pairs.iter().enumerate() {
                for (b, found) in row.iter().enumerate() {
                    let expected =
                        if a == b { of(count) * 63 } else { of(count) * (of(count) - 1) };
                    assert_eq!(*found, expected, "{count} of 64, {a} and {b}");
                }
            }
        }
    }

    #[test]
    fn exactly_as_many_are_kept_as_was_said() {
        for (n, fraction) in [
            (1, 0.5),
            (63, 0.1),
            (64, 0.001),
            (65, 1.0),
            (5000, 0.3),
            (1 << 20, 0.25),
            (4097, 1e-7),
        ] {
            let subsample = Subsample::new(fraction).unwrap();
            for key in 0..50 {
                let kept: Vec<_> = subsample.selection(n, key).positions().collect();
                assert_eq!(kept.len(), subsample.n_kept(n), "{n}, {fraction}");
                assert!(kept.is_sorted_by(|a, b| a < b) && kept.iter().all(|p| *p < n));
            }
        }
    }

    /// The numbers of FORMAT.md.
    #[test]
    fn the_selection_is_that_of_the_format() {
        let subsample = Subsample::new(0.1).unwrap();
        let kept: Vec<_> = subsample.selection(200, 42).positions().collect();
        assert_eq!(kept, PINNED);
    }

    const PINNED: [usize; 27] = [
        3, 8, 21, 30, 36, 47, 57, 64, 75, 82, 89, 100, 118, 130, 143, 148, 153, 174, 184, 192, 193,
        194, 195, 196, 197, 198, 199,
    ];
}
