//! Trellis-coded quantization with entropy coding (Marcellin & Fischer 1990; Fischer & Wang 1992) of
//! Gaussian numbers, with the scale of EDEN (Vargaftik et al. 2022): within .08 bit of Shannon's bound
//! at any rate.
//!
//! The quantizer has the integers for levels, in units of a step that the rate decides. Which half of
//! them, the even or the odd ones, a number may become follows from the numbers before it, by a
//! trellis of eight states: so the levels are twice as dense as what an index of that rate can tell
//! apart. The encoder finds the nearest path, the decoder walks it.

use super::bits::Writer;
use super::frequencies::{self, Frequencies, MOST_LOW, WIDTHS};
use super::rate::Rate;
use super::trellis_setting::{self, Setting, width};
use super::trellis_values::{Decoded, Decoder, RUN};
use super::{Coder, Expected, Numbers, check_most, lanes, packed_len, room_before};
use crate::aligned::Aligned;
use crate::flow::{Either, Gather, Held, Sink, Source};
use crate::group::{Job, Work};
use crate::kernel::rans::{SLACK, States};
use crate::kernel::{Found, Kernel, Simd, trellis};
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;
use std::ops::RangeInclusive;

/// Quantization to a rate in bits a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trellis {
    rate: Rate,
}

/// Bytes before the low bits: the scale, the width of the tables, the number of low bits.
const HEAD: usize = 6;
/// Bytes of a scale; codes of zeros are no more than that.
const SCALE_BYTES: usize = 4;
/// No scale is larger; what it makes of values is bounded by [`crate::group::exponent::LARGEST`].
const LARGEST_SCALE: f32 = f32::from_bits((127 + 77) << 23);
/// Most bytes that a coefficient takes, the states of rANS aside.
const BYTES_PER_VALUE: usize = 4;
/// Of fewer numbers than this a low rate may leave none; of more it does not.
const FEW: usize = 1 << 12;
/// In thousandths of a bit.
const RATES: RangeInclusive<u16> = 100..=12_000;

impl Trellis {
    /// Bits a value, from .1 to 12, headers aside, that Gaussian numbers take.
    pub fn rate(&self) -> f64 {
        self.rate.bits()
    }

    /// Whether the scale is that of the least error, and not the one that is right in the mean.
    pub fn biased(&self) -> bool {
        self.rate.biased
    }

    /// Appends the codes of all numbers of a group, of this energy, whose place their values take.
    fn encode(
        &self,
        kernel: Kernel,
        numbers: &mut [f32],
        energy: f64,
        words: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let rms = (energy / numbers.len() as f64).sqrt();
        // Written so that NaN, of a group that will be refused, has no path, too.
        let path = match rms > 0.0 && rms.is_finite() {
            true => self.path(kernel, numbers, rms),
            false => None,
        };
        let Some((found, low)) = path else { return out.extend([0; SCALE_BYTES]) };
        let width = width(found.energy / numbers.len() as f64);
        let head = Head { scale: self.scale(energy, found), width, low };
        put_values(kernel, numbers, head, words, out);
    }

    /// Puts values in the place of numbers; how many low bits their indices have. A few numbers may all
    /// become zeros at a low rate, which no scale makes right in the mean: they take the next bit.
    fn path(&self, kernel: Kernel, numbers: &mut [f32], rms: f64) -> Option<(Found, u8)> {
        let few = (numbers.len() < FEW).then(|| numbers.to_vec());
        for rate in (self.rate.thousandths..=*RATES.end()).step_by(1000) {
            let setting = Setting::of(rate);
            let found = search(kernel, numbers, rms, &setting);
            if found.product > 0.0 {
                return Some((found, setting.low));
            }
            numbers.copy_from_slice(few.as_ref()?);
        }
        None
    }

    /// The values of codes.
    fn decoded<'a>(
        &self,
        kernel: Kernel,
        n: usize,
        codes: &'a [u8],
        (bytes, run): (&'a mut Vec<u8>, &'a mut Aligned),
    ) -> Result<Decoded<'a>> {
        check_most(self.bound(n), codes)?;
        let (head, codes) = Head::read(codes)?;
        let from = head.map(|head| Decoder::new(kernel, head, n, codes, bytes)).transpose()?;
        Ok(Decoded { from, run, left: n })
    }

    /// What the values of a path are decoded with.
    fn scale(&self, energy: f64, found: Found) -> f32 {
        let scale = match self.rate.biased {
            true => found.product / found.energy,
            false => energy / found.product,
        };
        (scale as f32).min(LARGEST_SCALE)
    }
}

/// Puts the values of the nearest path in the place of the numbers, of this root mean square.
pub(super) fn search(kernel: Kernel, numbers: &mut [f32], rms: f64, setting: &Setting) -> Found {
    let factor = (1.0 / (rms * f64::from(setting.step))) as f32;
    // No number is larger than the root of the sum of all squares; half of what fits, to spare some for rounding.
    let most = 0.5 * trellis::LARGEST;
    if (numbers.len() as f64).sqrt() > f64::from(most * setting.step) {
        numbers.iter_mut().for_each(|y| *y = y.clamp(-most / factor, most / factor));
    }
    // Vectors of sixteen trellises: as many trellises as states, and never fewer than a vector has.
    let width = lanes(numbers.len()).div_ceil(16);
    kernel.search_trellis(numbers, factor, width, setting.penalty.as_ref())
}

/// The tables for even and for odd values.
pub(super) fn tables(width: u8, low: u8) -> [Frequencies; 2] {
    [false, true].map(|odd| frequencies::gaussian(width, odd, low))
}

/// What stands before the codes of values that are not all zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) scale: f32,
    /// Of the tables.
    pub(super) width: u8,
    /// Low bits of an index that are not coded by tables.
    pub(super) low: u8,
}

impl Head {
    fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.scale.to_le_bytes());
        out.extend([self.width, self.low]);
    }

    /// The head, or `None` for zeros, and what stands behind it.
    fn read(codes: &[u8]) -> Result<(Option<Self>, &[u8])> {
        let mut cursor = Cursor::new(codes);
        let scale = cursor.f32("scale of a group")?;
        // Written so that NaN fails.
        if !(0.0..=LARGEST_SCALE).contains(&scale) || scale.is_sign_negative() {
            return Err(Error::corrupt(format!("scale of a group: {scale} is out of range")));
        }
        if scale == 0.0 {
            cursor.end("trellis")?;
            return Ok((None, &[]));
        }
        let (width, low) = (cursor.u8("width of tables")?, cursor.u8("number of low bits")?);
        if width >= WIDTHS || low > MOST_LOW {
            return Err(Error::corrupt(format!(
                "codes of a group: expected a width below {WIDTHS} and at most {MOST_LOW} low bits, found {width} and {low}"
            )));
        }
        Ok((Some(Self { scale, width, low }), cursor.rest()))
    }
}

/// Appends the codes of values of a trellis.
pub(super) fn put_values(
    kernel: Kernel,
    values: &[f32],
    head: Head,
    words: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    head.write_to(out);
    let (n, low) = (values.len(), u32::from(head.low));
    if low > 0 {
        let (at, len) = (out.len(), packed_len(n, low));
        out.resize(at + len + 16, 0);
        kernel.pack_low(values, 1, low, &mut out[at..]);
        out.truncate(at + len);
    }
    let [mut even, mut odd] = [Vec::with_capacity(256), Vec::with_capacity(256)];
    let [of_even, of_odd] = tables(head.width, head.low);
    frequencies::put_starts(&of_even, &mut even);
    frequencies::put_starts(&of_odd, &mut odd);
    let starts: Vec<u32> = even.into_iter().zip(odd).flat_map(|(even, odd)| [even, odd]).collect();
    let (mut states, mut escaped) = (States::start(), Vec::new());
    let mut end = words.len();
    for (number, values) in values.chunks(RUN).enumerate().rev() {
        // Hardly any value takes as many bits as there is room for here: not all of it need be there.
        end = room_before(words, end, values.len());
        let first = escaped.len();
        let to = (&mut words[..], end);
        end = kernel.encode_values(values, (&starts, low), lanes(n), &mut states, to, &mut escaped);
        escaped[first..].iter_mut().for_each(|place| *place += (number * RUN) as u32);
    }
    end = room_before(words, end, 0);
    end = states.put(lanes(n), words, end);
    out.extend_from_slice(&words[end..]);
    let mut escapes = Writer::default();
    for at in escaped.iter().rev() {
        escapes.put_escaped(values[*at as usize] as i32 >> (1 + low));
    }
    escapes.finish(out);
}

impl Coder for Trellis {
    fn bound(&self, n: usize) -> usize {
        HEAD + size_of::<u32>() * lanes(n) + BYTES_PER_VALUE * n
    }

    fn bits(&self) -> f64 {
        self.rate()
    }

    fn is_unbiased_if_mixed(&self) -> bool {
        true
    }

    fn memory(&self, n: usize) -> usize {
        // The numbers of a group, a run that is decoded, and its words.
        (n + 2 * RUN) * size_of::<f32>() + self.bound(n) + SLACK
    }

    fn error(&self, _: &Job<'_>, _: &[f32], meets: Numbers) -> Expected {
        let distortion = trellis_setting::distortion(self.rate.thousandths);
        let error = match meets {
            Numbers::Mixed if self.rate.biased => distortion,
            Numbers::Mixed => distortion / (1.0 - distortion),
            Numbers::AsTheyAre => f64::INFINITY,
        };
        error.into()
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
        let Work { whole, bytes, .. } = work;
        Gather::new(job.kernel, whole, n, move |numbers, energy| {
            self.encode(job.kernel, numbers, energy, bytes, out);
            Ok(())
        })
    }

    fn check(&self, n: usize, codes: &[u8]) -> Result<()> {
        let (mut bytes, mut run) = (Vec::new(), Aligned::default());
        let kernel = Kernel::new(Simd::Auto);
        let mut from = self.decoded(kernel, n, codes, (&mut bytes, &mut run))?;
        while from.next(RUN)?.is_some() {}
        Ok(())
    }

    fn decoder<'a>(
        &'a self,
        job: &'a Job<'a>,
        n: usize,
        codes: &'a [u8],
        work: &'a mut Work,
    ) -> Result<impl Source + 'a> {
        let Work { bytes, run, whole, may_fail, .. } = work;
        let mut from = self.decoded(job.kernel, n, codes, (bytes, run))?;
        Ok(match may_fail {
            true => Either::First(from),
            false => {
                let (values, mut at) = (whole.take(n), 0);
                while let Some(run) = from.next(RUN)? {
                    values[at..at + run.values.len()].copy_from_slice(run.values);
                    at += run.values.len();
                }
                Either::Second(Held::new(values, |_, _| {}))
            }
        })
    }
}

impl Stage for Trellis {
    const ID: u8 = 0x23;
    const NAME: &'static str = "trellis";
    const EXAMPLES: &'static [&'static str] =
        &["trellis=2", "trellis=0.25", "trellis=1", "trellis=3.5", "trellis=7", "trellis=2,biased"];

    fn is_biased(&self) -> bool {
        self.rate.biased
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::word;

    /// Numbers like Gaussian ones, some of them far away, and hardly any in the last third.
    fn numbers(n: usize) -> Vec<f32> {
        let unit = |i: usize, j: u64| (word(j, i as u64) >> 40) as f32 / (1 << 24) as f32;
        let sum = |i| (0..12).map(|j| unit(i, j)).sum::<f32>() - 6.0;
        let scale = |i: usize| if i % 211 == 0 { 400.0 } else { 1.0 } * if 3 * i > 2 * n { 0.01 } else { 1.0 };
        (0..n).map(|i| sum(i) * scale(i)).collect()
    }

    fn get_values(
        kernel: Kernel,
        head: Head,
        codes: &[u8],
        bytes: &mut Vec<u8>,
        out: &mut [f32],
    ) -> Result<()> {
        Decoder::new(kernel, head, out.len(), codes, bytes)?.put(out)
    }

    /// The same in runs of different lengths.
    fn get_runs(
        kernel: Kernel,
        head: Head,
        codes: &[u8],
        bytes: &mut Vec<u8>,
        out: &mut [f32],
    ) -> Result<()> {
        let mut decoder = Decoder::new(kernel, head, out.len(), codes, bytes)?;
        let mut rest = out;
        for len in [64, 4096, 320].into_iter().cycle() {
            let (run, behind) = rest.split_at_mut(len.min(rest.len()));
            decoder.put(run)?;
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    #[test]
    fn every_instruction_set_finds_the_same_path_and_writes_and_reads_the_same_bytes() {
        let kernels = [Simd::Scalar, Simd::Avx2, Simd::Auto].map(Kernel::new);
        for n in [1, 15, 16, 17, 300, 5000, 40_003, 131_072 + 77, 262_144 + 1000] {
            for rate in [200, 500, 1000, 3100, 6000, 12_000] {
                let (y, setting) = (numbers(n), Setting::of(rate));
                let energy = crate::kernel::sum_of_products(&y, &y);
                let results = kernels.map(|kernel| {
                    let mut x = y.clone();
                    let found = search(kernel, &mut x, (energy / n as f64).sqrt(), &setting);
                    let head = Head {
                        scale: 1.0,
                        width: width(found.energy / n as f64),
                        low: setting.low,
                    };
                    let (mut words, mut bytes, mut codes) = (Vec::new(), Vec::new(), Vec::new());
                    put_values(kernel, &x, head, &mut words, &mut codes);
                    let (mut back, mut runs) = (vec![f32::NAN; n], vec![f32::NAN; n]);
                    get_values(kernel, head, &codes[HEAD..], &mut bytes, &mut back).unwrap();
                    get_runs(kernel, head, &codes[HEAD..], &mut bytes, &mut runs).unwrap();
                    assert!(runs == back, "{n} values at {rate}");
                    assert!(back == x, "{n} values at {rate}");
                    (x, codes, found.product.to_bits(), found.energy.to_bits())
                });
                assert!(results[0] == results[1], "{n} values at {rate}");
                assert!(results[0] == results[2], "{n} values at {rate}");
                let stage = Trellis { rate: Rate { thousandths: rate, biased: false } };
                let bound = stage.bound(n);
                assert!(results[0].1.len() <= bound, "{n} values at {rate}");
            }
        }
    }

    #[test]
    fn codes_with_any_byte_changed_or_missing_are_refused_or_decode_to_something() {
        let n = 5000;
        let (y, setting) = (numbers(n), Setting::of(1500));
        let kernel = Kernel::new(Simd::Auto);
        let mut x = y.clone();
        let found = search(kernel, &mut x, 1.0, &setting);
        let head = Head { scale: 1.0, width: width(found.energy / n as f64), low: setting.low };
        let (mut codes, mut bytes, mut out) = (Vec::new(), Vec::new(), vec![0.0; n]);
        put_values(kernel, &x, head, &mut Vec::new(), &mut codes);
        let codes = &codes[HEAD..];
        let mut refused = 0;
        for i in 0..codes.len() {
            let mut changed = codes.to_vec();
            changed[i] ^= 1 << (i % 8);
            refused += u32::from(get_values(kernel, head, &changed, &mut bytes, &mut out).is_err());
            let cut = &codes[..i];
            assert!(get_values(kernel, head, cut, &mut bytes, &mut out).is_err(), "{i} bytes");
        }
        // A state has to end at one of 2^32 numbers, and words and escapes have to meet; only what two
        // changes of a state make up for goes on.
        assert!(refused as usize * 100 > codes.len() * 99, "{refused} of {}", codes.len());
    }
}
