//! Slices as arrays of a fixed length and a rest.

use bytemuck::Pod;

/// As many whole arrays as there are, and what is left over.
#[inline(always)]
pub(crate) fn split<T: Pod, const N: usize>(x: &[T]) -> (&[[T; N]], &[T]) {
    let (whole, rest) = x.split_at(x.len() / N * N);
    (bytemuck::cast_slice(whole), rest)
}

/// The same, mutable.
#[inline(always)]
pub(crate) fn split_mut<T: Pod, const N: usize>(x: &mut [T]) -> (&mut [[T; N]], &mut [T]) {
    let (whole, rest) = x.split_at_mut(x.len() / N * N);
    (bytemuck::cast_slice_mut(whole), rest)
}
