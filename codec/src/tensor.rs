//! Element types, shapes, and tensors as bytes (little-endian, C order).

use crate::{Error, Result};

/// Element types, with their number on the wire (FORMAT.md, "Element types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are the safetensors names and say it all")]
#[allow(non_camel_case_types, reason = "F8_E4M3 is the established spelling")]
pub enum DType {
    Bool = 0x01,
    U8 = 0x02,
    I8 = 0x03,
    U16 = 0x04,
    I16 = 0x05,
    U32 = 0x06,
    I32 = 0x07,
    U64 = 0x08,
    I64 = 0x09,
    F16 = 0x10,
    BF16 = 0x11,
    F32 = 0x12,
    F64 = 0x13,
    C64 = 0x14,
    F8_E4M3 = 0x18,
    F8_E5M2 = 0x19,
    F8_E8M0 = 0x1a,
    F8_E4M3FNUZ = 0x1b,
    F8_E5M2FNUZ = 0x1c,
}

impl DType {
    /// Every element type, in wire order.
    pub const ALL: [Self; 19] = [
        Self::Bool,
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
        Self::C64,
        Self::F8_E4M3,
        Self::F8_E5M2,
        Self::F8_E8M0,
        Self::F8_E4M3FNUZ,
        Self::F8_E5M2FNUZ,
    ];

    /// The element type with this wire number, or the number back.
    pub fn from_u8(byte: u8) -> std::result::Result<Self, u8> {
        Self::ALL.into_iter().find(|d| *d as u8 == byte).ok_or(byte)
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            Self::Bool
            | Self::U8
            | Self::I8
            | Self::F8_E4M3
            | Self::F8_E5M2
            | Self::F8_E8M0
            | Self::F8_E4M3FNUZ
            | Self::F8_E5M2FNUZ => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::C64 => 8,
        }
    }

    /// Whether lossy stages apply: f32, f16 and bf16. Everything else travels losslessly.
    pub fn is_lossy_capable(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32)
    }

    /// The safetensors spelling, such as `F32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::U16 => "U16",
            Self::I16 => "I16",
            Self::U32 => "U32",
            Self::I32 => "I32",
            Self::U64 => "U64",
            Self::I64 => "I64",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::C64 => "C64",
            Self::F8_E4M3 => "F8_E4M3",
            Self::F8_E5M2 => "F8_E5M2",
            Self::F8_E8M0 => "F8_E8M0",
            Self::F8_E4M3FNUZ => "F8_E4M3FNUZ",
            Self::F8_E5M2FNUZ => "F8_E5M2FNUZ",
        }
    }

    /// The element type of that [name](Self::name), in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name().eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Product of the dimensions; an error past 2^63 elements.
///
/// A zero dimension makes the tensor empty whatever the others are, so that order does not matter.
pub(crate) fn element_count(shape: &[u64]) -> Result<u64> {
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1u64, |n, d| n.checked_mul(*d).filter(|n| *n <= 1 << 63))
        .ok_or_else(|| Error::invalid(format!("shape {shape:?} has more than 2^63 elements")))
}

/// A borrowed tensor: what [`crate::encode()`] takes.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// UTF-8 without NUL, unique within its stream.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: &'a [u64],
    /// The elements, little-endian, C order: product of `shape` times [`DType::size`] bytes.
    pub data: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// A view of f32 values (on a little-endian machine; elsewhere convert the bytes yourself).
    ///
    /// ```
    /// let w = [0.5f32, -1.0, 2.0];
    /// let view = fedpress::TensorView::f32("w", &[3], &w);
    /// assert_eq!(view.data.len(), 12);
    /// ```
    #[cfg(target_endian = "little")]
    pub fn f32(name: &'a str, shape: &'a [u64], values: &'a [f32]) -> Self {
        Self { name, dtype: DType::F32, shape, data: bytemuck::cast_slice(values) }
    }
}

/// An owned tensor: what [`crate::decode()`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name, unique within its stream.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// The elements, little-endian, C order.
    pub data: Vec<u8>,
}

impl Tensor {
    /// The same tensor, borrowed.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { name: &self.name, dtype: self.dtype, shape: &self.shape, data: &self.data }
    }

    /// The elements as f32, when the element type is f32, f16 or bf16.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let mut values = vec![0.0; self.data.len() / self.dtype.size()];
        self.dtype.is_lossy_capable().then(|| {
            crate::convert::to_f32(self.dtype, &self.data, &mut values);
            values
        })
    }
}
