"""Downlinks as what changed: a server keeps versions of its model, and a client what it holds of it.

A version is the model rounded to multiples of powers of two, so the difference of any two of them is one
of integers, which travel without loss: whatever version a client holds, and however many it missed, it lands
exactly on the last one. Section 1.7 of ``fl/MESSAGES.md`` has the bytes; ``fl/README.md`` has bits and errors.

>>> import numpy as np
>>> from fedpress.delta import Replica, Versions
>>> from fedpress.submodel import Layout
>>> layout = Layout.whole({"w": (100, 100)})
>>> versions, replica, sizes = Versions(layout), Replica(layout), []
>>> draws = np.random.default_rng(1)
>>> w = draws.normal(size=(100, 100)).astype(np.float32)
>>> for round in range(3):
...     versions.advance(round, {"w": w})
...     message = versions.message(client=10)
...     model = replica.decode(message).model
...     versions.acknowledge(10, round)  # by an update that was taken
...     sizes.append(8 * len(message) / w.size)
...     w += 0.01 * draws.normal(size=w.shape).astype(np.float32)
>>> sizes[0] < 8 and sizes[2] < 1.2
True
>>> bool(np.square(model["w"] - w).mean() < 5e-4)
True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpress import _fedpress
from fedpress._fedpress import Spec
from fedpress.arrays import Array, as_bytes, as_numpy, from_bytes
from fedpress.describe import MEMORY_LIMIT, flat
from fedpress.errors import InvalidArgumentError
from fedpress.specs import SpecLike, as_spec
from fedpress.submodel import Layout, Selection


class Versions:
    """The server's half: versions of its model, and which of them each client holds.

    Attributes:
        layout: of the model.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        step: float = 3.5,
        dead_zone: float = 0.75,
        rounds: int = 32,
        exact: Iterable[str] = (),
        state: Any = None,
        model: Mapping[str, Any] | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Start without a version, or go on where another process ended.

        In memory are, as float32, the last version, the model it was made of, and every earlier version that
        a client holds.

        Args:
            layout: of the model; :meth:`Layout.whole` where clients train all of it.
            step: how coarse a version is: the greatest power of two up to so many times the root mean
                square of what the last round changed in a tensor. Above 0, up to 64.
            dead_zone: what differs from the version before by no more than this part of that waits:
                .5 rounds to nearest, more sends less. At least .5, below 1.
            rounds: for how many rounds a version is kept for clients to come back from.
            exact: tensors that every version has to the bit, beside running statistics.
            state: what :meth:`save` returned, of the same layout.
            model: with a state, what its last version was made of, as :meth:`advance` takes it; without, the next
                version is as fine as the last.
            memory_limit: most memory that decoding the state takes, in bytes.

        Raises:
            InvalidArgumentError: a number out of its range, another model.
            Error: a state that is none of this layout.
        """
        names, self.layout = list(exact), layout
        unknown = sorted(set(names) - layout.parameters.keys())
        if unknown:
            raise InvalidArgumentError(f"exact: the layout has no {unknown}")
        numbers = (step, dead_zone, rounds)
        saved = None if state is None else (flat(state), [] if model is None else self._values(model))
        self._versions = _fedpress.Versions(layout._layout, numbers, names, saved, memory_limit)

    @property
    def round(self) -> int | None:
        """The round of the last version, or None before the first."""
        return self._versions.round

    def advance(self, round: int, model: Mapping[str, Any]) -> None:
        """Make the version of a round.

        Args:
            round: behind all rounds before it.
            model: float32 arrays, of the names and shapes of the layout.

        Raises:
            InvalidArgumentError: another model, or an earlier round.
        """
        self._versions.advance(round, self._values(model))

    def _values(self, model: Mapping[str, Any]) -> list[Array]:
        """Return the bytes of a model, in the order of the layout."""
        found = {name: as_numpy(value, name) for name, value in model.items()}
        shapes = self.layout.parameters
        if {name: array.shape for name, array in found.items()} != shapes:
            raise InvalidArgumentError(f"model: expected the arrays {shapes}")
        for name, array in found.items():
            if array.dtype != np.float32:
                raise InvalidArgumentError(f"array {name!r}: expected float32, found {array.dtype}")
        return [as_bytes(found[name]) for name in shapes]

    def message(
        self,
        client: int | None = None,
        *,
        kept: Selection | None = None,
        run: int = 0,
        seed: int = 0,
        uplink: SpecLike = "lossless",
        task: str = "",
    ) -> bytes:
        """Return the last version as what a client lacks of it.

        Args:
            client: whom it is for, below 2^64 - 1; None: whoever holds nothing.
            kept: the submodel that the client is to train; None: all.
            run: which training this is.
            seed: what the update's rotation derives from.
            uplink: how the update is to be encoded.
            task: a text for the training code.

        Raises:
            InvalidArgumentError: there is no version yet, or no such client.
        """
        if self.round is None:
            raise InvalidArgumentError("there is no version yet: advance makes one")
        return self._versions.message((run, self.round, seed), client, kept, as_spec(uplink), task)

    def acknowledge(self, client: int, round: int, *, kept: Selection | None = None) -> None:
        """Take note that a client has decoded what it was sent of a round, as by its update.

        What is not acknowledged is not built upon: the next message leads from what the client held before.

        Args:
            client: who it is.
            round: of the version. Of one that is not kept any more nothing changes.
            kept: the submodel that it was sent.

        Raises:
            InvalidArgumentError: the client holds this version, or a later one.
        """
        self._versions.acknowledge(client, round, kept)

    def forget(self, client: int) -> None:
        """Take note that a client holds nothing: its next message has the model whole."""
        self._versions.forget(client)

    def held_by(self, client: int) -> int | None:
        """Return the round of the last version that a client is known to hold, or None."""
        return self._versions.held_by(client)

    def save(self) -> bytes:
        """Return what another process goes on with (``state``)."""
        return self._versions.save()


@dataclass(frozen=True)
class Received:
    """A message as its client has it.

    Attributes:
        run: which training this is.
        round: of the version.
        client: whom it is for; None: whoever holds nothing.
        seed: what the update's rotation derives from.
        uplink: how the update is to be encoded.
        task: a text for the training code.
        model: float32 arrays of the submodel.
    """

    run: int
    round: int
    client: int | None
    seed: int
    uplink: Spec
    task: str
    model: dict[str, Array]


class Replica:
    """The client's half: what it holds of the server's model, as float32."""

    def __init__(self, layout: Layout, *, state: Any = None, memory_limit: int = MEMORY_LIMIT) -> None:
        """Start with nothing, or with what an earlier message left.

        Args:
            layout: that of the server.
            state: what :meth:`save` returned, of the same layout.
            memory_limit: most memory that decoding a message, or the state, takes, in bytes.

        Raises:
            Error: a state that is none of this layout.
        """
        saved = None if state is None else flat(state)
        self._replica = _fedpress.Replica(layout._layout, saved, memory_limit)

    def decode(self, message: Any) -> Received:
        """Bring what is held up to the version of a message, and return that.

        Raises:
            OutOfStepError: it builds on what is not held here.
            Error: as :func:`fedpress.decode`. After any error the replica is as it was.
        """
        (run, round, client, seed), uplink, task, model = self._replica.decode(flat(message))
        arrays = {name: from_bytes(memory, "F32", shape) for name, shape, memory in model}
        return Received(run, round, client, seed, uplink, task, arrays)

    def save(self) -> bytes:
        """Return what another process goes on with (``state``)."""
        return self._replica.save()
