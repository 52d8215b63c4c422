//! [`Choice`] as bytes, for headers of messages. Little endian, and every choice has one form:
//!
//! | field | bytes |
//! |---|---|
//! | rule | 1: 0 random, 1 ordered, 2 rolling, 3 explicit |
//! | seed of random, offset of rolling | 8 |
//! | of explicit: number of masks | 4 |
//! | then for each: units | 4 |
//! | and one bit per unit, lowest first, spare bits 0 | ceil(units / 8) |
//! | default fraction | 8, f64 |
//! | number of fractions by group | 4 |
//! | then for each, names ascending: length, UTF-8, fraction | 2, length, 8 |

use super::choice::is_fraction;
use super::{Choice, Keep, Rule};
use crate::{Error, Result};
use bitvec::field::BitField;
use bitvec::vec::BitVec;
use fedpress::ErrorKind;
use std::collections::BTreeMap;

const RANDOM: u8 = 0;
const ORDERED: u8 = 1;
const ROLLING: u8 = 2;
const EXPLICIT: u8 = 3;

impl Choice {
    /// Appends the bytes of this choice. One that selects from some layout reads back as it is;
    /// another (a fraction above 1, a name beyond 65,535 bytes) is refused by the reader.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match &self.rule {
            Rule::Random { seed } => {
                out.push(RANDOM);
                out.extend(seed.to_le_bytes());
            }
            Rule::Ordered => out.push(ORDERED),
            Rule::Rolling { offset } => {
                out.push(ROLLING);
                out.extend(offset.to_le_bytes());
            }
            Rule::Explicit(masks) => {
                out.push(EXPLICIT);
                out.extend((masks.len() as u32).to_le_bytes());
                masks.iter().for_each(|mask| write_mask(mask, out));
            }
        }
        out.extend(self.keep.default.to_le_bytes());
        out.extend((self.keep.groups.len() as u32).to_le_bytes());
        for (name, fraction) in &self.keep.groups {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            out.extend(fraction.to_le_bytes());
        }
    }

    /// Reads a choice from the front of `bytes`, which is left behind it; after an error it is
    /// where it was.
    ///
    /// # Errors
    /// `Unsupported` for a rule this version does not know; `Corrupt` for bytes that end too soon,
    /// a mask that keeps nothing or has spare bits set, what is not a fraction, names that are not
    /// UTF-8 or not ascending.
    pub fn read_from(bytes: &mut &[u8]) -> Result<Self> {
        let mut cursor = Cursor(bytes);
        let rule = cursor.rule()?;
        let keep = cursor.keep()?;
        *bytes = cursor.0;
        Ok(Self { rule, keep })
    }
}

fn write_mask(mask: &BitVec, out: &mut Vec<u8>) {
    out.extend((mask.len() as u32).to_le_bytes());
    out.extend(mask.chunks(8).map(|chunk| chunk.load_le::<u8>()));
}

/// What has not been read. Every number of things is used only after as many bytes were there.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.0.split_at_checked(n) else {
            let found = self.0.len();
            let problem = format!("choice, {what}: expected {n} more bytes, found {found}");
            return Err(Error::corrupt(problem));
        };
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    fn rule(&mut self) -> Result<Rule> {
        match self.array("rule")? {
            [RANDOM] => Ok(Rule::Random { seed: u64::from_le_bytes(self.array("seed")?) }),
            [ORDERED] => Ok(Rule::Ordered),
            [ROLLING] => Ok(Rule::Rolling { offset: u64::from_le_bytes(self.array("offset")?) }),
            [EXPLICIT] => {
                let n_masks = u32::from_le_bytes(self.array("number of masks")?);
                (0..n_masks).map(|_| self.mask()).collect::<Result<_>>().map(Rule::Explicit)
            }
            [other] => {
                let (found, supported) = (format!("rule {other}"), "rules 0 to 3".to_owned());
                let message = format!("choice: found {found}, this version knows {supported}");
                Err(Error::new(ErrorKind::Unsupported { found, supported }, message))
            }
        }
    }

    fn mask(&mut self) -> Result<BitVec> {
        let units = u32::from_le_bytes(self.array("units of a mask")?) as usize;
        let bytes = self.take(units.div_ceil(8), "mask")?;
        let mut mask: BitVec = BitVec::with_capacity(bytes.len() * 8);
        for byte in bytes {
            mask.extend((0..8).map(|bit| byte >> bit & 1 == 1));
        }
        if mask[units..].any() {
            return Err(Error::corrupt("choice, mask: spare bits are set"));
        }
        mask.truncate(units);
        if mask.not_any() {
            return Err(Error::corrupt("choice, mask: keeps no unit"));
        }
        Ok(mask)
    }

    fn fraction(&mut self, what: &str) -> Result<f64> {
        let fraction = f64::from_le_bytes(self.array(what)?);
        if is_fraction(fraction) {
            return Ok(fraction);
        }
        Err(Error::corrupt(format!(
            "choice, {what}: expected a fraction above 0 and up to 1, found {fraction}"
        )))
    }

    fn keep(&mut self) -> Result<Keep> {
        let default = self.fraction("default fraction")?;
        let n_groups = u32::from_le_bytes(self.array("number of fractions")?);
        let mut groups = BTreeMap::new();
        for _ in 0..n_groups {
            let length = u16::from_le_bytes(self.array("length of a name")?);
            let name = str::from_utf8(self.take(length.into(), "name")?)
                .map_err(|e| Error::corrupt(format!("choice, name: not UTF-8: {e}")))?;
            if groups.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name)
            {
                let problem = format!("choice, name {name:?}: expected names in ascending order");
                return Err(Error::corrupt(problem));
            }
            groups.insert(name.to_owned(), self.fraction("fraction of a group")?);
        }
        Ok(Keep { default, groups })
    }
}
