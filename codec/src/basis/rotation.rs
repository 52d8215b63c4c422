//! A rotation that mixes all values of a group with each other: signs and Walsh-Hadamard transforms in
//! blocks, two or three times, and between them all values read with a stride, so that a block of the
//! next level holds a few of each (Ailon & Chazelle 2006; FORMAT.md, section 7.2).
//!
//! However a group is made, its coefficients then are like draws of one Gaussian: one scale serves them
//! all, and the error of a quantizer behind it points anywhere, so that it averages out over
//! rotations. A rotation in one level, [`super::Hadamard`], leaves blocks apart, and a few large values
//! stay a few blocks.

use super::{Peak, Transform, Values, Work};
use crate::flow::{Run, Sink, Source, run_len};
use crate::group::exponent::LARGEST;
use crate::group::{Elements, Job, Output};
use crate::kernel::Kernel;
use crate::random::{INCREMENT, Keys};
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use std::fmt;

/// In two or three levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    levels: u8,
}

/// Values of a block, where there are as many.
const BLOCK: usize = 1 << 12;
const DEFAULT_LEVELS: u8 = 3;
/// Neighbours that a stride takes along: a cache line of them.
const LINE: usize = 16;

impl Rotation {
    /// How often values are mixed, 2 or 3.
    pub fn levels(&self) -> u8 {
        self.levels
    }

    fn checked(self) -> Result<Self> {
        if (2..=3).contains(&self.levels) {
            return Ok(self);
        }
        Err(Error::invalid(format!("rotation: expected 2 or 3 levels, found {}", self.levels)))
    }
}

/// How a group of n values is mixed.
#[derive(Clone, Copy)]
struct Mixing {
    kernel: Kernel,
    signs: Keys,
    window_signs: Keys,
    group: u64,
    /// B: values of a block.
    block: usize,
    /// W: the stride.
    stride: usize,
}

impl Mixing {
    fn new(job: &Job<'_>, n: usize) -> Self {
        let block = BLOCK.min(1 << n.max(1).ilog2());
        Self {
            kernel: job.kernel,
            signs: job.keys.signs,
            window_signs: job.keys.window_signs,
            group: job.group,
            block,
            stride: block.min((LINE * n).div_ceil(block)).max(1),
        }
    }

    /// The key of the signs of a block that starts at value `at`: theirs are those of the whole group
    /// from there on.
    fn key_at(&self, level: usize, at: usize) -> u64 {
        let key = self.signs.block(self.group, level);
        key.wrapping_add((at as u64 / 64).wrapping_mul(INCREMENT))
    }

    fn window_key(&self, level: usize) -> u64 {
        self.window_signs.block(self.group, level)
    }

    /// One level, from `x` to `y`: whole blocks, then, if they leave a rest, a window over the last
    /// values. `work` is as long as a block.
    fn mix(&self, level: usize, x: &[f32], y: &mut [f32], work: &mut [f32]) {
        let whole = x.len() / self.block * self.block;
        for at in (0..whole).step_by(self.block) {
            let ahead = &x[at + self.block..];
            let (x, y) = (&x[at..at + self.block], &mut y[at..at + self.block]);
            self.kernel.rotate(x, y, self.key_at(level, at), ahead);
        }
        y[whole..].copy_from_slice(&x[whole..]);
        self.mix_window(level, whole, y, work);
    }

    fn mix_window(&self, level: usize, whole: usize, y: &mut [f32], work: &mut [f32]) {
        if whole == y.len() {
            return;
        }
        let window = y.len() - self.block;
        work.copy_from_slice(&y[window..]);
        self.kernel.rotate(work, &mut y[window..], self.window_key(level), &[]);
    }

    /// The inverse of [`mix`](Self::mix), in place.
    fn unmix(&self, level: usize, y: &mut [f32]) {
        let whole = y.len() / self.block * self.block;
        if whole < y.len() {
            let window = y.len() - self.block;
            self.kernel.unrotate_in_place(&mut y[window..], self.window_key(level));
        }
        for at in (0..whole).step_by(self.block) {
            let key = self.key_at(level, at);
            self.kernel.unrotate_in_place(&mut y[at..at + self.block], key);
        }
    }

    /// All values with the stride W, from the first, then from the second, and so on. `lines` has
    /// room for 16 values of each row.
    fn scatter(&self, y: &[f32], z: &mut [f32], lines: &mut [f32]) {
        let (n, w) = (y.len(), self.stride);
        let mut at = 0;
        for column in (0..w.min(n)).step_by(LINE) {
            let width = LINE.min(w - column);
            // Lines of 16 neighbours first: rows lie apart by what caches take for the same place.
            let mut n_rows = 0;
            for (row, line) in (column..n).step_by(w).zip(lines.chunks_exact_mut(LINE)) {
                copy_line(&y[row..], line, width.min(n - row));
                n_rows += 1;
            }
            for i in 0..width {
                let rows = n_rows - usize::from((n_rows - 1) * w + column + i >= n);
                for (z, line) in z[at..at + rows].iter_mut().zip(lines.chunks_exact(LINE)) {
                    *z = line[i];
                }
                at += rows;
            }
        }
    }

    /// The inverse of [`scatter`](Self::scatter).
    fn gather(&self, z: &[f32], y: &mut [f32], lines: &mut [f32]) {
        let (n, w) = (y.len(), self.stride);
        let mut at = 0;
        for column in (0..w.min(n)).step_by(LINE) {
            let width = LINE.min(w - column);
            let n_rows = (n - column).div_ceil(w);
            for i in 0..width {
                let rows = n_rows - usize::from((n_rows - 1) * w + column + i >= n);
                for (z, line) in z[at..at + rows].iter().zip(lines.chunks_exact_mut(LINE)) {
                    line[i] = *z;
                }
                at += rows;
            }
            for (row, line) in (column..n).step_by(w).zip(lines.chunks_exact(LINE)) {
                copy_line(line, &mut y[row..], width.min(n - row));
            }
        }
    }

    /// Values that the lines of a stride take.
    fn lines(&self, n: usize) -> usize {
        n.div_ceil(self.stride) * LINE
    }
}

/// Copies up to sixteen values; a call to copy a whole line would take longer than it does.
#[inline(always)]
fn copy_line(from: &[f32], to: &mut [f32], width: usize) {
    match (from.first_chunk::<LINE>(), to.first_chunk_mut::<LINE>()) {
        (Some(from), Some(to)) if width == LINE => *to = *from,
        _ => to[..width].copy_from_slice(&from[..width]),
    }
}

impl Transform for Rotation {
    fn memory(&self, n: usize) -> usize {
        // Two of the group, lines of it, and what is converted.
        (2 * n + n.min(2 * BLOCK) * 2 + 64 * LINE * LINE) * size_of::<f32>()
    }

    fn mixes(&self) -> bool {
        true
    }

    fn forward<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Elements<'a>,
        work: &'a mut Work,
    ) -> impl Values + 'a {
        let n = values.len();
        let mixing = Mixing::new(job, n);
        let Work { input, whole: [a, b], spare, .. } = work;
        let (a, b) = (a.take(n), b.take(n));
        let lines = spare.take(mixing.lines(n).max(mixing.block));
        let peak = first_level(&mixing, values, input, a, lines);
        for level in 1..usize::from(self.levels) {
            match level {
                1 => mixing.scatter(a, b, lines),
                _ => mixing.gather(a, b, lines),
            }
            mixing.mix(level, b, a, &mut lines[..mixing.block]);
        }
        Forward { coefficients: a, at: 0, peak }
    }

    fn inverse<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Output<'a>,
        work: &'a mut Work,
    ) -> impl Sink + 'a {
        let n = values.len();
        let mixing = Mixing::new(job, n);
        let Work { input, whole: [a, b], spare, .. } = work;
        let (a, b) = (a.take(n), b.take(n));
        let lines = spare.take(mixing.lines(n));
        Inverse { levels: self.levels.into(), mixing, values, input, a, b, lines, at: 0 }
    }
}

/// The first level, which reads the values; says what it saw of their magnitudes.
fn first_level(
    mixing: &Mixing,
    values: Elements<'_>,
    input: &mut crate::aligned::Aligned,
    a: &mut [f32],
    work: &mut [f32],
) -> Peak {
    let (n, block) = (values.len(), mixing.block);
    let whole = n / block * block;
    let mut peak = Peak::default();
    for at in (0..whole).step_by(block) {
        let (x, ahead) = values.get_and_next(at..at + block, input);
        let y = &mut a[at..at + block];
        let range = mixing.kernel.rotate(x, y, mixing.key_at(0, at), ahead);
        peak = peak.with(Peak::behind(range, block.ilog2()));
    }
    if whole < n {
        let rest = values.get(whole..n, input);
        peak = peak.with(Peak::exactly(mixing.kernel.peak_bits(rest)));
        a[whole..].copy_from_slice(rest);
    }
    mixing.mix_window(0, whole, a, &mut work[..block]);
    peak
}

struct Forward<'a> {
    coefficients: &'a [f32],
    at: usize,
    peak: Peak,
}

impl Source for Forward<'_> {
    fn unit(&self) -> usize {
        BLOCK
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let n = run_len(self.coefficients.len() - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        self.at += n;
        Ok(Some(Run { values: &self.coefficients[self.at - n..self.at], range: None }))
    }
}

impl Values for Forward<'_> {
    fn peak(&self) -> Peak {
        self.peak
    }
}

/// Collects the coefficients of a group: a value depends on all of them.
struct Inverse<'a> {
    levels: usize,
    mixing: Mixing,
    values: Output<'a>,
    input: &'a mut crate::aligned::Aligned,
    a: &'a mut [f32],
    b: &'a mut [f32],
    lines: &'a mut [f32],
    at: usize,
}

impl Sink for Inverse<'_> {
    fn unit(&self) -> usize {
        BLOCK
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        // So that no sum of the levels leaves the range of f32 (FORMAT.md, section 7).
        if self.mixing.kernel.peak_bits(run.values) > LARGEST.to_bits() {
            return Err(Error::corrupt("coefficient out of range"));
        }
        self.a[self.at..self.at + run.values.len()].copy_from_slice(run.values);
        self.at += run.values.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let Self { mixing, values, a, b, lines, .. } = self;
        let (mut from, mut to) = (&mut **a, &mut **b);
        for level in (1..self.levels).rev() {
            mixing.unmix(level, from);
            match level {
                1 => mixing.gather(from, to, lines),
                _ => mixing.scatter(from, to, lines),
            }
            std::mem::swap(&mut from, &mut to);
        }
        mixing.unmix(0, from);
        for (i, strip) in from.chunks(BLOCK).enumerate() {
            values.put(i * BLOCK, strip, self.input);
        }
        Ok(())
    }
}

impl Stage for Rotation {
    const ID: u8 = 0x03;
    const NAME: &'static str = "rotation";
    const EXAMPLES: &'static [&'static str] = &["rotation", "rotation,levels=2"];

    fn is_seeded(&self) -> bool {
        true
    }

    fn parse(options: &mut Options<'_>) -> Result<Self> {
        let levels = options.option("levels")?.unwrap_or(DEFAULT_LEVELS);
        options.end("levels")?;
        Self { levels }.checked()
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)?;
        if self.levels != DEFAULT_LEVELS {
            write!(f, ",levels={}", self.levels)?;
        }
        Ok(())
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.push(self.levels);
    }

    fn read_from(cursor: &mut Cursor<'_>) -> Result<Self> {
        let levels = cursor.u8("levels of a rotation")?;
        Self { levels }.checked().map_err(|_| {
            Error::corrupt(format!("levels of a rotation: expected 2 or 3, found {levels}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Simd;

    #[test]
    fn strides_are_undone_and_are_those_of_the_format() {
        for n in [1, 2, 15, 16, 17, 255, 256, 1000, 4096, 5000, 51_200, 65_553] {
            let keys = Keys::from_absorbed(1);
            let keys = crate::group::TensorKeys {
                signs: keys,
                window_signs: keys,
                ..crate::group::TensorKeys::none()
            };
            let job = Job { kernel: Kernel::new(Simd::Auto), keys: &keys, group: 0 };
            let mixing = Mixing::new(&job, n);
            let y: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let (mut z, mut back) = (vec![-1.0; n], vec![-1.0; n]);
            let mut lines = vec![0.0; mixing.lines(n)];
            mixing.scatter(&y, &mut z, &mut lines);
            let expected = (0..mixing.stride).flat_map(|r| (r..n).step_by(mixing.stride));
            assert!(z.iter().map(|v| *v as usize).eq(expected), "{n}");
            mixing.gather(&z, &mut back, &mut lines);
            assert_eq!(back, y, "{n}");
        }
    }
}
