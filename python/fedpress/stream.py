"""Tensors to bytes and back, piece by piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedpress import _fedpress
from fedpress.arrays import Array, as_bytes, as_numpy, dtype_name, from_bytes
from fedpress.describe import MEMORY_LIMIT, flat
from fedpress.errors import InvalidArgumentError
from fedpress.planning import taken
from fedpress.specs import Rules, SpecLike, chooser, options


class Encoder:
    """Makes a stream piece by piece, in memory of a few chunks.

    Every call returns the bytes that it made; together they are the stream.

    >>> import numpy as np, fedpress
    >>> encoder = fedpress.Encoder("lossless")
    >>> head = encoder.begin("rows", np.float32, (2,), open=True)
    >>> body = encoder.push(np.ones((3, 2), np.float32)) + encoder.end()
    >>> blob = head + body + encoder.add("step", np.int64(7)) + encoder.finish()
    >>> fedpress.decode(blob)["rows"].shape
    (3, 2)
    """

    def __init__(
        self,
        spec: SpecLike | Mapping[str, SpecLike],
        *,
        rules: Rules | None = None,
        metadata: Mapping[str, str] | None = None,
        several: bool = True,
        **keywords: Any,
    ) -> None:
        """Start a stream.

        Args:
            spec: as of :func:`encode`, with ``rules`` and ``metadata``.
            rules: as there.
            metadata: as there.
            several: whether more than one tensor of a model will follow.
            keywords: those of :func:`options`.
        """
        self._spec = chooser(spec, rules)
        self._encoder = _fedpress.Encoder(options(several=several, **keywords))
        self._kind = ""
        if metadata:
            self._encoder.metadata(dict(metadata))

    def add(self, name: str, value: Any) -> bytes:
        """Encode a whole tensor.

        Raises:
            Error, TypeError: as :func:`encode`.
        """
        self._encoder.tensor(*taken(name, value, self._spec))
        return self._encoder.take()

    def begin(
        self, name: str, dtype: np.typing.DTypeLike, shape: Sequence[int], *, open: bool = False
    ) -> bytes:
        """Begin a tensor whose elements follow by :meth:`push`.

        Args:
            name: unique in the stream.
            dtype: a NumPy or ml_dtypes type.
            shape: dimensions; with ``open`` those of a row, of which any number follows.
            open: whether the first dimension is not known yet.
        """
        kind = dtype_name(np.empty(0, dtype), name)
        self._encoder.begin(name, kind, list(shape), open, self._spec(name))
        self._kind = kind
        return self._encoder.take()

    def push(self, values: Any) -> bytes:
        """Add elements to the open tensor: an array of its type, or their bytes.

        Raises:
            InvalidArgumentError: an array of another type.
        """
        array = as_numpy(values)
        if array.dtype != np.uint8 and dtype_name(array) != self._kind:
            raise InvalidArgumentError(f"expected {self._kind} elements or bytes, found {array.dtype}")
        self._encoder.push(as_bytes(array))
        return self._encoder.take()

    def end(self) -> bytes:
        """End the open tensor."""
        self._encoder.end()
        return self._encoder.take()

    def finish(self) -> bytes:
        """End the stream. Without this it is truncated."""
        self._encoder.finish()
        return self._encoder.take()


class Decoder:
    """Turns bytes that arrive in pieces into tensors.

    >>> import numpy as np, fedpress
    >>> blob = fedpress.encode({"w": np.arange(3, dtype=np.float32)}, "none")
    >>> decoder = fedpress.Decoder()
    >>> [tensor for i in range(0, len(blob), 10) for tensor in decoder.push(blob[i : i + 10])]
    [('w', array([0., 1., 2.], dtype=float32))]
    >>> decoder.finish()
    """

    def __init__(self, *, memory_limit: int = MEMORY_LIMIT) -> None:
        """Start reading.

        Args:
            memory_limit: most memory for what the stream claims, in bytes, and most bytes of one
                tensor; tensors handed out are the caller's.
        """
        self._decoder = _fedpress.Decoder(memory_limit)

    def push(self, data: Any) -> list[tuple[str, Array]]:
        """Take the next bytes, cut anywhere; return the tensors that are complete by them.

        Raises:
            Error: as :func:`decode`. Tensors complete by the same bytes are lost.
        """
        made = self._decoder.push(flat(data))
        return [(name, from_bytes(memory, dtype, shape)) for name, dtype, shape, memory in made]

    def finish(self) -> None:
        """Say that no more bytes follow.

        Raises:
            TruncatedError: the stream is not complete.
        """
        self._decoder.finish()
