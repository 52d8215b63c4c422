//! Byte shuffle: all first bytes of elements, then all second bytes, and so on; and back.

use super::Operation;
use super::lanes::Lanes;
use crate::arrays;

/// Elements of four bytes that vectors transpose at a time.
pub(super) const QUADS: usize = 32;
/// Elements of other sizes that are transposed together: in arrays, whose lengths the compiler knows, and as
/// integers, whose shifts it makes for many at once.
const BLOCK: usize = 64;

/// From elements of `size` bytes to planes, as long together.
pub(super) struct Shuffle<'a> {
    pub elements: &'a [u8],
    pub size: usize,
    pub planes: &'a mut [u8],
}

impl Operation for Shuffle<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { elements, size, planes } = self;
        match size {
            2 => split(elements, planes, |e, p| (u16::from_le_bytes(e) >> (8 * p)) as u8),
            4 => split_quads(l, elements, planes),
            8 => split(elements, planes, |e, p| (u64::from_le_bytes(e) >> (8 * p)) as u8),
            _ => {
                let n = (elements.len() / size).max(1);
                for (plane, out) in planes.chunks_exact_mut(n).enumerate() {
                    for (out, element) in out.iter_mut().zip(elements.chunks_exact(size)) {
                        *out = element[plane];
                    }
                }
            }
        }
    }
}

/// The inverse.
pub(super) struct Unshuffle<'a> {
    pub planes: &'a [u8],
    pub size: usize,
    pub elements: &'a mut [u8],
}

impl Operation for Unshuffle<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { planes, size, elements } = self;
        match size {
            2 => join::<2>(planes, elements),
            4 => join_quads(l, planes, elements),
            8 => join::<8>(planes, elements),
            _ => {
                let n = (planes.len() / size).max(1);
                for (plane, bytes) in planes.chunks_exact(n).enumerate() {
                    for (byte, element) in bytes.iter().zip(elements.chunks_exact_mut(size)) {
                        element[plane] = *byte;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn split_quads<L: Lanes>(l: L, elements: &[u8], planes: &mut [u8]) {
    let elements = arrays::split::<_, 4>(elements).0;
    let n = elements.len();
    let (blocks, tail) = arrays::split::<_, QUADS>(elements);
    for (i, block) in blocks.iter().enumerate() {
        for (p, bytes) in l.split_quads(block).iter().enumerate() {
            planes[p * n + i * QUADS..][..QUADS].copy_from_slice(bytes);
        }
    }
    for (i, element) in tail.iter().enumerate() {
        for (p, byte) in element.iter().enumerate() {
            planes[p * n + blocks.len() * QUADS + i] = *byte;
        }
    }
}

#[inline(always)]
fn join_quads<L: Lanes>(l: L, planes: &[u8], elements: &mut [u8]) {
    let elements = arrays::split_mut::<_, 4>(elements).0;
    let n = elements.len();
    let rows: [&[u8]; 4] = std::array::from_fn(|p| &planes[p * n..][..n]);
    let blocks = rows.map(|row| arrays::split::<_, QUADS>(row).0);
    let (outs, tail) = arrays::split_mut::<_, QUADS>(elements);
    for (i, out) in outs.iter_mut().enumerate() {
        *out = l.join_quads([&blocks[0][i], &blocks[1][i], &blocks[2][i], &blocks[3][i]]);
    }
    for (i, element) in tail.iter_mut().enumerate() {
        *element = std::array::from_fn(|p| rows[p][outs.len() * QUADS + i]);
    }
}

#[inline(always)]
fn split<const SIZE: usize>(
    elements: &[u8],
    planes: &mut [u8],
    byte: impl Fn([u8; SIZE], usize) -> u8,
) {
    let elements = arrays::split::<_, SIZE>(elements).0;
    let n = elements.len();
    let (blocks, tail) = arrays::split::<_, BLOCK>(elements);
    for (i, block) in blocks.iter().enumerate() {
        for p in 0..SIZE {
            let out = &mut planes[p * n + i * BLOCK..][..BLOCK];
            for (out, element) in out.iter_mut().zip(block) {
                *out = byte(*element, p);
            }
        }
    }
    for (i, element) in tail.iter().enumerate() {
        for p in 0..SIZE {
            planes[p * n + blocks.len() * BLOCK + i] = byte(*element, p);
        }
    }
}

#[inline(always)]
fn join<const SIZE: usize>(planes: &[u8], elements: &mut [u8]) {
    let n = elements.len() / SIZE;
    let rows: [&[u8]; SIZE] = std::array::from_fn(|p| &planes[p * n..][..n]);
    for (j, element) in arrays::split_mut::<_, SIZE>(elements).0.iter_mut().enumerate() {
        *element = std::array::from_fn(|p| rows[p][j]);
    }
}
