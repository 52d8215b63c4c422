"""Federated Dropout (Caldas et al. 2018): smaller dense models cut out of a full one, and put back."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

from fedpress import _fedpress
from fedpress.arrays import Array, as_bytes, as_numpy, dtype_name, from_bytes
from fedpress.errors import InvalidArgumentError

Selection = _fedpress.Selection


class Layout:
    """Which axis of which parameter belongs to which group of units.

    Attributes:
        family: of models, such as ``"torchvision ResNet"``, where the layout was recognized.
        notes: what is kept whole although it could be units if more were known, each in a sentence.

    >>> import numpy as np, fedpress.submodel
    >>> model = {
    ...     "fc1.weight": np.zeros((8, 4), np.float32), "fc1.bias": np.zeros(8, np.float32),
    ...     "fc2.weight": np.zeros((2, 8), np.float32), "fc2.bias": np.zeros(2, np.float32),
    ... }
    >>> layout = fedpress.submodel.Layout.infer(model)
    >>> kept = layout.select("random", keep=0.5, number=3)
    >>> small = layout.pack(kept, model)
    >>> {name: array.shape for name, array in small.items()}
    {'fc1.weight': (4, 4), 'fc1.bias': (4,), 'fc2.weight': (2, 4), 'fc2.bias': (2,)}
    """

    def __init__(self, layout: _fedpress.Layout) -> None:
        """Wrap; use :meth:`infer`, :meth:`recognize`, :meth:`whole` or :meth:`from_toml`."""
        self._layout = layout
        self.family = ""
        self.notes: tuple[str, ...] = ()
        self._index = {name: i for i, (name, _) in enumerate(layout.parameters())}

    @classmethod
    def infer(
        cls,
        shapes: Mapping[str, Any],
        convention: Literal["torch", "burn", "keras"] = "torch",
    ) -> Layout:
        """Return the layout of a plain sequence of dense and convolutional layers.

        Args:
            shapes: arrays or shapes by name, in the order of the model.
            convention: how the framework stores weights and flattens images.

        Raises:
            InvalidArgumentError: the model is no such sequence; the message says why.
        """
        return cls(_fedpress.Layout.infer(_pairs(shapes), convention))

    @classmethod
    def recognize(
        cls, shapes: Mapping[str, Any], *, heads: int | None = None, key_heads: int | None = None
    ) -> Layout | None:
        """Return the layout of a model of a family that is known by its names and shapes, or None.

        Known are ResNets and MobileNets of torchvision, transformers with the names of BERT, ViT, GPT-2, Llama
        and their kin, and LoRA adapters. :attr:`family` and :attr:`notes` of what is returned say as what it
        was recognized, and what is kept whole.

        Args:
            shapes: arrays or shapes by name.
            heads: of each attention layer; without it heads are whole, but where a tensor shows their width.
            key_heads: of keys and values, where there are fewer.

        Raises:
            InvalidArgumentError: the names are those of a family, and the shapes are not.
        """
        found = _fedpress.Layout.recognize(_pairs(shapes), heads, key_heads)
        if found is None:
            return None
        layout, family, notes = found
        made = cls(layout)
        made.family, made.notes = family, tuple(notes)
        return made

    @classmethod
    def whole(cls, shapes: Mapping[str, Any]) -> Layout:
        """Return a layout of which nothing is ever dropped.

        Args:
            shapes: arrays or shapes by name.

        Raises:
            InvalidArgumentError: there are none, or one has no values.
        """
        return cls(_fedpress.Layout.whole(_pairs(shapes)))

    @classmethod
    def from_toml(cls, text: str) -> Layout:
        """Return the layout that a layout file describes.

        Raises:
            InvalidArgumentError: it is no layout file; the message says where.
        """
        return cls(_fedpress.Layout.from_toml(text))

    def to_toml(self) -> str:
        """Return the layout file."""
        return self._layout.to_toml()

    @property
    def groups(self) -> dict[str, int]:
        """Units of each group, by its name."""
        return dict(self._layout.groups())

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes in the full model, by name."""
        return {name: tuple(shape) for name, shape in self._layout.parameters()}

    def select(
        self,
        rule: Literal["random", "ordered", "rolling"] = "random",
        *,
        keep: float,
        number: int = 0,
        groups: Mapping[str, float] | None = None,
    ) -> Selection:
        """Return which units to keep: a pure function of its arguments.

        Args:
            rule: random units, the first ones, or a window that starts at ``number``.
            keep: fraction of the units of each group, above 0 and up to 1.
            number: seed of ``"random"``, first unit of ``"rolling"``.
            groups: other fractions for some groups.

        Raises:
            InvalidArgumentError: what is no fraction, or a group that the layout does not have.
        """
        return self._layout.select(rule, number, keep, dict(groups or {}))

    def pack(self, kept: Selection, model: Mapping[str, Any]) -> dict[str, Array]:
        """Return the submodel: what the selection keeps of each parameter.

        Args:
            kept: a selection of this layout.
            model: the parameters of the layout, of any element type.

        Raises:
            InvalidArgumentError: other names or shapes than those of the layout.
        """
        arrays = {name: as_numpy(value, name) for name, value in model.items()}
        self._check(arrays, self.parameters)
        return {name: self._packed(kept, name, arrays[name]) for name in self._index}

    def merge(self, kept: Selection, small: Mapping[str, Any], model: MutableMapping[str, Array]) -> None:
        """Write a submodel into the full model; what was not kept stays as it is.

        Args:
            kept: the selection that the submodel was packed by.
            small: the submodel.
            model: the full model: arrays that are replaced by changed copies.

        Raises:
            InvalidArgumentError: other names, shapes or types than expected. Nothing is written.
        """
        arrays = {name: as_numpy(value, name) for name, value in small.items()}
        self._check(model, self.parameters)
        self._check(arrays, self.packed_shapes(kept))
        for name, array in arrays.items():
            if array.dtype != model[name].dtype:
                found = f"{array.dtype} into {model[name].dtype}"
                raise InvalidArgumentError(f"parameter {name!r}: {found}", tensor=name)
        for name, i in self._index.items():
            full = model[name].copy(order="C")
            flat, size = full.reshape(-1).view("u1"), full.dtype.itemsize
            self._layout.merge(kept, i, as_bytes(arrays[name]), flat, size)
            model[name] = full

    def packed_shapes(self, kept: Selection) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the submodel, by name."""
        packed = self._layout.packed_shape
        return {name: tuple(packed(kept, i)) for name, i in self._index.items()}

    def _packed(self, kept: Selection, name: str, full: Array) -> Array:
        i = self._index[name]
        memory = self._layout.pack(kept, i, as_bytes(full), full.dtype.itemsize)
        shape = self._layout.packed_shape(kept, i)
        return from_bytes(memory, dtype_name(full, name), shape)

    def _check(self, found: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]]) -> None:
        if found.keys() != expected.keys():
            lacking, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
            raise InvalidArgumentError(f"parameters: {lacking} are missing, {extra} not expected")
        for name, shape in expected.items():
            if found[name].shape != shape:
                message = f"parameter {name!r}: expected shape {shape}, found {found[name].shape}"
                raise InvalidArgumentError(message, tensor=name)


def _pairs(shapes: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """Return names and shapes, of arrays too."""
    return [(name, list(getattr(value, "shape", value))) for name, value in shapes.items()]
