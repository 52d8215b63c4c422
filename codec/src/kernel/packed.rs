//! Numbers to packed codes, row by row: four rows at once where a code fits a byte, since what packs them
//! works on whole registers then.

use super::lanes::{LANES, Lanes};
use crate::arrays;
use crate::code::packed_len;

/// How numbers become codes. A trait and not a closure: a closure is a function of its own, compiled without
/// the features of the instruction set.
pub(super) trait Codes: Copy {
    /// Of the row of that number.
    fn of<L: Lanes>(self, l: L, row: usize, v: L::F) -> L::U;

    /// Of four rows, from one whose number is a multiple of four on; codes above the largest one stand for that.
    #[inline(always)]
    fn of_four<L: Lanes>(self, l: L, row: usize, v: [L::F; 4]) -> [L::U; 4] {
        let [a, b, c, d] = v;
        [self.of(l, row, a), self.of(l, row + 1, b), self.of(l, row + 2, c), self.of(l, row + 3, d)]
    }
}

/// Codes of `x`, of Q bits, at the head of `out`, which has at least 16 bytes to spare behind them; those are
/// overwritten.
#[inline(always)]
pub(super) fn pack_rows<L: Lanes, C: Codes, const Q: u32>(
    l: L,
    x: &[f32],
    codes: C,
    out: &mut [u8],
) {
    let width = 2 * Q as usize; // bytes that a row takes
    let (rows, tail) = arrays::split::<_, LANES>(x);
    let in_fours = if Q <= 8 { rows.len() / 4 * 4 } else { 0 };
    let (fours, others) = rows.split_at(in_fours);
    for (i, four) in arrays::split::<_, 4>(fours).0.iter().enumerate() {
        let [a, b, c, d] = four;
        let packed = codes.of_four(l, 4 * i, [l.load(a), l.load(b), l.load(c), l.load(d)]);
        pack_four::<L, Q>(l, packed, &mut out[4 * i * width..][..4 * width + 16]);
    }
    for (i, row) in (in_fours..).zip(others) {
        l.pack::<Q>(codes.of(l, i, l.load(row)), &mut out[i * width..][..width + 16]);
    }
    if let Some(first) = tail.first() {
        // Any number that has a code will do.
        let mut row = [*first; LANES];
        row[..tail.len()].copy_from_slice(tail);
        let mut found = [0; LANES];
        l.store_u(codes.of(l, rows.len(), l.load(&row)), &mut found);
        // Codes that are not there are zeros, though.
        found[tail.len()..].fill(0);
        let mut packed = [0; 2 * 16 + 16];
        l.pack::<Q>(l.load_u(&found), &mut packed);
        let n = packed_len(tail.len(), Q);
        out[rows.len() * width..][..n].copy_from_slice(&packed[..n]);
    }
}

/// By a constant that the operation takes: Q above 8 is never asked for.
#[inline(always)]
fn pack_four<L: Lanes, const Q: u32>(l: L, codes: [L::U; 4], out: &mut [u8]) {
    match Q {
        1 => l.pack_four::<1>(codes, out),
        2 => l.pack_four::<2>(codes, out),
        3 => l.pack_four::<3>(codes, out),
        4 => l.pack_four::<4>(codes, out),
        5 => l.pack_four::<5>(codes, out),
        6 => l.pack_four::<6>(codes, out),
        7 => l.pack_four::<7>(codes, out),
        _ => l.pack_four::<8>(codes, out),
    }
}
