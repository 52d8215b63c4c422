"""Models as arrays by name, and the difference between two of them, encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import fedpress
from fedpress.arrays import DTYPES, Array
from fedpress.errors import InvalidArgumentError
from fedpress.flower.protocol import UPDATE, VALUES

Model = dict[str, Array]

#: Element types of which differences are sent.
FLOATS = tuple(DTYPES[name] for name in ("F16", "BF16", "F32", "F64"))


@dataclass(frozen=True)
class Signature:
    """Names, shapes and element types of a model.

    Attributes:
        shapes: dimensions by name, in the order of the model.
        dtypes: element types by name.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]

    @classmethod
    def of(cls, model: Mapping[str, Array]) -> Signature:
        """Return that of a model."""
        return cls({n: a.shape for n, a in model.items()}, {n: a.dtype for n, a in model.items()})

    def check(self, model: Mapping[str, Array]) -> None:
        """Check that a model has these names, shapes and types, in any order.

        Raises:
            InvalidArgumentError: it has not; the message names the first array that differs.
        """
        self.check_shapes({name: array.shape for name, array in model.items()})
        for name, array in model.items():
            if array.dtype != self.dtypes[name]:
                message = f"array {name!r}: expected {self.dtypes[name]}, found {array.dtype}"
                raise InvalidArgumentError(message, tensor=name)

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that these are the names and shapes, in any order.

        Raises:
            InvalidArgumentError: as :meth:`check`.
        """
        if shapes.keys() != self.shapes.keys():
            lacking = sorted(self.shapes.keys() - shapes.keys())
            extra = sorted(shapes.keys() - self.shapes.keys())
            raise InvalidArgumentError(f"arrays: {lacking} are missing, {extra} not expected")
        for name, shape in shapes.items():
            if shape != self.shapes[name]:
                message = f"array {name!r}: expected shape {self.shapes[name]}, found {shape}"
                raise InvalidArgumentError(message, tensor=name)


@dataclass(frozen=True)
class Update:
    """A model as the difference to another: what travels.

    Attributes:
        blobs: the encoded arrays.
        wanted: the differences that should have been sent, float32.
        sent: the differences that the other side decodes.
    """

    blobs: dict[str, bytes]
    wanted: Model
    sent: Model

    @property
    def nmse(self) -> float:
        """Squared error over squared norm; 0 where there is no difference."""
        error = sum(_energy(self.wanted[name] - self.sent[name]) for name in self.wanted)
        norm = sum(map(_energy, self.wanted.values()))
        return error / norm if norm > 0 else 0.0


def encode_update(
    model: Mapping[str, Array],
    base: Mapping[str, Array],
    spec: fedpress.Spec,
    options: fedpress.EncodeOptions,
    lost: Mapping[str, Array] | None = None,
) -> Update:
    """Encode a model as the difference to ``base``.

    Tensors for which the spec is lossy travel as differences in float32; all others, such as counters,
    biases and statistics, as they are.

    Args:
        model: of the signature of ``base``.
        base: what the other side has.
        spec: of the differences.
        options: of the codec.
        lost: what encoding lost before, by name; added to the differences.

    Raises:
        InvalidArgumentError: a difference is NaN or infinite.
    """
    wanted: Model = {}
    values: Model = {}
    for name, array in model.items():
        lossy = fedpress.effective_spec(name, "F32", array.shape, spec, options).is_lossy
        if array.dtype in FLOATS and lossy:
            wanted[name] = difference(array, base[name])
            if lost is not None and name in lost:
                wanted[name] += lost[name]
        else:
            values[name] = array
    update = fedpress.encode(wanted, spec, encode_options=options)
    rest = fedpress.encode(values, "lossless", encode_options=options)
    sent = fedpress.decode(update, memory_limit=1 << 62)
    return Update({UPDATE: update, VALUES: rest}, wanted, sent)


def apply_update(base: Mapping[str, Array], update: Model, values: Model) -> Model:
    """Return the model that a base and a decoded update make, in the order of the base.

    Raises:
        InvalidArgumentError: together they do not have the names, shapes and types of the base.
    """
    signature = Signature.of(base)
    signature.check_shapes({n: a.shape for n, a in (update | values).items()})
    made = {
        name: added(array, update[name]) if name in update else values[name] for name, array in base.items()
    }
    signature.check(made)
    return made


def difference(array: Array, base: Array) -> Array:
    """Return ``array - base`` in float32, infinity where that is beyond its range."""
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype == np.float64:
            return (array - base).astype(np.float32)
        return array.astype(np.float32) - base.astype(np.float32)


def added(array: Array, delta: Array) -> Array:
    """Return ``array + delta`` in the type of ``array``."""
    wide = array if array.dtype == np.float64 else array.astype(np.float32)
    with np.errstate(over="ignore"):
        return (wide + delta).astype(array.dtype)


def _energy(array: Array) -> float:
    flat = array.reshape(-1)
    # In pieces: float32 sums of millions of squares lose digits.
    pieces = (flat[i : i + 65536] for i in range(0, flat.size, 65536))
    return float(sum(float(np.dot(piece, piece)) for piece in pieces))
