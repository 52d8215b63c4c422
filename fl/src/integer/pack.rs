//! Codes of b bits, densely packed: the first in the lowest bits of the first byte, as the codes of a stream
//! are (FORMAT.md).

use super::IntegerSpec;
use crate::{Error, Result};

impl IntegerSpec {
    /// The bytes of codes, b bits each, the first in the lowest bits of the first byte.
    pub fn pack(&self, codes: &[u32]) -> Vec<u8> {
        pack(codes, self.bits)
    }

    /// `n` codes from exactly their bytes.
    ///
    /// # Errors
    /// `Corrupt` where there are more or fewer bytes, or bits behind the last code are set; `InvalidArgument` where
    /// the spec [contradicts itself](IntegerSpec::check).
    pub fn unpack(&self, bytes: &[u8], n: usize) -> Result<Vec<u32>> {
        self.check()?;
        unpack(bytes, n, self.bits)
    }
}

/// Bytes of `n` codes.
pub(crate) fn packed_len(n: usize, bits: u8) -> usize {
    ((n as u128 * u128::from(bits)).div_ceil(8)).try_into().unwrap_or(usize::MAX)
}

/// The codes, each below 2^bits; what is left of the last byte is zero.
fn pack(codes: &[u32], bits: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(packed_len(codes.len(), bits));
    let (mut word, mut filled) = (0u64, 0);
    for code in codes {
        word |= u64::from(*code) << filled;
        filled += u32::from(bits);
        while filled >= 8 {
            out.push(word as u8);
            word >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(word as u8);
    }
    out
}

/// The first `n` codes back.
///
/// # Errors
/// `Corrupt` where there are more or fewer bytes, or bits behind the last code are set.
fn unpack(bytes: &[u8], n: usize, bits: u8) -> Result<Vec<u32>> {
    let expected = packed_len(n, bits);
    if bytes.len() != expected {
        let found = bytes.len();
        return Err(Error::corrupt(format!("codes: expected {expected} bytes, found {found}")));
    }
    let mut codes = Vec::with_capacity(n);
    let (mut word, mut filled) = (0u64, 0);
    let mask = u64::MAX >> (64 - u32::from(bits));
    let mut bytes = bytes.iter();
    while codes.len() < n {
        while filled < u32::from(bits) {
            // There are as many bytes as codes need.
            word |= u64::from(bytes.next().copied().unwrap_or(0)) << filled;
            filled += 8;
        }
        codes.push((word & mask) as u32);
        word >>= bits;
        filled -= u32::from(bits);
    }
    match word {
        0 => Ok(codes),
        _ => Err(Error::corrupt("codes: bits behind the last one are set")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_from_exactly_their_bytes() {
        for bits in 1..=32u8 {
            for n in [0, 1, 7, 8, 100] {
                let code = |i| (fedpress::derive_key(&[i]) >> (64 - bits)) as u32;
                let codes: Vec<u32> = (0..n).map(code).collect();
                let packed = pack(&codes, bits);
                let n = n as usize;
                assert_eq!(packed.len(), packed_len(n, bits));
                assert_eq!(unpack(&packed, n, bits).unwrap(), codes);
                assert!(unpack(&packed, n + 8, bits).is_err());
                let mut longer = packed.clone();
                longer.push(0);
                assert!(unpack(&longer, n, bits).is_err());
                if !(n * usize::from(bits)).is_multiple_of(8) {
                    let mut spare = packed;
                    *spare.last_mut().unwrap() |= 0x80;
                    assert!(unpack(&spare, n, bits).is_err());
                }
            }
        }
    }

    #[test]
    fn the_first_code_is_in_the_lowest_bits() {
        assert_eq!(pack(&[0b101, 0b011, 0b110], 3), [0b1001_1101, 0b1]);
        assert_eq!(pack(&[0x123, 0xabc], 12), [0x23, 0xc1, 0xab]);
    }
}
