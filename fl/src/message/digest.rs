//! [`Digest`]: what exactly a client was sent.

use crate::Layout;
use std::fmt;

/// BLAKE3 of the bytes of a broadcast, as they travelled. An update names the digest of the
/// broadcast it started from, so an update against another model, round, submodel, seed or
/// quantization is refused without comparing any of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of a whole message.
    pub fn of(message: &[u8]) -> Self {
        Self(*blake3::hash(message).as_bytes())
    }
}

impl Layout {
    /// Of its TOML: what saved states refer to.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_toml().as_bytes())
    }
}

impl fmt::Display for Digest {
    /// The first eight bytes, in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
