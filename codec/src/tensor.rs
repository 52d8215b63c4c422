//! Element types, shapes, and tensors as bytes (little-endian, C order).

use crate::wire::TensorDesc;
use crate::{Element, Error, Result};

/// Element types, with their number on the wire (FORMAT.md, "Element types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are the safetensors names and say it all")]
#[allow(non_camel_case_types, reason = "F8_E4M3 is the established spelling")]
pub enum DType {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    BF16,
    F32,
    F64,
    C64,
    F8_E4M3,
    F8_E5M2,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    F4,
    F6_E2M3,
    F6_E3M2,
    /// One of a later version: a stream that was read holds a tensor of it, which is
    /// [not supported](crate::TensorMeta::supported).
    Unknown(u8),
}

/// Every element type: number on the wire, name, bits.
const TABLE: [(DType, u8, &str, usize); 22] = [
    (DType::Bool, 0x01, "BOOL", 8),
    (DType::U8, 0x02, "U8", 8),
    (DType::I8, 0x03, "I8", 8),
    (DType::U16, 0x04, "U16", 16),
    (DType::I16, 0x05, "I16", 16),
    (DType::U32, 0x06, "U32", 32),
    (DType::I32, 0x07, "I32", 32),
    (DType::U64, 0x08, "U64", 64),
    (DType::I64, 0x09, "I64", 64),
    (DType::F16, 0x10, "F16", 16),
    (DType::BF16, 0x11, "BF16", 16),
    (DType::F32, 0x12, "F32", 32),
    (DType::F64, 0x13, "F64", 64),
    (DType::C64, 0x14, "C64", 64),
    (DType::F8_E4M3, 0x18, "F8_E4M3", 8),
    (DType::F8_E5M2, 0x19, "F8_E5M2", 8),
    (DType::F8_E8M0, 0x1a, "F8_E8M0", 8),
    (DType::F8_E4M3FNUZ, 0x1b, "F8_E4M3FNUZ", 8),
    (DType::F8_E5M2FNUZ, 0x1c, "F8_E5M2FNUZ", 8),
    (DType::F4, 0x20, "F4", 4),
    (DType::F6_E2M3, 0x21, "F6_E2M3", 6),
    (DType::F6_E3M2, 0x22, "F6_E3M2", 6),
];

impl DType {
    /// Every element type that can be written, in wire order.
    pub const ALL: [Self; TABLE.len()] = {
        let mut all = [Self::Bool; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    fn entry(self) -> Option<&'static (Self, u8, &'static str, usize)> {
        TABLE.iter().find(|entry| entry.0 == self)
    }

    /// The element type with this number on the wire.
    pub fn from_number(number: u8) -> Self {
        let entry = TABLE.iter().find(|entry| entry.1 == number);
        entry.map_or(Self::Unknown(number), |entry| entry.0)
    }

    /// Its number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Unknown(number) => number,
            known => known.entry().map_or(0, |entry| entry.1),
        }
    }

    /// Bits an element takes; 0 where that is not known.
    pub fn bits(self) -> usize {
        self.entry().map_or(0, |entry| entry.3)
    }

    /// Bytes that `n` elements take, those of less than a byte packed one behind the other.
    ///
    /// ```
    /// use fedpress::DType;
    /// assert_eq!((DType::F32.byte_len(3), DType::F4.byte_len(3)), (12, 2));
    /// ```
    pub fn byte_len(self, n: usize) -> usize {
        match self.bits() {
            bits if bits % 8 == 0 => n.saturating_mul(bits / 8),
            bits => n / 8 * bits + (n % 8 * bits).div_ceil(8),
        }
    }

    /// The same for numbers of elements beyond memory; `None` past 2^64 bytes.
    pub(crate) fn byte_len_of(self, n: u64) -> Option<u64> {
        n.checked_mul(self.bits() as u64).map(|bits| bits.div_ceil(8)).or_else(|| {
            let bits = u128::from(n) * self.bits() as u128;
            u64::try_from(bits.div_ceil(8)).ok()
        })
    }

    /// Most elements that so many bytes hold.
    pub(crate) fn n_values(self, bytes: usize) -> usize {
        match self.bits() {
            0 => 0,
            bits => (bytes as u64 * 8 / bits as u64) as usize,
        }
    }

    /// Whether lossy stages apply: f32, f16 and bf16. Everything else travels losslessly.
    pub fn is_lossy_capable(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32)
    }

    /// The safetensors spelling, such as `F32`.
    pub fn name(self) -> &'static str {
        self.entry().map_or("UNKNOWN", |entry| entry.2)
    }

    /// The element type of that [name](Self::name), in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|entry| entry.2.eq_ignore_ascii_case(name)).map(|entry| entry.0)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(number) => write!(f, "element type {number:#04x}"),
            known => f.write_str(known.name()),
        }
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

/// The dimensions of a tensor that is in memory. Only where one dimension is 0 can others be beyond it.
pub(crate) fn in_memory(shape: &[u64]) -> Result<Vec<usize>> {
    let fits = |n: &u64| {
        usize::try_from(*n).map_err(|_| Error::limit("a dimension", usize::MAX as u64, *n))
    };
    shape.iter().map(fits).collect()
}

/// A borrowed tensor: what [`crate::encode()`] takes.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// UTF-8, unique within its stream.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: &'a [usize],
    /// The elements, little-endian, C order: [`DType::byte_len`] of the product of `shape`.
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
    pub fn f32(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> Self {
        Self { name, dtype: DType::F32, shape, data: bytemuck::cast_slice(values) }
    }

    /// A view of values of any type (likewise).
    ///
    /// ```
    /// let steps = [7i64];
    /// let view = fedpress::TensorView::of("steps", &[], &steps);
    /// assert_eq!((view.dtype, view.data.len()), (fedpress::DType::I64, 8));
    /// ```
    #[cfg(target_endian = "little")]
    pub fn of<T: Element>(name: &'a str, shape: &'a [usize], values: &'a [T]) -> Self {
        Self { name, dtype: T::DTYPE, shape, data: bytemuck::cast_slice(values) }
    }

    /// Its name, element type and shape.
    pub fn desc(&self) -> TensorDesc {
        let shape = self.shape.iter().map(|n| *n as u64).collect();
        TensorDesc { name: self.name.to_owned(), dtype: self.dtype, shape, open: false }
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
    pub shape: Vec<usize>,
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
        self.dtype.is_lossy_capable().then(|| {
            let mut values = vec![0.0; self.dtype.n_values(self.data.len())];
            crate::convert::to_f32(self.dtype, &self.data, &mut values);
            values
        })
    }
}
