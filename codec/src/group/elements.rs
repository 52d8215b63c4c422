//! The two ends of a flow: element bytes that are read as f32, and f32 that become element bytes.

use super::exponent::{scale_down, scale_up};
use crate::aligned::Aligned;
use crate::kernel::Kernel;
use crate::{DType, convert};
use std::ops::Range;

/// The values of a group, to be read: f32, f16 or bf16, divided by 2^exponent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elements<'a> {
    dtype: DType,
    bytes: &'a [u8],
    /// The same, where they lie as f32.
    values: Option<&'a [f32]>,
    exponent: i8,
}

impl<'a> Elements<'a> {
    pub(crate) fn new(dtype: DType, bytes: &'a [u8], exponent: i8) -> Self {
        let lies_so = dtype == DType::F32 && exponent == 0 && cfg!(target_endian = "little");
        let values = lies_so.then(|| bytemuck::try_cast_slice(bytes).ok()).flatten();
        Self { dtype, bytes, values, exponent }
    }

    /// Numbers that lie as f32.
    pub(crate) fn of_values(values: &'a [f32]) -> Self {
        let bytes = bytemuck::cast_slice(values);
        Self { dtype: DType::F32, bytes, values: Some(values), exponent: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.dtype.byte_len(1)
    }

    /// Some of the values, converted to `buffer` where they have to be.
    pub(crate) fn get<'b>(&self, range: Range<usize>, buffer: &'b mut Aligned) -> &'b [f32]
    where
        'a: 'b,
    {
        if let Some(values) = self.values {
            return &values[range];
        }
        let size = self.dtype.byte_len(1);
        let out = buffer.take(range.len());
        convert::to_f32(self.dtype, &self.bytes[range.start * size..range.end * size], out);
        if self.exponent != 0 {
            scale_down(out, self.exponent);
        }
        out
    }

    /// The same, and what follows in memory, where that is known.
    pub(crate) fn get_and_next<'b>(
        &self,
        range: Range<usize>,
        buffer: &'b mut Aligned,
    ) -> (&'b [f32], &'b [f32])
    where
        'a: 'b,
    {
        let next = self.values.map_or(&[][..], |values| &values[range.end..]);
        (self.get(range, buffer), next)
    }
}

/// Where decoded values go.
#[derive(Debug)]
pub(crate) enum Target<'a> {
    /// Little-endian elements.
    Elements(&'a mut [u8]),
    /// f32, rounded to what the element type holds.
    F32(&'a mut [f32]),
    /// Sums, to which `weight` times such values are added.
    Add { sums: &'a mut [f32], weight: f32 },
}

/// The values of a group, to be written, times 2^exponent.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    kernel: Kernel,
    dtype: DType,
    exponent: i8,
    n: usize,
    target: Target<'a>,
}

impl<'a> Output<'a> {
    /// For `n` values, which the target has room for.
    pub(crate) fn new(
        kernel: Kernel,
        dtype: DType,
        exponent: i8,
        n: usize,
        target: Target<'a>,
    ) -> Self {
        Self { kernel, dtype, exponent, n, target }
    }

    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// Has `n` values made by `make` from index `start` on: in their place where they lie there as
    /// they are, else in a buffer.
    pub(crate) fn write(
        &mut self,
        start: usize,
        n: usize,
        made: &mut Aligned,
        spare: &mut Aligned,
        make: impl FnOnce(&mut [f32]),
    ) {
        if let Some(place) = self.place(start, n) {
            return make(place);
        }
        let made = made.take(n);
        make(made);
        self.put(start, made, spare);
    }

    /// The f32 of all values, where they are written as they are.
    pub(crate) fn whole(&mut self) -> Option<&mut [f32]> {
        self.place(0, self.n)
    }

    /// The f32 of a range, where they are written as they are.
    fn place(&mut self, start: usize, n: usize) -> Option<&mut [f32]> {
        if self.dtype != DType::F32 || self.exponent != 0 {
            return None;
        }
        match &mut self.target {
            Target::F32(values) => Some(&mut values[start..start + n]),
            Target::Elements(bytes) if cfg!(target_endian = "little") => {
                bytemuck::try_cast_slice_mut(&mut bytes[4 * start..4 * (start + n)]).ok()
            }
            _ => None,
        }
    }

    /// Puts values from index `start` on.
    pub(crate) fn put(&mut self, start: usize, values: &[f32], spare: &mut Aligned) {
        let mut values = values;
        if self.exponent != 0 {
            let scaled = spare.take(values.len());
            scaled.copy_from_slice(values);
            scale_up(scaled, self.exponent);
            values = scaled;
        }
        let (dtype, range) = (self.dtype, start..start + values.len());
        let size = dtype.byte_len(1);
        match &mut self.target {
            Target::Elements(bytes) => {
                convert::from_f32(dtype, values, &mut bytes[size * range.start..size * range.end]);
            }
            Target::F32(out) => {
                let out = &mut out[range];
                out.copy_from_slice(values);
                convert::round_to(dtype, out);
            }
            Target::Add { sums, weight } if dtype == DType::F32 => {
                self.kernel.add_scaled(&mut sums[range], values, *weight);
            }
            Target::Add { sums, weight } => {
                // In strips that fit the first-level cache whatever the run does.
                let mut strip = [0.0; 256];
                for (sums, values) in sums[range].chunks_mut(256).zip(values.chunks(256)) {
                    let strip = &mut strip[..values.len()];
                    strip.copy_from_slice(values);
                    convert::round_to(dtype, strip);
                    self.kernel.add_scaled(sums, strip, *weight);
                }
            }
        }
    }
}
