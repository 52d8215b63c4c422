//! Byte shuffle: all first bytes of the elements, then all second bytes, and so on, so that the
//! slowly changing sign and exponent bytes stand together.

/// Transposes elements of `size` bytes.
pub(crate) fn shuffle(elements: &[u8], size: usize, out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + elements.len(), 0);
    let n = elements.len() / size;
    for (plane, out) in out[at..].chunks_exact_mut(n.max(1)).enumerate() {
        for (out, element) in out.iter_mut().zip(elements.chunks_exact(size)) {
            *out = element[plane];
        }
    }
}

/// The inverse of [`shuffle`]. Lengths match.
pub(crate) fn unshuffle(planes: &[u8], size: usize, out: &mut [u8]) {
    let n = planes.len() / size;
    for (plane, bytes) in planes.chunks_exact(n.max(1)).enumerate() {
        for (byte, element) in bytes.iter().zip(out.chunks_exact_mut(size)) {
            element[plane] = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_is_undone() {
        for size in [1, 2, 4, 8] {
            for n in 0..20 {
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
