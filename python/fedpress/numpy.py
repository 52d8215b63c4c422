"""Models as lists of NumPy arrays, as scikit-learn style and Keras clients have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedpress import codec, specs
from fedpress.arrays import Array


def encode(arrays: Sequence[Any], spec: specs.SpecLike, **keywords: Any) -> bytes:
    """Encode arrays by position: their names in the stream are "0", "1", and so on.

    Args:
        arrays: as of :func:`fedpress.encode`.
        spec: as there.
        keywords: as there.
    """
    return codec.encode({str(i): array for i, array in enumerate(arrays)}, spec, **keywords)


def decode(blob: Any, **keywords: Any) -> list[Array]:
    """Decode the arrays of a stream, in its order.

    Args:
        blob: as of :func:`fedpress.decode`.
        keywords: ``memory_limit`` and ``threads`` of it.
    """
    return list(codec.decode(blob, **keywords).values())
