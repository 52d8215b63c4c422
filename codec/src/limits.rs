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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_is_charged_is_missing_until_it_is_released() {
        let mut allowance = Allowance::new(100);
        allowance.charge("a", 60).unwrap();
        for (bytes, needed) in [(41, 101), (100, 160), (u64::MAX, u64::MAX)] {
            let expected = ErrorKind::LimitExceeded { limit: 100, needed };
            assert_eq!(*allowance.check("b", bytes).unwrap_err().kind(), expected);
            assert_eq!(*allowance.charge("b", bytes).unwrap_err().kind(), expected);
        }
        allowance.check("c", 40).unwrap();
        allowance.charge("c", 40).unwrap();
        allowance.charge("nothing", 0).unwrap();
        assert!(allowance.check("d", 1).is_err());
        allowance.release(10);
        allowance.check("e", 10).unwrap();
        assert!(allowance.check("e", 11).is_err());
        allowance.release(u64::MAX);
        allowance.check("all", 100).unwrap();
        assert!(allowance.check("more than all", 101).is_err());
    }
}
