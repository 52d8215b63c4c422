//! Lloyd-Max quantization of Gaussian numbers (Lloyd 1982; Max 1960) with the scale of EDEN (Vargaftik
//! et al. 2021, 2022): q bits a value, one scale for the whole group.
//!
//! Numbers are divided by their RMS and go to the nearest of 2^q fixed levels. The scale that they
//! are decoded with is |y|^2 / <y, c>, c their levels: so the part of what is decoded that lies along y
//! is y itself, whatever the levels are. Behind a random rotation that mixes well the rest points
//! anywhere, so the expectation is the original; behind a basis that does not, it is not.

use super::{Coder, Expected, Numbers, check_len, packed_len};
use crate::flow::{Gather, Run, Sink, Source, run_len};
use crate::group::{Job, Work};
use crate::kernel::{Kernel, Thresholds};
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;

/// `q` bits a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LloydMax {
    q: u8,
}

/// Bytes of the scale.
const SCALE_BYTES: usize = 4;
/// No scale is larger: four levels, each below 8, stay in range.
const LARGEST_SCALE: f32 = f32::from_bits((127 + 77) << 23);
/// What kernels may overwrite behind the codes.
const SLACK: usize = 16;
const RUN: usize = 1 << 12;
/// Numbers between which sums are carried on.
const STRIP: usize = 1 << 12;

/// The positive levels for 1 to 8 bits, times 2^16, of the quantizer with the least mean squared
/// error for Gaussian numbers of variance one.
#[rustfmt::skip]
const LEVELS: [&[u32]; 8] = [
    &[52290],
    &[29673, 98987],
    &[16062, 49546, 88074, 141030],
    &[8414, 25431, 43041, 61757, 82328, 106040, 135595, 179083],
    &[4318, 12980, 21717, 30586, 39645, 48964, 58626, 68733, 79417, 90855, 103300, 117128, 132955, 151895, 176365, 213695],
    &[2190, 6572, 10964, 15373, 19805, 24267, 28767, 33313, 37913, 42576, 47312, 52132, 57048, 62073, 67223, 72515, 77970, 83610, 89466, 95570, 101963, 108697, 115838, 123468, 131702, 140693, 150666, 161959, 175130, 191195, 212365, 245373],
    &[1103, 3309, 5516, 7726, 9938, 12154, 14375, 16602, 18834, 21074, 23323, 25580, 27848, 30127, 32418, 34722, 37041, 39375, 41726, 44095, 46483, 48892, 51324, 53779, 56260, 58768, 61304, 63872, 66473, 69109, 71783, 74498, 77256, 80060, 82914, 85821, 88786, 91813, 94906, 98071, 101315, 104644, 108065, 111587, 115220, 118975, 122865, 126904, 131112, 135507, 140116, 144968, 150100, 155559, 161403, 167709, 174581, 182158, 190647, 200360, 211808, 225931, 244773, 274576],
    &[554, 1661, 2768, 3875, 4983, 6092, 7201, 8310, 9421, 10532, 11645, 12758, 13873, 14989, 16106, 17225, 18346, 19469, 20593, 21720, 22848, 23979, 25112, 26248, 27386, 28528, 29672, 30819, 31969, 33122, 34279, 35440, 36604, 37772, 38944, 40121, 41301, 42486, 43676, 44871, 46070, 47275, 48485, 49701, 50922, 52149, 53382, 54622, 55868, 57121, 58381, 59649, 60923, 62206, 63496, 64795, 66102, 67418, 68744, 70078, 71423, 72777, 74142, 75518, 76905, 78303, 79714, 81137, 82572, 84022, 85485, 86962, 88454, 89962, 91485, 93025, 94583, 96159, 97753, 99367, 101001, 102657, 104334, 106035, 107760, 109510, 111286, 113090, 114924, 116787, 118683, 120612, 122577, 124580, 126622, 128705, 130833, 133008, 135233, 137511, 139846, 142242, 144702, 147233, 149839, 152526, 155302, 158174, 161151, 164243, 167462, 170821, 174338, 178029, 181920, 186036, 190413, 195093, 200130, 205595, 211583, 218225, 225711, 234330, 244559, 257271, 274373, 301698],
];

/// NMSE of Gaussian numbers for 1 to 8 bits: D / (1 - D), D that of the levels (Vargaftik et al. 2022).
const ERRORS: [f64; 8] = [0.5708, 0.1331, 0.03578, 0.009592, 0.002508, 6.44e-4, 1.64e-4, 4.14e-5];

impl LloydMax {
    /// Bits of a code, 1 to 8.
    pub fn q(&self) -> u8 {
        self.q
    }

    fn checked(self) -> Result<Self> {
        if (1..=8).contains(&self.q) {
            return Ok(self);
        }
        Err(Error::invalid(format!("lm: expected 1 to 8 bits, found {}", self.q)))
    }

    /// All levels times 2^16, ascending.
    fn levels(&self) -> impl DoubleEndedIterator<Item = f32> + Clone {
        let positive = LEVELS[usize::from(self.q) - 1];
        let negative = positive.iter().rev().map(|level| -(*level as f32));
        negative.chain(positive.iter().map(|level| *level as f32))
    }

    /// What decoded codes stand for: a level, times the scale.
    fn table(&self, scale: f32) -> [f32; 256] {
        let mut table = [0.0; 256];
        for (value, level) in table.iter_mut().zip(self.levels()) {
            *value = level * (1.0 / 65_536.0) * scale;
        }
        table
    }

    /// Midway between the levels, ascending.
    fn thresholds(&self) -> Thresholds {
        let levels = self.levels();
        let middles = levels.clone().zip(levels.skip(1)).map(|(a, b)| (a + b) * (0.5 / 65_536.0));
        Thresholds::new(middles.collect())
    }

    /// Appends the codes of all numbers of a group, of this energy.
    fn encode(&self, kernel: Kernel, numbers: &[f32], energy: f64, out: &mut Vec<u8>) {
        let (n, q) = (numbers.len(), u32::from(self.q));
        let rms = (energy / n as f64).sqrt() as f32;
        let inverse = if rms > 0.0 { 1.0 / rms } else { 0.0 };
        let at = out.len();
        out.resize(at + self.bound(n) + SLACK, 0);
        let codes = at + SCALE_BYTES;
        let (levels, thresholds) = (self.table(1.0), self.thresholds());
        let mut decoded = [0.0; STRIP];
        let mut product = 0.0;
        for (i, numbers) in numbers.chunks(STRIP).enumerate() {
            // A strip starts at a whole byte.
            let packed = &mut out[codes + i * STRIP / 8 * q as usize..];
            kernel.count_below(numbers, inverse, &thresholds, q, packed);
            let decoded = &mut decoded[..numbers.len()];
            kernel.look_up(packed, q, &levels, decoded);
            product += kernel.sum_of_products(numbers, decoded);
        }
        let scale = if product > 0.0 { (energy / product) as f32 } else { 0.0 };
        out[at..codes].copy_from_slice(&scale.to_le_bytes());
        out.truncate(at + self.bound(n));
    }

    fn scale(codes: &[u8]) -> Result<(f32, &[u8])> {
        let mut cursor = Cursor::new(codes);
        let scale = cursor.f32("scale of a group")?;
        // Written so that NaN fails.
        if !(0.0..=LARGEST_SCALE).contains(&scale) {
            return Err(Error::corrupt(format!("scale of a group: {scale} is out of range")));
        }
        Ok((scale, cursor.rest()))
    }
}

impl Coder for LloydMax {
    fn bound(&self, n: usize) -> usize {
        SCALE_BYTES + packed_len(n, u32::from(self.q))
    }

    fn bits(&self) -> f64 {
        f64::from(self.q)
    }

    fn is_unbiased_if_mixed(&self) -> bool {
        true
    }

    fn memory(&self, n: usize) -> usize {
        // The numbers of a group, and those of a run that is decoded.
        (n + 2 * RUN) * size_of::<f32>()
    }

    fn error(&self, _: &Job<'_>, _: &[f32], meets: Numbers) -> Expected {
        let error = match meets {
            Numbers::Mixed => ERRORS[usize::from(self.q) - 1],
            Numbers::AsTheyAre => f64::INFINITY,
        };
        error.into()
    }

    fn encoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        work: &'a mut Work,
        out: &'a mut Vec<u8>,
    ) -> impl Sink + 'a {
        Gather::new(job.kernel, &mut work.whole, n, move |numbers, energy| {
            self.encode(job.kernel, numbers, energy, out);
            Ok(())
        })
    }

    fn check(&self, n: usize, codes: &[u8]) -> Result<()> {
        check_len(self.bound(n), codes)?;
        Self::scale(codes).map(drop)
    }

    fn decoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        codes: &'a [u8],
        work: &'a mut Work,
    ) -> Result<impl Source + 'a> {
        check_len(self.bound(n), codes)?;
        let (scale, codes) = Self::scale(codes)?;
        let q = u32::from(self.q);
        Ok(Decoder { q, job, table: self.table(scale), codes, n, at: 0, work })
    }
}

struct Decoder<'a> {
    q: u32,
    job: &'a Job<'a>,
    table: [f32; 256],
    codes: &'a [u8],
    n: usize,
    at: usize,
    work: &'a mut Work,
}

impl Source for Decoder<'_> {
    fn unit(&self) -> usize {
        RUN
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.n - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        let values = self.work.run.take(n);
        // A run starts at a multiple of 64 numbers, so at a whole byte.
        let packed = &self.codes[self.at / 8 * self.q as usize..];
        self.job.kernel.look_up(packed, self.q, &self.table, values);
        self.at += n;
        Ok(Some(Run { values, range: None }))
    }
}

impl Stage for LloydMax {
    const ID: u8 = 0x21;
    const NAME: &'static str = "lm";
    const EXAMPLES: &'static [&'static str] = &["lm=2", "lm=1", "lm=3", "lm=5", "lm=8"];

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        let q = options
            .value()?
            .ok_or_else(|| Error::invalid("lm needs a number of bits, as in lm=2"))?;
        options.end("nothing")?;
        Self { q }.checked()
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", Self::NAME, self.q)
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.push(self.q);
    }

    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let q = cursor.u8("bits of lm")?;
        Self { q }
            .checked()
            .map_err(|_| Error::corrupt(format!("bits of lm: expected 1 to 8, found {q}")))
    }
}
