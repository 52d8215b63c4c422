//! The one rule for cutting a sequence into blocks: as many whole blocks as fit, the last of which
//! also takes the remainder. So every block has `size..2 * size` elements, unless there are fewer
//! than `size` in all.

use std::ops::Range;

/// The blocks of a sequence of `n` elements.
pub(crate) fn blocks(n: usize, size: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let count = block_count(n, size);
    (0..count).map(move |i| i * size..if i + 1 == count { n } else { (i + 1) * size })
}

/// How many blocks there are: none of an empty sequence.
pub(crate) fn block_count(n: usize, size: usize) -> usize {
    if n == 0 { 0 } else { (n / size).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_tile_the_sequence() {
        for n in 0..70 {
            let mut next = 0;
            for block in blocks(n, 16) {
                assert_eq!(block.start, next);
                assert!(block.len() < 32 && (block.len() >= 16 || n < 16));
                next = block.end;
            }
            assert_eq!(next, n);
        }
    }
}
