"""What goes down where nodes are sent what changed since a version that they hold, however many they missed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord

import fedpress
from fedpress.arrays import Array, as_bytes
from fedpress.delta import Received, Replica, Versions
from fedpress.flower.download import Sent, nmse
from fedpress.flower.errors import ProtocolError
from fedpress.flower.model import FLOATS, Model
from fedpress.flower.protocol import VALUES, VERSION, coded
from fedpress.flower.records import BY_TEXT
from fedpress.submodel import Layout


@dataclass(frozen=True)
class Deltas:
    """How a server keeps versions that nodes hold; arguments are those of :class:`fedpress.delta.Versions`.

    Attributes:
        step: how coarse a version is, in units of what a round changes.
        dead_zone: what part of that waits.
        rounds: for how many versions a node may have been away, and is still sent what changed.
    """

    step: float = 3.5
    dead_zone: float = 0.75
    rounds: int = 32


@dataclass
class Chain:
    """Versions of the model, each of which a node reaches exactly from whichever it holds.

    In memory are, beside the model, the last version and those that a node holds, as float32.

    Attributes:
        deltas: how.
        seed: shared seed.
    """

    deltas: Deltas
    seed: int
    _versions: Versions | None = None
    _number: int = -1
    _key: object = None
    _model: Model = field(default_factory=dict)
    _values: bytes = b""
    _text: str = ""
    _decoded: Model = field(default_factory=dict)
    _identity: str = ""
    _error: float = 0.0
    # Numbers of versions by identity.
    _held: dict[str, int] = field(default_factory=dict)
    _by_base: dict[str, Sent] = field(default_factory=dict)

    def set_model(self, model: Model, key: object) -> None:
        """Say which model goes down from now on; the same key is the same model as before.

        Raises:
            InvalidArgumentError: no tensor of it is such that what changed is smaller.
        """
        if key is self._key:
            return
        self._key, self._model, self._number, self._by_base = key, model, self._number + 1, {}
        options = fedpress.options(several=len(model) > 1)
        moving = {n: a.astype(np.float32) for n, a in model.items() if _is_moving(n, a, options)}
        rest = {name: array for name, array in model.items() if name not in moving}
        self._values = fedpress.encode(rest, "lossless")
        self._text = json.dumps({n: str(a.dtype) if n in moving else "" for n, a in model.items()})
        if self._versions is None:
            if not moving:
                raise fedpress.InvalidArgumentError(
                    "Deltas: no tensor is large enough, and none of float64 counts"
                )
            how = self.deltas
            self._versions = Versions(
                Layout.whole(moving), step=how.step, dead_zone=how.dead_zone, rounds=how.rounds
            )
        self._versions.advance(self._number, moving)
        received = Replica(self._versions.layout).decode(self._message(None))
        # To the versions, whoever holds one is one client of that number.
        self._versions.acknowledge(self._number, self._number)
        self._decoded, self._identity = joined(received, rest)
        self._held[self._identity], self._error = self._number, nmse(model, self._decoded)

    def sent(self, held: str, round: int) -> Sent:
        """Return the encoding of the model for a node.

        Args:
            held: identity of the model that it holds, or empty.
            round: of the server.
        """
        if held == self._identity:
            return Sent(held, held, ArrayRecord(), 0, self._error)
        assert self._versions is not None
        number = self._held.get(held)
        if number is None or self._versions.held_by(number) is None:
            held, number = "", None
        if held not in self._by_base:
            blobs = {VALUES: self._values, VERSION: self._message(number)}
            n_bytes = sum(map(len, blobs.values()))
            self._by_base[held] = Sent(held, self._identity, coded(blobs), n_bytes, self._error)
        return self._by_base[held]

    def decoded(self, identity: str) -> Model:
        """Return the model that was sent."""
        assert identity == self._identity, "replies are to what was sent last"
        return self._decoded

    def forget_old(self, held: Collection[str]) -> None:
        """Let go of versions that no node holds."""
        for identity in [i for i in self._held if i not in held and i != self._identity]:
            number = self._held.pop(identity)
            if self._versions is not None:
                self._versions.forget(number)

    def _message(self, number: int | None) -> bytes:
        assert self._versions is not None
        return self._versions.message(number, seed=self.seed, task=self._text)


def joined(received: Received, values: Mapping[str, Array]) -> tuple[Model, str]:
    """Return a model, in its order and types, and its identity.

    Args:
        received: of those tensors that are sent as what changed; its text says types and order.
        values: the others.

    Raises:
        ProtocolError: together they are not what the text says.
    """
    try:
        types = dict(json.loads(received.task))
        model = {
            name: received.model[name].astype(BY_TEXT[dtype]) if dtype else values[name]
            for name, dtype in types.items()
        }
    except (KeyError, ValueError, TypeError) as error:
        raise ProtocolError(f"a version of other arrays than it says: {error!r}") from error
    digest = hashlib.blake2b(str(received.round).encode(), digest_size=16)
    for name, array in model.items():
        digest.update(f" {name} {array.dtype} {array.shape} ".encode())
        digest.update(as_bytes(array).data)
    return model, digest.hexdigest()


def _is_moving(name: str, array: Array, options: fedpress.EncodeOptions) -> bool:
    """Whether a tensor is sent as what changed: one that lossy specs apply to, and that float32 holds."""
    if array.dtype not in FLOATS or array.dtype == np.float64:
        return False
    return fedpress.effective_spec(name, "F32", array.shape, "hadamard|q=4", options).is_lossy
