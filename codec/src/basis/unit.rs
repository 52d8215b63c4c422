//! The rotation of one unit of coefficients (FORMAT.md, section 7.1): signs and a normalized
//! Walsh-Hadamard transform on the first b, the largest power of two that is at most the block size
//! and fits; if the unit is longer, then a second one, with signs of its own, on its last b.

use crate::aligned::Aligned;
use crate::group::Job;
use crate::kernel::{COLUMNS, Kernel, ROWS, Range};

/// What rotates a unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    kernel: Kernel,
    key: u64,
    window_key: u64,
    b: usize,
}

impl Unit {
    /// The unit of `len` coefficients that starts at coefficient `start` of the group.
    pub(super) fn new(job: &Job<'_>, start: usize, len: usize, block: usize) -> Self {
        let number = start / block;
        Self {
            kernel: job.kernel,
            key: job.keys.signs.block(job.group, number),
            window_key: job.keys.window_signs.block(job.group, number),
            b: block.min(1 << len.max(1).ilog2()),
        }
    }

    /// With keys of its own, of its signs and of those of its window.
    pub(super) fn with_keys(kernel: Kernel, [key, window_key]: [u64; 2], b: usize) -> Self {
        Self { kernel, key, window_key, b }
    }

    /// Rotates `x` to `y`, bringing `ahead` into the cache meanwhile; tells the range of `y` where
    /// there is no window.
    pub(super) fn forward(
        &self,
        x: &[f32],
        y: &mut [f32],
        ahead: &[f32],
        spare: &mut Aligned,
    ) -> Option<Range> {
        let (len, b) = (x.len(), self.b);
        let range = self.kernel.rotate(&x[..b], &mut y[..b], self.key, ahead);
        if len == b {
            return Some(range);
        }
        y[b..].copy_from_slice(&x[b..]);
        let window = spare.take(b);
        window.copy_from_slice(&y[len - b..]);
        self.kernel.rotate(window, &mut y[len - b..], self.window_key, &[]);
        None
    }

    /// Rotates sixteen columns of a matrix where they are, or turns them back.
    pub(super) fn columns_in_place(
        &self,
        matrix: &mut [f32],
        stride: usize,
        inverse: bool,
        spare: &mut Aligned,
    ) {
        let work = spare.take(ROWS * COLUMNS);
        match inverse {
            false => self.kernel.rotate_columns(matrix, stride, work, self.key),
            true => self.kernel.unrotate_columns(matrix, stride, work, self.key),
        }
    }

    /// Rotates in place.
    pub(super) fn forward_in_place(&self, y: &mut [f32]) {
        let (len, b) = (y.len(), self.b);
        self.kernel.rotate_in_place(&mut y[..b], self.key);
        if len > b {
            self.kernel.rotate_in_place(&mut y[len - b..], self.window_key);
        }
    }

    /// Turns back in place.
    pub(super) fn inverse_in_place(&self, y: &mut [f32]) {
        let (len, b) = (y.len(), self.b);
        if len > b {
            self.kernel.unrotate_in_place(&mut y[len - b..], self.window_key);
        }
        self.kernel.unrotate_in_place(&mut y[..b], self.key);
    }

    /// Turns the end of `y` back to its head, which need not begin at a cache line; both are the unit.
    pub(super) fn inverse_through(&self, y: &mut [f32], len: usize, spare: &mut Aligned) {
        if len == self.b {
            return self.kernel.unrotate_through(y, spare.take(len), self.key);
        }
        y.copy_within(y.len() - len.., 0);
        self.inverse_in_place(&mut y[..len]);
    }

    /// Turns `x` back into `y`, which begins at a cache line.
    pub(super) fn inverse_to_aligned(&self, x: &[f32], y: &mut [f32]) {
        if x.len() == self.b {
            return self.kernel.unrotate(x, &mut [], y, self.key);
        }
        y.copy_from_slice(x);
        self.inverse_in_place(y);
    }

    /// Turns `x` back into `y`.
    pub(super) fn inverse(&self, x: &[f32], y: &mut [f32], spare: &mut Aligned) {
        let (len, b) = (x.len(), self.b);
        if len == b {
            self.kernel.unrotate(x, spare.take(b), y, self.key);
            return;
        }
        y.copy_from_slice(x);
        self.inverse_in_place(y);
    }
}
