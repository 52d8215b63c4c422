//! Memory of the device: allocated, filled, read, and its addresses.

use crate::error::{Error, Result};
use crate::span::Span;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, ValidAsZeroBits};
use std::sync::Arc;

pub(crate) fn zeros<T: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    n: usize,
) -> Result<CudaSlice<T>> {
    let bytes = n.saturating_mul(size_of::<T>());
    stream.alloc_zeros(n.max(1)).map_err(|e| Error::driver("allocate", bytes, e))
}

/// A copy on the device. The host's memory is read when this returns, whatever kind of memory it is.
pub(crate) fn upload<T: DeviceRepr>(stream: &Arc<CudaStream>, x: &[T]) -> Result<CudaSlice<T>> {
    let copy = stream.clone_htod(x);
    let copy = copy.map_err(|e| Error::driver("copy to the device", size_of_val(x), e));
    finished(stream, copy)
}

/// Copies to places on the device, given as the first element of each. The host's memory is read when
/// this returns.
pub(crate) fn fill<'a, T: DeviceRepr + 'a>(
    stream: &Arc<CudaStream>,
    to: &mut CudaSlice<T>,
    parts: impl Iterator<Item = (usize, &'a [T])>,
) -> Result<()> {
    let mut copy = |(at, part): (usize, &[T])| {
        let place = to.try_slice_mut(at..at.saturating_add(part.len()));
        let mut place = place.ok_or_else(|| Error::invalid("a copy past the end of memory"))?;
        let copied = stream.memcpy_htod(part, &mut place);
        copied.map_err(|e| Error::driver("copy to the device", size_of_val(part), e))
    };
    let mut parts = parts;
    let copied = parts.try_for_each(&mut copy);
    finished(stream, copied)
}

/// Waits for the stream, also where there is an error: what was queued before it may use memory that
/// goes away with the error.
pub(crate) fn finished<T>(stream: &Arc<CudaStream>, result: Result<T>) -> Result<T> {
    let waited = stream.synchronize().map_err(|e| Error::driver("finish its work", 0, e));
    result.and_then(|x| waited.map(|()| x))
}

pub(crate) fn download<T: DeviceRepr, S: DevicePtr<T>>(
    stream: &Arc<CudaStream>,
    x: &S,
) -> Result<Vec<T>> {
    let copy = stream.clone_dtoh(x).map_err(|e| Error::driver("copy from the device", 0, e));
    finished(stream, copy)
}

/// The memory of a slice, which the stream waits for if another one wrote it. The guard may go at
/// once: every call of this crate waits for its stream before it returns ([`finished`]), with an
/// error or without.
pub(crate) fn span<T, S: DevicePtr<T>>(stream: &Arc<CudaStream>, slice: &S) -> Span {
    let (address, _guard) = slice.device_ptr(stream);
    Span { address, bytes: slice.len() * size_of::<T>() }
}

pub(crate) fn span_mut<T, S: DevicePtrMut<T>>(stream: &Arc<CudaStream>, slice: &mut S) -> Span {
    let bytes = slice.len() * size_of::<T>();
    let (address, _guard) = slice.device_ptr_mut(stream);
    Span { address, bytes }
}
