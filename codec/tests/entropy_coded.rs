//! Law: codes of the trellis and of the step are what FORMAT.md, sections 7.4 to 7.6, says, and nothing
//! else is. An encoder that is written down again makes what the crate's own never would: integers at the
//! limits and one beyond, tables that contradict themselves, bytes that belong to nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{DType, DecodeOptions, Result, Simd, Tensor};

// ---------------------------------------------------------------------------------------------
// rANS and bits, written down again

/// Tokens and their frequencies, which add up to 4096.
type Table = Vec<(u8, u32)>;

/// States and words of these tokens, each of a table, in one lane.
fn rans(tokens: &[(usize, u8)], tables: &[Table]) -> Vec<u8> {
    let (mut state, mut words) = (1u32 << 16, Vec::new());
    for (table, token) in tokens.iter().rev() {
        let place = tables[*table].iter().position(|(t, _)| t == token).unwrap();
        let start: u32 = tables[*table][..place].iter().map(|(_, f)| f).sum();
        let f = tables[*table][place].1;
        if state >> 20 >= f {
            words.push((state as u16).to_le_bytes());
            state >>= 16;
        }
        state = ((state / f) << 12) + state % f + start;
    }
    [&state.to_le_bytes()[..], &words.into_iter().rev().flatten().collect::<Vec<_>>()].concat()
}

/// A bit string, whose first byte is the last.
#[derive(Clone, Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(mut self, value: u32, bits: u32) -> Self {
        self.0.extend((0..bits).map(|bit| value >> bit & 1 == 1));
        self
    }

    fn gamma(self, value: u32) -> Self {
        let bits = value.ilog2();
        self.put(0, bits).put(1, 1).put(value & !(1 << bits), bits)
    }

    fn escape(self, h: i64) -> Self {
        let z = if h < 0 { -2 * h - 1 } else { 2 * h } as u32;
        let length = u32::BITS - z.leading_zeros();
        self.put(length, 5).put(
            z & !(1u32.checked_shl(length.wrapping_sub(1)).unwrap_or(0)),
            length.saturating_sub(1),
        )
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().rev().fold(0, |b, bit| b << 1 | u8::from(*bit));
        self.0.chunks(8).map(byte).rev().collect()
    }
}

/// One tensor "w" of n f32 values, of one group with this P behind the exponent, by one quantizer.
fn stream(stage: u8, n: u64, codes: &[u8]) -> Vec<u8> {
    // A rate of 1000 thousandths, biased: it draws nothing.
    let tensor = RawTensor::new("w", DType::F32, &[n]).stages(&[1, stage, 3, 0xe8, 0x03, 1]);
    Raw::new().tensor(&tensor).chunk(0, LAST, n, &[&[0], codes].concat()).end()
}

/// What every instruction set makes of it, which has to be the same.
#[track_caller]
fn decoded(bytes: &[u8]) -> Result<Vec<Tensor>> {
    let at = |simd| {
        let mut options = DecodeOptions::default();
        options.simd = simd;
        fedpress::decode(bytes, &options)
    };
    let results = [Simd::Scalar, Simd::Avx2, Simd::Auto].map(at);
    let text = |result: &Result<Vec<Tensor>>| result.as_ref().map_err(|e| e.to_string()).cloned();
    assert_eq!(text(&results[0]), text(&results[1]));
    assert_eq!(text(&results[0]), text(&results[2]));
    results.into_iter().next().unwrap()
}

#[track_caller]
fn values(bytes: &[u8]) -> Vec<f32> {
    decoded(bytes).unwrap()[0].to_f32().unwrap()
}

// ---------------------------------------------------------------------------------------------
// Trellis

const TRELLIS: u8 = 0x23;

/// *gaussian*(0, 0, 0) and *gaussian*(0, 1, 0): a quarter of a step wide, so that hardly anything but what
/// is nearest to 0 has a frequency.
fn narrow() -> [Table; 2] {
    [vec![(111, 1), (112, 4093), (113, 1), (255, 1)], vec![(111, 2047), (112, 2048), (255, 1)]]
}

/// The states and words, and the escapes, of these integers, fewer than 17 so that each has the first
/// table of its own trellis; those that `escaped` says are escapes.
fn trellis_parts(h: &[i64], escaped: impl Fn(i64) -> bool) -> (Vec<u8>, Bits) {
    assert!(h.len() < 17);
    let token = |h: i64| if escaped(h) { 255 } else { (h + 112) as u8 };
    let tokens: Vec<_> = h.iter().map(|h| (0, token(*h))).collect();
    let escapes =
        h.iter().filter(|h| escaped(**h)).fold(Bits::default(), |bits, h| bits.escape(*h));
    (rans(&tokens, &narrow()), escapes)
}

/// Scale 1, the narrowest table, no low parts.
const HEAD: [u8; 6] = [0, 0, 0x80, 0x3f, 0, 0];

fn trellis(h: &[i64], escaped: impl Fn(i64) -> bool) -> Vec<u8> {
    let (words, escapes) = trellis_parts(h, escaped);
    stream(TRELLIS, h.len() as u64, &[&HEAD[..], &words, &escapes.bytes()].concat())
}

#[test]
fn integers_without_a_frequency_are_escapes_up_to_the_largest() {
    // 143 is what the token of escapes would stand for.
    let h = [0, 1, -1, 2, -2, 111, -112, 112, -113, 142, 143, 144, 1 << 22, -(1 << 22), 0, 1 << 21];
    let expected: Vec<f32> = h.iter().map(|h| 2.0 * *h as f32).collect();
    assert_eq!(values(&trellis(&h, |h| h.abs() > 1)), expected);
}

#[test]
fn the_second_integer_of_a_trellis_has_the_table_that_the_first_leads_to() {
    // An odd integer leads to state 2, that to state 1 or 3: odd, whichever.
    let mut tokens = vec![(0, 113)];
    tokens.extend([(0, 112); 31]);
    tokens.extend([(1, 111), (0, 112)]);
    let codes = [&HEAD[..], &rans(&tokens, &narrow())].concat();
    let found = values(&stream(TRELLIS, 34, &codes));
    let place = |i: usize| {
        if i == 0 {
            2.0
        } else if i == 32 {
            -1.0
        } else {
            0.0
        }
    };
    assert_eq!(found, (0..34).map(place).collect::<Vec<_>>());
}

#[test]
fn escapes_that_are_none_or_too_large_are_corrupt() {
    for h in [0, 1, -1] {
        assert_corrupt(&trellis(&[2, h], |_| true), "rANS");
    }
    for h in [(1 << 22) + 1, -(1 << 22) - 1, (1 << 29) - 1] {
        assert_corrupt(&trellis(&[0, h], |h| h != 0), "rANS");
    }
    // With low parts of six bits a sixty-fourth of that; tables by which only 0 and -1 are no escapes.
    let six = |h: i64| {
        let tables = [vec![(111, 1), (112, 4094), (255, 1)]];
        let low = [0x3f; 1];
        let words = rans(&[(0, 255)], &tables);
        let codes = [&HEAD[..5], &[6], &low, &words, &Bits::default().escape(h).bytes()].concat();
        stream(TRELLIS, 1, &codes)
    };
    assert_eq!(values(&six(1 << 16)), [2.0 * ((1 << 22) + 63) as f32]);
    assert_eq!(values(&six(-(1 << 16))), [2.0 * (63 - (1 << 22)) as f32]);
    assert_corrupt(&six((1 << 16) + 1), "rANS");
    assert_corrupt(&six(-(1 << 16) - 1), "rANS");
}

#[test]
fn codes_of_a_trellis_end_where_they_end() {
    let h = [0, 5, -7, 300];
    let (words, escapes) = trellis_parts(&h, |h| h.abs() > 1);
    let with = |words: &[u8], escapes: &Bits| {
        stream(TRELLIS, 4, &[&HEAD[..], words, &escapes.bytes()].concat())
    };
    assert_eq!(values(&with(&words, &escapes)), [0.0, 10.0, -14.0, 600.0]);
    // A byte, or two, between words and escapes; bits behind the last escape; an escape too many or too few.
    assert_corrupt(&with(&[&words[..], &[0]].concat(), &escapes), "words end");
    assert_corrupt(&with(&[&words[..], &[0, 0]].concat(), &escapes), "words end");
    let unused = 8 - escapes.0.len() as u32 % 8;
    assert!(unused < 8 && values(&with(&words, &escapes.clone().put(0, unused))).len() == 4);
    assert_corrupt(&with(&words, &escapes.clone().put(1, 1)), "left over");
    assert_corrupt(&with(&words, &escapes.clone().escape(9)), "");
    assert_corrupt(&with(&words, &Bits(escapes.0[..escapes.0.len() - 8].to_vec())), "");
    // A state that is too low at the start, or not what it has to be at the end.
    for state in [0, 0xffff] {
        assert_corrupt(
            &stream(TRELLIS, 1, &[&HEAD[..], &u32::to_le_bytes(state)].concat()),
            "rANS",
        );
    }
    let other = rans(&[(0, 112), (0, 112)], &narrow());
    assert_corrupt(&stream(TRELLIS, 1, &[&HEAD[..], &other].concat()), "rANS");
    // Nothing but a scale is zeros.
    assert_eq!(values(&stream(TRELLIS, 9, &[0; 4])), [0.0; 9]);
    assert_corrupt(&stream(TRELLIS, 9, &[0; 5]), "trellis");
}

#[test]
fn coefficients_of_a_trellis_beyond_2_to_the_80_are_corrupt() {
    let (words, escapes) = trellis_parts(&[0, -(1 << 22)], |h| h != 0);
    let with = |scale: f32| {
        let head = [&scale.to_le_bytes()[..], &HEAD[4..]].concat();
        stream(TRELLIS, 2, &[head, words.clone(), escapes.bytes()].concat())
    };
    let scale = 2f32.powi(57);
    assert_eq!(values(&with(scale)), [0.0, -2f32.powi(80)]);
    assert_corrupt(&with(f32::from_bits(scale.to_bits() + 1)), "out of range");
}

#[test]
fn heads_of_a_trellis_out_of_range_are_corrupt() {
    let words = rans(&[(0, 112)], &narrow());
    let with = |scale: f32, width: u8, low: u8| {
        let plane = vec![0; usize::from(low > 0)];
        stream(TRELLIS, 1, &[&scale.to_le_bytes()[..], &[width, low], &plane, &words].concat())
    };
    let largest = 2f32.powi(77);
    assert_eq!(values(&with(largest, 0, 0)), [0.0]);
    for scale in [f32::NAN, -0.0, -1.0, f32::INFINITY, f32::from_bits(largest.to_bits() + 1)] {
        assert_corrupt(&with(scale, 0, 0), "scale");
    }
    assert_corrupt(&with(1.0, 128, 0), "width");
    assert_corrupt(&with(1.0, 0, 7), "low bits");
    assert_corrupt(&stream(TRELLIS, 1, &[0, 0, 0x80]), "");
    // 6 + 4 L + 4 K bytes are possible, and not one more.
    let (words, escapes) = trellis_parts(&[1 << 22], |_| true);
    let codes = [&HEAD[..], &words, &escapes.bytes()].concat();
    assert_eq!(
        (codes.len(), values(&stream(TRELLIS, 1, &codes))),
        (6 + 4 + 4, vec![(1 << 23) as f32])
    );
    assert_corrupt(&stream(TRELLIS, 1, &[&codes[..], &[0]].concat()), "");
}

// ---------------------------------------------------------------------------------------------
// Step

const STEP: u8 = 0x22;

/// The token of an integer and what that leaves open, in how many bits.
fn token(k: i64) -> (u8, u32, u32) {
    if k.abs() < 16 {
        return ((k + 15) as u8, 0, 0);
    }
    let m = k.unsigned_abs() as u32;
    let (o, open) = (m.ilog2(), m.ilog2() - 2);
    let token = 31 + 8 * (o - 4) + 2 * (m >> open & 3) + u32::from(k < 0);
    (token as u8, m & ((1 << open) - 1), open)
}

/// A table of tokens that are equally frequent, ascending, as bits and as it is.
fn even(bits: Bits, tokens: &[u8]) -> (Bits, Table) {
    let (first, last) = (tokens[0], tokens[tokens.len() - 1]);
    let mut bits = bits.put(first.into(), 8).put(last.into(), 8);
    let mut before = 0i32;
    for token in first..=last {
        let weight = if tokens.contains(&token) { 48 } else { 0 };
        let d = weight - before;
        bits = bits.gamma(1 + if d < 0 { -2 * d - 1 } else { 2 * d } as u32);
        before = weight;
    }
    let n = tokens.len() as u32;
    let mut table: Table = tokens.iter().map(|t| (*t, 4096 / n)).collect();
    table[0].1 += 4096 % n;
    if n == 1 {
        table = vec![(first, 4095), (255, 1)];
    }
    (bits, table)
}

fn step_head(size: f32, classes: u8) -> Vec<u8> {
    [&size.to_le_bytes()[..], &[0, 0, classes]].concat()
}

/// Integers by one table of their tokens.
fn steps(size: f32, k: &[i64]) -> Vec<u8> {
    let mut tokens: Vec<_> = k.iter().map(|k| token(*k).0).collect();
    let coded: Vec<_> = tokens.iter().map(|t| (0, *t)).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let (mut bits, table) = even(Bits::default(), &tokens);
    for k in k {
        let (_, rest, open) = token(*k);
        bits = bits.put(rest, open);
    }
    let codes = [step_head(size, 1), rans(&coded, &[table]), bits.bytes()].concat();
    stream(STEP, k.len() as u64, &codes)
}

#[test]
fn integers_of_a_step_are_those_of_the_format() {
    let most = (1 << 22) - 1;
    let k = [0, 1, -1, 15, -15, 16, -16, 17, 1000, -1023, 1 << 21, most, -most];
    assert_eq!(values(&steps(0.5, &k)), k.map(|k| k as f32 * 0.5));
    assert_eq!(values(&steps(0.5, &[7; 300])), [3.5; 300]);
}

#[test]
fn coefficients_of_a_step_beyond_2_to_the_80_are_corrupt() {
    let (most, size) = ((1i64 << 22) - 1, 2f32.powi(58));
    assert_eq!(values(&steps(size, &[most])), [most as f32 * size]);
    assert_corrupt(&steps(f32::from_bits(size.to_bits() + 1), &[most]), "out of range");
    let largest = 2f32.powi(77);
    assert_eq!(values(&steps(largest, &[7, -7])), [7.0 * largest, -7.0 * largest]);
    assert_corrupt(&steps(largest, &[-8]), "out of range");
    for size in [f32::NAN, -0.0, -1.0, f32::INFINITY, f32::from_bits(largest.to_bits() + 1)] {
        assert_corrupt(&steps(size, &[1]), "step");
    }
    assert_eq!(values(&stream(STEP, 5, &[0; 4])), [0.0; 5]);
    assert_corrupt(&stream(STEP, 5, &[0; 5]), "step");
    assert_corrupt(&stream(STEP, 5, &step_head(1.0, 1)[..6]), "");
}

#[test]
fn classes_are_one_to_twelve_and_blocks_have_one_of_them() {
    let with = |classes: u8, of: [u32; 2]| {
        let (mut bits, mut tables) = (Bits::default(), Vec::new());
        for class in 0..classes {
            let table;
            (bits, table) = even(bits, &[class, class + 1]);
            tables.push(table);
        }
        let width = u8::BITS - classes.saturating_sub(1).leading_zeros();
        bits = of.into_iter().fold(bits, |bits, class| bits.put(class, width));
        let class = |i: usize| of[i / 256].min(u32::from(classes.max(1)) - 1) as usize;
        let coded: Vec<_> = (0..300).map(|i| (class(i), class(i) as u8 + i as u8 % 2)).collect();
        if classes == 0 {
            tables.push(even(Bits::default(), &[0, 1]).1);
        }
        stream(STEP, 300, &[step_head(1.0, classes), rans(&coded, &tables), bits.bytes()].concat())
    };
    let expected = |of: [i32; 2]| {
        (0..300).map(|i| (of[i / 256] + i as i32 % 2 - 15) as f32).collect::<Vec<_>>()
    };
    assert_eq!(values(&with(1, [0, 0])), expected([0, 0]));
    assert_eq!(values(&with(3, [2, 0])), expected([2, 0]));
    assert_eq!(values(&with(12, [11, 5])), expected([11, 5]));
    assert_corrupt(&with(3, [3, 0]), "class");
    assert_corrupt(&with(12, [0, 15]), "class");
    // None at all says that neighbours follow.
    assert_corrupt(&with(0, [0, 0]), "neighbours");
    assert_corrupt(&with(13, [0, 0]), "classes");
}

#[test]
fn tables_that_contradict_themselves_are_corrupt() {
    // One integer 0, whose token is 15; of a table of it alone.
    let words = rans(&[(0, 15)], &[vec![(15, 4095), (255, 1)]]);
    let with =
        |bits: Bits| stream(STEP, 1, &[step_head(1.0, 1), words.clone(), bits.bytes()].concat());
    let ends = |first, last| Bits::default().put(first, 8).put(last, 8);
    for weight in [1, 48] {
        assert_eq!(values(&with(ends(15, 15).gamma(1 + 2 * weight))), [0.0]);
    }
    assert_corrupt(&with(ends(15, 15).gamma(1)), "table");
    assert_corrupt(&with(ends(15, 15).gamma(1 + 2 * 49)), "table");
    assert_corrupt(&with(ends(15, 15).gamma(2)), "table");
    assert_corrupt(&with(ends(15, 15).put(0, 16).put(1, 17)), "table");
    assert_corrupt(&with(ends(15, 15).put(0, 15).put(0xffff, 16)), "table");
    assert_corrupt(&with(ends(16, 15).gamma(3)), "table");
    assert_corrupt(&with(ends(15, 175).gamma(3)), "table");
    assert_corrupt(&with(ends(15, 16).gamma(3).gamma(2)), "table");
    assert_corrupt(&with(ends(15, 15)), "table");
    // The token 255 of a table of one may not occur.
    let (bits, table) = even(Bits::default(), &[15]);
    let codes = [step_head(1.0, 1), rans(&[(0, 255)], &[table]), bits.bytes()].concat();
    assert_corrupt(&stream(STEP, 1, &codes), "rANS");
}

// ---------------------------------------------------------------------------------------------
// Whatever a sender makes of them

/// Payload bytes that change; the records are right again. Some of 64 lanes, escapes and rests.
#[test]
fn codes_with_random_changes_and_right_checksums_decode_alike_or_are_corrupt() {
    let mut rng = Rng(17);
    let mut tailed = gaussian(3000, 5);
    tailed.iter_mut().step_by(37).for_each(|v| *v *= 300.0);
    let long = gaussian((1 << 16) + 100, 6);
    let texts =
        ["trellis=0.5", "trellis=3", "trellis=8,biased", "step=0.3", "step=3", "step=6,biased"];
    let mut n_decoded = 0;
    for (values, rounds) in [(&tailed[..], 300), (&tailed[..20], 300), (&long, 12)] {
        for text in texts {
            let bytes = encode_f32(values, &spec(&format!("identity|{text}")), &options());
            let place = records(&bytes).into_iter().find(|r| r.0 == CHUNK).unwrap().1;
            for _ in 0..rounds {
                let changed = rewrite(&bytes, &place, |_, body| {
                    // Half of the changes at the ends: heads, states, tables and escapes.
                    let near = rng.below(2) == 0;
                    for _ in 0..1 + rng.below(2) {
                        let at = rng.below(if near { body.len().min(24) } else { body.len() });
                        let at = if rng.below(2) == 0 { at } else { body.len() - 1 - at };
                        match rng.below(8) {
                            0 => body.insert(at, rng.next() as u8),
                            1 => drop(body.remove(at)),
                            2 => body.truncate(at.max(1)),
                            3 => body[at] = rng.next() as u8,
                            _ => body[at] ^= 1 << rng.below(8),
                        }
                    }
                });
                match decoded(&changed) {
                    Ok(tensors) => {
                        n_decoded += 1;
                        let tensor = &tensors[0];
                        assert_eq!(fedpress::first_non_finite(tensor.dtype, &tensor.data), None);
                    }
                    Err(error) => assert_eq!(*error.kind(), fedpress::ErrorKind::Corrupt),
                }
            }
        }
    }
    assert!(n_decoded > 0, "nothing that was changed decodes");
}
