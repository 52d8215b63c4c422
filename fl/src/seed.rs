//! [`PrivateSeed`]: what only its owner knows, and what derives from it, as a [`RoundingSeed`].

use chacha20::ChaCha20Rng;
use rand_pcg::rand_core::SeedableRng;
use std::fmt;

/// A secret of 256 bits: take it from the operating system, keep it across restarts, and tell nobody.
/// A server's decides which clients it asks, which units they keep and how broadcasts round; a
/// client's how its updates round. The noise of either derives from it, too: who knows it can take the noise
/// away.
///
/// What derives from it tells nothing of it, nor of anything else that derives from it (BLAKE3 as a
/// keyed hash): a client that is sent the seed of its submodel cannot foresee those of others or of
/// later rounds, nor who is asked in them. [`fedpress::derive_key`], which public seeds go through, is
/// no such function: it can be run backwards.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateSeed([u8; 32]);

/// What a number derived from a private seed is for; no two draws of a round agree.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// Which clients are asked.
    Cohort = 1,
    /// Which units are kept.
    Mask = 2,
    /// Where a rolling window of units starts.
    Start = 3,
    /// How values round.
    Rounding = 4,
    /// Noise for privacy.
    Noise = 5,
}

impl PrivateSeed {
    /// From bytes that nobody else knows.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From a number, for simulations and tests, in which everything is to come again: whoever tries
    /// numbers finds it.
    pub const fn from_number(number: u64) -> Self {
        let mut bytes = [0; 32];
        let number = number.to_le_bytes();
        let mut i = 0;
        while i < number.len() {
            bytes[i] = number[i];
            i += 1;
        }
        Self(bytes)
    }

    /// A number for this purpose and no other.
    pub(crate) fn derive(&self, purpose: Purpose, parts: &[u64]) -> u64 {
        let mut first = [0; 8];
        self.hash(purpose, parts).finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }

    /// How one message of a round rounds.
    pub(crate) fn rounding(&self, parts: &[u64]) -> RoundingSeed {
        RoundingSeed(self.derive(Purpose::Rounding, parts))
    }

    /// A secret for this purpose and no other.
    pub(crate) fn derive_seed(&self, purpose: Purpose, parts: &[u64]) -> Self {
        Self(*self.hash(purpose, parts).finalize().as_bytes())
    }

    /// A generator for this purpose and this use of it, and for no other `data` that it is to hide: the
    /// same noise over two sums would be known by their difference.
    pub(crate) fn generator<const N: usize>(
        &self,
        purpose: Purpose,
        parts: &[u64],
        data: impl Iterator<Item = [u8; N]>,
    ) -> ChaCha20Rng {
        let mut hasher = self.hash(purpose, parts);
        for bytes in data {
            hasher.update(&bytes);
        }
        ChaCha20Rng::from_seed(*hasher.finalize().as_bytes())
    }

    fn hash(&self, purpose: Purpose, parts: &[u64]) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[purpose as u8]);
        for part in parts {
            hasher.update(&part.to_le_bytes());
        }
        hasher
    }
}

/// How the values of one message round: a number that its sender draws for it, and tells nobody. Of a
/// type of its own, as the numbers beside it are seeds that all know, or counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RoundingSeed(pub u64);

impl fmt::Debug for RoundingSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoundingSeed(..)")
    }
}

impl fmt::Debug for PrivateSeed {
    /// Logs are not the place for a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateSeed(..)")
    }
}
