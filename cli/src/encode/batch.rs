//! Small tensors that wait until they are worth coding side by side.

use std::io::Read;
use std::ops::Range;

use anyhow::Result;
use fedpress::{EncodeOptions, TensorDesc};

use crate::files::byte_len;

/// Consecutive tensors in memory.
pub struct Batch {
    /// Bytes from which they are enough for all threads.
    enough: usize,
    data: Vec<u8>,
    /// Their numbers, and where their elements are.
    waiting: Vec<(usize, Range<usize>)>,
}

impl Batch {
    /// Empty. Where there is one thread no tensor waits for another.
    pub fn new(options: &EncodeOptions) -> Self {
        let threads = options.threads;
        let group = size_of::<f32>() << options.group_log2;
        let enough = if threads > 1 { (threads * group).min(MOST_BYTES) } else { 0 };
        // The last one that is added is smaller than all that is enough.
        Self { enough, data: Vec::with_capacity(2 * enough), waiting: Vec::new() }
    }

    /// Whether a tensor is so small that it waits: one that has a group for each thread does not.
    pub fn takes(&self, desc: &TensorDesc) -> bool {
        let bytes = byte_len(desc.dtype, &desc.shape).filter(|_| !desc.open);
        bytes.is_some_and(|n| n < self.enough as u64)
    }

    /// Adds the elements of the tensor of that number.
    pub fn push(&mut self, number: usize, mut elements: impl Read) -> Result<()> {
        let start = self.data.len();
        elements.read_to_end(&mut self.data)?;
        self.waiting.push((number, start..self.data.len()));
        Ok(())
    }

    /// Whether all threads have enough to do.
    pub fn is_full(&self) -> bool {
        self.data.len() >= self.enough || self.waiting.len() >= MOST
    }

    /// Numbers and elements of all, in order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (usize, &[u8])> {
        self.waiting.iter().map(|(number, range)| (*number, &self.data[range.clone()]))
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.data.clear();
        self.waiting.clear();
    }
}

/// Bytes that are enough for any number of threads.
const MOST_BYTES: usize = 1 << 26;
/// Tensors that are enough whatever their sizes: what they are called takes memory, too.
const MOST: usize = 1 << 14;
