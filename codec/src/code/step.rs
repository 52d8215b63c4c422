//! Multiples of one step with entropy coding, in classes of blocks: for numbers that do not look
//! Gaussian, as they are. A few large ones cost what they need, many small ones next to nothing.
//!
//! By default with subtractive dither (Roberts 1962; Schuchman 1964; Ziv 1985): numbers that both sides
//! draw are added before rounding and subtracted behind it, so that the error is uniform whatever the
//! number was, and right in the mean. `biased` has the least error instead: zeros stay zeros, what is
//! barely half a step becomes zero, and levels stand where the numbers of their interval are in the mean.
//!
//! The step is the same for all blocks of a group, so the error is; what differs is how often which
//! multiple occurs (reverse water-filling, Berger 1971). Blocks of like energy share a table.

use super::bits::{Reader, Rests, Writer};
use super::classes::{Counts, TOKENS, Weights};
use super::frequencies::{put_slots, put_starts};
use super::rate::Rate;
use super::step_setting::{self, Plan};
use super::{Coder, Numbers, check_most, lanes};
use crate::flow::{Gather, Held, Sink, Source};
use crate::group::exponent::LARGEST;
use crate::group::{Job, Work};
use crate::kernel::rans::{CLASS_BLOCK, MOST_LANES, SLACK};
use crate::kernel::step::LARGEST_MULTIPLE;
use crate::kernel::{Kernel, Simd, Step as Rounding};
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;
use std::ops::RangeInclusive;

/// Multiples of a step that suits a rate in bits a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    rate: Rate,
}

/// Bytes of the size of a step; codes of zeros are no more than that.
const SIZE_BYTES: usize = 4;
/// Bytes before the states: the size, two shifts, the number of classes.
const HEAD: usize = SIZE_BYTES + 3;
/// Most classes.
const CLASSES: usize = 12;
/// No step is larger; what it makes of multiples is bounded by [`LARGEST`].
const LARGEST_STEP: f32 = f32::from_bits((127 + 77) << 23);
/// Most bytes that a coefficient takes: a word, and the rest of a large multiple.
const BYTES_PER_VALUE: usize = 5;
/// Most bytes of the table of a class.
const TABLE_BYTES: usize = 300;
/// What the encoder of words may overwrite before them.
const ROOM: usize = 32;
/// In thousandths of a bit.
const RATES: RangeInclusive<u16> = 50..=12_000;
/// Parts of a step that shifts are counted in.
const SHIFT: f32 = 1.0 / 256.0;

impl Step {
    /// Bits a value, but for the headers of the stream and of a group and for one table: 20 to 50 bytes.
    pub fn rate(&self) -> f64 {
        self.rate.bits()
    }

    /// Whether numbers go to the nearest multiple, without dither.
    pub fn biased(&self) -> bool {
        self.rate.biased
    }

    /// Appends the codes of all numbers of a group; `k` has room for as many.
    fn encode(
        &self,
        job: &Job<'_>,
        numbers: &[f32],
        k: &mut [f32],
        words: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let rounding = self.rounding(job, [0; 2]);
        let plan = Plan::of(job.kernel, numbers, rounding, self.rate.thousandths);
        let Some(plan) = plan else { return out.extend([0; SIZE_BYTES]) };
        job.kernel.divide(numbers, 0, 1.0 / plan.size, rounding, k);
        let mut counts = vec![[0; TOKENS]; plan.n_classes];
        for (block, class) in k.chunks(CLASS_BLOCK).zip(&plan.classes) {
            step_setting::count(block, &mut counts[usize::from(*class)]);
        }
        let (classes, counts) = step_setting::fewer(plan.classes, counts);
        let shifts = match self.rate.biased {
            true => step_setting::shifts(numbers, plan.size, k),
            false => [0; 2],
        };
        let head = Head { size: plan.size, shifts, classes: counts.len() as u8 };
        put_multiples(job.kernel, k, head, (&classes, &counts), words, out);
    }

    /// How it rounds the numbers of a group.
    fn rounding(&self, job: &Job<'_>, shifts: [i8; 2]) -> Rounding {
        match self.rate.biased {
            true => Rounding::Nearest {
                dead: step_setting::DEAD,
                shifts: shifts.map(|shift| f32::from(shift) * SHIFT),
            },
            false => Rounding::Dithered(job.keys.dither.block(job.group, 0)),
        }
    }
}

/// What stands before the codes of multiples that are not all zeros.
#[derive(Debug, Clone, Copy)]
struct Head {
    size: f32,
    shifts: [i8; 2],
    classes: u8,
}

impl Head {
    fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend(self.shifts.map(|shift| shift as u8));
        out.push(self.classes);
    }

    /// The head, or `None` for zeros, and what stands behind it.
    fn read(codes: &[u8]) -> Result<(Option<Self>, &[u8])> {
        let mut cursor = Cursor::new(codes);
        let size = cursor.f32("step of a group")?;
        // Written so that NaN fails.
        if !(0.0..=LARGEST_STEP).contains(&size) || size.is_sign_negative() {
            return Err(Error::corrupt(format!("step of a group: {size} is out of range")));
        }
        if size == 0.0 {
            cursor.end("step")?;
            return Ok((None, &[]));
        }
        let shifts = [cursor.u8("shift")? as i8, cursor.u8("shift")? as i8];
        let classes = cursor.u8("number of classes")?;
        if !(1..=CLASSES as u8).contains(&classes) {
            return Err(Error::corrupt(format!(
                "number of classes: expected 1 to {CLASSES}, found {classes}"
            )));
        }
        Ok((Some(Self { size, shifts, classes }), cursor.rest()))
    }

    /// Bits of the number of a class.
    fn class_bits(self) -> u32 {
        u8::BITS - (self.classes - 1).leading_zeros()
    }
}

/// Appends the codes of multiples: what their classes are, and how often which token occurs in each.
fn put_multiples(
    kernel: Kernel,
    k: &[f32],
    head: Head,
    (classes, counts): (&[u8], &[Counts]),
    words: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    head.write_to(out);
    let (mut bits, mut starts) = (Writer::default(), Vec::new());
    for counts in counts {
        let weights = Weights::of(counts);
        weights.put(&mut bits);
        put_starts(&weights.frequencies(), &mut starts);
    }
    starts.resize(starts.len().next_power_of_two(), 0);
    classes.iter().for_each(|class| bits.put((*class).into(), head.class_bits()));
    let room = ROOM + size_of::<u32>() * MOST_LANES + size_of::<u16>() * k.len();
    if words.len() < room {
        words.resize(room, 0);
    }
    let words = &mut words[..room];
    let start = kernel.encode_multiples(k, &starts, classes, lanes(k.len()), words);
    out.extend_from_slice(&words[start..]);
    for k in k.iter().filter(|k| k.abs() > 15.0) {
        bits.put_rest(*k as i32);
    }
    bits.finish(out);
}

/// The multiples that codes stand for.
fn get_multiples(
    kernel: Kernel,
    head: Head,
    codes: &[u8],
    bytes: &mut Vec<u8>,
    out: &mut [f32],
) -> Result<()> {
    let corrupt = || Error::corrupt("codes of a group: words of rANS that no encoder writes");
    let mut bits = Reader::new(codes);
    let mut slots = Vec::new();
    for _ in 0..head.classes {
        let weights = Weights::take(&mut bits)
            .ok_or_else(|| Error::corrupt("codes of a group: a table that no encoder writes"))?;
        put_slots(&weights.frequencies(), &mut slots);
    }
    slots.resize(slots.len().next_power_of_two(), 0);
    let mut classes = Vec::with_capacity(out.len().div_ceil(CLASS_BLOCK));
    for _ in 0..out.len().div_ceil(CLASS_BLOCK) {
        let class = bits.take(head.class_bits()).filter(|class| *class < head.classes.into());
        classes.push(
            class.ok_or_else(|| Error::corrupt("codes of a group: class out of range"))? as u8
        );
    }
    bytes.clear();
    bytes.extend_from_slice(codes);
    bytes.extend([0; SLACK]);
    let mut rests = Rests { bits };
    let lanes = lanes(out.len());
    let end = kernel.decode_multiples(&slots, &classes, lanes, bytes, &mut rests, out);
    rests.bits.finish(end.ok_or_else(corrupt)?)?;
    let largest = f32::from_bits(kernel.peak_bits(out));
    // Draws and shifts add up to one.
    if largest > LARGEST_MULTIPLE || (largest + 1.0) * head.size > LARGEST {
        return Err(Error::corrupt("coefficient out of range"));
    }
    Ok(())
}

impl Coder for Step {
    fn bound(&self, n: usize) -> usize {
        let tables = CLASSES * TABLE_BYTES + n.div_ceil(CLASS_BLOCK);
        HEAD + size_of::<u32>() * lanes(n) + tables + BYTES_PER_VALUE * n
    }

    fn bits(&self) -> f64 {
        self.rate()
    }

    fn memory(&self, n: usize) -> usize {
        // Numbers and multiples of a group, its words, tables.
        2 * n * size_of::<f32>() + self.bound(n) + SLACK + (1 << 19)
    }

    fn error(&self, job: &Job<'_>, numbers: &[f32], meets: Numbers) -> f64 {
        let rounding = self.rounding(job, [0; 2]);
        match meets {
            Numbers::AsTheyAre => {
                step_setting::error(job.kernel, numbers, rounding, self.rate.thousandths)
            }
            Numbers::Mixed => f64::INFINITY,
        }
    }

    fn rates(&self) -> Option<RangeInclusive<u16>> {
        Some(RATES)
    }

    fn set_rate(&mut self, thousandths: u16) {
        self.rate.thousandths = thousandths;
    }

    fn encoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        work: &'a mut Work,
        out: &'a mut Vec<u8>,
    ) -> impl Sink + 'a {
        let Work { whole, run, bytes } = work;
        let k = run.take(n);
        Gather::new(job.kernel, whole.take(n), move |numbers, _| {
            self.encode(job, numbers, k, bytes, out);
            Ok(())
        })
    }

    fn check(&self, n: usize, codes: &[u8]) -> Result<()> {
        check_most(self.bound(n), codes)?;
        let (head, codes) = Head::read(codes)?;
        let Some(head) = head else { return Ok(()) };
        get_multiples(Kernel::new(Simd::Auto), head, codes, &mut Vec::new(), &mut vec![0.0; n])
    }

    fn decoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        codes: &'a [u8],
        work: &'a mut Work,
    ) -> Result<impl Source + 'a> {
        let Work { whole, bytes, .. } = work;
        let k = whole.take(n);
        check_most(self.bound(n), codes)?;
        let (head, codes) = Head::read(codes)?;
        match head {
            Some(head) => get_multiples(job.kernel, head, codes, bytes, k)?,
            None => k.fill(0.0),
        }
        let (size, shifts) = head.map_or((0.0, [0; 2]), |head| (head.size, head.shifts));
        let (kernel, rounding) = (job.kernel, self.rounding(job, shifts));
        Ok(Held::new(k, move |at, k| kernel.multiply(k, size, rounding, at)))
    }
}

impl Stage for Step {
    const ID: u8 = 0x22;
    const NAME: &'static str = "step";
    const EXAMPLES: &'static [&'static str] =
        &["step=2", "step=0.3", "step=6", "step=2,biased", "step=0.5,biased", "step=9.25"];

    fn is_biased(&self) -> bool {
        self.rate.biased
    }

    fn is_seeded(&self) -> bool {
        !self.rate.biased
    }

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        Rate::parse::<Self>(options, RATES).map(|rate| Self { rate })
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rate.print::<Self>(f)
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        self.rate.write_to(out);
    }

    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        Rate::read_from::<Self>(cursor, RATES).map(|rate| Self { rate })
    }
}
