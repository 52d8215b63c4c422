//! Randomness, frozen in FORMAT.md ("Randomness"): counter hashes, of 64 bits for signs, selection
//! and keys, of 32 bits for what is drawn per value, and keys that are hashes of what they belong to.
//!
//! Nothing here has state that depends on the order of work, so any chunk is decoded alone, threads
//! do not matter, and a GPU computes the same integers.

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

/// Increment of the 32-bit counter: 2^32 over the golden ratio.
pub(crate) const INCREMENT32: u32 = 0x9E37_79B9;
/// Multipliers of the 32-bit mix (Appleby, MurmurHash3).
pub(crate) const MIX32: [u32; 2] = [0x85EB_CA6B, 0xC2B2_AE35];

/// Word `i` of 32 bits of `key`. Both halves of the key enter, one before and one between the two
/// products, so that streams of two keys overlap only where all 64 bits agree.
#[inline(always)]
pub(crate) fn word32(key: u64, i: u32) -> u32 {
    let mut z = (key as u32).wrapping_add(i.wrapping_add(1).wrapping_mul(INCREMENT32));
    z ^= z >> 16;
    z = z.wrapping_mul(MIX32[0]);
    z ^= z >> 13;
    z = z.wrapping_add((key >> 32) as u32);
    z = z.wrapping_mul(MIX32[1]);
    z ^ (z >> 16)
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
/// The `shared` seed, the `round`, the `client` and how many `clients` there are travel with each
/// tensor that needs them. The `private` seed does not travel: it decides how values round, and errors
/// average out over clients only when every client draws for itself. There is no default: take the
/// private seed from the operating system.
///
/// A rotation or a selection of coefficients is by default a client's own ([`Rotation::Own`]), so that
/// what one client loses another one sends.
///
/// ```
/// use fedpress::Seeds;
/// let (shared, private) = (7, 0x1f3a_9c55);
/// let seeds = Seeds::new(shared, private).in_round(12).of_client(3, 100);
/// assert_eq!((seeds.round, seeds.client, seeds.clients), (12, 3, 100));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seeds {
    /// Rotation and subsampling, with the round and the client; the same for everyone in a round.
    pub shared: u64,
    /// Rounding; different for every client, and not a constant.
    pub private: u64,
    /// The round of training; fresh rotations each round.
    pub round: u64,
    /// Which client.
    pub client: u64,
    /// How many clients send in this round, below 2^63, numbered from 0; 0 if that is not known. Where it is known,
    /// what dithers (`step`) shares its dither out over them: of clients that send much the same the errors cancel.
    pub clients: u64,
    /// Whether clients of a round rotate alike.
    pub rotation: Rotation,
}

/// Who shares a rotation and a selection of coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// Every client has its own: errors average out, those of biased quantizers and of subsampling,
    /// too.
    #[default]
    Own,
    /// All of a round have the same: their coefficients may be summed before they are turned back.
    Shared,
}

impl Seeds {
    /// Of client 0 in round 0, of a number of clients that is not known.
    pub const fn new(shared: u64, private: u64) -> Self {
        Self { shared, private, round: 0, client: 0, clients: 0, rotation: Rotation::Own }
    }

    /// The same in another round.
    pub const fn in_round(self, round: u64) -> Self {
        Self { round, ..self }
    }

    /// The same of another client, one of so many (0 if that is not known).
    pub const fn of_client(self, client: u64, clients: u64) -> Self {
        Self { client, clients, ..self }
    }

    /// The same with another rotation.
    pub const fn with_rotation(self, rotation: Rotation) -> Self {
        Self { rotation, ..self }
    }

    /// The part that travels.
    pub(crate) fn drawn(&self) -> Drawn {
        let Self { shared, round, client, clients, rotation, .. } = *self;
        Drawn { shared, round, client, clients, own: rotation == Rotation::Own }
    }
}

/// The seeds of a tensor as they travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Drawn {
    pub(crate) shared: u64,
    pub(crate) round: u64,
    pub(crate) client: u64,
    pub(crate) clients: u64,
    /// Whether the client enters the keys.
    pub(crate) own: bool,
}

/// What a key is for, with its number in FORMAT.md.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    Signs = 1,
    WindowSigns = 2,
    Subsample = 3,
    Rounding = 4,
    Dither = 5,
}

/// The keys of one tensor for one purpose, all but the block absorbed.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    fn words_of_32_bits_are_those_of_the_format() {
        let found = [(0, 0), (0, 1), (0, u32::MAX), (0x0123_4567_89ab_cdef, 0), (!0, 1 << 31)]
            .map(|(key, i)| word32(key, i));
        assert_eq!(found, PINNED_WORDS32);
    }

    #[test]
    fn keys_are_those_of_the_format() {
        let keys = Keys::new(7, 3, 0, name_key("fc1.weight"), Purpose::Signs);
        let got = [name_key(""), name_key("fc1.weight"), keys.block(0, 0), keys.block(2, 5)];
        assert_eq!(got, PINNED_KEYS);
    }

    const PINNED_KEYS: [u64; 4] = [
        0xe0a7_e548_b625_be39,
        0xa0c0_4ba0_76c9_5249,
        0x0425_c161_f489_a929,
        0x04cd_c3bc_608e_40ee,
    ];
    const PINNED_WORDS32: [u32; 5] = [0x92ca_2f0e, 0x3cd6_e3f3, 0, 0xccc3_4cee, 0x6ff1_ddc5];
}
