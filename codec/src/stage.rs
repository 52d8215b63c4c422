//! What every stage of the pipeline has: a name and options in a spec, a number and parameters on
//! the wire.

use crate::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A stage as text and as bytes. A new stage is one file that implements this, one number in
/// FORMAT.md, and one line in the `mod.rs` of its folder.
pub(crate) trait Stage: Sized {
    /// Number on the wire.
    const ID: u8;
    /// Name in a spec.
    const NAME: &'static str;
    /// From the options of a spec.
    fn parse(options: &mut Options<'_>) -> Result<Self>;
    /// The canonical text: name, value and the options that differ from their defaults.
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// Parameters on the wire: a number of bytes fixed for the stage.
    fn write_to(&self, out: &mut Vec<u8>);
    /// The parameters back; values that the format reserves are corrupt.
    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self>;
}

/// One stage of a spec: `name[=value][,key[=value]]...`.
pub(crate) struct Options<'a> {
    pub(crate) name: &'a str,
    value: Option<&'a str>,
    rest: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Options<'a> {
    pub(crate) fn split(text: &'a str) -> Self {
        let mut items = text.split(',').map(|item| match item.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (item.trim(), None),
        });
        let (name, value) = items.next().unwrap_or(("", None));
        Self { name, value, rest: items.collect() }
    }

    /// The value behind the name, `q` in `q=4`.
    pub(crate) fn value<T: FromStr>(&mut self) -> Result<Option<T>> {
        self.value.take().map(|text| parse_number(self.name, text)).transpose()
    }

    /// The value of an option, `block` in `hadamard,block=1024`.
    pub(crate) fn option<T: FromStr>(&mut self, key: &str) -> Result<Option<T>> {
        match self.take(key) {
            None => Ok(None),
            Some(Some(text)) => parse_number(key, text).map(Some),
            Some(None) => {
                Err(Error::invalid(format!("option {key:?} of {:?} needs a value", self.name)))
            }
        }
    }

    /// Whether a bare word is there, `nearest` in `q=4,nearest`.
    pub(crate) fn flag(&mut self, key: &str) -> Result<bool> {
        match self.take(key) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(_)) => {
                Err(Error::invalid(format!("option {key:?} of {:?} takes no value", self.name)))
            }
        }
    }

    fn take(&mut self, key: &str) -> Option<Option<&'a str>> {
        let at = self.rest.iter().position(|(k, _)| *k == key)?;
        Some(self.rest.remove(at).1)
    }

    /// Nothing may be left over; `known` is what the stage takes.
    pub(crate) fn end(&self, known: &str) -> Result<()> {
        if let Some(value) = self.value {
            return Err(Error::invalid(format!(
                "stage {:?} takes no value, found {value:?}",
                self.name
            )));
        }
        match self.rest.first() {
            None => Ok(()),
            Some((key, _)) => Err(Error::invalid(format!(
                "stage {:?} has no option {key:?} (or it stands twice); it takes: {known}",
                self.name
            ))),
        }
    }
}

fn parse_number<T: FromStr>(key: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid(format!("{key}: {text:?} is not a valid number")))
}

/// The base-2 logarithm of a block size given in values.
pub(crate) fn block_log2(block: u64, range: std::ops::RangeInclusive<u8>) -> Result<u8> {
    let log2 = block.checked_ilog2().map_or(0, |l| l as u8);
    if block.is_power_of_two() && range.contains(&log2) {
        return Ok(log2);
    }
    Err(Error::invalid(format!(
        "block: expected a power of two from {} to {}, found {block}",
        1u64 << range.start(),
        1u64 << range.end()
    )))
}

/// The same, as a byte on the wire.
pub(crate) fn read_block_log2(
    cursor: &mut Cursor<'_>,
    range: std::ops::RangeInclusive<u8>,
    what: &str,
) -> Result<u8> {
    let log2 = cursor.u8(what)?;
    if range.contains(&log2) {
        return Ok(log2);
    }
    Err(Error::corrupt(format!("{what}: expected {range:?}, found {log2}")))
}
