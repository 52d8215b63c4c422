//! Coefficients of a rotation back to values: the last level is undone run by run, the others at the end, since
//! a value depends on all coefficients.
//!
//! Where values are put out as they are, all levels are undone there, and no buffer of the group's size is
//! needed. Transforms and columns take longer where rows do not begin at cache lines, as allocators rarely make
//! buffers of f32 begin: then all but the end of the matrix lies a few values further on, and the first
//! level, which comes last, moves each row back.

use super::{BLOCK, Mixing};
use crate::aligned::{Aligned, LINE};
use crate::basis::Work;
use crate::blocks::blocks;
use crate::flow::{Run, Sink};
use crate::group::Output;
use crate::group::exponent::LARGEST;
use crate::kernel::{COLUMNS, ROWS};
use crate::{Error, Result};

pub(super) struct Inverse<'a> {
    levels: u8,
    mixing: Mixing,
    values: Output<'a>,
    /// The matrix, where values are not put out as they are.
    apart: Option<&'a mut [f32]>,
    /// How far behind the first value it begins, otherwise.
    shift: usize,
    /// The last values of it, as many.
    tail: [f32; LINE],
    input: &'a mut Aligned,
    unit: &'a mut Aligned,
    spare: &'a mut Aligned,
    at: usize,
}

impl<'a> Inverse<'a> {
    pub(super) fn new(
        levels: u8,
        mixing: Mixing,
        mut values: Output<'a>,
        work: &'a mut Work,
    ) -> Self {
        let Work { input, whole, unit, spare, .. } = work;
        let is_even = levels == 3 && mixing.n == ROWS * mixing.stride && mixing.n % BLOCK == 0;
        let shift = values.whole().filter(|_| is_even).map_or(0, |place| Aligned::before(place));
        let apart = values.whole().is_none().then(|| whole.take(mixing.n));
        let tail = [0.0; LINE];
        Self { levels, mixing, values, apart, shift, tail, input, unit, spare, at: 0 }
    }

    /// The second level of three.
    fn second_level(&mut self) {
        let Self { mixing, values, apart, shift, tail, input, unit: lines, .. } = self;
        let matrix = apart.as_deref_mut().or_else(|| values.whole()).unwrap_or_default();
        let matrix = &mut matrix[*shift..];
        if *shift == 0 {
            return mixing.second_level(matrix, true, input);
        }
        let (n_units, first) = (mixing.n / BLOCK, mixing.stride - COLUMNS);
        mixing.second_level_of(mixing.units().take(n_units - 1), matrix, true, input);
        // The columns that reach into the tail, in lines of their own.
        let lines = lines.take(BLOCK);
        let (last, most) = (BLOCK - *shift, (ROWS - 1) * COLUMNS);
        for (row, line) in lines[..most].chunks_exact_mut(COLUMNS).enumerate() {
            line.copy_from_slice(&matrix[row * mixing.stride + first..][..COLUMNS]);
        }
        let end = matrix.len() - (COLUMNS - *shift);
        lines[most..last].copy_from_slice(&matrix[end..]);
        lines[last..].copy_from_slice(&tail[..*shift]);
        let unit = mixing.unit(1, mixing.n - BLOCK, BLOCK);
        unit.columns_in_place(lines, COLUMNS, true, input);
        for (row, line) in lines[..most].chunks_exact(COLUMNS).enumerate() {
            matrix[row * mixing.stride + first..][..COLUMNS].copy_from_slice(line);
        }
        matrix[end..].copy_from_slice(&lines[most..last]);
        tail[..*shift].copy_from_slice(&lines[last..]);
    }
}

impl Sink for Inverse<'_> {
    fn unit(&self) -> usize {
        BLOCK
    }

    /// All values are put out at the end.
    fn bears_errors(&self) -> bool {
        true
    }

    fn put(&mut self, run: Run<'_>) -> Result<()> {
        let Self { mixing, values, apart, shift, tail, unit: made, .. } = self;
        let matrix = apart.as_deref_mut().or_else(|| values.whole()).unwrap_or_default();
        let matrix = &mut matrix[*shift..];
        // So that no sum of the levels leaves the range of f32 (FORMAT.md, section 7).
        if mixing.kernel.peak_bits(run.values) > LARGEST.to_bits() {
            return Err(Error::corrupt("coefficient out of range"));
        }
        for within in blocks(run.values.len(), mixing.block) {
            let (at, len) = (self.at + within.start, within.len());
            let unit = mixing.unit(usize::from(self.levels) - 1, at, len);
            let x = &run.values[within];
            if self.levels == 3 && at + len <= matrix.len() {
                unit.inverse(x, &mut matrix[at..at + len], made);
                continue;
            }
            let y = made.take(len);
            unit.inverse_to_aligned(x, y);
            if self.levels == 3 {
                let (head, end) = y.split_at(matrix.len() - at);
                matrix[at..].copy_from_slice(head);
                tail[..end.len()].copy_from_slice(end);
            } else {
                mixing.scatter(y, at, matrix);
            }
        }
        self.at += run.values.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.levels == 3 {
            self.second_level();
        }
        let Self { mixing, values, apart, shift, tail, input, unit: made, spare, .. } = self;
        let apart = apart.as_deref();
        for at in mixing.units() {
            let unit = mixing.unit(0, at.start, at.len());
            match (apart, values.whole()) {
                (None, Some(matrix)) if at.end + *shift <= matrix.len() => {
                    let len = at.len();
                    unit.inverse_through(&mut matrix[at.start..at.end + *shift], len, made);
                }
                (None, Some(matrix)) => {
                    let (x, end) = (input.take(at.len()), at.len() - *shift);
                    x[..end].copy_from_slice(&matrix[at.start + *shift..]);
                    x[end..].copy_from_slice(&tail[..*shift]);
                    unit.inverse(x, &mut matrix[at], made);
                }
                (matrix, _) => values.write(at.start, at.len(), made, input, |values| {
                    unit.inverse(&matrix.unwrap_or_default()[at], values, spare);
                }),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::group::{Job, Target, TensorKeys};
    use crate::kernel::{Kernel, Simd};
    use crate::random::{Keys, word};

    fn undo(levels: u8, x: &[f32], target: Target<'_>) {
        let keys = Keys::from_absorbed(5);
        let keys = TensorKeys { signs: keys, window_signs: keys, ..TensorKeys::none() };
        let kernel = Kernel::new(Simd::Auto);
        let job = Job { kernel, keys: &keys, group: 3, shape: &[], dtype: DType::F32 };
        let (mixing, mut work) = (Mixing::new(&job, x.len()), Work::default());
        let values = Output::new(kernel, DType::F32, 0, x.len(), target);
        let mut to = Inverse::new(levels, mixing, values, &mut work);
        for run in blocks(x.len(), BLOCK) {
            to.put(Run { values: &x[run], range: None }).unwrap();
        }
        to.finish().unwrap();
    }

    #[test]
    fn values_do_not_depend_on_where_they_are_put_out() {
        for n in [300, 4096, 8192, 65_536, 65_792, 69_632] {
            let x: Vec<f32> = (0..n).map(|i| (word(1, i) >> 40) as f32 - 8e6).collect();
            let n = x.len();
            for levels in [2, 3] {
                let mut expected = vec![0.0; n];
                undo(levels, &x, Target::Add { sums: &mut expected, weight: 1.0 });
                for from in 0..LINE {
                    let mut room = vec![0.0; n + LINE];
                    undo(levels, &x, Target::F32(&mut room[from..from + n]));
                    assert!(room[from..from + n] == expected, "{n} in {levels} levels from {from}");
                }
            }
        }
    }
}
