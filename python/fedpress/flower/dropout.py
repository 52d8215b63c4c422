"""Federated Dropout (Caldas et al. 2018): each node trains a submodel, cut out of the model that it holds.

Which units it keeps follows from a number, so that no indices travel; nothing goes down for it, the update that
comes up is smaller by what was dropped, and so is the work of training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedpress.arrays import Array
from fedpress.flower.model import Model
from fedpress.submodel import Layout, Selection

Scope = Literal["round", "client"]


@dataclass(frozen=True)
class Part:
    """A selection of units, and the layout that it is of.

    Attributes:
        layout: of those tensors that have units; others are whole in every submodel.
        kept: the selection.
    """

    layout: Layout
    kept: Selection

    @classmethod
    def drawn(cls, layout: Layout, keep: float, number: int) -> Part:
        """Return the random part of that number."""
        return cls(layout, layout.select("random", keep=keep, number=number))

    def of(self, model: Mapping[str, Array]) -> Model:
        """Return the submodel, in the order of the model."""
        names = self.layout.parameters
        packed = self.layout.pack(self.kept, {name: model[name] for name in names})
        return {name: packed.get(name, array) for name, array in model.items()}

    def spread(self, packed: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> Model:
        """Return tensors of the full shapes that are zero where nothing was kept, float32."""
        layout = self.layout.parameters
        small = self.layout.packed_shapes(self.kept)
        inside = {n: packed.get(n, np.zeros(small[n], np.float32)).astype(np.float32) for n in layout}
        full: Model = {name: np.zeros(shapes[name], np.float32) for name in layout}
        self.layout.merge(self.kept, inside, full)
        return {name: full[name] if name in layout else array for name, array in packed.items()}


@dataclass(frozen=True)
class Dropout:
    """How parts are drawn in a run.

    Attributes:
        layout: of the model.
        keep: fraction of the units of each group.
        scope: whether all nodes of a round train the same part, or each its own.
        seed: of the run.
    """

    layout: Layout
    keep: float
    scope: Scope
    seed: int

    def number(self, round: int, node: int) -> int:
        """Return the number of the part of a node in a round."""
        who = node if self.scope == "client" else 0
        digest = hashlib.blake2b(f"{self.seed} {round} {who}".encode(), digest_size=7).digest()
        return int.from_bytes(digest)

    def part(self, number: int) -> Part:
        """Return the part of that number."""
        return Part.drawn(self.layout, self.keep, number)
