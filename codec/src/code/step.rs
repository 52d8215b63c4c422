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
use super::classes::{Counts, Weights};
use super::frequencies::{put_slots, put_starts};
use super::neighbours_setting::{Found, Search};
use super::rate::Rate;
use super::step_setting::{self, Plan, most_bits};
use super::{Coder, Expected, Numbers, check_most, lanes, neighbours, room_for_words};
use crate::aligned::Aligned;
use crate::flow::{Gather, Held, Sink, Source};
use crate::group::exponent::LARGEST;
use crate::group::{Job, Work};
use crate::kernel::rans::{CLASS_BLOCK, SLACK};
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
pub(super) const SIZE_BYTES: usize = 4;
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
/// In thousandths of a bit.
const RATES: RangeInclusive<u16> = 50..=12_000;

impl Rounding {
    /// To the nearest multiple, or the one below where that is hardly further away; decoded nearer to zero by
    /// shifts in 256 parts of a step.
    pub(super) fn nearest(shifts: [i8; 2]) -> Self {
        let shifts = shifts.map(|shift| f32::from(shift) / 256.0);
        Self::Nearest { dead: step_setting::DEAD, shifts }
    }
}

impl Step {
    /// Bits a value, but for the headers of the stream and of a group and for one table: 20 to 50 bytes.
    pub fn rate(&self) -> f64 {
        self.rate.bits()
    }

    /// Whether numbers go to the nearest multiple, without dither.
    pub fn biased(&self) -> bool {
        self.rate.biased
    }

    /// How numbers are coded; `None` for zeros, and for numbers that are none.
    fn way(&self, job: &Job<'_>, numbers: &[f32], rounding: Rounding) -> Option<Way> {
        let rate = self.rate.thousandths;
        let plan = Plan::of(job.kernel, numbers, rounding, rate)?;
        let most = most_bits(numbers.len(), rate);
        Some(Way::of(job, numbers, rounding, plan, Some(most)))
    }

    /// How it rounds the numbers of a group.
    fn rounding(&self, job: &Job<'_>, shifts: [i8; 2]) -> Rounding {
        match self.rate.biased {
            true => Rounding::nearest(shifts),
            false => Rounding::Dithered(job.keys.dither.of_group(job.group)),
        }
    }
}

/// The numbers of a group, where multiples of them go, and other buffers.
pub(super) struct Group<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) k: &'a mut [f32],
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) compared: &'a mut super::neighbours_setting::Work,
}

/// How the multiples of a group are coded: the step, and the tables.
pub(crate) enum Way {
    Classes(Plan),
    Neighbours(Box<Search>, Found),
}

impl Way {
    /// The one that is expected to take fewer bits at the step of `plan`; with `most` bits, the one that has
    /// the smaller step.
    pub(super) fn of(
        job: &Job<'_>,
        numbers: &[f32],
        rounding: Rounding,
        plan: Plan,
        most: Option<i64>,
    ) -> Self {
        let tells = (job.kernel, job.shape);
        let found = Search::find(tells, numbers, rounding, (plan.size, plan.bits), most);
        Self::with(found, plan)
    }

    fn with(found: Option<(Search, Found)>, plan: Plan) -> Self {
        match found {
            Some((search, found)) => Self::Neighbours(Box::new(search), found),
            None => Self::Classes(plan),
        }
    }

    pub(super) fn size(&self) -> f32 {
        match self {
            Self::Classes(plan) => plan.size,
            Self::Neighbours(_, found) => found.size,
        }
    }
}

/// Appends the codes of the multiples of all numbers of a group, decoded nearer to zero where `shifted`.
pub(super) fn put_group(
    kernel: Kernel,
    group: Group<'_>,
    (rounding, shifted): (Rounding, bool),
    way: Way,
    out: &mut Vec<u8>,
) {
    let Group { numbers, k, bytes, compared } = group;
    let shifts = |size: f32| match shifted {
        true => step_setting::shifts(kernel, numbers, size, rounding),
        false => [0; 2],
    };
    let mut size = way.size();
    kernel.divide(numbers, 0, 1.0 / size, rounding, k);
    match way {
        Way::Classes(plan) => {
            let counts = step_setting::count(kernel, k, &plan.classes, plan.n_classes);
            let (classes, counts) = step_setting::fewer(plan.classes, counts);
            let head = Head { size, shifts: shifts(size), classes: counts.len() as u8 };
            put_multiples(kernel, k, head, (&classes, &counts), bytes, out);
        }
        Way::Neighbours(mut search, Found { neighbours, .. }) => {
            let mut shared = compared.compare(kernel, k, neighbours);
            // A sample that was off is a better one the second time.
            for _ in 0..2 {
                let Some(corrected) = search.corrected(numbers, size, shared.bits) else { break };
                size = corrected;
                kernel.divide(numbers, 0, 1.0 / size, rounding, k);
                shared = compared.compare(kernel, k, neighbours);
            }
            Head { size, shifts: shifts(size), classes: 0 }.write_to(out);
            compared.put(kernel, k, (neighbours, shared), bytes, out);
        }
    }
}

/// What stands before the codes of multiples that are not all zeros.
#[derive(Debug, Clone, Copy)]
struct Head {
    size: f32,
    shifts: [i8; 2],
    /// None where tables follow from neighbours.
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
        if classes > CLASSES as u8 {
            return Err(Error::corrupt(format!(
                "number of classes: expected up to {CLASSES}, found {classes}"
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
    let words = room_for_words(words, k.len());
    let start = kernel.encode_multiples(k, &starts, classes, lanes(k.len()), words);
    out.extend_from_slice(&words[start..]);
    neighbours::put_rests(kernel, k, &mut bits);
    bits.finish(out);
}

/// The multiples that codes stand for, by the classes of blocks.
fn get_by_classes(
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
    rests.bits.finish(end.ok_or_else(corrupt)?)
}

/// The multiples that codes of a group stand for, to `out`; `rows` is room for as many. Their step, and its
/// shifts.
fn get_group(
    kernel: Kernel,
    codes: &[u8],
    (bytes, rows): (&mut Vec<u8>, &mut Aligned),
    out: &mut [f32],
) -> Result<(f32, [i8; 2])> {
    check_most(bound(out.len()), codes)?;
    let (head, codes) = Head::read(codes)?;
    let Some(head) = head else {
        out.fill(0.0);
        return Ok((0.0, [0; 2]));
    };
    let largest = match head.classes {
        0 => neighbours::get(kernel, codes, bytes, rows.take(out.len()), out)?,
        _ => {
            get_by_classes(kernel, head, codes, bytes, out)?;
            f32::from_bits(kernel.peak_bits(out))
        }
    };
    // Draws and shifts add up to one.
    if largest > LARGEST_MULTIPLE || (largest + 1.0) * head.size > LARGEST {
        return Err(Error::corrupt("coefficient out of range"));
    }
    Ok((head.size, head.shifts))
}

/// Most bytes of the codes of `n` multiples.
pub(super) fn bound(n: usize) -> usize {
    let tables = CLASSES * TABLE_BYTES + n.div_ceil(CLASS_BLOCK);
    HEAD + size_of::<u32>() * lanes(n) + tables + BYTES_PER_VALUE * n
}

/// Bytes of buffers for `n` multiples: numbers, multiples, what they are compared with; words, tables.
pub(super) fn memory(n: usize) -> usize {
    5 * n * size_of::<f32>() + bound(n) + SLACK + (1 << 20)
}

/// Whether codes of a group decode.
pub(super) fn check_group(n: usize, codes: &[u8]) -> Result<()> {
    let (mut k, buffers) = (vec![0.0; n], (&mut Vec::new(), &mut Aligned::default()));
    get_group(Kernel::new(Simd::Auto), codes, buffers, &mut k).map(drop)
}

/// The coefficients of a group whose multiples are what `rounding` makes of them by the shifts that travel.
pub(super) fn held_group<'a>(
    job: &'a Job<'a>,
    n: usize,
    codes: &[u8],
    work: &'a mut Work,
    rounding: impl FnOnce([i8; 2]) -> Rounding,
) -> Result<impl Source + 'a> {
    let Work { whole, run, bytes, .. } = work;
    let k = whole.take(n);
    let (size, shifts) = get_group(job.kernel, codes, (bytes, run), k)?;
    let (kernel, rounding) = (job.kernel, rounding(shifts));
    Ok(Held::new(k, move |at, k| kernel.multiply(k, size, rounding, at)))
}

impl Coder for Step {
    fn bound(&self, n: usize) -> usize {
        bound(n)
    }

    fn bits(&self) -> f64 {
        self.rate()
    }

    fn memory(&self, n: usize) -> usize {
        memory(n)
    }

    fn error(&self, job: &Job<'_>, numbers: &[f32], meets: Numbers) -> Expected {
        let (rounding, rate) = (self.rounding(job, [0; 2]), self.rate.thousandths);
        if meets == Numbers::Mixed {
            return f64::INFINITY.into();
        }
        let Some(plan) = Plan::of(job.kernel, numbers, rounding, rate) else { return 0.0.into() };
        let most = most_bits(numbers.len(), rate);
        let at = (plan.size, plan.bits);
        let found = Search::find((job.kernel, job.shape), numbers, rounding, at, Some(most));
        let size = found.as_ref().map_or(plan.size, |(_, found)| found.size);
        let error = plan.error(job.kernel, numbers, rounding, size);
        Expected { error, way: Some(Way::with(found, plan)) }
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
        let Work { whole, run, bytes, compared, way, .. } = work;
        let (k, mut known) = (run.take(n), way.take());
        Gather::new(job.kernel, whole, n, move |numbers, _| {
            let rounding = self.rounding(job, [0; 2]);
            let Some(way) = known.take().or_else(|| self.way(job, numbers, rounding)) else {
                out.extend([0; SIZE_BYTES]);
                return Ok(());
            };
            let group = Group { numbers, k: &mut *k, bytes: &mut *bytes, compared: &mut *compared };
            put_group(job.kernel, group, (rounding, self.rate.biased), way, out);
            Ok(())
        })
    }

    fn check(&self, n: usize, codes: &[u8]) -> Result<()> {
        check_group(n, codes)
    }

    fn decoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        codes: &'a [u8],
        work: &'a mut Work,
    ) -> Result<impl Source + 'a> {
        held_group(job, n, codes, work, |shifts| self.rounding(job, shifts))
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
