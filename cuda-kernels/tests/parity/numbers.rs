//! Values to test with.

use fedpress::DType;
use half::{bf16, f16};

/// What the values are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Bell-shaped, like weights.
    Plain,
    /// Over thirty decades.
    Wide,
    /// Largest magnitude beyond 2^64: the group has an exponent.
    Huge,
    /// Nothing but subnormal numbers: an exponent, too.
    Subnormal,
    /// Zeros of both signs and a few values.
    Sparse,
    /// One value throughout.
    Constant,
    /// Less below zero than above it, by another ratio in every 256 values.
    Skewed,
}

pub const KINDS: [Kind; 7] = [
    Kind::Plain,
    Kind::Wide,
    Kind::Huge,
    Kind::Subnormal,
    Kind::Sparse,
    Kind::Constant,
    Kind::Skewed,
];

/// A generator of 64-bit words (SplitMix64).
pub struct Words(pub u64);

impl Words {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -1 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// `n` values of a kind; the same for the same seed.
pub fn values(kind: Kind, n: usize, seed: u64) -> Vec<f32> {
    let mut words = Words(seed);
    let mut bell = move || {
        let sum: f32 = (0..4).map(|_| words.unit()).sum();
        (sum, words.next())
    };
    (0..n)
        .map(|i| {
            let (v, word) = bell();
            match kind {
                Kind::Plain => v * 0.1,
                Kind::Wide => v * 10f32.powi((word % 30) as i32 - 20),
                Kind::Huge => v * 7e37,
                Kind::Subnormal => f32::from_bits((word & 0x8000_ffff) as u32),
                Kind::Sparse if word % 5 == 0 => v,
                Kind::Sparse => f32::from_bits(((word % 2) as u32) << 31),
                Kind::Constant => 0.75,
                Kind::Skewed if v < 0.0 => v * ((i / 256 % 16) as f32 / 16.0),
                Kind::Skewed => v,
            }
        })
        .collect()
}

/// The same as elements of a type.
pub fn elements(dtype: DType, values: &[f32]) -> Vec<u8> {
    let of = |v: &f32| match dtype {
        DType::F16 => f16::from_f32(v.clamp(-6e4, 6e4)).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f32(v.clamp(-1e38, 1e38)).to_le_bytes().to_vec(),
        _ => v.to_le_bytes().to_vec(),
    };
    values.iter().flat_map(of).collect()
}
