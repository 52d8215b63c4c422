//! Byte shuffle: all first bytes of the elements, then all second bytes, and so on, so that the
//! slowly changing sign and exponent bytes stand together.

use crate::arrays;

/// Transposes elements of `size` bytes.
pub(crate) fn shuffle(elements: &[u8], size: usize, out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + elements.len(), 0);
    let planes = &mut out[at..];
    match size {
        2 => split(elements, planes, |e, p| (u16::from_le_bytes(e) >> (8 * p)) as u8),
        4 => split(elements, planes, |e, p| (u32::from_le_bytes(e) >> (8 * p)) as u8),
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

/// The inverse of [`shuffle`]. Lengths match.
pub(crate) fn unshuffle(planes: &[u8], size: usize, out: &mut [u8]) {
    match size {
        2 => join(planes, out, |e: [u8; 2]| e),
        4 => join(planes, out, |[a, b, c, d]: [u8; 4]| {
            let [a, b, c, d] = [a, b, c, d].map(u32::from);
            (a | (b << 8) | (c << 16) | (d << 24)).to_le_bytes()
        }),
        8 => join(planes, out, |e: [u8; 8]| e),
        _ => {
            let n = (planes.len() / size).max(1);
            for (plane, bytes) in planes.chunks_exact(n).enumerate() {
                for (byte, element) in bytes.iter().zip(out.chunks_exact_mut(size)) {
                    element[plane] = *byte;
                }
            }
        }
    }
}

/// Elements that are transposed together: in arrays, whose lengths the compiler knows, and as integers,
/// whose shifts it makes for many at once.
const BLOCK: usize = 64;

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
            let bytes = block.map(|element| byte(element, p));
            planes[p * n + i * BLOCK..][..BLOCK].copy_from_slice(&bytes);
        }
    }
    for (i, element) in tail.iter().enumerate() {
        for p in 0..SIZE {
            planes[p * n + blocks.len() * BLOCK + i] = byte(*element, p);
        }
    }
}

#[inline(always)]
fn join<const SIZE: usize>(
    planes: &[u8],
    out: &mut [u8],
    element: impl Fn([u8; SIZE]) -> [u8; SIZE],
) {
    let n = out.len() / SIZE;
    let rows: [&[u8]; SIZE] = std::array::from_fn(|p| &planes[p * n..][..n]);
    for (j, out) in arrays::split_mut::<_, SIZE>(out).0.iter_mut().enumerate() {
        *out = element(std::array::from_fn(|p| rows[p][j]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_is_undone() {
        for size in [1, 2, 3, 4, 8] {
            for n in (0..20).chain([63, 64, 65, 128, 200]) {
                let bytes: Vec<u8> = (0..n * size).map(|i| i as u8).collect();
                let mut planes = Vec::new();
                shuffle(&bytes, size, &mut planes);
                let mut back = vec![0; bytes.len()];
                unshuffle(&planes, size, &mut back);
                assert_eq!(bytes, back);
            }
        }
        let mut planes = Vec::new();
        shuffle(&[1, 2, 3, 4, 5, 6], 2, &mut planes);
        assert_eq!(planes, [1, 3, 5, 2, 4, 6]);
    }
}
