"""What goes down: the model, encoded once for all nodes that are sent the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord

import fedpress
from fedpress.flower.model import FLOATS, Model, apply_update, encode_update
from fedpress.flower.protocol import MODEL, VALUES, coded, identity


@dataclass(frozen=True)
class Sent:
    """One encoding of a model.

    Attributes:
        base: identity of what it is an update of, or, without arrays, of the model itself.
        identity: of the model that it makes.
        record: encoded arrays.
        n_bytes: of these.
        nmse: squared error of the decoded model over its squared norm.
    """

    base: str
    identity: str
    record: ArrayRecord
    n_bytes: int
    nmse: float


@dataclass
class Downloads:
    """Encodes each model once for each base that nodes hold.

    Attributes:
        model_spec: of whole models.
        update_spec: of differences to a model that a node holds; None where nodes hold none.
        seed: shared seed.
        threads: to encode with.
        most_held: how many models are kept that nodes may hold; nodes with an older one are sent the
            whole model.
    """

    model_spec: fedpress.Spec
    update_spec: fedpress.Spec | None
    seed: int
    threads: int
    most_held: int
    _model: Model = field(default_factory=dict)
    _key: object = None
    _by_base: dict[str, Sent] = field(default_factory=dict)
    _decoded: OrderedDict[str, Model] = field(default_factory=OrderedDict)

    def set_model(self, model: Model, key: object) -> None:
        """Say which model goes down from now on; the same key is the same model as before."""
        if key is not self._key:
            self._model, self._key, self._by_base = model, key, {}

    def sent(self, held: str, round: int) -> Sent:
        """Return the encoding of the model for a node.

        Args:
            held: identity of the model that it holds, or empty.
            round: of the server.
        """
        if held and any(sent.identity == held for sent in self._by_base.values()):
            return Sent(held, held, ArrayRecord(), 0, self._error(held))
        base = held if held in self._decoded else ""
        if base not in self._by_base:
            self._by_base[base] = self._encode(base, round)
        return self._by_base[base]

    def decoded(self, identity: str) -> Model:
        """Return a model that was sent and may be held."""
        return self._decoded[identity]

    def forget_old(self, held: Collection[str]) -> None:
        """Keep the newest models that a node holds, and all that were sent of this one: replies are relative to them."""
        current = {sent.identity for sent in self._by_base.values()}
        old = [identity for identity in self._decoded if identity not in current]
        while old and (len(self._decoded) > self.most_held or old[0] not in held):
            del self._decoded[old.pop(0)]

    def _encode(self, base: str, round: int) -> Sent:
        options = fedpress.options(
            seed=self.seed, round=round, several=len(self._model) > 1, threads=self.threads
        )
        if base and self.update_spec is not None:
            held = self._decoded[base]
            update = encode_update(self._model, held, self.update_spec, options)
            values = fedpress.decode(update.blobs[VALUES], memory_limit=1 << 62)
            blobs, decoded = update.blobs, apply_update(held, update.sent, values)
        else:
            base = ""
            blobs = {MODEL: fedpress.encode(self._model, self.model_spec, encode_options=options)}
            decoded = fedpress.decode(blobs[MODEL], memory_limit=1 << 62, threads=self.threads)
        made = identity(base, blobs)
        self._decoded[made] = decoded
        n_bytes = sum(map(len, blobs.values()))
        return Sent(base, made, coded(blobs), n_bytes, self._error(made))

    def _error(self, made: str) -> float:
        return nmse(self._model, self._decoded[made])


def nmse(model: Model, other: Model) -> float:
    """Return the squared error over the squared norm, of all floats of a model."""
    error = norm = 0.0
    for name, array in model.items():
        if array.dtype in FLOATS:
            a, b = array.astype(np.float64).reshape(-1), other[name].astype(np.float64).reshape(-1)
            error += float(np.dot(a - b, a - b))
            norm += float(np.dot(a, a))
    return error / norm if norm > 0 else 0.0
