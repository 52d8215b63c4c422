//! Tables of frequencies for rANS (FORMAT.md, section 7.5), in integers only.

use crate::kernel::rans::{ESCAPE, FIRST_WIDE, MIDDLE, MISSING, PROBABILITY_BITS};

/// How often each token is expected, of 4096.
pub(crate) type Frequencies = [u16; 256];

/// What the frequencies of a table add up to.
const TOTAL: u32 = 1 << PROBABILITY_BITS;
/// A probability of one.
const ONE: u64 = 1 << 30;
/// The least probability that gets a frequency.
const RARE: u64 = ONE >> 15;
/// Fractional bits of a number in units of the standard deviation.
const FRACTION: u32 = 20;
/// Widths are powers of 2^(1/8) from this exponent of two on.
const SMALLEST_WIDTH: i32 = -2;
/// Widths that a table may have.
pub(crate) const WIDTHS: u8 = 128;
/// Low bits that may go elsewhere.
pub(crate) const MOST_LOW: u8 = 6;

/// 2^(-i/8) times 2^24.
const INVERSE: [u64; 8] =
    [16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842];

/// The normal distribution function at i/16, times 2^30.
#[rustfmt::skip]
const NORMAL: [u32; 129] = [
    536870912, 563626055, 590276924, 616720462, 642856022, 668586519, 693819504, 718468155, 742452164, 765698500, 788142037, 809726050, 830402557, 850132519, 868885893, 886641547, 903387042, 919118299, 933839152, 947560808, 960301243, 972084519, 982940071, 992901964, 1002008138, 1010299656, 1017819976, 1024614243, 1030728632, 1036209729, 1041103979, 1045457181, 1049314056, 1052717874, 1055710149, 1058330384, 1060615896, 1062601675, 1064320303, 1065801925, 1067074247, 1068162576, 1069089893, 1069876939, 1070542328, 1071102673, 1071572718, 1071965478, 1072292382, 1072563411, 1072787240, 1072971369, 1073122248, 1073245400, 1073345529, 1073426621, 1073492040, 1073544610, 1073586689, 1073620240, 1073646887, 1073667968, 1073684580, 1073697621, 1073707817, 1073715759, 1073721920, 1073726682, 1073730347, 1073733158, 1073735305, 1073736938, 1073738176, 1073739110, 1073739813, 1073740339, 1073740732, 1073741024, 1073741240, 1073741399, 1073741516, 1073741602, 1073741664, 1073741710, 1073741742, 1073741766, 1073741783, 1073741795, 1073741804, 1073741810, 1073741814, 1073741817, 1073741819, 1073741821, 1073741822, 1073741822, 1073741823, 1073741823, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824, 1073741824,
];

/// The table of Gaussian numbers of the given width (in units of the step, as a power of 2^(1/8)) on the
/// odd or the even values of a trellis, their low bits apart.
pub(crate) fn gaussian(width: u8, odd: bool, low: u8) -> Frequencies {
    let edge = |h: i64| below(2 * (h << low) + i64::from(odd) - 1, width);
    let mut masses = [0; FIRST_WIDE as usize];
    let mut lower = edge(-i64::from(MIDDLE));
    for (mass, h) in masses.iter_mut().zip(1 - i64::from(MIDDLE)..) {
        let upper = edge(h);
        *mass = upper - lower;
        lower = upper;
    }
    normalized(&masses)
}

/// The probability, times 2^30, that a Gaussian number is below a number of steps.
fn below(steps: i64, width: u8) -> u64 {
    let octaves = i32::from(width / 8) + SMALLEST_WIDTH;
    let scaled = steps.unsigned_abs() * INVERSE[usize::from(width % 8)];
    let t = scaled >> (24 - FRACTION as i32 + octaves) as u32;
    let place = (t >> (FRACTION - 4)) as usize;
    let above_half = match NORMAL.get(place..=place + 1) {
        Some(&[a, b]) => {
            let fraction = t & ((1 << (FRACTION - 4)) - 1);
            u64::from(a) + ((u64::from(b - a) * fraction) >> (FRACTION - 4))
        }
        _ => ONE,
    };
    if steps < 0 { ONE - above_half } else { above_half }
}

/// Frequencies near the given masses, and one for the escape. What is left over goes to the largest.
fn normalized(masses: &[u64; FIRST_WIDE as usize]) -> Frequencies {
    let mut table = [0; 256];
    let mut sum = 1;
    table[ESCAPE as usize] = 1;
    let mut mode = 0;
    for (token, mass) in masses.iter().enumerate() {
        let rounded = (mass * u64::from(TOTAL - 1) + ONE / 2) / ONE;
        let frequency = rounded.max(u64::from(*mass >= RARE));
        table[token] = frequency as u16;
        sum += frequency as u32;
        if *mass > masses[mode] {
            mode = token;
        }
    }
    table[mode] = (u32::from(table[mode]) + TOTAL).saturating_sub(sum) as u16;
    table
}

/// Appends the encoder's form of a table: for each token where it starts, times 2^16, plus its frequency, or
/// [`MISSING`].
pub(crate) fn put_starts(table: &Frequencies, out: &mut Vec<u32>) {
    let mut start = 0;
    for frequency in table {
        out.push(if *frequency > 0 { start << 16 | u32::from(*frequency) } else { MISSING });
        start += u32::from(*frequency);
    }
}

/// Appends the decoder's form: for each of 4096 slots the distance from the start of its token, the
/// frequency times 2^12, the token times 2^24.
pub(crate) fn put_slots(table: &Frequencies, out: &mut Vec<u32>) {
    for (token, frequency) in table.iter().enumerate() {
        let frequency = u32::from(*frequency);
        out.extend((0..frequency).map(|i| (token as u32) << 24 | frequency << 12 | i));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_adds_up_and_can_escape() {
        for width in 0..WIDTHS {
            for (odd, low) in (0..=MOST_LOW).flat_map(|low| [(false, low), (true, low)]) {
                let table = gaussian(width, odd, low);
                let sum: u32 = table.iter().map(|f| u32::from(*f)).sum();
                assert_eq!((sum, table[ESCAPE as usize]), (TOTAL, 1), "{width} {odd} {low}");
                assert!(table.iter().all(|f| u32::from(*f) < TOTAL), "{width} {odd} {low}");
            }
        }
    }
}
