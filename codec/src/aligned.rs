//! Buffers of f32 that begin at a cache line: the transform is half as fast again on them.

/// Bytes of a cache line, and of the widest vector.
const ALIGNMENT: usize = 64;

/// A buffer that grows to what it is asked for, and is reused.
#[derive(Default)]
pub(crate) struct Aligned {
    room: Vec<f32>,
}

impl Aligned {
    /// `n` numbers; what they are is left from the last use.
    pub(crate) fn take(&mut self, n: usize) -> &mut [f32] {
        let slack = ALIGNMENT / size_of::<f32>();
        if self.room.len() < n + slack {
            // A fresh one: nothing has to be copied.
            self.room = vec![0.0; n + slack];
        }
        let start = self.room.as_ptr().align_offset(ALIGNMENT).min(slack);
        &mut self.room[start..start + n]
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
}
