//! What every stage of the pipeline has: a name and options in a spec, a number and parameters on
//! the wire.

use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A stage as text and as bytes. A new one is a file that implements this and the trait of its slot
/// ([`crate::basis::Transform`], [`crate::code::Coder`]), its line in the registry of the slot, and
/// its number in FORMAT.md.
pub(crate) trait Stage: Clone + PartialEq + fmt::Debug + Sized {
    /// Number on the wire; 0 is what a slot holds where the pipeline names nothing for it.
    const ID: u8;
    /// Name in a spec.
    const NAME: &'static str;
    /// Specs of this stage alone that laws, fuzz targets and seeds try: one with its defaults, and
    /// one for each option.
    const EXAMPLES: &'static [&'static str];
    /// From the options of a spec.
    fn parse(options: &mut Options<'_>) -> Result<Self>;
    /// The canonical text: name, value and the options that differ from their defaults.
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// Parameters on the wire.
    fn write_to(&self, out: &mut Vec<u8>);
    /// The parameters back; values that the format reserves are corrupt.
    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self>;
    /// Whether what is decoded differs from the original in expectation.
    fn is_biased(&self) -> bool {
        false
    }
    /// Whether decoding draws from the shared seed.
    fn is_seeded(&self) -> bool {
        false
    }
}

/// Appends a stage: number, length, parameters. Returns how many stages that were.
pub(crate) fn put<S: Stage>(stage: &S, out: &mut Vec<u8>) -> u8 {
    if S::ID == 0 {
        return 0;
    }
    out.extend([S::ID, 0]);
    let at = out.len();
    stage.write_to(out);
    out[at - 1] = (out.len() - at) as u8;
    1
}

/// The parameters of a stage, all of them.
pub(crate) fn get<S: Stage>(parameters: &[u8]) -> Result<S> {
    let mut cursor = Cursor::new(parameters);
    let stage = S::read_from(&mut cursor)?;
    cursor.end(S::NAME)?;
    Ok(stage)
}

/// What a slot of the pipeline may hold: an enum with a variant for each stage, the default first,
/// and a macro that runs an expression with the stage in it, whichever it is.
macro_rules! registry {
    ($(#[$doc:meta])* $place:ident::$Slot:ident by $with:ident { $Default:ident $(, $Stage:ident)* $(,)? } $d:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) enum $Slot {
            $Default($Default)
            $(, $Stage($Stage))*
        }

        macro_rules! $with {
            ($d slot:expr, $d stage:ident => $d body:expr) => {
                match $d slot {
                    crate::$place::$Slot::$Default($d stage) => $d body
                    $(, crate::$place::$Slot::$Stage($d stage) => $d body)*
                }
            };
        }
        pub(crate) use $with;

        impl Default for $Slot {
            fn default() -> Self {
                Self::$Default($Default::default())
            }
        }

        impl $Slot {
            /// Its stages: name, number, examples.
            pub(crate) const STAGES: &[crate::stage::Entry] = &[
                crate::stage::Entry::of::<$Default>()
                $(, crate::stage::Entry::of::<$Stage>())*
            ];

            /// The stage of that name, or `None` where none of this slot has it.
            pub(crate) fn parse(options: &mut crate::stage::Options<'_>) -> crate::Result<Option<Self>> {
                Ok(match options.name {
                    <$Default as crate::stage::Stage>::NAME => Some(Self::$Default(<$Default as crate::stage::Stage>::parse(options)?)),
                    $(<$Stage as crate::stage::Stage>::NAME => Some(Self::$Stage(<$Stage as crate::stage::Stage>::parse(options)?)),)*
                    _ => None,
                })
            }

            /// The stage of that number, or `None` where none of this slot has it.
            pub(crate) fn read_from(id: u8, parameters: &[u8]) -> crate::Result<Option<Self>> {
                Ok(match id {
                    $(<$Stage as crate::stage::Stage>::ID => Some(Self::$Stage(crate::stage::get(parameters)?)),)*
                    _ => None,
                })
            }

            pub(crate) fn write_to(&self, out: &mut Vec<u8>) -> u8 {
                $with!(self, stage => crate::stage::put(stage, out))
            }

            pub(crate) fn print(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $with!(self, stage => crate::stage::Stage::print(stage, f))
            }

            pub(crate) fn is_biased(&self) -> bool {
                $with!(self, stage => crate::stage::Stage::is_biased(stage))
            }

            pub(crate) fn is_seeded(&self) -> bool {
                $with!(self, stage => crate::stage::Stage::is_seeded(stage))
            }
        }
    };
}
pub(crate) use registry;

/// A stage in the list of all ([`crate::stages`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Name in a spec.
    pub name: &'static str,
    /// Number on the wire; 0 for what a pipeline has where it names nothing.
    pub id: u8,
    /// Specs of this stage alone that exercise every option of it.
    pub examples: &'static [&'static str],
}

impl Entry {
    pub(crate) const fn of<S: Stage>() -> Self {
        Self { name: S::NAME, id: S::ID, examples: S::EXAMPLES }
    }
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
