//! Memory of the device as the kernels are given it.

use crate::error::{Error, Result};
use crate::plan::Batch;

/// A run of device memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) address: u64,
    pub(crate) bytes: usize,
}

impl Span {
    /// No memory: a kernel takes it for "not wanted".
    pub(crate) const NONE: Self = Self { address: 0, bytes: 0 };

    pub(crate) fn holds(self, bytes: usize, what: &str) -> Result<u64> {
        if self.bytes < bytes {
            let found = self.bytes;
            return Err(Error::invalid(format!("{what}: expected {bytes} bytes, found {found}")));
        }
        Ok(self.address)
    }

    /// The same, at an address that 16-byte accesses may start from.
    pub(crate) fn aligned(self, bytes: usize, what: &str) -> Result<u64> {
        if !self.address.is_multiple_of(16) {
            return Err(Error::invalid(format!("{what}: the address is no multiple of 16 bytes")));
        }
        self.holds(bytes, what)
    }

    /// What begins so many bytes further on.
    pub(crate) fn behind(self, start: usize) -> Self {
        Self { address: self.address + start as u64, bytes: self.bytes.saturating_sub(start) }
    }

    /// Takes so many bytes off the front; no memory where that is none.
    pub(crate) fn take(&mut self, bytes: usize) -> Self {
        if bytes == 0 {
            return Self::NONE;
        }
        let taken = Self { bytes: bytes.min(self.bytes), ..*self };
        *self = self.behind(bytes);
        taken
    }

    pub(crate) fn is_none(self) -> bool {
        self.address == 0
    }
}

/// Memory that the kernels of a batch share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans {
    /// Elements, or f32 sums where the plan adds.
    pub(crate) values: Span,
    /// Exponents, i32, one for each group.
    pub(crate) exponents: Span,
    /// Scales and codes of each group.
    pub(crate) payloads: Span,
    /// N f32 for each group; none where the fused kernels do without.
    pub(crate) coefficients: Span,
    /// Positions of coded coefficients, K u32 for each group; none if all are coded.
    pub(crate) positions: Span,
    /// Largest magnitudes as bits, u32, one for each group.
    pub(crate) peaks: Span,
    /// Exponents that are all 0.
    pub(crate) zeros: Span,
    /// lo and inverse step of each block.
    pub(crate) grids: Span,
    /// 2N f32 for each group of a plan with iterations.
    pub(crate) scratch: Span,
}

impl Spans {
    pub(crate) const NONE: Self = Self {
        values: Span::NONE,
        exponents: Span::NONE,
        payloads: Span::NONE,
        coefficients: Span::NONE,
        positions: Span::NONE,
        peaks: Span::NONE,
        zeros: Span::NONE,
        grids: Span::NONE,
        scratch: Span::NONE,
    };

    pub(crate) fn values(&self, batch: &Batch) -> Result<u64> {
        self.values.aligned(batch.target_bytes(), "values")
    }

    pub(crate) fn exponents(&self, batch: &Batch) -> Result<u64> {
        self.exponents.holds(4 * batch.n_groups, "exponents")
    }

    pub(crate) fn payloads(&self, batch: &Batch) -> Result<u64> {
        self.payloads.aligned(batch.payload_bytes(), "payloads")
    }

    pub(crate) fn coefficients(&self, batch: &Batch) -> Result<u64> {
        self.coefficients.aligned(4 * batch.n_coefficients(), "coefficients")
    }

    pub(crate) fn positions(&self, batch: &Batch) -> Result<u64> {
        let n = if batch.selects { batch.n_groups * batch.plan.n_coded as usize } else { 0 };
        self.positions.holds(4 * n, "positions")
    }

    pub(crate) fn peaks(&self, batch: &Batch) -> Result<u64> {
        self.peaks.holds(4 * batch.n_groups, "peaks")
    }

    pub(crate) fn grids(&self, batch: &Batch) -> Result<u64> {
        self.grids.holds(8 * batch.n_groups * batch.n_scales() as usize, "grids")
    }
}
