//! [`Choice`] as bytes, for headers of messages. Little endian, and every choice has one form:
//!
//! | field | bytes |
//! |---|---|
//! | rule | 1: 0 random, 1 ordered, 2 rolling, 3 explicit, 4 permuted |
//! | seed of random and permuted, offset of rolling | 8 |
//! | position of permuted | 8 |
//! | of explicit: number of masks | 4 |
//! | then for each: units | 4 |
//! | and one bit per unit, lowest first, spare bits 0 | ceil(units / 8) |
//! | default fraction | 8, f64 |
//! | number of fractions by group | 4 |
//! | then for each, names ascending: length, UTF-8, fraction | 2, length, 8 |

use super::choice::is_fraction;
use super::{Choice, Keep, Rule};
use crate::bytes::Fields;
use crate::{Error, Result};
use bitvec::field::BitField;
use bitvec::vec::BitVec;
use std::collections::BTreeMap;

const RANDOM: u8 = 0;
const ORDERED: u8 = 1;
const ROLLING: u8 = 2;
const EXPLICIT: u8 = 3;
const PERMUTED: u8 = 4;

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
            Rule::Permuted { seed, position } => {
                out.push(PERMUTED);
                out.extend(seed.to_le_bytes());
                out.extend(position.to_le_bytes());
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
        let mut fields = Fields(bytes);
        let rule = read_rule(&mut fields)?;
        let keep = read_keep(&mut fields)?;
        *bytes = fields.0;
        Ok(Self { rule, keep })
    }
}

fn write_mask(mask: &BitVec, out: &mut Vec<u8>) {
    out.extend((mask.len() as u32).to_le_bytes());
    out.extend(mask.chunks(8).map(|chunk| chunk.load_le::<u8>()));
}

// Every number of things is used only after as many bytes were there.

fn read_rule(fields: &mut Fields<'_>) -> Result<Rule> {
    match fields.u8("choice, rule")? {
        RANDOM => Ok(Rule::Random { seed: fields.u64("choice, seed")? }),
        ORDERED => Ok(Rule::Ordered),
        ROLLING => Ok(Rule::Rolling { offset: fields.u64("choice, offset")? }),
        EXPLICIT => {
            let n_masks = fields.u32("choice, number of masks")?;
            (0..n_masks).map(|_| read_mask(fields)).collect::<Result<_>>().map(Rule::Explicit)
        }
        PERMUTED => Ok(Rule::Permuted {
            seed: fields.u64("choice, seed")?,
            position: fields.u64("choice, position")?,
        }),
        other => Err(Error::unsupported("choice", format!("rule {other}"), "rules 0 to 4")),
    }
}

fn read_mask(fields: &mut Fields<'_>) -> Result<BitVec> {
    let units = fields.u32("choice, units of a mask")? as usize;
    let bytes = fields.bytes(units.div_ceil(8), "choice, mask")?;
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

fn read_fraction(fields: &mut Fields<'_>, what: &str) -> Result<f64> {
    let fraction = f64::from_le_bytes(fields.array(what)?);
    if is_fraction(fraction) {
        return Ok(fraction);
    }
    Err(Error::corrupt(format!(
        "{what}: expected a fraction above 0 and up to 1, found {fraction}"
    )))
}

fn read_keep(fields: &mut Fields<'_>) -> Result<Keep> {
    let default = read_fraction(fields, "choice, default fraction")?;
    let n_groups = fields.u32("choice, number of fractions")?;
    let mut groups = BTreeMap::new();
    for _ in 0..n_groups {
        let length = u16::from_le_bytes(fields.array("choice, length of a name")?);
        let name = str::from_utf8(fields.bytes(length.into(), "choice, name")?)
            .map_err(|e| Error::corrupt(format!("choice, name: not UTF-8: {e}")))?;
        if groups.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name) {
            let problem = format!("choice, name {name:?}: expected names in ascending order");
            return Err(Error::corrupt(problem));
        }
        groups.insert(name.to_owned(), read_fraction(fields, "choice, fraction of a group")?);
    }
    Ok(Keep { default, groups })
}
