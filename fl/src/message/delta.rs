//! [`Delta`]: a broadcast of what changed since a version that its receiver holds.

use super::header::{read_broadcast, write_broadcast};
use super::{Broadcast, Digest};
use crate::bytes::Fields;
use crate::{Error, Parameter, Result};

/// What a delta says beside its tensors, which are multiples of a quantum: what leads from what the receiver
/// holds to the version of the round.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// As of any broadcast.
    pub broadcast: Broadcast,
    /// The last version, as the round it was sent in, that the server knows the receiver to hold; none: it
    /// holds nothing, and all values are 0.
    pub base: Option<u64>,
    /// Versions before this one are forgotten: what came with none after them is 0.
    pub oldest: u64,
    /// Of the values of the version, as f32, in the order of the tensors.
    pub result: Digest,
    /// For each tensor the exponent of the power of two it has multiples of, -149 to 127; none: the tensor has
    /// the values themselves.
    pub exponents: Vec<Option<i16>>,
}

/// In place of an exponent.
const WHOLE: i16 = i16::MAX;

impl Delta {
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        write_broadcast(&self.broadcast, out);
        out.push(u8::from(self.base.is_some()));
        for field in [self.base.unwrap_or(0), self.oldest] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.result.0);
        out.extend_from_slice(&(self.exponents.len() as u32).to_le_bytes());
        let exponents = self.exponents.iter().map(|exponent| exponent.unwrap_or(WHOLE));
        exponents.for_each(|exponent| out.extend_from_slice(&exponent.to_le_bytes()));
    }

    pub(super) fn read_from(
        fields: &mut Fields<'_>,
        run: u64,
        round: u64,
        client: Option<u64>,
    ) -> Result<Self> {
        let broadcast = read_broadcast(fields, run, round, client)?;
        let has_base = fields.flag("whether there is a base")?;
        let (base, oldest) = (fields.u64("base")?, fields.u64("oldest version")?);
        if !has_base && base != 0 {
            return Err(Error::corrupt(format!("base {base}, and there is none")));
        }
        if has_base && !(oldest..round).contains(&base) {
            let message =
                format!("base: expected {oldest} to the round before {round}, found {base}");
            return Err(Error::corrupt(message));
        }
        let result = Digest(fields.array("digest of the version")?);
        let exponents = (0..fields.u32("number of exponents")?).map(|_| {
            let exponent = i16::from_le_bytes(fields.array("exponent")?);
            match exponent {
                WHOLE => Ok(None),
                -149..=127 => Ok(Some(exponent)),
                _ => Err(Error::corrupt(format!("exponent {exponent}: expected -149 to 127"))),
            }
        });
        let exponents = exponents.collect::<Result<_>>()?;
        let base = has_base.then_some(base);
        Ok(Self { broadcast, base, oldest, result, exponents })
    }
}

impl Digest {
    /// Of the values of all parameters, one after the other, as little-endian f32.
    pub(crate) fn of_values(parameters: &[Parameter]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = Vec::new();
        for values in parameters.iter().flat_map(|p| p.values.chunks(1 << 14)) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&bytes);
        }
        Self(*hasher.finalize().as_bytes())
    }
}
