//! f64 as f32, on the way.

use std::io::{self, Read};

use crate::piece::fill;

/// Reads f64 and gives f32, rounded to nearest; what is beyond f32 becomes infinite.
pub struct Narrow<R> {
    inner: R,
    wide: Vec<u8>,
    narrow: Vec<u8>,
    taken: usize,
}

/// Values converted at a time.
const VALUES: usize = 1 << 13;

impl<R: Read> Narrow<R> {
    /// Over whole f64, little-endian.
    pub fn new(inner: R) -> Self {
        Self { inner, wide: vec![0; 8 * VALUES], narrow: Vec::new(), taken: 0 }
    }
}

impl<R: Read> Read for Narrow<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.narrow.len() {
            let n = fill(&mut self.inner, &mut self.wide)?;
            self.narrow.clear();
            self.taken = 0;
            for wide in self.wide[..n].chunks_exact(8) {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(wide);
                self.narrow.extend((f64::from_le_bytes(bytes) as f32).to_le_bytes());
            }
        }
        (&self.narrow[self.taken..]).read(buf).inspect(|n| self.taken += n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_to_nearest_in_any_split() {
        let values: Vec<f64> = (0..20_000).map(|i| (f64::from(i) - 7.0) / 3.0).collect();
        let wide: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut narrow = Vec::new();
        let mut reader = Narrow::new(&wide[..]);
        let mut buf = [0; 997];
        while let n @ 1.. = reader.read(&mut buf).unwrap() {
            narrow.extend_from_slice(&buf[..n]);
        }
        let expected: Vec<u8> = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
        assert!(narrow == expected);
    }
}
