//! Arrays of other libraries by DLPack: the bytes of a tensor on the CPU, without a copy.
#![allow(unsafe_code, reason = "DLPack hands over a pointer to a C structure")]

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods};
use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

/// Devices whose memory the CPU reads: the CPU itself, and pinned memory of CUDA and ROCm.
const HOST_DEVICES: [i32; 3] = [1, 3, 11];
/// As many dimensions as a stream's tensor may have.
const MAX_DIMS: i32 = 64;

/// `DLTensor` of dlpack.h, the same since version 0.2.
#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    n_dims: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

/// `DLManagedTensor`.
#[repr(C)]
struct Managed {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

/// A tensor that another library holds until this is dropped. Exports its elements as bytes, one
/// dimension more than the tensor has, with its strides.
#[pyclass(module = "fedpress._fedpress", frozen)]
pub struct Borrowed {
    managed: NonNull<Managed>,
    start: *mut u8,
    /// Those of the tensor, and the bytes of an element.
    shape: Vec<ffi::Py_ssize_t>,
    /// In bytes.
    strides: Vec<ffi::Py_ssize_t>,
    /// The element type: DLPack's code and bits.
    kind: (u8, u8),
}

// SAFETY: what is borrowed is read-only memory and a deleter that DLPack lets any thread call; the
// fields never change.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

#[pymethods]
impl Borrowed {
    /// Takes a capsule of `__dlpack__()` over.
    #[new]
    fn new(capsule: &Bound<'_, PyCapsule>) -> PyResult<Self> {
        const NAME: &CStr = c"dltensor";
        const USED: &CStr = c"used_dltensor";
        if !capsule.is_valid_checked(Some(NAME)) {
            return Err(PyValueError::new_err("expected a fresh DLPack capsule, \"dltensor\""));
        }
        let managed: NonNull<Managed> = capsule.pointer_checked(Some(NAME))?.cast();
        // SAFETY: a capsule of this name holds a valid DLManagedTensor, by DLPack's protocol.
        let described = describe(unsafe { &managed.as_ref().tensor })?;
        // SAFETY: the name is a static string. From here on the tensor is ours to delete.
        if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), USED.as_ptr()) } != 0 {
            return Err(PyErr::fetch(capsule.py()));
        }
        let (start, shape, strides, kind) = described;
        Ok(Self { managed, start, shape, strides, kind })
    }

    /// The element type: DLPack's code of it, and its bits.
    #[getter]
    fn kind(&self) -> (u8, u8) {
        self.kind
    }

    /// Exports the elements.
    ///
    /// # Safety
    /// `view` is what the interpreter hands in: valid for a write, or null.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() || flags & ffi::PyBUF_STRIDES != ffi::PyBUF_STRIDES {
            return Err(PyBufferError::new_err("strides have to be asked for"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("what is borrowed cannot be written"));
        }
        let this = slf.get();
        let length = this.shape.iter().product::<ffi::Py_ssize_t>();
        let (shape, strides) = (this.shape.as_ptr().cast_mut(), this.strides.as_ptr().cast_mut());
        let filled = ffi::Py_buffer {
            buf: this.start.cast(),
            len: length,
            itemsize: 1,
            readonly: 1,
            ndim: this.shape.len() as c_int,
            format: c"B".as_ptr().cast_mut(),
            shape,
            strides,
            obj: slf.clone().into_any().into_ptr(),
            ..ffi::Py_buffer::new()
        };
        // SAFETY: not null, so valid for a write. Everything pointed to lives in slf, to which the view
        // holds a reference, and which is frozen; nobody may write through a read-only view.
        unsafe { view.write(filled) };
        Ok(())
    }
}

type Described = (*mut u8, Vec<ffi::Py_ssize_t>, Vec<ffi::Py_ssize_t>, (u8, u8));

/// Checks a tensor, and says where its bytes are.
fn describe(tensor: &DlTensor) -> PyResult<Described> {
    if !HOST_DEVICES.contains(&tensor.device_type) {
        let message =
            format!("a tensor on DLPack device {}: move it to the CPU", tensor.device_type);
        return Err(PyValueError::new_err(message));
    }
    if tensor.lanes != 1 || !tensor.bits.is_multiple_of(8) || tensor.bits == 0 {
        let message = format!("elements of {} bits in {} lanes", tensor.bits, tensor.lanes);
        return Err(PyTypeError::new_err(message));
    }
    if !(0..=MAX_DIMS).contains(&tensor.n_dims) {
        return Err(PyValueError::new_err(format!("{} dimensions", tensor.n_dims)));
    }
    let n_dims = tensor.n_dims as usize;
    let size = isize::from(tensor.bits / 8);
    // SAFETY: by DLPack's protocol shape has n_dims numbers, and strides, too, unless it is null.
    let (mut shape, given) = unsafe {
        let strides = (!tensor.strides.is_null()).then(|| numbers(tensor.strides, n_dims));
        (numbers(tensor.shape, n_dims), strides)
    };
    let strides = given.unwrap_or_else(|| contiguous(&shape));
    let mut strides: Vec<_> = strides.into_iter().map(|stride| stride * size).collect();
    shape.push(size);
    strides.push(1);
    let start = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
    Ok((start, shape, strides, (tensor.code, tensor.bits)))
}

/// # Safety
/// Where `n` is not 0, `first` points to `n` numbers.
unsafe fn numbers(first: *const i64, n: usize) -> Vec<isize> {
    match n {
        0 => Vec::new(),
        // SAFETY: see above.
        _ => unsafe { std::slice::from_raw_parts(first, n) }.iter().map(|n| *n as isize).collect(),
    }
}

/// Strides of a tensor in C order, in elements.
fn contiguous(shape: &[isize]) -> Vec<isize> {
    (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect()
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let managed = self.managed.as_ptr();
        // SAFETY: the tensor became ours when the capsule was renamed, and is deleted once.
        if let Some(deleter) = unsafe { (*managed).deleter } {
            // SAFETY: as above.
            unsafe { deleter(managed) };
        }
    }
}
