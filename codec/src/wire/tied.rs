//! The record of a tensor that has the values of another (FORMAT.md, section 4.2).

use super::bytes::{Cursor, put_varint};
use super::{TensorDesc, TensorMeta};
use crate::random::name_key;
use crate::{Error, Result};

/// What it is called and looks like, and whose values it has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tied {
    pub(crate) desc: TensorDesc,
    /// Where the record of that tensor starts, from the first byte of the preamble.
    pub(crate) original: u64,
}

impl Tied {
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        self.desc.write_to(0, out);
        put_varint(out, self.original);
    }

    pub(crate) fn read_from(body: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(body);
        let (desc, flags) = TensorDesc::read_from(&mut cursor)?;
        if flags != 0 || desc.open {
            let message = "a tied tensor with flags, or open";
            return Err(Error::corrupt(message).in_tensor(&desc.name));
        }
        let original = cursor.varint("place of the original")?;
        cursor.end("tied tensor record")?;
        Ok(Self { desc, original })
    }

    /// The header that the chunks of the original have under this name.
    pub(crate) fn meta(&self, original: &TensorMeta) -> Result<TensorMeta> {
        let desc = self.desc.clone();
        let n = desc.n_values()?;
        if desc.dtype != original.dtype() || n != original.n_values() || n.is_none_or(|n| n == 0) {
            return Err(Error::corrupt(format!(
                "tied to {} values of {}, as {n:?} of {}",
                original.n_values().unwrap_or(0),
                original.dtype(),
                desc.dtype
            )));
        }
        Ok(TensorMeta {
            name_hash: name_key(&desc.name),
            // What the original rotates by, whatever it is called here.
            explicit_key: Some(original.key()),
            desc,
            kept: false,
            tied_to: Some(original.name().to_owned()),
            ..original.clone()
        })
    }
}
