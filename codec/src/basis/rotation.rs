//! A rotation that mixes all values of a group with each other: signs and Walsh-Hadamard transforms in
//! blocks, two or three times, and between them all values read with a stride, so that a block of the
//! next level holds a few of each (Ailon & Chazelle 2006; FORMAT.md, section 7.2).
//!
//! However a group is made, its coefficients then are like draws of one Gaussian: one scale serves them
//! all, and the error of a quantizer behind it points anywhere, so that it averages out over
//! rotations. A rotation in one level, [`super::Hadamard`], leaves blocks apart, and a few large values
//! stay a few blocks.

mod inverse;

use super::unit::Unit;
use super::{Peak, Transform, Values, Work};
use crate::aligned::Aligned;
use crate::blocks::blocks;
use crate::flow::{Run, Sink, Source, run_len};
use crate::group::{Elements, Job, Output};
use crate::kernel::{COLUMNS, Columns, Kernel, ROWS};
use crate::random::{INCREMENT, Keys};
use crate::stage::{Options, Stage};
use crate::wire::bytes::Cursor;
use crate::{Error, Result};
use inverse::Inverse;
use std::fmt;
use std::ops::Range;

/// In two or three levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    levels: u8,
}

/// Values of a block, where there are as many.
const BLOCK: usize = 1 << 12;
const DEFAULT_LEVELS: u8 = 3;
/// How many neighbours the stride puts into a block of the next level.
const NEIGHBOURS: usize = 16;

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

/// How a group of n values is mixed: by units of each level, blocks of B, the last of which takes the rest
/// and is mixed by a window over its end, too. Units of the first and the third level are neighbours,
/// those of the second lie in columns of a matrix whose rows are W values: they are gathered from there
/// and go back there, so that all levels share one buffer.
#[derive(Clone, Copy)]
struct Mixing {
    kernel: Kernel,
    signs: Keys,
    window_signs: Keys,
    group: u64,
    n: usize,
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
            n,
            block,
            stride: block.min((NEIGHBOURS * n).div_ceil(block)).max(1),
        }
    }

    /// What rotates the unit of `len` values that starts at value `at` of a level. Its signs are those of the
    /// whole group from there on.
    fn unit(&self, level: usize, at: usize, len: usize) -> Unit {
        let key = self.signs.block(self.group, level);
        let key = key.wrapping_add((at as u64 / 64).wrapping_mul(INCREMENT));
        let window_key = self.window_signs.block(self.group, level);
        Unit::with_keys(self.kernel, [key, window_key], self.block.min(len))
    }

    /// The units of a level.
    fn units(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        blocks(self.n, self.block)
    }

    /// The first of the columns of a unit of the second level that are rotated where they are.
    fn whole_columns(&self, unit: &Range<usize>) -> Option<usize> {
        let is_even = self.n == ROWS * self.stride && unit.len() == ROWS * COLUMNS;
        (is_even && unit.start % ROWS == 0).then_some(unit.start / ROWS)
    }

    /// The second level of three, or its inverse.
    fn second_level(&self, matrix: &mut [f32], inverse: bool, work: &mut Aligned) {
        self.second_level_of(self.units(), matrix, inverse, work);
    }

    /// That of some units.
    fn second_level_of(
        &self,
        units: impl Iterator<Item = Range<usize>>,
        matrix: &mut [f32],
        inverse: bool,
        work: &mut Aligned,
    ) {
        for at in units {
            let unit = self.unit(1, at.start, at.len());
            if let Some(first) = self.whole_columns(&at) {
                unit.columns_in_place(&mut matrix[first..], self.stride, inverse, work);
                continue;
            }
            let x = work.take(at.len());
            self.gather(matrix, at.start, x);
            match inverse {
                false => unit.forward_in_place(x),
                true => unit.inverse_in_place(x),
            }
            self.scatter(x, at.start, matrix);
        }
    }

    /// The columns, or parts of them, that values `at` to `at + len` of the second level are; and where in
    /// the matrix and among these values each begins.
    fn columns(
        &self,
        at: usize,
        len: usize,
    ) -> impl Iterator<Item = (Columns, usize, usize)> + use<> {
        let (w, end) = (self.stride, at + len);
        // The first ones have a value more.
        let (rows, n_longer) = (self.n / w, self.n % w);
        let longer = n_longer * (rows + 1);
        let mut next = at;
        std::iter::from_fn(move || {
            let (place, first, rows, last) = match next < longer {
                true => (next, 0, rows + 1, n_longer),
                false => (next - longer, n_longer, rows, w),
            };
            let (column, row, left) = (first + place / rows, place % rows, end - next);
            let (width, rows) = match row == 0 && left >= rows {
                true => ((left / rows).min(last - column), rows),
                false => (1, left.min(rows - row)),
            };
            let from = (row * w + column, next - at);
            next += width * rows;
            (left > 0).then_some((Columns { stride: w, width, rows }, from.0, from.1))
        })
    }

    /// Values of the second level from `at` on.
    fn gather(&self, matrix: &[f32], at: usize, out: &mut [f32]) {
        for (columns, from, to) in self.columns(at, out.len()) {
            self.kernel.gather_columns(&matrix[from..], columns, &mut out[to..]);
        }
    }

    /// The inverse of [`gather`](Self::gather).
    fn scatter(&self, values: &[f32], at: usize, matrix: &mut [f32]) {
        for (columns, to, from) in self.columns(at, values.len()) {
            self.kernel.scatter_columns(&values[from..], columns, &mut matrix[to..]);
        }
    }
}

impl Transform for Rotation {
    fn memory(&self, n: usize) -> usize {
        // The group, and three units.
        (n + 3 * n.min(2 * BLOCK) + 64) * size_of::<f32>()
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
        let mixing = Mixing::new(job, values.len());
        let Work { input, whole, unit, spare, .. } = work;
        let peak = first_level(&mixing, values, whole, (input, unit, spare));
        let matrix = whole.extended();
        if self.levels == 3 {
            mixing.second_level(matrix, false, input);
        }
        let levels = self.levels;
        Forward { levels, mixing, matrix, keeps: false, input, run: unit, spare, at: 0, peak }
    }

    fn inverse<'a>(
        &'a self,
        job: &'a Job<'a>,
        values: Output<'a>,
        work: &'a mut Work,
    ) -> impl Sink + 'a {
        Inverse::new(self.levels, Mixing::new(job, values.len()), values, work)
    }
}

/// The first level, which reads the values; says what it saw of their magnitudes.
fn first_level(
    mixing: &Mixing,
    values: Elements<'_>,
    matrix: &mut Aligned,
    (input, made, spare): (&mut Aligned, &mut Aligned, &mut Aligned),
) -> Peak {
    let mut peak = Peak::default();
    matrix.clear(mixing.n);
    for at in mixing.units() {
        let (x, ahead) = values.get_and_next(at.clone(), input);
        let (unit, y) = (mixing.unit(0, at.start, at.len()), made.take(at.len()));
        let seen = match unit.forward(x, y, ahead, spare) {
            Some(range) => Peak::behind(range, mixing.block.ilog2()),
            None => Peak::exactly(mixing.kernel.peak_bits(x)),
        };
        peak = peak.with(seen);
        matrix.extend(y);
    }
    peak
}

/// The last level, run by run.
struct Forward<'a> {
    levels: u8,
    mixing: Mixing,
    matrix: &'a mut [f32],
    /// Whether runs stay in the matrix.
    keeps: bool,
    input: &'a mut Aligned,
    run: &'a mut Aligned,
    spare: &'a mut Aligned,
    at: usize,
    peak: Peak,
}

impl Source for Forward<'_> {
    fn unit(&self) -> usize {
        BLOCK
    }

    fn next(&mut self, len: usize) -> Result<Option<Run<'_>>> {
        let Self { mixing, matrix, input, spare, .. } = self;
        let n = run_len(mixing.n - self.at, len);
        if n == 0 {
            return Ok(None);
        }
        if self.keeps {
            let run = &mut matrix[self.at..self.at + n];
            for within in blocks(n, mixing.block) {
                let unit = mixing.unit(2, self.at + within.start, within.len());
                unit.forward_in_place(&mut run[within]);
            }
            self.at += n;
            return Ok(Some(Run { values: run, range: None }));
        }
        let run = self.run.take(n);
        let mut range = None;
        for within in blocks(n, mixing.block) {
            let (at, len) = (self.at + within.start, within.len());
            let unit = mixing.unit(usize::from(self.levels) - 1, at, len);
            let (x, ahead) = match self.levels {
                2 => {
                    let x = input.take(len);
                    mixing.gather(matrix, at, x);
                    (&*x, &[][..])
                }
                _ => matrix[at..].split_at(len),
            };
            let noted = unit.forward(x, &mut run[within], ahead, spare);
            range = noted.filter(|_| len == n);
        }
        self.at += n;
        Ok(Some(Run { values: run, range }))
    }

    /// The third level leaves values where they are.
    fn keep(&mut self) -> bool {
        self.keeps = self.levels == 3;
        self.keeps
    }

    fn kept(&mut self) -> &mut [f32] {
        self.matrix
    }
}

impl Values for Forward<'_> {
    fn peak(&self) -> Peak {
        self.peak
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
            let job = Job {
                kernel: Kernel::new(Simd::Auto),
                keys: &keys,
                group: 0,
                shape: &[],
                dtype: crate::DType::F32,
            };
            let mixing = Mixing::new(&job, n);
            let matrix: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let (mut found, mut back) = (Vec::new(), vec![-1.0; n]);
            for at in mixing.units() {
                let mut unit = vec![-1.0; at.len()];
                mixing.gather(&matrix, at.start, &mut unit);
                mixing.scatter(&unit, at.start, &mut back);
                found.extend(unit);
            }
            let expected = (0..mixing.stride).flat_map(|r| (r..n).step_by(mixing.stride));
            assert!(found.iter().map(|v| *v as usize).eq(expected), "{n}");
            assert_eq!(back, matrix, "{n}");
        }
    }
}
