//! Columns of a matrix that lies in rows, to where they lie one behind the other and back: transpositions
//! in tiles of eight by eight.

use super::Operation;
use super::lanes::Lanes;

/// Rows and columns of a tile.
pub(super) const TILE: usize = 8;

/// Neighbouring columns, or parts of them: value `row` of column `i` is number `row * stride + i` in the
/// matrix, and number `i * rows + row` where columns lie one behind the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    /// Between the rows of the matrix.
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) rows: usize,
}

impl Columns {
    fn have_tiles(&self) -> bool {
        self.width >= TILE && self.rows >= TILE
    }
}

/// Where tiles start that cover `n` numbers; the last one may overlap the one before.
#[inline(always)]
fn tiles(n: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(TILE).map(move |at| at.min(n - TILE))
}

/// How many rows ahead their cache lines are asked for.
const AHEAD: usize = 2 * TILE;

/// From the matrix.
pub(super) struct Gather<'a> {
    pub matrix: &'a [f32],
    pub columns: Columns,
    pub out: &'a mut [f32],
}

impl Operation for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { matrix, columns, out } = self;
        let Columns { stride, width, rows } = columns;
        if !columns.have_tiles() {
            for (i, column) in out.chunks_exact_mut(rows).take(width).enumerate() {
                for (v, place) in column.iter_mut().zip((i..).step_by(stride)) {
                    *v = matrix[place];
                }
            }
            return;
        }
        // All columns of eight rows before the next: the rows may lie where caches hold no more than eight.
        for row in tiles(rows) {
            for ahead in row + AHEAD..row + AHEAD + TILE {
                if let Some(v) = matrix.get(ahead * stride) {
                    l.prefetch(v);
                }
            }
            for i in tiles(width) {
                l.transpose(
                    (&matrix[row * stride + i..], stride),
                    (&mut out[i * rows + row..], rows),
                );
            }
        }
    }
}

/// To the matrix.
pub(super) struct Scatter<'a> {
    pub from: &'a [f32],
    pub columns: Columns,
    pub matrix: &'a mut [f32],
}

impl Operation for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { from, columns, matrix } = self;
        let Columns { stride, width, rows } = columns;
        if !columns.have_tiles() {
            for (i, column) in from.chunks_exact(rows).take(width).enumerate() {
                for (v, place) in column.iter().zip((i..).step_by(stride)) {
                    matrix[place] = *v;
                }
            }
            return;
        }
        for row in tiles(rows) {
            for ahead in row + AHEAD..row + AHEAD + TILE {
                if let Some(v) = matrix.get(ahead * stride) {
                    l.prefetch(v);
                }
            }
            for i in tiles(width) {
                l.transpose(
                    (&from[i * rows + row..], rows),
                    (&mut matrix[row * stride + i..], stride),
                );
            }
        }
    }
}
