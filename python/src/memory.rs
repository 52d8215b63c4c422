//! Bytes of Python objects as slices, and bytes of ours as a Python object: the buffer protocol.
#![allow(unsafe_code, reason = "the buffer protocol hands out pointers")]

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;

/// The bytes of an object that another holds: contiguous, and pinned as long as this lives.
pub struct Input(PyBuffer<u8>);

impl Input {
    /// Of any object that exports contiguous bytes.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(object)?;
        match buffer.is_c_contiguous() {
            true => Ok(Self(buffer)),
            false => Err(PyBufferError::new_err("the bytes are not contiguous")),
        }
    }

    /// The bytes. Whoever writes to them meanwhile, from another thread, gets what he mixes.
    pub fn bytes(&self) -> &[u8] {
        if self.0.item_count() == 0 {
            return &[];
        }
        // SAFETY: the exporter keeps item_count contiguous bytes at this address until the buffer is
        // released, which is when self is dropped. That nobody writes to them while they are read is
        // the caller's duty, as the documentation of the package says.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.0.item_count()) }
    }
}

/// Little-endian f32 values.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    numbers(bytes, f32::from_le_bytes)
}

/// Numbers that `from` reads of N bytes each.
pub fn numbers<T, const N: usize>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|b| from(*b)).collect()
}

/// Bytes of an object, to be written.
pub struct Output(PyBuffer<u8>);

impl Output {
    /// Of any object that exports contiguous bytes and lets them be written.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(object)?;
        if buffer.readonly() {
            return Err(PyBufferError::new_err("the bytes cannot be written"));
        }
        match buffer.is_c_contiguous() {
            true => Ok(Self(buffer)),
            false => Err(PyBufferError::new_err("the bytes are not contiguous")),
        }
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.0.item_count() == 0 {
            return &mut [];
        }
        // SAFETY: as in Input::bytes, and the exporter says that they may be written. The package
        // refuses two outputs that overlap; that nobody else touches them is the caller's duty.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf_ptr().cast(), self.0.item_count()) }
    }
}

/// f32 values that an object exports to be written.
pub struct Sums(PyBuffer<f32>);

impl Sums {
    /// Of any object that exports contiguous, aligned f32 and lets them be written.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<f32>::get(object)?;
        match !buffer.readonly() && buffer.is_c_contiguous() {
            true => Ok(Self(buffer)),
            false => Err(PyBufferError::new_err("expected contiguous f32 that can be written")),
        }
    }

    /// The values.
    pub fn values_mut(&mut self) -> &mut [f32] {
        if self.0.item_count() == 0 {
            return &mut [];
        }
        // SAFETY: as in Output::bytes_mut; PyBuffer has checked type and alignment.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf_ptr().cast(), self.0.item_count()) }
    }
}

/// Decoded elements: a writable buffer of bytes that arrays are views of.
#[pyclass(module = "fedpress._fedpress")]
pub struct Memory(Vec<u8>);

impl Memory {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

#[pymethods]
impl Memory {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Exports the bytes.
    ///
    /// # Safety
    /// `view` is what the interpreter hands in: valid for a write, or null.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (start, length) = {
            let mut memory = slf.borrow_mut();
            (memory.0.as_mut_ptr(), memory.0.len() as ffi::Py_ssize_t)
        };
        // SAFETY: the vector belongs to slf, to which the view takes a reference, and never moves or
        // changes its length: no method of this class does that. `view` is as above.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast(), length, 0, flags) };
        match filled {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}
