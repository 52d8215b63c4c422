"""What streams hold, and how far what comes back is from what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from fedpress import _fedpress
from fedpress.arrays import as_bytes, as_numpy, dtype_name
from fedpress.errors import InvalidArgumentError

#: Most memory that decoding takes unless it is told otherwise, in bytes.
MEMORY_LIMIT = 1 << 30


@dataclass(frozen=True)
class TensorInfo:
    """What a stream says about a tensor.

    Attributes:
        name: its name.
        dtype: its element type, by its name in the format, such as ``"BF16"``.
        shape: its dimensions.
        spec: the pipeline it went through.
        n_bytes: bytes that it takes in the stream, headers included.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    spec: str
    n_bytes: int


@dataclass(frozen=True)
class Summary:
    """What the headers of a stream say; its payloads were not looked at.

    Attributes:
        version: of the format.
        metadata: what the sender said.
        tensors: in the order of the stream.
        n_bytes: of all of it.
    """

    version: tuple[int, int]
    metadata: dict[str, str]
    tensors: tuple[TensorInfo, ...]
    n_bytes: int


def inspect(blob: Any, *, memory_limit: int = MEMORY_LIMIT) -> Summary:
    """Return what the headers of a stream say.

    Raises:
        Error: as :func:`decode`, for what is wrong with the headers.
    """
    found = _fedpress.inspect(flat(blob), memory_limit)
    tensors = tuple(
        TensorInfo(t["name"], t["dtype"], tuple(t["shape"]), t["spec"], t["bytes"]) for t in found["tensors"]
    )
    return Summary(tuple(found["version"]), found["metadata"], tensors, found["bytes"])


class Comparison(NamedTuple):
    """How far a tensor is from the original.

    Attributes:
        nmse: squared error over the squared norm of the original.
        cosine: of the angle between them; nan where only one has a NaN or an infinity.
        max_error: the largest difference.
        n_different: values whose bytes differ.
    """

    nmse: float
    cosine: float
    max_error: float
    n_different: int


def compare(original: Any, other: Any) -> Comparison:
    """Compare two arrays of one type and size.

    Raises:
        InvalidArgumentError: they differ in type or size.
    """
    a, b = as_numpy(original), as_numpy(other)
    if a.dtype != b.dtype:
        raise InvalidArgumentError(f"cannot compare {a.dtype} with {b.dtype}")
    return Comparison(*_fedpress.compare(dtype_name(a), as_bytes(a), as_bytes(b)))


def flat(blob: Any) -> memoryview:
    """Return the bytes of any object with the buffer protocol, one dimension."""
    return memoryview(blob).cast("B")
