//! The spend-down memory allowance of a decoder.

use crate::{Error, Result};

/// What is left of a limit. Charged before memory is taken, never after.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    limit: u64,
    left: u64,
}

impl Allowance {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, left: limit }
    }

    /// Whether that much could be charged now.
    pub(crate) fn check(&self, what: &str, bytes: u64) -> Result<()> {
        if bytes <= self.left {
            return Ok(());
        }
        let needed = (self.limit - self.left).saturating_add(bytes);
        Err(Error::limit(what, self.limit, needed))
    }

    /// Spends.
    pub(crate) fn charge(&mut self, what: &str, bytes: u64) -> Result<()> {
        self.check(what, bytes)?;
        self.left -= bytes;
        Ok(())
    }

    /// Gives back what was charged.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes).min(self.limit);
    }
}
