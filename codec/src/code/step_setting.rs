//! How the encoder of [`super::Step`] chooses a step and classes. Nothing here is part of the format.

use super::bits::Writer;
use super::classes::{Counts, TOKENS, Weights, entropy};
use crate::kernel::rans::CLASS_BLOCK;
use crate::kernel::{Kernel, Magnitudes, Step as Rounding, Tally};

/// What is further than this above a half of a step is rounded up, without dither: it saves more bits than it
/// costs error.
pub(super) const DEAD: f32 = 0.1;
/// Classes to begin with.
const CLASSES: usize = 12;
/// How many classes may become one.
const MERGED: [usize; 3] = [1, 3, 12];
/// Numbers that are looked at to find a step.
const SAMPLE: usize = 1 << 15;
/// Steps that are tried, so many to an octave, beside the root mean square.
const PER_OCTAVE: i32 = 128;
/// The smallest is so large that no number of up to 2^20 is beyond the largest multiple of it.
const OCTAVES: std::ops::Range<i32> = -11..9;
/// 2^(1/128).
const RATIO: f64 = 1.005_429_901_112_803;

/// The step of a group, and the class of each block.
pub(crate) struct Plan {
    pub(super) size: f32,
    /// Of the numbers.
    mean_square: f64,
    /// Bits that codes are expected to take, times 2^16.
    pub(super) bits: i64,
    order: Vec<usize>,
    pub(super) classes: Vec<u8>,
    pub(super) n_classes: usize,
}

impl Plan {
    /// The smallest step at which the codes take no more than `rate` thousandths of a bit for each
    /// number, as a sample tells; `None` for zeros, and for numbers that are none.
    pub(super) fn of(
        kernel: Kernel,
        numbers: &[f32],
        rounding: Rounding,
        rate: u16,
    ) -> Option<Self> {
        let mut plan = Self::of_blocks(kernel, numbers)?;
        let (rms, most) = (plan.mean_square.sqrt(), most_bits(numbers.len(), rate));
        // Larger steps take fewer bits, up to the noise of dither.
        let (mut too_small, mut enough) =
            (OCTAVES.start * PER_OCTAVE - 1, OCTAVES.end * PER_OCTAVE);
        let mut known = None;
        while enough - too_small > 1 {
            let place = too_small + (enough - too_small) / 2;
            let bits = plan.cost(kernel, numbers, rounding, size(rms, place));
            match bits <= most {
                true => (enough, known) = (place, Some(bits)),
                false => too_small = place,
            }
        }
        plan.size = size(rms, enough);
        plan.bits = known.unwrap_or_else(|| plan.cost(kernel, numbers, rounding, plan.size));
        Some(plan)
    }

    /// The same for a step that is given.
    pub(super) fn at(
        kernel: Kernel,
        numbers: &[f32],
        rounding: Rounding,
        size: f32,
    ) -> Option<Self> {
        let plan = Self::of_blocks(kernel, numbers)?;
        Some(Self { size, bits: plan.cost(kernel, numbers, rounding, size), ..plan })
    }

    /// The classes of blocks, and the mean square.
    fn of_blocks(kernel: Kernel, numbers: &[f32]) -> Option<Self> {
        let energy = |block| kernel.sum_of_products(block, block);
        let energies: Vec<f64> = numbers.chunks(CLASS_BLOCK).map(energy).collect();
        let mean_square = energies.iter().sum::<f64>() / numbers.len() as f64;
        if !(mean_square > 0.0 && mean_square.is_finite()) {
            return None;
        }
        let order = order(&energies);
        let classes = quantiles(&order);
        let n_classes = CLASSES.min(order.len());
        Some(Self { size: 0.0, mean_square, bits: 0, order, classes, n_classes })
    }

    fn cost(&self, kernel: Kernel, numbers: &[f32], rounding: Rounding, size: f32) -> i64 {
        let classes = (&self.order[..], &self.classes[..], self.n_classes);
        bits_of_sample(kernel, numbers, classes, rounding, size)
    }

    /// The NMSE that is expected at a step: a twelfth of its square with dither, else that of a sample.
    pub(super) fn error(
        &self,
        kernel: Kernel,
        numbers: &[f32],
        rounding: Rounding,
        size: f32,
    ) -> f64 {
        let size_square = f64::from(size) * f64::from(size);
        if let Rounding::Dithered(_) = rounding {
            return size_square / 12.0 / self.mean_square;
        }
        let (mut k, mut error, mut energy) = ([0.0; CLASS_BLOCK], 0.0, 0.0);
        for number in sample(&self.order) {
            let block = block(numbers, number);
            let k = &mut k[..block.len()];
            kernel.divide(block, 0, 1.0 / size, rounding, k);
            for (number, k) in block.iter().zip(k) {
                error += (f64::from(*number) - f64::from(*k) * f64::from(size)).powi(2);
                energy += f64::from(*number).powi(2);
            }
        }
        if energy > 0.0 { error / energy } else { 0.0 }
    }
}

/// Bits, times 2^16, that `n` numbers may take at `rate` thousandths of a bit each.
pub(super) fn most_bits(n: usize, rate: u16) -> i64 {
    n as i64 * i64::from(rate) * 65_536 / 1000
}

/// The step at a place.
pub(super) fn size(rms: f64, place: i32) -> f32 {
    let octave = f64::from_bits(((1023 + place.div_euclid(PER_OCTAVE)) as u64) << 52);
    let within = (0..place.rem_euclid(PER_OCTAVE)).fold(1.0, |power, _| power * RATIO);
    (rms * octave * within) as f32
}

/// Blocks by ascending energy.
fn order(energies: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..energies.len()).collect();
    order.sort_by(|a, b| energies[*a].total_cmp(&energies[*b]).then(a.cmp(b)));
    order
}

/// For each block which twelfth of all, by energy, it belongs to.
fn quantiles(order: &[usize]) -> Vec<u8> {
    let (mut classes, n) = (vec![0; order.len()], CLASSES.min(order.len()));
    for (rank, block) in order.iter().enumerate() {
        classes[*block] = (rank * n / order.len()) as u8;
    }
    classes
}

/// Every so many of the blocks by ascending energy, so that all energies are among them as they are among
/// all blocks.
fn sample(order: &[usize]) -> impl Iterator<Item = usize> {
    let every = (order.len() * CLASS_BLOCK / SAMPLE).max(1);
    order.iter().copied().skip(every / 2).step_by(every)
}

fn block(numbers: &[f32], number: usize) -> &[f32] {
    let at = number * CLASS_BLOCK;
    &numbers[at..numbers.len().min(at + CLASS_BLOCK)]
}

/// Bits, times 2^16, that a group takes, by a sample of its blocks. States and a table it has at any rate:
/// counted, they would leave a short group next to nothing.
fn bits_of_sample(
    kernel: Kernel,
    numbers: &[f32],
    (order, classes, n_classes): (&[usize], &[u8], usize),
    rounding: Rounding,
    size: f32,
) -> i64 {
    let mut tallies = vec![Tally::new(); n_classes];
    let mut k = [0.0; CLASS_BLOCK];
    let mut sampled = 0;
    for number in sample(order) {
        let block = block(numbers, number);
        let k = &mut k[..block.len()];
        kernel.divide(block, number * CLASS_BLOCK, 1.0 / size, rounding, k);
        kernel.count(k, &mut tallies[usize::from(classes[number])]);
        sampled += block.len() as i64;
    }
    let (blocks, counts) = (classes.len(), counted(&tallies));
    let one_table = side(&merge(&counts, n_classes), blocks);
    let whole = MERGED.iter().map(|merged| {
        let merged = merge(&counts, *merged);
        let coded: i64 = merged.iter().map(entropy).sum::<i64>() + rests(&merged);
        coded / sampled * numbers.len() as i64 + side(&merged, blocks) - one_table
    });
    whole.min().unwrap_or(0)
}

/// Bits, times 2^16, of what tokens leave open.
pub(super) fn rests(counts: &[Counts]) -> i64 {
    let bits = |token: usize| (token.saturating_sub(31) / 8 + 2) as i64;
    let wide = |counts: &Counts| -> i64 {
        counts
            .iter()
            .enumerate()
            .skip(31)
            .map(|(token, count)| i64::from(*count) * bits(token))
            .sum()
    };
    counts.iter().map(wide).sum::<i64>() << 16
}

/// Bits, times 2^16, of tables and classes.
fn side(counts: &[Counts], blocks: usize) -> i64 {
    let mut bits = Writer::default();
    counts.iter().for_each(|counts| Weights::of(counts).put(&mut bits));
    let class_bits = usize::BITS - (counts.len() - 1).leading_zeros();
    ((bits.len() + blocks * class_bits as usize) as i64) << 16
}

fn merge(counts: &[Counts], merged: usize) -> Vec<Counts> {
    let sum = |several: &[Counts]| {
        let mut sum = [0; TOKENS];
        for counts in several {
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        sum
    };
    counts.chunks(merged).map(sum).collect()
}

/// How often tokens occur of multiples up to the largest.
fn counted(tallies: &[Tally]) -> Vec<Counts> {
    tallies.iter().map(|tally| std::array::from_fn(|token| tally.of(token))).collect()
}

/// How often tokens occur in each of so many classes of blocks.
pub(super) fn count(kernel: Kernel, k: &[f32], classes: &[u8], n: usize) -> Vec<Counts> {
    let mut tallies = vec![Tally::new(); n];
    for (block, class) in k.chunks(CLASS_BLOCK).zip(classes) {
        kernel.count(block, &mut tallies[usize::from(*class)]);
    }
    counted(&tallies)
}

/// The classes, or several of them as one each, whichever takes fewer bits.
pub(super) fn fewer(classes: Vec<u8>, counts: Vec<Counts>) -> (Vec<u8>, Vec<Counts>) {
    let best = MERGED.into_iter().min_by_key(|merged| {
        let merged = merge(&counts, *merged);
        merged.iter().map(entropy).sum::<i64>() + side(&merged, classes.len())
    });
    let merged = best.unwrap_or(1);
    let classes = classes.into_iter().map(|class| class / merged as u8).collect();
    (classes, merge(&counts, merged))
}

/// How far numbers that become 1 or -1, and those that become more, are nearer to zero in the mean, in 256
/// parts of a step.
pub(super) fn shifts(kernel: Kernel, numbers: &[f32], size: f32, rounding: Rounding) -> [i8; 2] {
    // Saturates: numbers beyond the largest multiple are the last of what can be told.
    kernel.measure(numbers, 1.0 / size, rounding).map(|Magnitudes { n, numbers, multiples }| {
        let nearer = multiples - numbers / f64::from(size);
        (256.0 * nearer / n.max(1.0)).round_ties_even() as i8
    })
}
