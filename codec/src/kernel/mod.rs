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
#[cfg(test)]
mod tests;
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
