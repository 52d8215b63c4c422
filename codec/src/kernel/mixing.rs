//! Registers of f32 as the Walsh-Hadamard transform wants them.

use super::lanes::Portable;
use bytemuck::Pod;

/// The registers of one instruction set. Every operation rounds once, to nearest even.
pub(super) trait Mixing: Copy {
    type V: Copy;
    /// The values of a register.
    type Row: Pod;
    /// How many these are: 8 or 16.
    const WIDTH: usize;
    /// How many registers a pass of the transform changes at once: 8 or 16.
    const RADIX: usize;

    fn load(self, x: &Self::Row) -> Self::V;
    fn store(self, v: Self::V, x: &mut Self::Row);
    fn splat(self, v: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? a : b`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// Flips the sign of lane i when bit `WIDTH * part + i` of `signs` is set.
    fn flip(self, v: Self::V, signs: u64, part: usize) -> Self::V;
    /// `a - b` by units that do not subtract, where there are some that would be idle otherwise.
    #[inline(always)]
    fn sub_elsewhere(self, a: Self::V, b: Self::V) -> Self::V {
        self.sub(a, b)
    }
    /// The stage h = 1: lane i without bit h gets `v[i] + v[i + h]`, lane i with it `v[i - h] - v[i]`.
    fn mix_first(self, v: Self::V) -> Self::V;
    /// The stages h = 2, ... inside a register but the last.
    fn mix_middle(self, v: Self::V) -> Self::V;
    /// The last stage inside a register.
    fn mix_last(self, v: Self::V) -> Self::V;
    /// Loads a register and does the first stage.
    #[inline(always)]
    fn load_first(self, x: &Self::Row) -> Self::V {
        self.mix_first(self.load(x))
    }
    /// Loads a register and does the last stage.
    #[inline(always)]
    fn load_last(self, x: &Self::Row) -> Self::V {
        self.mix_last(self.load(x))
    }
}

/// Lanes of the portable twin: as many of them as registers of a pass have fit those of most processors.
const EIGHT: usize = 8;

#[inline(always)]
fn map2(a: [f32; EIGHT], b: [f32; EIGHT], f: impl Fn(f32, f32) -> f32) -> [f32; EIGHT] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// The portable twin.
impl Mixing for Portable {
    type V = [f32; EIGHT];
    type Row = [f32; EIGHT];
    const WIDTH: usize = EIGHT;
    const RADIX: usize = 8;

    #[inline(always)]
    fn load(self, x: &Self::Row) -> Self::V {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::V, x: &mut Self::Row) {
        *x = v;
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::V {
        [v; EIGHT]
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn flip(self, v: Self::V, signs: u64, part: usize) -> Self::V {
        let signs = (signs >> (EIGHT * part)) as u32;
        std::array::from_fn(|i| f32::from_bits(v[i].to_bits() ^ ((signs >> i) << 31)))
    }
    #[inline(always)]
    fn mix_first(self, v: Self::V) -> Self::V {
        stage(v, 1)
    }
    #[inline(always)]
    fn mix_middle(self, v: Self::V) -> Self::V {
        stage(v, 2)
    }
    #[inline(always)]
    fn mix_last(self, v: Self::V) -> Self::V {
        stage(v, 4)
    }
}

#[inline(always)]
fn stage(v: [f32; EIGHT], h: usize) -> [f32; EIGHT] {
    std::array::from_fn(|i| if i & h == 0 { v[i] + v[i ^ h] } else { v[i ^ h] - v[i] })
}
