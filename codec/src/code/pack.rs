//! How many bytes densely packed codes take.

/// Bytes of `n` codes of `q` bits, the last byte filled with zero bits.
pub(crate) fn packed_len(n: usize, q: u32) -> usize {
    (n * q as usize).div_ceil(8)
}
