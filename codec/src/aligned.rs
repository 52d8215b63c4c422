//! Buffers of f32 that begin at a cache line: the transform is half as fast again on them.

/// Bytes of a cache line, and of the widest vector.
const ALIGNMENT: usize = 64;

/// Numbers of it.
pub(crate) const LINE: usize = ALIGNMENT / size_of::<f32>();
const SLACK: usize = LINE;

/// A buffer that grows to what it is asked for, and is reused.
#[derive(Default)]
pub(crate) struct Aligned {
    room: Vec<f32>,
}

impl Aligned {
    /// `n` numbers; what they are is left from the last use.
    pub(crate) fn take(&mut self, n: usize) -> &mut [f32] {
        if self.room.capacity() < n + SLACK {
            // A fresh one: nothing has to be copied.
            self.room = vec![0.0; n + SLACK];
        } else if self.room.len() < n + SLACK {
            self.room.resize(n + SLACK, 0.0);
        }
        let start = self.start();
        &mut self.room[start..start + n]
    }

    /// None yet of `n` numbers, which need not be zeros before they come.
    pub(crate) fn clear(&mut self, n: usize) {
        if self.room.capacity() < n + SLACK {
            self.room = Vec::with_capacity(n + SLACK);
        }
        self.room.clear();
        self.room.resize(self.start(), 0.0);
    }

    /// Puts numbers behind those that were put since it was cleared.
    pub(crate) fn extend(&mut self, numbers: &[f32]) {
        self.room.extend_from_slice(numbers);
    }

    /// Those numbers.
    pub(crate) fn extended(&mut self) -> &mut [f32] {
        let start = self.start();
        &mut self.room[start..]
    }

    /// How many numbers come before the first that begins a cache line; none where no number does.
    pub(crate) fn before(numbers: &[f32]) -> usize {
        let before = numbers.as_ptr().align_offset(ALIGNMENT);
        if before < LINE { before } else { 0 }
    }

    fn start(&self) -> usize {
        self.room.as_ptr().align_offset(ALIGNMENT).min(SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_at_a_cache_line() {
        let mut buffer = Aligned::default();
        for n in [0, 1, 4096, 100, 8191] {
            let x = buffer.take(n);
            assert_eq!((x.len(), x.as_ptr() as usize % ALIGNMENT), (n, 0));
        }
    }

    #[test]
    fn numbers_that_come_one_behind_the_other_begin_at_a_cache_line() {
        let mut buffer = Aligned::default();
        for n in [0, 1, 4096, 100, 8191] {
            buffer.clear(n);
            let numbers: Vec<f32> = (0..n).map(|i| i as f32).collect();
            numbers.chunks(100).for_each(|numbers| buffer.extend(numbers));
            let x = buffer.extended();
            assert_eq!((&*x, x.as_ptr() as usize % ALIGNMENT), (&numbers[..], 0));
            assert_eq!(buffer.take(n + 10).len(), n + 10);
        }
    }
}
