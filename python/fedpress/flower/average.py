"""The weighted mean of replies, folded one by one: beside the sums there is one decoded reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

import fedpress
from fedpress import _fedpress
from fedpress.arrays import Array
from fedpress.flower.errors import ReplyError
from fedpress.flower.model import FLOATS, Model, added
from fedpress.flower.replies import Reply


class WeightedMean:
    """Sums of differences to a model, in float32, beside which there is room for one reply.

    Integers are averaged, too, and rounded: a counter stays one. A reply of weight 0 is checked and
    changes nothing.
    """

    def __init__(self, model: Mapping[str, Array], memory_limit: int, threads: int) -> None:
        """Start with nothing.

        Args:
            model: what the mean difference is added to.
            memory_limit: most memory to take for a reply, in bytes.
            threads: to decode and to add with; 0 is one for each core.
        """
        self._model = model
        self._memory_limit = memory_limit
        self._folder = _fedpress.Folder(memory_limit, threads)
        self._sums: Model = {}
        # Where sums with a reply are made, which take their place when all of it is right.
        self._next: Model = {}
        self._exact: Model = {}
        # Sums of weights by coordinate, of tensors that were folded in parts.
        self._counts: Model = {}
        self._weight = 0.0
        for name, array in model.items():
            if array.dtype in FLOATS:
                self._sums[name] = np.zeros(array.shape, np.float32)
            else:
                self._exact[name] = np.zeros(array.shape, _wide(array))

    @property
    def weight(self) -> float:
        """The sum of the weights so far."""
        return self._weight

    def add(self, reply: Reply, base: Mapping[str, Array], weight: float) -> None:
        """Fold a reply in.

        Args:
            reply: checked.
            base: the model that it is relative to; values that travelled as they are become differences
                to it.
            weight: finite, from 0 on.

        Raises:
            ReplyError: the update is damaged, or has NaN or infinity. Nothing was added.
        """
        deltas, exact = reply.value_deltas(base)
        try:
            names = [
                tensor.name
                for tensor in fedpress.inspect(reply.update, memory_limit=self._memory_limit).tensors
            ]
            bad, made = self._folder.add(reply.update, self._places(names), weight)
        except fedpress.Error as error:
            raise ReplyError(reply.node, str(error)) from error
        if bad is not None:
            raise ReplyError(reply.node, f"array {bad[0]!r}, value {bad[1]}: NaN or infinite")
        if weight == 0:
            return
        for name in made:
            self._sums[name], self._next[name] = self._next[name], self._sums[name]
        for name, delta in deltas.items():
            self._sums[name] += np.float32(weight) * delta
        self.add_exact(exact, weight)
        self._weight += weight

    def _places(self, names: Iterable[str]) -> dict[str, tuple[Array, Array]]:
        """Return sums, and where those with a reply are made, flat."""
        for name in names:
            if name not in self._next:
                self._next[name] = np.empty_like(self._sums[name])
        return {name: (self._sums[name].reshape(-1), self._next[name].reshape(-1)) for name in names}

    def add_part(self, deltas: Mapping[str, Array], present: Mapping[str, Array], weight: float) -> None:
        """Fold differences in of which not all were trained; the mean is that of those who trained them.

        Args:
            deltas: of the shapes of the model, 0 where nothing was trained.
            present: 1 where something was, 0 elsewhere.
            weight: finite, from 0 on.
        """
        for name, delta in deltas.items():
            self._sums[name] += np.float32(weight) * delta
            counts = self._counts.setdefault(name, np.zeros(delta.shape, np.float32))
            counts += np.float32(weight) * present[name]
        self._weight += weight

    def add_exact(self, exact: Mapping[str, Array], weight: float) -> None:
        """Fold tensors in that are no floats; their weight counts already."""
        for name, array in exact.items():
            self._exact[name] += weight * array.astype(self._exact[name].dtype)

    def take(self, name: str) -> Array:
        """Return one tensor of the mean, in its own type, and forget its sum: nothing is added any more."""
        self._next = {}
        array = self._model[name]
        if name in self._sums:
            delta = self._sums.pop(name)
            self._folder.finish(name, delta.reshape(-1))
            if name in self._counts:
                np.divide(delta, self._counts[name], out=delta, where=self._counts[name] > 0)
            else:
                delta *= np.float32(1.0 / self._weight)
            return added(array, delta)
        return as_type(self._exact.pop(name) / self._weight, array.dtype)


def as_type(mean: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return a mean in the type of what it is the mean of; integers and truth are rounded."""
    if dtype.kind == "b":
        return np.asarray(mean >= 0.5)
    if dtype.kind in "iu":
        mean = np.rint(mean)
    return np.asarray(mean).astype(dtype)


def _wide(array: Array) -> type:
    return np.complex128 if array.dtype.kind == "c" else np.float64
