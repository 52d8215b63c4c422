"""Between Flower's records and NumPy arrays, without needless copies, and with bfloat16.

Flower stores an array as the bytes of a ``.npy`` file. Of a type that NumPy lacks, such as bfloat16, the
file says nothing but its size; the type is in :attr:`flwr.app.Array.dtype`, and restored from there.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord
from numpy.lib import format as npy

from fedpress.arrays import DTYPES, Array, as_numpy, is_added
from fedpress.errors import InvalidArgumentError

#: How Flower marks an array of NumPy.
NUMPY = "numpy.ndarray"

#: Element types by what NumPy calls them.
BY_TEXT = {str(dtype): dtype for dtype in DTYPES.values()}


def arrays_of(record: ArrayRecord) -> dict[str, Array]:
    """Return the arrays of a record by name: read-only views of its bytes.

    Raises:
        InvalidArgumentError: an array is not one of NumPy's, or is damaged.
    """
    return {name: _array(name, array) for name, array in record.items()}


def record_of(arrays: Mapping[str, Any]) -> ArrayRecord:
    """Return a record of arrays, bfloat16 and float8 included; tensors of PyTorch are taken, too."""
    return ArrayRecord({name: flower_array(as_numpy(value, name)) for name, value in arrays.items()})


def flower_array(array: Array) -> FlowerArray:
    """Return what ``flwr.app.Array(array)`` does, with one copy of the elements instead of three."""
    head = io.BytesIO()
    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    # Of some types that are not its own NumPy writes names that it does not read, such as <f1.
    stored = contiguous.view(f"V{array.itemsize}") if is_added(array.dtype) else contiguous
    npy.write_array_header_1_0(head, npy.header_data_from_array_1_0(stored))
    data = b"".join((head.getvalue(), contiguous.reshape(-1).view(np.uint8).data))
    return FlowerArray(dtype=str(array.dtype), shape=tuple(array.shape), stype=NUMPY, data=data)


def _array(name: str, array: FlowerArray) -> Array:
    if array.stype != NUMPY:
        message = f"array {name!r}: expected one of NumPy, found {array.stype!r}"
        raise InvalidArgumentError(message, tensor=name)
    file = io.BytesIO(array.data)
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        flat = np.frombuffer(array.data, np.uint8, offset=file.tell())
        typed: Array = flat.view(_type(dtype, array.dtype))
        return typed.reshape(shape, order="F" if fortran else "C")
    except ValueError as error:
        raise InvalidArgumentError(f"array {name!r}: {error}", tensor=name) from error


def _type(stored: np.dtype[Any], said: str) -> np.dtype[Any]:
    if stored.hasobject:
        raise ValueError("elements are Python objects")
    known = BY_TEXT.get(said)
    if stored.kind == "V" and known is not None and known.itemsize == stored.itemsize:
        return known
    return stored
