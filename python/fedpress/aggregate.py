"""A weighted mean of encoded tensors, folded one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedpress import _fedpress
from fedpress.arrays import Array
from fedpress.codec import check_sum
from fedpress.describe import MEMORY_LIMIT, TensorInfo, flat, inspect
from fedpress.errors import InvalidArgumentError

#: What :func:`is_weight` accepts, for messages.
WEIGHTS = "0, or a number from 1.2e-38 to 3.4e38"


def is_weight(weight: float) -> bool:
    """Whether a sum in float32 can weigh by this number: beyond its range are infinity and 0 / 0."""
    range_ = np.finfo(np.float32)
    return bool(weight == 0 or float(range_.tiny) <= weight <= float(range_.max))


class Aggregator:
    """Sums encoded float tensors by weight, one stream after the other.

    Memory is that of two float32 models, whatever the number of streams: the sums, and those with the stream that is
    being decoded, which take their place when all of it is there.

    >>> import numpy as np, fedpress
    >>> total = fedpress.Aggregator({"w": (2,)})
    >>> for value, weight in [(1.0, 3), (5.0, 1)]:
    ...     blob = fedpress.encode({"w": np.full(2, value, np.float32)}, "none")
    ...     total.add(blob, weight)
    >>> total.mean()["w"]
    array([2., 2.], dtype=float32)
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        *,
        memory_limit: int = MEMORY_LIMIT,
        threads: int = 1,
    ) -> None:
        """Start with sums of zero.

        Args:
            shapes: dimensions of the tensors, by name. Every stream has to have exactly these.
            memory_limit: most memory that decoding one stream takes, in bytes.
            threads: to decode and to add with; 0 is one for each core.
        """
        self._sums: dict[str, Array] = {
            name: np.zeros(tuple(shape), np.float32) for name, shape in shapes.items()
        }
        # Where sums with a stream are made, which take their place when all of it is right.
        self._next: dict[str, Array] = {}
        self._memory_limit = memory_limit
        self._folder = _fedpress.Folder(memory_limit, threads)
        self._weight = 0.0

    @property
    def weight(self) -> float:
        """The sum of the weights so far."""
        return self._weight

    def add(self, blob: Any, weight: float) -> None:
        """Add a stream.

        Args:
            blob: of tensors of type float32, float16 or bfloat16.
            weight: a number that float32 holds, not below 0; with 0 the stream is checked and nothing
                is added.

        Raises:
            InvalidArgumentError: names, shapes or types are not those expected, a value is NaN or
                infinite, or the weight is none. Nothing was added.
            Error: the stream is damaged. Nothing was added.
        """
        if not is_weight(weight):
            raise InvalidArgumentError(f"weight: expected {WEIGHTS}, found {weight}")
        described = inspect(blob, memory_limit=self._memory_limit).tensors
        self._check(described)
        if not self._next:
            self._next = {name: np.empty_like(array) for name, array in self._sums.items()}
        places = {name: (a.reshape(-1), self._next[name].reshape(-1)) for name, a in self._sums.items()}
        bad, made = self._folder.add(flat(blob), places, weight)
        if bad is not None:
            message = f"tensor {bad[0]!r}, value {bad[1]}: NaN or infinite"
            raise InvalidArgumentError(message, tensor=bad[0])
        for name in made:
            self._sums[name], self._next[name] = self._next[name], self._sums[name]
        self._weight += weight

    def _check(self, described: Sequence[TensorInfo]) -> None:
        # Streams that follow each other may have a name twice, which would count twice.
        found, expected = Counter(tensor.name for tensor in described), Counter(self._sums.keys())
        if found != expected:
            lacking, extra = sorted(expected - found), sorted(found - expected)
            raise InvalidArgumentError(f"tensors: {lacking} are missing, {extra} not expected")
        for tensor in described:
            check_sum(tensor.name, tensor.dtype, tensor.shape, self._sums[tensor.name])

    def mean(self) -> dict[str, Array]:
        """Return the sums over the sum of the weights, as new arrays.

        Raises:
            InvalidArgumentError: nothing with a weight above 0 was added.
        """
        if self._weight == 0:
            raise InvalidArgumentError("nothing was added")
        for name, sums in self._sums.items():
            self._folder.finish(name, sums.reshape(-1))
        factor = np.float32(1.0 / self._weight)
        return {name: sums * factor for name, sums in self._sums.items()}
