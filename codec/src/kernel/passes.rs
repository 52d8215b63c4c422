//! Passes of the Walsh-Hadamard transform over a block in memory.
//!
//! The stages run h = 1, 2, 4, ..., each turning (a, b) into (a + b, a - b); that order is part of
//! the format. How many stages one pass over memory takes is not: the first takes those inside a register but
//! the last, the second that one, which loads can do, and as many across registers as the instruction set has
//! registers for, and the others as many across.

use super::lanes::{LANES, Lanes};
use super::mixing::Mixing;
use crate::arrays;
use bytemuck::Pod;

/// Sixteen copies of a statement, the number of each a constant, those up to R of them in use:
/// loops over an array of registers have to be unrolled before the compiler sees registers.
macro_rules! unrolled {
    ($R:expr, $r:ident => $body:expr) => {
        unrolled!(@ $R, $r => $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $R:expr, $r:ident => $body:expr; $($number:literal)+) => {
        $(
            if $number < $R {
                let $r: usize = $number;
                $body;
            }
        )+
    };
}

pub(super) use unrolled;

#[inline(always)]
pub(super) fn rows<R: Pod>(x: &[f32]) -> &[R] {
    bytemuck::cast_slice(x)
}

#[inline(always)]
pub(super) fn rows_mut<R: Pod>(x: &mut [f32]) -> &mut [R] {
    bytemuck::cast_slice_mut(x)
}

/// What the last pass notes of the rows it makes.
#[derive(Clone, Copy)]
pub(super) struct Notes<M: Mixing> {
    pub(super) lo: M::V,
    pub(super) hi: M::V,
}

impl<M: Mixing> Notes<M> {
    /// As a tree: a chain would wait for its latency at every register.
    #[inline(always)]
    fn add<const R: usize>(&mut self, m: M, v: &[M::V; R]) {
        let (mut lo, mut hi) = (*v, *v);
        least::<M, R, 8>(m, &mut lo, &mut hi);
        least::<M, R, 4>(m, &mut lo, &mut hi);
        least::<M, R, 2>(m, &mut lo, &mut hi);
        least::<M, R, 1>(m, &mut lo, &mut hi);
        (self.lo, self.hi) = (m.min(lo[0], self.lo), m.max(hi[0], self.hi));
    }
}

/// Those of the first H registers and of the H behind them, if there are as many.
#[inline(always)]
fn least<M: Mixing, const R: usize, const H: usize>(m: M, lo: &mut [M::V; R], hi: &mut [M::V; R]) {
    if 2 * H <= R {
        unrolled!(H, r => (lo[r], hi[r]) = (m.min(lo[r], lo[r + H]), m.max(hi[r], hi[r + H])));
    }
}

/// Values that the passes behind the first ask for.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a, L> {
    l: L,
    values: &'a [f32],
}

impl<'a, L: Lanes> Ahead<'a, L> {
    pub(super) fn none(l: L) -> Self {
        Self { l, values: &[] }
    }

    pub(super) fn of(l: L, values: &'a [f32]) -> Self {
        Self { l, values }
    }

    /// Asks for as many rows of values as half of those that a step of a pass changes.
    #[inline(always)]
    fn ask<M: Mixing, const R: usize>(self, step: usize) {
        let n = R * M::WIDTH / 2;
        if let Some(values) = self.values.get(step * n..step * n + n) {
            unrolled!(R * M::WIDTH / 2 / LANES, i => self.l.prefetch(&values[i * LANES]));
        }
    }

    /// What is left for the next pass over `n` values.
    #[inline(always)]
    fn behind(self, n: usize) -> Self {
        Self { values: self.values.get(n / 2..).unwrap_or_default(), ..self }
    }
}

/// What happens to rows before the last stage inside a row. This and [`Finish`] are traits and not closures: a
/// closure is a function of its own, compiled without the features of the instruction set.
pub(super) trait Start: Copy {
    fn apply<M: Mixing>(self, m: M, row: usize, x: &M::Row) -> M::V;
}

/// What happens to a row when its last stage is done.
pub(super) trait Finish: Copy {
    /// Whether the range of what it makes is of use.
    const NOTES: bool;
    fn apply<M: Mixing>(self, m: M, row: usize, v: M::V) -> M::V;
}

/// All stages of a block of at least eight rows of sixteen; the first pass reads `x`, if given, and the last
/// one writes `out`, if given, where `y` is then used up. The passes between ask for the values `ahead`.
#[inline(always)]
pub(super) fn across<M: Mixing, L: Lanes>(
    m: M,
    x: Option<&[M::Row]>,
    y: &mut [M::Row],
    out: Option<&mut [M::Row]>,
    ahead: Ahead<'_, L>,
    (start, finish): (impl Start, impl Finish),
) -> Notes<M> {
    let usual = USUAL / M::WIDTH;
    if y.len() == usual && x.is_none_or(|x| x.len() == usual) {
        let (x, y) = (x.map(|x| &x[..usual]), &mut y[..usual]);
        let out = out.map(|out| &mut out[..usual]);
        let h = first_stages(m, x, y, start);
        return last_stages(m, y, h, out, ahead, finish);
    }
    let h = first_stages(m, x, y, start);
    last_stages(m, y, h, out, ahead, finish)
}

/// Values of the blocks that most have: with a length that the compiler sees, places are constants.
pub(super) const USUAL: usize = 1 << 12;

/// The first two passes; how many rows the stages reach across that come next.
#[inline(always)]
pub(super) fn first_stages<M: Mixing>(
    m: M,
    x: Option<&[M::Row]>,
    y: &mut [M::Row],
    start: impl Start,
) -> usize {
    let n = y.len();
    let widest = if n > M::RADIX { M::RADIX } else { n / 2 };
    match widest {
        16 => first::<M, 16>(m, x, y, start),
        8 => first::<M, 8>(m, x, y, start),
        _ => first::<M, 4>(m, x, y, start),
    }
    widest
}

/// All passes but the first two.
#[inline(always)]
pub(super) fn last_stages<M: Mixing, L: Lanes>(
    m: M,
    y: &mut [M::Row],
    mut h: usize,
    out: Option<&mut [M::Row]>,
    mut ahead: Ahead<'_, L>,
    finish: impl Finish,
) -> Notes<M> {
    let n = y.len();
    while n / h > M::RADIX {
        match M::RADIX {
            16 => between::<M, L, 16>(m, y, h, ahead),
            _ => between::<M, L, 8>(m, y, h, ahead),
        }
        ahead = ahead.behind(n * M::WIDTH);
        h *= M::RADIX;
    }
    let last = Last { h, ahead, finish };
    // Sixteen places far apart are more than processors write ahead to: a copy from the first-level cache takes
    // less time than waiting for them.
    let (mut copied, out) = if M::RADIX == 16 { (out, None) } else { (None, out) };
    let notes = match (n / h, out) {
        (16, None) => last.run::<M, 16, false>(m, y, &mut []),
        (8, None) => last.run::<M, 8, false>(m, y, &mut []),
        (4, None) => last.run::<M, 4, false>(m, y, &mut []),
        (_, None) => last.run::<M, 2, false>(m, y, &mut []),
        (8, Some(out)) => last.run::<M, 8, true>(m, y, out),
        (4, Some(out)) => last.run::<M, 4, true>(m, y, out),
        (_, Some(out)) => last.run::<M, 2, true>(m, y, out),
    };
    if let Some(out) = &mut copied {
        out.copy_from_slice(y);
    }
    notes
}

/// All stages inside rows, and the first log2(R) that reach across rows, on R neighbours at a time. The last one
/// inside rows is done by what loads them, and so in a second pass, which follows while the rows are near.
#[inline(always)]
fn first<M: Mixing, const R: usize>(
    m: M,
    x: Option<&[M::Row]>,
    y: &mut [M::Row],
    start: impl Start,
) {
    let source = x.map(|x| arrays::split::<M::Row, R>(x).0);
    let places = arrays::split_mut::<M::Row, R>(y).0;
    let near = USUAL / (R * M::WIDTH);
    for (part, places) in places.chunks_mut(near).enumerate() {
        for (number, place) in (part * near..).zip(places.iter_mut()) {
            let rows = match source {
                Some(source) => &source[number],
                None => &*place,
            };
            let mut v = [m.splat(0.0); R];
            unrolled!(R, r => v[r] = start.apply(m, number * R + r, &rows[r]));
            unrolled!(R, r => m.store(v[r], &mut place[r]));
        }
        for place in places {
            let mut v = [m.splat(0.0); R];
            unrolled!(R, r => v[r] = m.load_last(&place[r]));
            stages::<M, R, 1>(m, &mut v);
            unrolled!(R, r => m.store(v[r], &mut place[r]));
        }
    }
}

/// log2(R) stages at once: h, 2h, ... (in rows), on rows i, i + h, ..., i + (R - 1) h.
#[inline(always)]
pub(super) fn between<M: Mixing, L: Lanes, const R: usize>(
    m: M,
    y: &mut [M::Row],
    h: usize,
    ahead: Ahead<'_, L>,
) {
    let mut step = 0;
    for block in y.chunks_exact_mut(R * h) {
        for i in 0..h {
            ahead.ask::<M, R>(step);
            step += 1;
            let mut v = [m.splat(0.0); R];
            unrolled!(R, r => v[r] = m.load(&block[r * h + i]));
            stages::<M, R, 1>(m, &mut v);
            unrolled!(R, r => m.store(v[r], &mut block[r * h + i]));
        }
    }
}

/// The last stages, of which there is one block.
struct Last<'a, L, F> {
    h: usize,
    ahead: Ahead<'a, L>,
    finish: F,
}

impl<L: Lanes, F: Finish> Last<'_, L, F> {
    #[inline(always)]
    fn run<M: Mixing, const R: usize, const OUT: bool>(
        self,
        m: M,
        y: &mut [M::Row],
        out: &mut [M::Row],
    ) -> Notes<M> {
        let Self { h, ahead, finish } = self;
        let mut notes = Notes { lo: m.splat(f32::INFINITY), hi: m.splat(f32::NEG_INFINITY) };
        let (y, out) = (&mut y[..R * h], &mut out[..if OUT { R * h } else { 0 }]);
        for i in 0..h {
            ahead.ask::<M, R>(i);
            let mut v = [m.splat(0.0); R];
            unrolled!(R, r => v[r] = m.load(&y[r * h + i]));
            stages::<M, R, 1>(m, &mut v);
            unrolled!(R, r => {
                v[r] = finish.apply(m, i + r * h, v[r]);
                m.store(v[r], if OUT { &mut out[r * h + i] } else { &mut y[r * h + i] });
            });
            if F::NOTES {
                notes.add(m, &v);
            }
        }
        notes
    }
}

/// The stages across the registers from `FROM` on.
#[inline(always)]
pub(super) fn stages<M: Mixing, const R: usize, const FROM: usize>(m: M, v: &mut [M::V; R]) {
    if FROM <= 1 {
        stage::<M, R, 1>(m, v);
    }
    stage::<M, R, 2>(m, v);
    stage::<M, R, 4>(m, v);
    stage::<M, R, 8>(m, v);
}

/// One stage across the registers, if there are enough of them.
#[inline(always)]
pub(super) fn stage<M: Mixing, const R: usize, const H: usize>(m: M, v: &mut [M::V; R]) {
    if H < R {
        unrolled!(R, r => {
            if r & H == 0 {
                let (a, b) = (v[r], v[r + H]);
                v[r] = m.add(a, b);
                // Half of the differences, as many as there are units.
                v[r + H] = if r & 1 == 0 { m.sub(a, b) } else { m.sub_elsewhere(a, b) };
            }
        });
    }
}
