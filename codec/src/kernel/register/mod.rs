//! One register of f32 and what the search through a trellis does with it: a metric a state and the costs of
//! a step have to stay in registers, of which half of the instruction sets have no more than sixteen,
//! where [`Lanes`](super::lanes::Lanes) may take two of them for a vector.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_shorts;
#[cfg(all(target_arch = "x86_64", fedpress_avx512))]
mod avx512;
#[cfg(all(target_arch = "x86_64", fedpress_avx512))]
mod avx512_shorts;
mod shorts;

use super::lanes::{LANES, Portable};
use super::trellis::{PREDECESSORS, STATES, SUBSETS};

pub(super) use shorts::Shorts;

/// The registers of one instruction set. Each lane is a trellis; every operation rounds once, to nearest even.
pub(super) trait Register: Copy {
    type F: Copy;
    /// A state a lane.
    type States: Copy;
    /// A bit a lane.
    type Mask: Copy + Default;
    type Shorts: Shorts<Floats = Self>;
    /// How many lanes there are: a divisor of [`LANES`].
    const WIDTH: usize;

    fn shorts(self) -> Self::Shorts;

    /// The first values of `x`.
    fn load(self, x: &[f32]) -> Self::F;
    fn store(self, v: Self::F, x: &mut [f32]);
    fn splat(self, v: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c` where the product is exact.
    fn add_exact(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a < b ? a : b`.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a > b ? a : b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// Rounds to the nearest integer, ties to even.
    fn round(self, v: Self::F) -> Self::F;
    /// Where `a < b`.
    fn less(self, a: Self::F, b: Self::F) -> Self::Mask;
    /// The entries at places, which are integers of 0 to 255.
    fn look_up(self, table: &[f32; 256], places: Self::F) -> Self::F;
    /// The first states of `z`.
    fn states(self, z: &[u8; LANES]) -> Self::States;
    /// One step back: the states before `states`, by the first or, where the mask of the state says so, the
    /// second way there, and the subsets by which they were left.
    fn back(self, second: &[Self::Mask; STATES], states: Self::States) -> (Self::States, Self::F);
}

/// The predecessors of all states by the first way, then by the second.
const BEFORE: [u8; 2 * STATES] = by_way(&PREDECESSORS);
/// The subsets in that order.
const LEFT_BY: [u8; 2 * STATES] = by_way(&SUBSETS);

const fn by_way(table: &[[usize; 2]; STATES]) -> [u8; 2 * STATES] {
    let (mut entries, mut i) = ([0; 2 * STATES], 0);
    while i < 2 * STATES {
        entries[i] = table[i % STATES][i / STATES] as u8;
        i += 1;
    }
    entries
}

/// The portable twin.
impl Register for Portable {
    type F = [f32; LANES];
    type States = [u8; LANES];
    type Mask = u16;
    type Shorts = Self;
    const WIDTH: usize = LANES;

    #[inline(always)]
    fn shorts(self) -> Self {
        self
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        std::array::from_fn(|i| x[i])
    }
    #[inline(always)]
    fn store(self, v: Self::F, x: &mut [f32]) {
        x[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        [v; LANES]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn add_exact(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn round(self, v: Self::F) -> Self::F {
        v.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> u16 {
        (0..LANES).fold(0, |mask, i| mask | u16::from(a[i] < b[i]) << i)
    }
    #[inline(always)]
    fn look_up(self, table: &[f32; 256], places: Self::F) -> Self::F {
        places.map(|place| table[place as usize & 255])
    }
    #[inline(always)]
    fn states(self, z: &[u8; LANES]) -> Self::States {
        *z
    }
    #[inline(always)]
    fn back(self, second: &[u16; STATES], states: Self::States) -> (Self::States, Self::F) {
        let ways: [usize; LANES] = std::array::from_fn(|i| {
            let z = usize::from(states[i]) % STATES;
            z + STATES * usize::from(second[z] >> i & 1)
        });
        (ways.map(|way| BEFORE[way]), ways.map(|way| f32::from(LEFT_BY[way])))
    }
}
