//! The lossless stages at the end of a pipeline. Numbers 0x30..=0x3f on the wire.

mod zstandard;

pub(crate) use zstandard::Zstandard;

use crate::stage::{Entry, Options};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;

/// Byte shuffle, then zstd; either may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lossless {
    pub(crate) shuffle: bool,
    /// The level that was asked for; decoding does not need it.
    pub(crate) zstd: Option<i8>,
}

const SHUFFLE_ID: u8 = 0x30;
const ZSTD_ID: u8 = 0x31;
const LEVELS: std::ops::RangeInclusive<i8> = -7..=22;
const DEFAULT_LEVEL: i8 = 1;

impl Lossless {
    /// Its stages.
    pub(crate) const STAGES: &[Entry] = &[
        Entry { name: "shuffle", id: SHUFFLE_ID, examples: &["shuffle"] },
        Entry { name: "zstd", id: ZSTD_ID, examples: &["zstd", "zstd=-3", "zstd=19"] },
    ];

    pub(crate) fn level(level: i8) -> Result<i8> {
        if LEVELS.contains(&level) {
            return Ok(level);
        }
        Err(Error::invalid(format!("zstd: expected a level from -7 to 22, found {level}")))
    }

    /// Parses the stage if it is one of these; returns its place in a spec.
    pub(crate) fn parse(&mut self, options: &mut Options<'_>) -> Result<Option<u8>> {
        match options.name {
            "lossless" => {
                *self = Self { shuffle: true, zstd: Some(DEFAULT_LEVEL) };
                options.end("nothing")?;
                Ok(Some(5))
            }
            "shuffle" => {
                self.shuffle = true;
                options.end("nothing")?;
                Ok(Some(4))
            }
            "zstd" => {
                let level = options.value()?.unwrap_or(DEFAULT_LEVEL);
                self.zstd = Some(Self::level(level)?);
                options.end("nothing")?;
                Ok(Some(5))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn print(&self, mut bar: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shuffle {
            write!(f, "{bar}shuffle")?;
            bar = "|";
        }
        match self.zstd {
            Some(DEFAULT_LEVEL) => write!(f, "{bar}zstd"),
            Some(level) => write!(f, "{bar}zstd={level}"),
            None => Ok(()),
        }
    }

    /// Number, length, parameters of each.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) -> u8 {
        if self.shuffle {
            out.extend([SHUFFLE_ID, 0]);
        }
        if let Some(level) = self.zstd {
            out.extend([ZSTD_ID, 1, level as u8]);
        }
        u8::from(self.shuffle) + u8::from(self.zstd.is_some())
    }

    /// Reads the stage if the number is one of these.
    pub(crate) fn read_from(&mut self, id: u8, parameters: &[u8]) -> Result<bool> {
        let mut cursor = Cursor::new(parameters);
        match id {
            SHUFFLE_ID => self.shuffle = true,
            ZSTD_ID => {
                let level = cursor.u8("zstd level")? as i8;
                self.zstd =
                    Some(Self::level(level).map_err(|_| {
                        Error::corrupt(format!("zstd level: {level} is out of range"))
                    })?);
            }
            _ => return Ok(false),
        }
        cursor.end("a lossless stage")?;
        Ok(true)
    }
}
