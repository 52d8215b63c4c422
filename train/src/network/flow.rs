//! What flows between layers: the shape of one example, and which rules each layer has for it.

use super::LayerSpec;
use fedpress_fl::{Error, Result};

/// No example, weight or model has more values; leaves all products far from overflow.
pub(super) const MAX_VALUES: usize = 1 << 31;

/// The shape of one example between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// A vector: channel by channel, each `height * width` long.
    pub(super) flat: bool,
}

impl Flow {
    pub(super) fn image([channels, height, width]: [usize; 3]) -> Result<Self> {
        let flow = Self { channels, height, width, flat: false };
        flow.checked().map_err(|why| Error::invalid(format!("input: {why}")))
    }

    /// Values of one example.
    pub(super) fn features(&self) -> usize {
        self.channels * self.height * self.width
    }

    fn vector(channels: usize) -> Self {
        Self { channels, height: 1, width: 1, flat: true }
    }

    fn checked(self) -> std::result::Result<Self, String> {
        let sizes = [self.channels, self.height, self.width];
        let values = sizes.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        match values {
            Some(n) if n > 0 && n <= MAX_VALUES => Ok(self),
            _ => Err(format!("expected 1 to 2^31 values, found {sizes:?}")),
        }
    }

    /// What comes out of `layer`, or why it does not fit.
    pub(super) fn through(self, layer: &LayerSpec) -> std::result::Result<Self, String> {
        match layer {
            LayerSpec::Relu => Ok(self),
            LayerSpec::Dense { out, .. } if self.flat => Self::vector(*out).checked(),
            LayerSpec::Dense { .. } => Err("needs a vector: flatten or global-mean first".into()),
            _ if self.flat => Err("needs an image, found a vector".into()),
            LayerSpec::BatchNorm { .. } => Ok(self),
            LayerSpec::GroupNorm { groups: 0, .. } => Err("expected at least one group".into()),
            LayerSpec::GroupNorm { .. } => Ok(self),
            LayerSpec::Residual { body, shortcut } => {
                let along = |path: &[LayerSpec]| path.iter().try_fold(self, |f, l| f.through(l));
                let (one, other) = (along(body)?, along(shortcut)?);
                match one == other && !one.flat {
                    true => Ok(one),
                    false => Err(format!("expected images of one shape, found {one:?}, {other:?}")),
                }
            }
            LayerSpec::Flatten => Ok(Self { flat: true, ..self }),
            LayerSpec::GlobalMean => Ok(Self::vector(self.channels)),
            LayerSpec::MaxPool { size } => {
                let channels = self.channels;
                self.windows(*size, *size, 0).map(|flow| Self { channels, ..flow })
            }
            LayerSpec::Conv { out, kernel, stride, padding, .. } => {
                let flow = self.windows(*kernel, *stride, *padding)?;
                Self { channels: *out, ..flow }.checked()
            }
        }
    }

    /// Positions of a square window that moves by `stride` over the padded image.
    fn windows(
        self,
        size: usize,
        stride: usize,
        padding: usize,
    ) -> std::result::Result<Self, String> {
        if size == 0 || stride == 0 {
            return Err("expected a size and a stride of at least 1".into());
        }
        let along = |length: usize| {
            let padded = padding.checked_mul(2)?.checked_add(length)?;
            Some(padded.checked_sub(size)? / stride + 1).filter(|_| padded <= MAX_VALUES)
        };
        match (along(self.height), along(self.width)) {
            (Some(height), Some(width)) => Ok(Self { height, width, ..self }),
            _ => Err(format!("does not fit an image of {} x {}", self.height, self.width)),
        }
    }
}
