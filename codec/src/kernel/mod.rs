//! The inner loops, written once over sixteen lanes and compiled for each instruction set.
//!
//! [`lanes`] defines the few operations an instruction set has to offer and gives the portable
//! twin; [`avx2`] and [`avx512`] implement the same operations with intrinsics, [`mixing`] and [`register`] name
//! those on single registers, and they are, with the call into them below, the only unsafe code of the crate. The algorithms ([`hadamard`],
//! [`passes`], [`packed`], [`uniform`], [`scan`]) are safe, generic and written once, so every level runs the same
//! arithmetic in the same order and gives the same bits: additions, subtractions and
//! multiplications only, never contracted. A test compares the levels anyway.
#![allow(unsafe_code, reason = "the one place for intrinsics; see the module text")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "x86_64", fedpress_avx512))]
mod avx512;
mod column_units;
mod columns;
mod hadamard;
mod lanes;
mod levels;
mod masks;
mod mixing;
pub(crate) mod neighbours;
mod packed;
mod passes;
pub(crate) mod rans;
mod register;
mod scan;
mod shuffle;
pub(crate) mod step;
pub(crate) mod trellis;
mod uniform;

use lanes::{Lanes, Portable};

pub(crate) use column_units::{COLUMNS, ROWS};
pub(crate) use columns::Columns;
pub(crate) use hadamard::Range;
pub(crate) use levels::Thresholds;
#[cfg(test)]
pub(crate) use levels::sum_of_products;
pub(crate) use masks::{SLACK as MASK_SLACK, translated};
pub(crate) use neighbours::{Neighbours, Order, PLACES};
pub(crate) use step::{Magnitudes, Step, Tally};
pub(crate) use trellis::{Found, Penalty};
pub(crate) use uniform::{Grid, Rounding};

/// Which instruction set to use. Bytes never depend on it; it exists for tests and benches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Simd {
    /// The widest one this processor has.
    #[default]
    Auto,
    /// Portable code.
    Scalar,
    /// At most AVX2 (x86-64).
    Avx2,
}

/// A unit of work that runs at any level.
trait Operation {
    type Output;
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// The instruction set in use, found out once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kernel {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(all(target_arch = "x86_64", fedpress_avx512))]
    Avx512(avx512::Avx512),
}

impl Kernel {
    pub(crate) fn new(simd: Simd) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            #[cfg(fedpress_avx512)]
            if let (Simd::Auto, Some(lanes)) = (simd, avx512::Avx512::detect()) {
                return Self::Avx512(lanes);
            }
            if let (Simd::Auto | Simd::Avx2, Some(lanes)) = (simd, avx2::Avx2::detect()) {
                return Self::Avx2(lanes);
            }
        }
        let _ = simd;
        Self::Portable(Portable)
    }

    fn run<O: Operation>(self, operation: O) -> O::Output {
        match self {
            Self::Portable(lanes) => operation.run(lanes),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only after `Avx2::detect` saw these features.
            Self::Avx2(lanes) => unsafe { avx2::enter(lanes, operation) },
            #[cfg(all(target_arch = "x86_64", fedpress_avx512))]
            // SAFETY: an `Avx512` exists only after `Avx512::detect` saw these features.
            Self::Avx512(lanes) => unsafe { avx512::enter(lanes, operation) },
        }
    }

    /// `y = norm * H (s * x)`, s the signs of `key`, H the unnormalised Walsh-Hadamard matrix in
    /// natural order. `x` and `y` have the same power-of-two length. Brings `ahead` into the cache
    /// meanwhile, as far as `x` is long. The range of `y` costs next to nothing here.
    pub(crate) fn rotate(self, x: &[f32], y: &mut [f32], key: u64, ahead: &[f32]) -> Range {
        self.run(hadamard::Rotate { x, y, key, ahead })
    }

    /// The same in place.
    pub(crate) fn rotate_in_place(self, y: &mut [f32], key: u64) {
        self.run(hadamard::RotateInPlace { y, key });
    }

    /// The inverse of [`rotate`](Self::rotate), from `x` to `y`; `work` is as long and best begins at a cache
    /// line, or it is empty where `y` does.
    pub(crate) fn unrotate(self, x: &[f32], work: &mut [f32], y: &mut [f32], key: u64) {
        self.run(hadamard::Unrotate { x, work, y, key });
    }

    /// The same in place.
    pub(crate) fn unrotate_in_place(self, y: &mut [f32], key: u64) {
        self.run(hadamard::UnrotateInPlace { y, work: &mut [], key });
    }

    /// The same from the end of `y` over `work`, which is as long as that and best begins at a cache line, to the
    /// head of `y`.
    pub(crate) fn unrotate_through(self, y: &mut [f32], work: &mut [f32], key: u64) {
        self.run(hadamard::UnrotateInPlace { y, work, key });
    }

    /// Rotates, as [`rotate_in_place`](Self::rotate_in_place) does, [`ROWS`] rows of the first [`COLUMNS`] columns
    /// of a matrix, one column behind the other, where they are; asks for the columns behind them. `work` has as many
    /// values, and best begins at a cache line.
    pub(crate) fn rotate_columns(
        self,
        matrix: &mut [f32],
        stride: usize,
        work: &mut [f32],
        key: u64,
    ) {
        self.run(column_units::RotateColumns { matrix, stride, work, key, inverse: false });
    }

    /// The inverse.
    pub(crate) fn unrotate_columns(
        self,
        matrix: &mut [f32],
        stride: usize,
        work: &mut [f32],
        key: u64,
    ) {
        self.run(column_units::RotateColumns { matrix, stride, work, key, inverse: true });
    }

    /// Columns of a matrix, one behind the other.
    pub(crate) fn gather_columns(self, matrix: &[f32], columns: Columns, out: &mut [f32]) {
        self.run(columns::Gather { matrix, columns, out });
    }

    /// The inverse.
    pub(crate) fn scatter_columns(self, from: &[f32], columns: Columns, matrix: &mut [f32]) {
        self.run(columns::Scatter { from, columns, matrix });
    }

    /// Smallest and largest value, with -0 counted as +0. `x` is not empty.
    pub(crate) fn min_max(self, x: &[f32]) -> (f32, f32) {
        self.run(scan::MinMax { x })
    }

    /// The largest absolute value, as bits: integer order is value order, so anything at or above
    /// the bits of infinity means that the slice holds infinity or NaN.
    pub(crate) fn peak_bits(self, x: &[f32]) -> u32 {
        self.run(scan::PeakBits { x })
    }

    /// `out += weight * x`.
    pub(crate) fn add_scaled(self, out: &mut [f32], x: &[f32], weight: f32) {
        self.run(scan::AddScaled { out, x, weight });
    }

    /// Codes of `x` on `grid`, packed at the head of `out`, which has at least 16 bytes to spare
    /// after them; those are overwritten.
    pub(crate) fn quantize(self, x: &[f32], grid: &Grid, rounding: Rounding, out: &mut [u8]) {
        self.run(uniform::Quantize { x, grid, rounding, out });
    }

    /// For each of `x` how many of the thresholds, which ascend, are not above it times `factor`: codes
    /// of `q` bits, packed as those of [`quantize`](Self::quantize) are.
    pub(crate) fn count_below(
        self,
        x: &[f32],
        factor: f32,
        thresholds: &Thresholds,
        q: u32,
        out: &mut [u8],
    ) {
        self.run(levels::CountBelow { x, factor, thresholds, q, out });
    }

    /// The entries of a table that packed codes of `q` bits, at most 8, stand for.
    pub(crate) fn look_up(self, packed: &[u8], q: u32, table: &[f32; 256], out: &mut [f32]) {
        self.run(levels::LookUp { packed, q, table, out });
    }

    /// Puts the values of the cheapest path through a trellis in the place of numbers, times `factor`.
    /// There are 16 times `width` trellises, at most 64. Numbers times the factor are below [`trellis::LARGEST`].
    pub(crate) fn search_trellis(
        self,
        y: &mut [f32],
        factor: f32,
        width: usize,
        penalty: Option<&Penalty>,
    ) -> Found {
        match penalty {
            None => self.run(trellis::Plain { y, factor, width }),
            Some(penalty) => self.run(trellis::Penalised { y, factor, width, penalty }),
        }
    }

    /// The lowest `q` bits, at most 8, of integers, packed as codes of [`quantize`](Self::quantize)
    /// are; a value of a trellis is an integer times two and a bit.
    pub(crate) fn pack_low(self, x: &[f32], shift: u32, q: u32, out: &mut [u8]) {
        self.run(levels::PackLow { x, shift, q, out });
    }

    /// Encodes values of a trellis with two `tables`, whose entries stand in turn, all but the `low` bits of
    /// their indices: those before the ones that left these states, of which the first is a multiple of 64.
    /// Words go before `end` in `out`; where they start.
    pub(crate) fn encode_values(
        self,
        x: &[f32],
        (tables, low): (&[u32], u32),
        lanes: usize,
        states: &mut rans::States,
        (out, end): (&mut [u8], usize),
        escaped: &mut Vec<u32>,
    ) -> usize {
        let contexts = rans::Values { low, scale: 1.0 };
        self.run(rans::Encode { x, contexts, tables, lanes, states, out, end, escaped })
    }

    /// Decodes the next of them, times a scale; the first one is a multiple of 64. `None` if the words are not
    /// valid.
    pub(crate) fn decode_values(
        self,
        tables: &[u32],
        walk: rans::Values,
        (words, lanes): (&[u8], usize),
        elsewhere: &mut impl rans::Elsewhere,
        progress: &mut rans::Progress,
        out: &mut [f32],
    ) -> Option<()> {
        self.run(rans::Decode { tables, walk, lanes, words, elsewhere, progress, out })
    }

    /// Encodes multiples of a step, each block by the table of its class; where in `out` that starts.
    pub(crate) fn encode_multiples(
        self,
        x: &[f32],
        tables: &[u32],
        classes: &[u8],
        lanes: usize,
        out: &mut [u8],
    ) -> usize {
        let contexts = rans::Multiples { classes };
        self.encode_all(x, contexts, tables, lanes, out)
    }

    /// Decodes them; where the words end, or `None` if they are not valid.
    pub(crate) fn decode_multiples(
        self,
        tables: &[u32],
        classes: &[u8],
        lanes: usize,
        words: &[u8],
        elsewhere: &mut impl rans::Elsewhere,
        out: &mut [f32],
    ) -> Option<usize> {
        let (walk, progress) =
            (rans::Multiples { classes }, &mut rans::Progress::start(words, lanes)?);
        self.run(rans::Decode { tables, walk, lanes, words, elsewhere, progress, out })?;
        progress.end(lanes)
    }

    /// How far multiples, in rows of lanes, are from what their neighbours let expect, and for each its place,
    /// times 2^8, plus the token of that; those before the place `from` are left out.
    pub(crate) fn compare(
        self,
        (k, from): (&[f32], usize),
        neighbours: Neighbours,
        rests: &mut [f32],
        placed: &mut [u32],
    ) {
        self.run(neighbours::Compare { k, from, neighbours, rests, placed });
    }

    /// Puts multiples into the order in which they are coded, in rows of lanes, or coded ones back.
    pub(crate) fn reorder(self, by: Neighbours, to: Order, from: &[f32], out: &mut [f32]) {
        self.run(neighbours::Reorder { by, to, from, out });
    }

    /// Encodes what that gives, each by the table of its place; where in `out` that starts.
    pub(crate) fn encode_placed(
        self,
        rests: &[f32],
        starts: &[u32],
        (placed, tables): (&[u32], &[u32; PLACES]),
        lanes: usize,
        out: &mut [u8],
    ) -> usize {
        let contexts = neighbours::Placed { placed, tables };
        self.encode_all(rests, contexts, starts, lanes, out)
    }

    /// Encodes integers all of which have tokens, to the end of `out`.
    fn encode_all<C: rans::Contexts>(
        self,
        x: &[f32],
        contexts: C,
        tables: &[u32],
        lanes: usize,
        out: &mut [u8],
    ) -> usize {
        let (mut states, end, mut escaped) = (rans::States::start(), out.len(), Vec::new());
        let (states, escaped) = (&mut states, &mut escaped);
        let end = self.run(rans::Encode {
            x,
            contexts,
            tables,
            lanes,
            states: &mut *states,
            out: &mut *out,
            end,
            escaped,
        });
        states.put(lanes, out, end)
    }

    /// Decodes multiples, in rows of lanes; where the words end, or `None` if they are not valid.
    pub(crate) fn decode_placed(
        self,
        slots: &[u32],
        neighbours: Neighbours,
        tables: &[u32; PLACES],
        words: &[u8],
        elsewhere: &mut impl rans::Elsewhere,
        out: &mut [f32],
    ) -> Option<usize> {
        let (walk, lanes) = (neighbours::Followed { neighbours, tables }, neighbours.lanes);
        let progress = &mut rans::Progress::start(words, lanes)?;
        self.run(rans::Decode { tables: slots, walk, lanes, words, elsewhere, progress, out })?;
        progress.end(lanes)
    }

    /// The multiples of a step that numbers become; `inverse` is one over the step. The first of them is
    /// number `first`, a multiple of sixteen.
    pub(crate) fn divide(self, x: &[f32], first: usize, inverse: f32, step: Step, out: &mut [f32]) {
        self.run(step::Divide { x, first, inverse, step, out });
    }

    /// Adds the tokens of multiples to how often each occurs.
    pub(crate) fn count(self, k: &[f32], tally: &mut Tally) {
        self.run(step::Count { k, tally });
    }

    /// How many numbers become 1 or -1, and how many become more, and how large those are.
    pub(crate) fn measure(self, x: &[f32], inverse: f32, step: Step) -> [Magnitudes; 2] {
        self.run(step::Measure { x, inverse, step })
    }

    /// What multiples of a step of this size stand for, in their place; the first of them is number
    /// `first`, a multiple of sixteen.
    pub(crate) fn multiply(self, k: &mut [f32], size: f32, step: Step, first: usize) {
        self.run(step::Multiply { k, size, step, first });
    }

    /// Translates each mask, a set of positions, by its number below 64: `p` becomes `p ^ by`.
    pub(crate) fn translate(self, masks: &mut [u64], by: &[u64]) {
        self.run(masks::Translate { masks, by });
    }

    /// The values of `x` at the set bits of `masks`, 64 a mask, at the head of `out`, which has
    /// [`MASK_SLACK`] values to spare behind them; says how many they are.
    pub(crate) fn compress(self, x: &[f32], masks: &[u64], out: &mut [f32]) -> usize {
        self.run(masks::Compress { x, masks, out })
    }

    /// `out` is the values at the head of `x` times `gain` where bits of `masks` are set, 64 a mask, and
    /// zeros elsewhere; `x` has [`MASK_SLACK`] values more. Says how many were used.
    pub(crate) fn expand(self, x: &[f32], masks: &[u64], gain: f32, out: &mut [f32]) -> usize {
        self.run(masks::Expand { x, masks, gain, out })
    }

    /// The sum of the products `a[i] * b[i]` in f64, in the order of FORMAT.md, section 9.
    pub(crate) fn sum_of_products(self, a: &[f32], b: &[f32]) -> f64 {
        let mut sums = [0.0; 16];
        self.add_products(&mut sums, a, b);
        sums.iter().sum()
    }

    /// Adds the products `a[i] * b[i]`, exact in f64, to the sums of those whose number is i modulo 16.
    pub(crate) fn add_products(self, sums: &mut [f64; 16], a: &[f32], b: &[f32]) {
        self.run(levels::AddProducts { sums, a, b });
    }

    /// Bytes of elements of `size` bytes by plane, into as many bytes.
    pub(crate) fn shuffle(self, elements: &[u8], size: usize, planes: &mut [u8]) {
        self.run(shuffle::Shuffle { elements, size, planes });
    }

    /// The inverse.
    pub(crate) fn unshuffle(self, planes: &[u8], size: usize, elements: &mut [u8]) {
        self.run(shuffle::Unshuffle { planes, size, elements });
    }

    /// Values of the packed codes in `packed`: `lo + code * step`.
    pub(crate) fn dequantize(self, packed: &[u8], grid: &Grid, out: &mut [f32]) {
        self.run(uniform::Dequantize { packed, grid, out });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{word, word32};

    /// Miri takes minutes for what is longer, and finds nothing more in it.
    const LONGEST: usize = if cfg!(miri) { 64 } else { 1 << 16 };

    fn levels() -> Vec<Kernel> {
        vec![Kernel::new(Simd::Scalar), Kernel::new(Simd::Avx2), Kernel::new(Simd::Auto)]
    }

    /// Ordinary values, and the awkward ones: zeros of both signs, subnormals, huge spans.
    fn vectors(n: usize) -> Vec<Vec<f32>> {
        let unit = |key: u64| (0..n).map(move |i| (word(key, i as u64) >> 40) as f32 - 8e6);
        vec![
            unit(1).collect(),
            unit(2).map(|v| v * 1e-44).collect(),
            unit(3).map(|v| if (v as i32) % 3 == 0 { -0.0 } else { v * 1e11 }).collect(),
            unit(4).map(|v| if v > 0.0 { 0.0 } else { -0.0 }).collect(),
            unit(5).enumerate().map(|(i, v)| v * 10f32.powi(i as i32 % 40 - 30)).collect(),
        ]
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let lengths = [1usize, 2, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 32768];
        for n in lengths.into_iter().filter(|n| *n <= LONGEST) {
            for x in vectors(n) {
                let rotated: Vec<_> = levels()
                    .iter()
                    .map(|kernel| {
                        let mut y = vec![0.0; n];
                        let range = kernel.rotate(&x, &mut y, 99, &x);
                        assert_eq!(range, kernel.min_max(&y));
                        let forward = bits(&y);
                        let (mut work, mut back) = (vec![0.0; n], x.clone());
                        kernel.rotate_in_place(&mut back, 99);
                        assert_eq!(bits(&back), forward);
                        kernel.unrotate(&y, &mut work, &mut back, 99);
                        kernel.unrotate(&y, &mut [], &mut work, 99);
                        let mut through = [&[1.0, 2.0, 3.0], &y[..]].concat();
                        kernel.unrotate_through(&mut through, &mut vec![0.0; n], 99);
                        let mut shifted = [&[1.0], &y[..]].concat();
                        kernel.unrotate_in_place(&mut shifted[1..], 99);
                        kernel.unrotate_in_place(&mut y, 99);
                        assert_eq!(bits(&y), bits(&back));
                        assert_eq!(bits(&y), bits(&shifted[1..]));
                        assert_eq!(bits(&y), bits(&through[..n]));
                        assert_eq!(bits(&y), bits(&work));
                        (forward, bits(&y), kernel.peak_bits(&x))
                    })
                    .collect();
                assert_eq!(rotated[0], rotated[1], "n = {n}");
                assert_eq!(rotated[0], rotated[2], "n = {n}");
            }
        }
    }

    #[test]
    fn every_level_shuffles_to_the_same_bytes_and_back() {
        for size in [1, 2, 3, 4, 8] {
            for n in (0..40).chain([63, 64, 65, 100, 1000].into_iter().filter(|n| *n <= LONGEST)) {
                let bytes: Vec<u8> = (0..n * size).map(|i| word(1, i as u64) as u8).collect();
                let expected: Vec<u8> =
                    (0..size).flat_map(|p| bytes.iter().skip(p).step_by(size).copied()).collect();
                for kernel in levels() {
                    let (mut planes, mut back) = (vec![0; bytes.len()], vec![0; bytes.len()]);
                    kernel.shuffle(&bytes, size, &mut planes);
                    assert_eq!(planes, expected, "{n} of {size}");
                    kernel.unshuffle(&planes, size, &mut back);
                    assert_eq!(back, bytes, "{n} of {size}");
                }
            }
        }
    }

    #[test]
    fn every_level_moves_columns_alike_and_back() {
        for (stride, width, rows) in
            [(1, 1, 5), (7, 7, 9), (8, 8, 8), (40, 16, 24), (41, 15, 23), (16, 9, 7), (19, 19, 17)]
        {
            let columns = Columns { stride, width, rows };
            let matrix: Vec<f32> = (0..(rows - 1) * stride + width).map(|i| i as f32).collect();
            let places = (0..width).flat_map(|i| (0..rows).map(move |row| row * stride + i));
            let expected: Vec<f32> = places.map(|place| place as f32).collect();
            for kernel in levels() {
                let (mut found, mut back) = (vec![-1.0; width * rows], vec![-1.0; matrix.len()]);
                kernel.gather_columns(&matrix, columns, &mut found);
                assert_eq!(found, expected, "{columns:?}");
                kernel.scatter_columns(&found, columns, &mut back);
                let is_moved = |i: usize| i % stride < width;
                let kept = |(i, v): (usize, &f32)| if is_moved(i) { *v } else { -1.0 };
                let expected: Vec<f32> = matrix.iter().enumerate().map(kept).collect();
                assert_eq!(back, expected, "{columns:?}");
            }
        }
    }

    #[test]
    fn every_level_rotates_columns_in_their_place_alike() {
        for (stride, from) in [(16, 0), (19, 3), (40, 24)] {
            for x in vectors(ROWS * stride) {
                let columns = Columns { stride, width: COLUMNS, rows: ROWS };
                let kernel = Kernel::new(Simd::Scalar);
                let mut unit = vec![0.0; ROWS * COLUMNS];
                let mut expected = [x.clone(), x.clone()];
                for (expected, inverse) in expected.iter_mut().zip([false, true]) {
                    kernel.gather_columns(&x[from..], columns, &mut unit);
                    match inverse {
                        false => kernel.rotate_in_place(&mut unit, 99),
                        true => kernel.unrotate_in_place(&mut unit, 99),
                    }
                    kernel.scatter_columns(&unit, columns, &mut expected[from..]);
                }
                for kernel in levels() {
                    let (mut forward, mut back) = (x.clone(), x.clone());
                    kernel.rotate_columns(&mut forward[from..], stride, &mut unit, 99);
                    kernel.unrotate_columns(&mut back[from..], stride, &mut unit, 99);
                    assert_eq!(
                        [forward, back].map(|y| bits(&y)),
                        expected.each_ref().map(|y| bits(y))
                    );
                }
            }
        }
    }

    #[test]
    fn every_level_moves_values_by_masks_alike() {
        for x in vectors(16 * 64) {
            for key in 0..8 {
                // All densities, none and all among them.
                let mask = |i: u64| match (key, i % 5) {
                    (_, 0) => 0,
                    (_, 1) => u64::MAX,
                    (0..4, _) => word(key, i) & word(key + 9, i),
                    _ => word(key, i) | word(key + 9, i),
                };
                let masks: Vec<_> = (0..16).map(mask).collect();
                let chosen = |i: &usize| masks[i / 64] >> (i % 64) & 1 == 1;
                let expected: Vec<_> = (0..x.len()).filter(chosen).map(|i| x[i]).collect();
                for kernel in levels() {
                    let mut kept = vec![f32::NAN; expected.len() + MASK_SLACK];
                    assert_eq!(kernel.compress(&x, &masks, &mut kept), expected.len());
                    assert_eq!(bits(&kept[..expected.len()]), bits(&expected));
                    kept[expected.len()..].fill(f32::NAN);
                    let mut back = vec![f32::NAN; x.len()];
                    assert_eq!(kernel.expand(&kept, &masks, 0.75, &mut back), expected.len());
                    let spread = |i| if chosen(&i) { x[i] * 0.75 } else { 0.0 };
                    assert_eq!(bits(&back), bits(&(0..x.len()).map(spread).collect::<Vec<_>>()));
                }
            }
        }
    }

    #[test]
    fn every_level_finds_the_code_of_a_number_between_thresholds() {
        let middles = |n: i32| (1 - n..n).map(|i| i as f32 * 0.0169 + (i as f32 * 0.01).powi(3));
        for q in 1..=8u32 {
            let all: Vec<f32> = middles(1 << (q - 1)).collect();
            let thresholds = Thresholds::new(all.clone());
            let beside = |t: &f32| [t.next_down(), *t, t.next_up()];
            let mut x: Vec<f32> = all.iter().flat_map(beside).collect();
            x.extend([
                0.0,
                -0.0,
                1e-40,
                -9.0,
                9.0,
                -1e30,
                f32::MAX,
                f32::INFINITY,
                f32::NEG_INFINITY,
            ]);
            x.extend((0..5000).map(|i| (word(3, i) >> 40) as f32 * 1e-6 - 8.4));
            let expected: Vec<_> =
                x.iter().map(|x| all.partition_point(|t| t <= x) as f32).collect();
            let table = std::array::from_fn(|i| i as f32);
            for kernel in levels() {
                let mut packed = vec![0; crate::code::packed_len(x.len(), q) + 16];
                kernel.count_below(&x, 1.0, &thresholds, q, &mut packed);
                let mut codes = vec![f32::NAN; x.len()];
                kernel.look_up(&packed, q, &table, &mut codes);
                for ((code, expected), x) in codes.iter().zip(&expected).zip(&x) {
                    assert_eq!(code, expected, "{x} in {q} bits");
                }
            }
        }
    }

    #[test]
    fn sums_of_products_do_not_depend_on_the_level_or_on_cuts() {
        for (a, b) in vectors(5003).into_iter().zip(vectors(5003).into_iter().rev()) {
            let expected = Kernel::new(Simd::Scalar).sum_of_products(&a, &b);
            for kernel in levels() {
                assert_eq!(kernel.sum_of_products(&a, &b).to_bits(), expected.to_bits());
                let mut sums = [0.0; 16];
                for at in [0..32, 32..4096, 4096..5003] {
                    kernel.add_products(&mut sums, &a[at.clone()], &b[at]);
                }
                assert_eq!(sums.iter().sum::<f64>().to_bits(), expected.to_bits());
            }
        }
    }

    #[test]
    fn every_level_counts_and_measures_multiples_alike() {
        let step = Step::Nearest { dead: 0.1, shifts: [0.0; 2] };
        for (x, inverse) in vectors(5003).into_iter().flat_map(|x| [(x.clone(), 1e-6), (x, 1.0)]) {
            let mut k = vec![f32::NAN; x.len()];
            Kernel::new(Simd::Scalar).divide(&x, 0, inverse, step, &mut k);
            let count = |token| k.iter().filter(|k| rans::token(**k as i32) == token).count();
            let counts: Vec<usize> = (0..256).map(count).collect();
            let those = |of: fn(f32) -> bool| {
                let pairs = k.iter().zip(&x).filter(move |(k, _)| of(k.abs()));
                pairs.map(|(k, x)| (f64::from(k.abs()), f64::from(x.abs())))
            };
            for kernel in levels() {
                let mut tally = Tally::new();
                kernel.count(&k, &mut tally);
                assert!((0..256).all(|token| tally.of(token) as usize == counts[token]));
                let [ones, more] = kernel.measure(&x, inverse, step);
                assert_eq!([ones, more], Kernel::new(Simd::Scalar).measure(&x, inverse, step));
                for (found, of) in [(ones, (|k| k == 1.0) as fn(f32) -> bool), (more, |k| k > 1.0)]
                {
                    assert_eq!(found.n as usize, those(of).count());
                    assert_eq!(found.multiples, those(of).map(|(k, _)| k).sum::<f64>());
                    let numbers: f64 = those(of).map(|(_, x)| x).sum();
                    assert!((found.numbers - numbers).abs() <= 1e-9 * numbers);
                }
            }
        }
    }

    /// FORMAT.md, section 9, a value at a time; many are the largest, whose position is rounded above the last
    /// level now and then.
    #[test]
    fn every_level_rounds_by_the_draws_of_the_format() {
        for (key, q) in (0..50).flat_map(|key| (1..=16).map(move |q| (key, q))) {
            let number = |i| (word(key, i) >> 40) as f32 * 1e-3;
            let (lo, hi) = (number(0) - 1e4, number(0) - 1e4 + number(1) + 1e-2);
            let grid = Grid::cover(lo, hi, q);
            let x: Vec<_> =
                (0..100).map(|i| if i % 3 == 0 { lo + number(i) } else { hi }).collect();
            let x: Vec<_> = x.into_iter().map(|x| x.min(hi)).collect();
            let (top, scale) = (((1u32 << q) - 1) as f32 * 32768.0, grid.inverse * 32768.0);
            let expected = x.iter().enumerate().map(|(i, x)| {
                let draw = word32(key, i as u32 / 2) >> (16 * (i % 2) + 1) & 0x7fff;
                let fixed = ((x - lo) * scale).min(top).round_ties_even() as u32;
                lo + ((fixed + draw) >> 15) as f32 * grid.step
            });
            let expected: Vec<_> = expected.collect();
            for kernel in levels() {
                let mut packed = vec![0; crate::code::packed_len(x.len(), q) + 16];
                kernel.quantize(&x, &grid, Rounding::Stochastic(key), &mut packed);
                packed.truncate(crate::code::packed_len(x.len(), q));
                let mut out = vec![f32::NAN; x.len()];
                kernel.dequantize(&packed, &grid, &mut out);
                assert_eq!(out, expected, "{lo} to {hi} in {q} bits");
            }
        }
    }

    #[test]
    fn every_level_quantizes_to_the_same_bytes() {
        let lengths = [1usize, 3, 15, 16, 17, 250, 256, 1000, 4096, 5000];
        for n in lengths.into_iter().filter(|n| *n <= LONGEST) {
            for (q, x) in (1..=16).flat_map(|q| vectors(n).into_iter().map(move |x| (q, x))) {
                for rounding in [Rounding::Stochastic(5), Rounding::Nearest] {
                    let results: Vec<_> = levels()
                        .iter()
                        .map(|kernel| {
                            let (lo, hi) = kernel.min_max(&x);
                            let grid = Grid::cover(lo, hi, q);
                            let mut packed = vec![0xAA; crate::code::packed_len(n, q) + 16];
                            kernel.quantize(&x, &grid, rounding, &mut packed);
                            packed.truncate(crate::code::packed_len(n, q));
                            let mut out = vec![f32::NAN; n];
                            kernel.dequantize(&packed, &grid, &mut out);
                            kernel.add_scaled(&mut out, &x, 0.25);
                            (packed, bits(&out), lo.to_bits(), hi.to_bits())
                        })
                        .collect();
                    assert_eq!(results[0], results[1], "n = {n}, q = {q}");
                    assert_eq!(results[0], results[2], "n = {n}, q = {q}");
                }
            }
        }
    }
}
