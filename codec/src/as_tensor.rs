//! What looks like a tensor: numbers in memory, with an element type and a shape.

use crate::{DType, Tensor, TensorView};
use std::borrow::Cow;

/// Values in memory that can be encoded: implement it for the tensors of your framework, and they go
/// to [`encode`](crate::encode()) and [`Encoder::tensor`](crate::Encoder::tensor) without a copy. Slices,
/// arrays and `Vec`s of any [`Element`] are tensors of one dimension; a pair of a shape and a slice
/// has that shape.
///
/// ```
/// use fedpress::{AsTensor, DType};
/// let (mask, weights) = ([true, false], vec![0.5f64; 6]);
/// assert_eq!((mask.dtype(), mask.shape().to_vec()), (DType::Bool, vec![2]));
/// let matrix = ([2, 3], &weights[..]);
/// assert_eq!((matrix.shape().to_vec(), matrix.data().len()), (vec![2, 3], 48));
/// ```
pub trait AsTensor {
    /// Element type.
    fn dtype(&self) -> DType;
    /// Dimensions, outermost first; empty for a scalar.
    fn shape(&self) -> Cow<'_, [usize]>;
    /// The elements, little-endian, C order: [`DType::byte_len`] of the product of the dimensions.
    fn data(&self) -> Cow<'_, [u8]>;
}

/// A tensor with a name, which a stream needs: a [`TensorView`], a [`Tensor`], or a pair of a name and
/// [anything that looks like a tensor](AsTensor).
///
/// ```
/// use fedpress::{AsTensor, DecodeOptions, EncodeOptions, Seeds, Spec};
/// let (weights, steps) = ([0.5f32; 6], [7i64]);
/// let tensors: [(&str, &dyn AsTensor); 2] = [("w", &([2, 3], &weights[..])), ("steps", &steps)];
/// let options = EncodeOptions::new(Seeds::new(7, 0x1f3a_9c55));
/// let bytes = fedpress::encode(&tensors, &Spec::lossless(), &options)?;
/// let back = fedpress::decode(&bytes, &DecodeOptions::default())?;
/// assert_eq!((&back[0].shape[..], &back[1].shape[..]), (&[2, 3][..], &[1][..]));
/// # Ok::<(), fedpress::Error>(())
/// ```
pub trait NamedTensor {
    /// UTF-8, unique within its stream.
    fn name(&self) -> &str;
    /// Its values.
    fn values(&self) -> &dyn AsTensor;
}

/// The numbers that Rust has a type for: `bool`, integers, `f32`, `f64`, and f16 and bf16 of the
/// crate `half`.
pub trait Element: sealed::Sealed {
    /// Their element type.
    const DTYPE: DType;
    /// The bytes of values, little-endian.
    fn bytes(values: &[Self]) -> Cow<'_, [u8]>;
}

mod sealed {
    pub trait Sealed: bytemuck::NoUninit {}
}

macro_rules! elements {
    ($($type:ty: $dtype:ident),*) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DTYPE: DType = DType::$dtype;

            fn bytes(values: &[Self]) -> Cow<'_, [u8]> {
                match cfg!(target_endian = "little") {
                    true => Cow::Borrowed(bytemuck::cast_slice(values)),
                    false => Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
                }
            }
        }
    )*};
}

elements! {
    u8: U8, i8: I8, u16: U16, i16: I16, u32: U32, i32: I32, u64: U64, i64: I64,
    half::f16: F16, half::bf16: BF16, f32: F32, f64: F64
}

impl sealed::Sealed for bool {}

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn bytes(values: &[Self]) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(values))
    }
}

impl<T: Element> AsTensor for [T] {
    fn dtype(&self) -> DType {
        T::DTYPE
    }
    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Owned(vec![self.len()])
    }
    fn data(&self) -> Cow<'_, [u8]> {
        T::bytes(self)
    }
}

impl<T: Element, S: AsRef<[usize]>> AsTensor for (S, &[T]) {
    fn dtype(&self) -> DType {
        T::DTYPE
    }
    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Borrowed(self.0.as_ref())
    }
    fn data(&self) -> Cow<'_, [u8]> {
        T::bytes(self.1)
    }
}

/// The three methods, of something else.
macro_rules! as_tensor_by {
    ($self:ident => $other:expr) => {
        fn dtype(&$self) -> DType {
            $other.dtype()
        }
        fn shape(&$self) -> Cow<'_, [usize]> {
            $other.shape()
        }
        fn data(&$self) -> Cow<'_, [u8]> {
            $other.data()
        }
    };
}

impl<T: AsTensor + ?Sized> AsTensor for &T {
    as_tensor_by!(self => (**self));
}

impl<T: Element> AsTensor for Vec<T> {
    as_tensor_by!(self => self[..]);
}

impl<T: Element, const N: usize> AsTensor for [T; N] {
    as_tensor_by!(self => self[..]);
}

impl AsTensor for TensorView<'_> {
    fn dtype(&self) -> DType {
        self.dtype
    }
    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Borrowed(self.shape)
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data)
    }
}

impl AsTensor for Tensor {
    fn dtype(&self) -> DType {
        self.dtype
    }
    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Borrowed(&self.shape)
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }
}

impl NamedTensor for TensorView<'_> {
    fn name(&self) -> &str {
        self.name
    }
    fn values(&self) -> &dyn AsTensor {
        self
    }
}

impl NamedTensor for Tensor {
    fn name(&self) -> &str {
        &self.name
    }
    fn values(&self) -> &dyn AsTensor {
        self
    }
}

impl<N: AsRef<str>, T: AsTensor> NamedTensor for (N, T) {
    fn name(&self) -> &str {
        self.0.as_ref()
    }
    fn values(&self) -> &dyn AsTensor {
        &self.1
    }
}

impl<T: NamedTensor + ?Sized> NamedTensor for &T {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn values(&self) -> &dyn AsTensor {
        (**self).values()
    }
}

/// A named tensor whose shape and bytes have been asked for.
pub(crate) struct Parts<'a> {
    name: &'a str,
    dtype: DType,
    shape: Cow<'a, [usize]>,
    data: Cow<'a, [u8]>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of<T: NamedTensor + ?Sized>(tensor: &'a T) -> Self {
        let (name, values) = (tensor.name(), tensor.values());
        Self { name, dtype: values.dtype(), shape: values.shape(), data: values.data() }
    }

    pub(crate) fn view(&self) -> TensorView<'_> {
        TensorView { name: self.name, dtype: self.dtype, shape: &self.shape, data: &self.data }
    }
}
