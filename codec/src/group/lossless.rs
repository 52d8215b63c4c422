//! Groups that travel without loss: element bytes, as they are or sorted by significance.

use super::{Coded, Target};
use crate::kernel::Kernel;
use crate::{DType, Spec, convert};

/// Bytes that are sorted together: an element, or nothing for types of less than a byte.
fn width(dtype: DType) -> usize {
    dtype.byte_len(1).max(1)
}

/// Appends P.
pub(super) fn encode(
    kernel: Kernel,
    spec: &Spec,
    dtype: DType,
    elements: &[u8],
    out: &mut Vec<u8>,
) {
    match spec.lossless.shuffle {
        true => {
            let at = out.len();
            out.resize(at + elements.len(), 0);
            kernel.shuffle(elements, width(dtype), &mut out[at..]);
        }
        false => out.extend_from_slice(elements),
    }
}

/// The elements, to their place; `buffer` for those that are to become f32.
pub(super) fn decode(
    kernel: Kernel,
    coded: Coded<'_>,
    buffer: &mut Vec<u8>,
    target: Target<'_>,
) -> crate::Result<()> {
    let Coded { spec, dtype, payload, n } = coded;
    let to_elements = |elements: &mut [u8]| match spec.lossless.shuffle {
        true => kernel.unshuffle(payload, width(dtype), elements),
        false => elements.copy_from_slice(payload),
    };
    let (to, weight) = match target {
        Target::Elements(elements) => {
            to_elements(elements);
            return Ok(());
        }
        Target::F32(values) if dtype == DType::F32 && cfg!(target_endian = "little") => {
            to_elements(bytemuck::cast_slice_mut(values));
            return Ok(());
        }
        Target::F32(values) => (values, None),
        Target::Add { sums, weight } => (sums, Some(weight)),
    };
    let elements = match spec.lossless.shuffle {
        true => {
            buffer.resize(payload.len(), 0);
            kernel.unshuffle(payload, width(dtype), buffer);
            &*buffer
        }
        false => payload,
    };
    let size = width(dtype);
    debug_assert_eq!(to.len(), n);
    let Some(weight) = weight else {
        convert::to_f32(dtype, elements, to);
        return Ok(());
    };
    let mut strip = [0.0; 256];
    for (sums, elements) in to.chunks_mut(256).zip(elements.chunks(256 * size)) {
        let strip = &mut strip[..sums.len()];
        convert::to_f32(dtype, elements, strip);
        kernel.add_scaled(sums, strip, weight);
    }
    Ok(())
}
