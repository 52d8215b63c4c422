//! Elements in the order and with the bytes that a stream has: little-endian, in C order.

use std::io::{self, Read};

use crate::piece::fill;

/// Elements converted at a time.
const ELEMENTS: usize = 1 << 13;

/// Reads elements of `size` bytes in the other byte order.
pub(super) struct Swapped<R> {
    inner: R,
    size: usize,
    piece: Vec<u8>,
    filled: usize,
    taken: usize,
}

impl<R: Read> Swapped<R> {
    pub(super) fn new(inner: R, size: usize) -> Self {
        Self { inner, size, piece: vec![0; size * ELEMENTS], filled: 0, taken: 0 }
    }
}

impl<R: Read> Read for Swapped<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.filled {
            self.filled = fill(&mut self.inner, &mut self.piece)?;
            self.taken = 0;
            self.piece[..self.filled].chunks_exact_mut(self.size).for_each(<[u8]>::reverse);
        }
        let n = (&self.piece[self.taken..self.filled]).read(buf)?;
        self.taken += n;
        Ok(n)
    }
}

/// Reads an array in Fortran order and gives it in C order; all of it is in memory once.
pub(super) struct Transposed<R> {
    inner: R,
    /// Bytes of an element.
    size: usize,
    /// Outermost first, without those of 1.
    shape: Vec<usize>,
    /// Of each dimension, in elements.
    strides: Vec<usize>,
    data: Option<Vec<u8>>,
    /// The next element in C order.
    index: Vec<usize>,
    left: usize,
    piece: Vec<u8>,
    taken: usize,
}

impl<R: Read> Transposed<R> {
    /// The shape has no zeros, and its product is in memory.
    pub(super) fn new(inner: R, size: usize, shape: &[u64]) -> Self {
        let shape: Vec<usize> = shape.iter().map(|n| *n as usize).filter(|n| *n != 1).collect();
        let stride = |stride: &mut usize, n: &usize| Some(std::mem::replace(stride, *stride * n));
        let strides = shape.iter().scan(1, stride).collect();
        let (index, left) = (vec![0; shape.len()], shape.iter().product());
        let (data, piece) = (None, Vec::new());
        Self { inner, size, shape, strides, data, index, left, piece, taken: 0 }
    }

    fn convert(&mut self, data: &[u8]) {
        self.piece.clear();
        self.taken = 0;
        let n = self.left.min(ELEMENTS);
        for _ in 0..n {
            let at: usize =
                self.index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum();
            self.piece.extend_from_slice(&data[at * self.size..(at + 1) * self.size]);
            for (i, n) in self.index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *n {
                    break;
                }
                *i = 0;
            }
        }
        self.left -= n;
    }
}

impl<R: Read> Read for Transposed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let data = match self.data.take() {
            Some(data) => data,
            None => {
                // Grows as bytes arrive; the reader knows how many there have to be.
                let mut data = Vec::new();
                self.inner.read_to_end(&mut data)?;
                data
            }
        };
        if self.taken == self.piece.len() {
            self.convert(&data);
        }
        self.data = Some(data);
        (&self.piece[self.taken..]).read(buf).inspect(|n| self.taken += n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_in_fortran_order_comes_in_c_order() {
        // Of shape 2 x 3 x 4 (and a 1): element (i, j, k) is 100 i + 10 j + k.
        let mut fortran = Vec::new();
        for k in 0..4u16 {
            for j in 0..3 {
                for i in 0..2 {
                    fortran.extend((100 * i + 10 * j + k).to_le_bytes());
                }
            }
        }
        let mut c = Vec::new();
        for i in 0..2u16 {
            for j in 0..3 {
                for k in 0..4 {
                    c.extend((100 * i + 10 * j + k).to_le_bytes());
                }
            }
        }
        let mut out = Vec::new();
        Transposed::new(&fortran[..], 2, &[2, 1, 3, 4]).read_to_end(&mut out).unwrap();
        assert_eq!(out, c);
        // More than one piece, byte by byte.
        let square: Vec<u8> = (0..300 * 300u32).flat_map(u32::to_le_bytes).collect();
        let mut reader = Transposed::new(&square[..], 4, &[300, 300]);
        for i in 0..300u32 {
            for j in 0..300u32 {
                let mut element = [0; 4];
                reader.read_exact(&mut element).unwrap();
                assert_eq!(u32::from_le_bytes(element), i + 300 * j);
            }
        }
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn bytes_of_elements_are_swapped_in_any_split() {
        let big: Vec<u8> = (0..20_000u32).flat_map(u32::to_be_bytes).collect();
        let little: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        let mut out = Vec::new();
        Swapped::new(&big[..], 4).read_to_end(&mut out).unwrap();
        assert!(out == little);
    }
}
