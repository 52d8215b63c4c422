//! Randomness, frozen in FORMAT.md ("Randomness"): a counter hash for everything that is drawn per
//! value, a seekable stream for index selection, and keys that are hashes of what they belong to.
//!
//! Nothing here has state that depends on the order of work, so any chunk is decoded alone, threads
//! do not matter, and a GPU computes the same integers.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

/// Increment of the counter: 2^64 over the golden ratio (Steele, Lea & Flood 2014, SplitMix64).
pub(crate) const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

/// ASCII "fedpress": the start of every key.
const DOMAIN: u64 = 0x6665_6470_7265_7373;

/// The SplitMix64 finalizer: a bijection that scatters neighbours.
#[inline(always)]
pub(crate) fn mix(mut z: u64) -> u64 {
    z ^= z >> 30;
    z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Word `i` of the stream of `key`.
#[inline(always)]
pub(crate) fn word(key: u64, i: u64) -> u64 {
    mix(key.wrapping_add(i.wrapping_add(1).wrapping_mul(INCREMENT)))
}

fn absorb(hash: u64, value: u64) -> u64 {
    mix(hash ^ mix(value.wrapping_add(INCREMENT)))
}

/// A 64-bit key that is a hash of a list of numbers (FORMAT.md, "Keys"): for applications that need
/// seeds per round, client or purpose of their own. Never add numbers to make a seed.
///
/// ```
/// let of = |round, client| fedpress::derive_key(&[7, round, client]);
/// assert_ne!(of(1, 2), of(2, 1));
/// ```
pub fn derive_key(parts: &[u64]) -> u64 {
    parts.iter().copied().fold(DOMAIN, absorb)
}

/// The tensor key of a name: a hash of its UTF-8 bytes.
pub(crate) fn name_key(name: &str) -> u64 {
    let length = absorb(DOMAIN, name.len() as u64);
    name.as_bytes().chunks(8).fold(length, |hash, chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        absorb(hash, u64::from_le_bytes(bytes))
    })
}

/// What makes the draws of one encoding differ from those of another.
///
/// The `shared` seed and the `round` travel with each tensor that needs them: sender and receiver,
/// and all clients of a round, rotate and subsample alike. The `private` seed and the `client` do
/// not travel: they decide how values round, and errors average out over clients only when every
/// client draws for itself. There is no default: take the private seed from the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    /// Rotation and subsampling; the same for everyone in a round.
    pub shared: u64,
    /// Rounding; different for every client, and not a constant.
    pub private: u64,
    /// The round of training; fresh rotations each round.
    pub round: u64,
    /// Which client; a second safeguard where private seeds are assigned, not drawn.
    pub client: u64,
}

/// What a key is for, with its number in FORMAT.md.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    Signs = 1,
    WindowSigns = 2,
    Subsample = 3,
    Rounding = 4,
}

/// The keys of one tensor for one purpose, all but the block absorbed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys(u64);

impl Keys {
    pub(crate) fn new(seed: u64, round: u64, client: u64, tensor: u64, purpose: Purpose) -> Self {
        Self(derive_key(&[seed, round, client, tensor, purpose as u64]))
    }

    /// Keys that were taken apart ([`absorbed`](Self::absorbed)).
    pub(crate) fn from_absorbed(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash that blocks are absorbed into.
    pub(crate) fn absorbed(self) -> u64 {
        self.0
    }

    /// The key of a block of a group: block numbers stay below 2^16.
    pub(crate) fn block(self, group: u64, block: usize) -> u64 {
        absorb(self.0, group << 16 | block as u64)
    }

    /// The selection stream of a group: the tensor's stream, 2^21 draws further for each group.
    pub(crate) fn stream(self, group: u64) -> SelectionStream {
        let state = u128::from(absorb(self.0, 0)) << 64 | u128::from(absorb(self.0, 1));
        let mut generator = Pcg64Mcg::new(state);
        generator.advance(u128::from(group) << 21);
        SelectionStream(generator)
    }
}

/// Draws for index selection (PCG XSL 128/64 MCG, O'Neill 2014).
pub(crate) struct SelectionStream(Pcg64Mcg);

impl SelectionStream {
    /// A draw from 0..bound: high half of the product with one 64-bit word.
    #[inline(always)]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // These are wire constants (FORMAT.md, "Randomness"): a change of any breaks every stream.
    #[test]
    fn words_are_those_of_the_format() {
        assert_eq!(word(0, 0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(word(0, 1), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(word(0, 2), 0x06c4_5d18_8009_454f);
        assert_eq!(word(0, (1 << 32) - 1), 0xbeeb_67ea_f1fc_5e61);
        assert_eq!(word(0x0123_4567_89ab_cdef, 0), 0x157a_3807_a48f_aa9d);
        assert_eq!(word(0x0123_4567_89ab_cdef, 1), 0xd573_529b_34a1_d093);
    }

    #[test]
    fn selection_streams_are_those_of_the_format() {
        let mut generator = Pcg64Mcg::new(42);
        assert_eq!(generator.next_u64(), 0x63b4_a3a8_13ce_700a);
        let mut generator = Pcg64Mcg::new(42);
        generator.advance(1 << 40);
        assert_eq!(generator.next_u64(), 0xffaf_4f00_92d7_84d7);
    }

    #[test]
    fn keys_are_those_of_the_format() {
        let keys = Keys::new(7, 3, 0, name_key("fc1.weight"), Purpose::Signs);
        let got = [name_key(""), name_key("fc1.weight"), keys.block(0, 0), keys.block(2, 5)];
        assert_eq!(got, PINNED_KEYS);
        let mut stream = keys.stream(1);
        assert_eq!([stream.below(1000), stream.below(1000)], PINNED_DRAWS);
    }

    const PINNED_KEYS: [u64; 4] = [
        0xe0a7_e548_b625_be39,
        0xa0c0_4ba0_76c9_5249,
        0x0425_c161_f489_a929,
        0x04cd_c3bc_608e_40ee,
    ];
    const PINNED_DRAWS: [u32; 2] = [331, 997];
}
