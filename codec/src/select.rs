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
use crate::kernel::{Kernel, MASK_SLACK, translated};
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
        let (image, by) = self.image(count > self.n_chosen / self.n_blocks, block + 1);
        translated(image, by)
    }

    /// The positions of the block before `next`, of the larger or the smaller count, and by what they are
    /// translated.
    fn image(&self, larger: bool, next: u64) -> (u64, u64) {
        let word = word(self.key, next);
        let factor = 1 + (((word >> 32) * 63) >> 32) as usize;
        (self.images[usize::from(larger)][factor], word & 63)
    }

    /// The kept positions, ascending.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        (0..self.n_blocks()).flat_map(|j| bits_of(self.mask(j)).map(move |bit| j * BLOCK + bit))
    }
}

/// The masks of one block after the other, without a division for each.
struct Masks {
    selection: Selection,
    /// The next block.
    block: u64,
    /// What the counts up to it leave over, below M.
    left_over: u64,
    room: MaskRoom,
}

/// Masks, and how far each is to be translated.
#[derive(Default)]
struct MaskRoom {
    masks: Vec<u64>,
    by: Vec<u64>,
}

impl Masks {
    fn new(selection: Selection, room: MaskRoom) -> Self {
        Self { left_over: selection.phase, selection, block: 0, room }
    }

    /// Those of the next whole blocks; and how many positions they keep.
    fn take(&mut self, kernel: Kernel, blocks: usize) -> (&[u64], usize) {
        let MaskRoom { masks, by } = &mut self.room;
        masks.clear();
        by.clear();
        let Selection { n_blocks, n_chosen, .. } = self.selection;
        let (least, more) = match blocks {
            0 => return (masks, 0),
            _ => (n_chosen / n_blocks, n_chosen % n_blocks),
        };
        let mut count = least * blocks as u64;
        for _ in 0..blocks {
            let sum = self.left_over + more;
            let larger = sum >= n_blocks;
            self.left_over = if larger { sum - n_blocks } else { sum };
            count += u64::from(larger);
            self.block += 1;
            let (image, translation) = self.selection.image(larger, self.block);
            masks.push(image);
            by.push(translation);
        }
        kernel.translate(masks, by);
        (masks, count as usize)
    }
}

/// Kept coefficients on their way between blocks of 64 and the runs that a stage wants.
#[derive(Default)]
pub(crate) struct Kept {
    waiting: Waiting,
    /// All coefficients of a run.
    run: Aligned,
    masks: MaskRoom,
}

/// A queue in one piece, with room behind it that kernels may read or overwrite.
#[derive(Default)]
struct Waiting {
    values: Vec<f32>,
    /// The first that was not taken, and the end.
    start: usize,
    end: usize,
}

impl Waiting {
    /// Nothing waits; but there is room behind it, as there is always.
    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        self.room(0);
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    /// Room for `n` more, and some to spare. Values go to the front only before more come, when few are
    /// left: a run may hold a whole group, of which a block at a time is taken.
    fn room(&mut self, n: usize) -> &mut [f32] {
        if self.start > 0 {
            self.values.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        let needed = self.end + n + MASK_SLACK;
        if self.values.len() < needed {
            self.values.reserve_exact(needed - self.values.len());
            self.values.resize(needed, 0.0);
        }
        &mut self.values[self.end..]
    }

    fn push(&mut self, values: &[f32]) {
        self.room(values.len())[..values.len()].copy_from_slice(values);
        self.end += values.len();
    }

    /// All of them, and what there is to spare.
    fn all(&self) -> &[f32] {
        &self.values[self.start..]
    }

    /// Up to `n` of them, the first ones.
    fn take(&mut self, n: usize) -> &[f32] {
        let first = self.start;
        self.start = (first + n).min(self.end);
        &self.values[first..self.start]
    }
}

/// The kept ones of the coefficients that a source makes.
pub(crate) struct Pick<'a, S> {
    from: &'a mut S,
    kernel: Kernel,
    masks: Masks,
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
        let masks = Masks::new(selection, std::mem::take(&mut kept.masks));
        Self { from, kernel: job.kernel, masks, left: subsample.n_kept(n), kept }
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
        while self.kept.waiting.len() < n {
            let unit = self.from.unit();
            let Some(run) = self.from.next(unit)? else { break };
            let waiting = &mut self.kept.waiting;
            // Only the last run ends with less than a block, all of which is kept.
            let (blocks, rest) = run.values.split_at(run.values.len() / BLOCK * BLOCK);
            let (masks, count) = self.masks.take(self.kernel, blocks.len() / BLOCK);
            self.kernel.compress(blocks, masks, waiting.room(count));
            waiting.end += count;
            waiting.push(rest);
        }
        self.left -= n;
        if self.left == 0 {
            // What is not kept is looked at all the same: it may be NaN.
            let unit = self.from.unit();
            while self.from.next(unit)?.is_some() {}
            self.kept.masks = std::mem::take(&mut self.masks.room);
        }
        Ok(Some(Run { values: self.kept.waiting.take(n), range: None }))
    }
}

/// The coefficients of a group from a source of the kept ones: those, times their gain, in their
/// places, and zeros.
pub(crate) struct Spread<'a, S> {
    from: &'a mut S,
    kernel: Kernel,
    masks: Masks,
    gain: f32,
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
        let masks = Masks::new(selection, std::mem::take(&mut kept.masks));
        Self { from, kernel: job.kernel, masks, gain: subsample.gain(n).0, left: n, kept }
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
        let Kept { waiting, run, .. } = &mut *self.kept;
        let (blocks, rest) = run.take(n).split_at_mut(n / BLOCK * BLOCK);
        let (masks, count) = self.masks.take(self.kernel, blocks.len() / BLOCK);
        while waiting.len() < count + rest.len() {
            let unit = self.from.unit();
            let Some(run) = self.from.next(unit)? else { break };
            waiting.push(run.values);
        }
        self.kernel.expand(waiting.all(), masks, self.gain, blocks);
        waiting.take(count);
        rest.copy_from_slice(waiting.take(rest.len()));
        self.left -= n;
        if self.left == 0 {
            self.kept.masks = std::mem::take(&mut self.masks.room);
        }
        let values = self.kept.run.take(n);
        Ok(Some(Run { values, range: None }))
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
                let selection = subsample.selection(n, key);
                let kept: Vec<_> = selection.positions().collect();
                assert_eq!(kept.len(), subsample.n_kept(n), "{n}, {fraction}");
                // One after the other as each alone.
                let mut masks = Masks::new(selection.clone(), MaskRoom::default());
                let expected: Vec<_> = (0..n / BLOCK).map(|j| selection.mask(j)).collect();
                let (found, count) = masks.take(Kernel::new(crate::Simd::Auto), n / BLOCK);
                assert_eq!(found, expected);
                assert_eq!(count + n % BLOCK, kept.len());
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
