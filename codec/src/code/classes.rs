//! Tables of frequencies that travel (FORMAT.md, section 7.6): one for each class of blocks, found by
//! counting.

use super::bits::{Reader, Writer, fold, unfold};
use super::frequencies::Frequencies;
use crate::kernel::rans::{FIRST_WIDE_MULTIPLE, PROBABILITY_BITS};

/// Tokens that multiples of up to 2^22 have.
pub(super) const TOKENS: usize = FIRST_WIDE_MULTIPLE as usize + 2 * 4 * 18;
/// How often each token occurs.
pub(super) type Counts = [u32; TOKENS];

const TOTAL: u32 = 1 << PROBABILITY_BITS;
/// Weights are powers of 2^(1/4), of which a table has so many.
const WEIGHTS: i32 = 48;
/// 2^(i/4) times 2^16.
const QUARTERS: [u64; 4] = [65_536, 77_936, 92_682, 110_218];

/// The weight of each token: 0 if it does not occur, else one more than four times the logarithm of its
/// frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights([u8; TOKENS]);

impl Weights {
    /// Those that tell these counts best.
    pub(super) fn of(counts: &Counts) -> Self {
        let most = counts.iter().copied().max().unwrap_or(0);
        let weight = |count: u32| match count {
            0 => 0,
            // The largest is the last; what is rarer than the first is as rare.
            _ => (1 + WEIGHTS - 1 - quarters(most, count)).max(1) as u8,
        };
        Self(counts.map(weight))
    }

    /// First and last token that occur, then the weights from one to the other as differences.
    pub(super) fn put(&self, bits: &mut Writer) {
        let first = self.0.iter().position(|w| *w > 0).unwrap_or(0);
        let last = self.0.iter().rposition(|w| *w > 0).unwrap_or(0);
        bits.put(first as u32, 8);
        bits.put(last as u32, 8);
        let mut before = 0;
        for weight in &self.0[first..=last] {
            bits.put_gamma(1 + fold(i32::from(*weight) - before));
            before = i32::from(*weight);
        }
    }

    /// `None` if these are no weights that are put so.
    pub(super) fn take(bits: &mut Reader<'_>) -> Option<Self> {
        let mut weights = [0; TOKENS];
        let (first, last) = (bits.take(8)? as usize, bits.take(8)? as usize);
        if first > last || last >= TOKENS {
            return None;
        }
        let mut before = 0;
        for weight in &mut weights[first..=last] {
            before += unfold(bits.take_gamma()? - 1);
            if !(0..=WEIGHTS).contains(&before) {
                return None;
            }
            *weight = before as u8;
        }
        let tight = weights[first] > 0 && weights[last] > 0;
        tight.then_some(Self(weights))
    }

    /// Frequencies that add up to 4096, at least two of them: a token that is alone leaves a slot to one
    /// that does not occur.
    pub(super) fn frequencies(&self) -> Frequencies {
        let mass = |weight: u8| match weight.checked_sub(1) {
            Some(w) => QUARTERS[usize::from(w % 4)] << (w / 4),
            None => 0,
        };
        let total: u64 = self.0.iter().map(|w| mass(*w)).sum();
        let mut table = [0; 256];
        let mut sum = 0;
        for (frequency, weight) in table.iter_mut().zip(&self.0) {
            if *weight > 0 {
                *frequency = (mass(*weight) * u64::from(TOTAL) / total.max(1)).max(1) as u16;
                sum += u32::from(*frequency);
            }
        }
        settle(&mut table, sum);
        table
    }
}

/// Gives what is left over to the most frequent token, or takes one after the other from the most
/// frequent.
fn settle(table: &mut Frequencies, mut sum: u32) {
    let most =
        |table: &Frequencies| (0..TOKENS).rev().max_by_key(|token| table[*token]).unwrap_or(0);
    let first = most(table);
    table[first] += TOTAL.saturating_sub(sum) as u16;
    while sum > TOTAL {
        table[most(table)] -= 1;
        sum -= 1;
    }
    if u32::from(table[first]) == TOTAL {
        table[first] -= 1;
        table[255] = 1;
    }
}

/// How many quarters of an octave `count` is below `most`, rounded.
fn quarters(most: u32, count: u32) -> i32 {
    ((log2(most) - log2(count) + (1 << 13)) >> 14) as i32
}

/// The logarithm to base two, with sixteen binary places, the same on every machine.
pub(super) fn log2(value: u32) -> i64 {
    let whole = value.max(1).ilog2();
    let mut mantissa = u64::from(value.max(1)) << (31 - whole);
    let mut log = i64::from(whole) << 16;
    for place in (0..16).rev() {
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >> 32 != 0 {
            mantissa >>= 1;
            log |= 1 << place;
        }
    }
    log
}

/// Bits, times 2^16, that tokens take which occur so often, by their own frequencies.
pub(super) fn entropy(counts: &Counts) -> i64 {
    let n: u32 = counts.iter().sum();
    let sum: i64 = counts.iter().filter(|c| **c > 0).map(|c| i64::from(*c) * log2(*c)).sum();
    i64::from(n) * log2(n) - sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_mathematics() {
        for value in [1u32, 2, 3, 5, 1000, 65_535, 1 << 20, u32::MAX] {
            let expected = f64::from(value).log2();
            assert!((log2(value) as f64 / 65_536.0 - expected).abs() < 1e-4, "{value}");
        }
    }

    #[test]
    fn tables_add_up_and_travel() {
        for seed in 0..200u64 {
            let mut counts = [0; TOKENS];
            let occurring = crate::random::word(seed, 0) as usize % TOKENS + 1;
            for i in 0..occurring {
                let draw = crate::random::word(seed, 1 + i as u64);
                counts[draw as usize % TOKENS] = ((draw >> 20) as u32) >> (draw >> 59);
            }
            counts[7] += 1;
            let weights = Weights::of(&counts);
            let table = weights.frequencies();
            assert_eq!(table.iter().map(|f| u32::from(*f)).sum::<u32>(), TOTAL);
            assert!(table.iter().all(|f| u32::from(*f) < TOTAL));
            assert!(counts.iter().zip(&table).all(|(count, f)| (*count > 0) == (*f > 0)));
            let (mut bits, mut bytes) = (Writer::default(), Vec::new());
            weights.put(&mut bits);
            bits.finish(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(Weights::take(&mut reader), Some(weights));
            reader.finish(0).unwrap();
        }
    }
}
