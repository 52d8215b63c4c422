"""Arrays of any library as bytes with a type and a shape, and back.

Everything becomes a NumPy array first, without a copy where its memory is contiguous: NumPy arrays and
scalars as they are, other libraries by ``__dlpack__`` (so that bfloat16 works, which the buffer protocol
lacks), everything else by the buffer protocol. Element types that NumPy does not have are those of
ml_dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fedpress import _fedpress
from fedpress.errors import InvalidArgumentError

Array = NDArray[Any]

#: Element types of the format (their safetensors names), as NumPy types.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
}

#: Bits of an element of every type, also of those below a byte.
BITS: dict[str, int] = dict(_fedpress.dtypes())

_NAMES = {dtype: name for name, dtype in DTYPES.items()}

# DLPack's code and bits of an element type (dlpack.h, DLDataTypeCode).
_DLPACK = {
    (0, 8): "I8",
    (0, 16): "I16",
    (0, 32): "I32",
    (0, 64): "I64",
    (1, 8): "U8",
    (1, 16): "U16",
    (1, 32): "U32",
    (1, 64): "U64",
    (2, 16): "F16",
    (2, 32): "F32",
    (2, 64): "F64",
    (4, 16): "BF16",
    (5, 64): "C64",
    (6, 8): "BOOL",
    (10, 8): "F8_E4M3",
    (11, 8): "F8_E4M3FNUZ",
    (12, 8): "F8_E5M2",
    (13, 8): "F8_E5M2FNUZ",
    (14, 8): "F8_E8M0",
}


def as_numpy(value: object, name: str = "") -> Array:
    """Return the elements of ``value`` as a NumPy array, sharing its memory where that can be.

    Args:
        value: a NumPy array or scalar, a tensor on the CPU of any library that has ``__dlpack__``
            (PyTorch, JAX, ...), or an object with the buffer protocol.
        name: of the tensor, for messages.

    Raises:
        TypeError: it is none of these, or of an element type that streams do not have.
        InvalidArgumentError: it is on another device than the CPU.
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(value, name)
    try:
        return np.asarray(memoryview(value))  # type: ignore[arg-type]
    except TypeError:
        message = f"{_tensor(name)}: expected an array, found {type(value).__name__}"
        raise TypeError(message) from None


def dtype_name(array: Array, name: str = "") -> str:
    """Return the name of the element type of an array in a stream, such as ``"BF16"``.

    Raises:
        TypeError: streams have no such elements.
    """
    found = _NAMES.get(array.dtype.newbyteorder("<") if array.dtype.isnative else array.dtype)
    found = found or _NAMES.get(array.dtype.newbyteorder("<"))
    if found is None:
        known = ", ".join(str(dtype) for dtype in DTYPES.values())
        message = f"{_tensor(name)}: elements of type {array.dtype}; streams have {known}"
        raise TypeError(message)
    return found


def is_added(dtype: np.dtype[Any]) -> bool:
    """Whether a type is one that ml_dtypes adds to NumPy: bfloat16 and float8."""
    return dtype.isbuiltin == 2


def as_bytes(array: Array) -> Array:
    """Return the elements in C order, little-endian, as a flat array of bytes.

    Shares the memory of an array that is in C order already.
    """
    little = array.dtype.newbyteorder("<")
    if array.dtype != little:
        array = array.astype(little)
    # ascontiguousarray makes an array without dimensions one of one.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def from_bytes(memory: Any, dtype: str, shape: Sequence[int]) -> Array:
    """Return a writable array over bytes; those of elements below a byte stay packed, one dimension.

    Args:
        memory: a writable buffer of exactly the bytes that the shape takes.
        dtype: name of the element type.
        shape: dimensions.
    """
    flat = np.frombuffer(memory, dtype=np.uint8)
    if dtype not in DTYPES:
        return flat
    return flat.view(DTYPES[dtype]).reshape(tuple(shape))


def n_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Return how many bytes elements of that type and shape take."""
    return -(-math.prod(shape) * BITS[dtype] // 8)


def _from_dlpack(value: Any, name: str) -> Array:
    # A tensor that is trained; its values are the same without the graph.
    if getattr(value, "requires_grad", False):
        value = value.detach()
    try:
        borrowed = _fedpress.Borrowed(value.__dlpack__())
    except (ValueError, BufferError, RuntimeError) as error:
        message = f"{_tensor(name)}: {type(value).__name__} gives no array on the CPU: {error}"
        raise InvalidArgumentError(message, tensor=name or None) from error
    try:
        dtype = DTYPES[_DLPACK[borrowed.kind]]
    except KeyError:
        message = f"{_tensor(name)}: elements of DLPack type {borrowed.kind}"
        raise TypeError(message) from None
    array: Array = np.asarray(borrowed).view(dtype)[..., 0]
    return array


def _tensor(name: str) -> str:
    return f"tensor {name!r}" if name else "tensor"
