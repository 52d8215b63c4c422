"""Updates as integers whose sum is the sum of the updates: what a secure aggregation can mask.

Updates that are encoded each for itself cannot be added before they are decoded. Here all clients of a round
share one rotation, one step and one range, so that codes are integers modulo 2^b and the sum of the codes of all
is the code of the sum: any protocol that adds integers modulo 2^b, or modulo a larger power of two, can add masks
to them that cancel, and the server sees the sum alone. With ``noise_multiplier`` each client adds its share of
discrete Gaussian noise before that (Kairouz, Liu & Steinke 2021). Codes without masks hide nothing. Section 1.8
of ``fl/MESSAGES.md`` has the details, section 1.9 what the server learns.

>>> import numpy as np
>>> from fedpress.integers import Integers
>>> updates = [{"w": np.full((2, 3), value, np.float32)} for value in (0.25, -0.05)]
>>> rule = Integers(updates[0], bits=16, clients=2, clip=1.0)
>>> codes = [rule.codes(update, seed=7, round=0) for update in updates]
>>> mask = np.random.default_rng(1).integers(0, 2**16, rule.n_values, np.uint32)  # the two agree on it
>>> masked = [(codes[0] + mask) % 2**16, (codes[1] - mask) % 2**16]
>>> mean = rule.mean(rule.add(masked), 2, seed=7, round=0)["w"]
>>> np.allclose(mean, 0.1, atol=1e-3)
True
>>> len(rule.pack(masked[0]))
12
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpress import _fedpress
from fedpress.arrays import Array, as_bytes, as_numpy, from_bytes
from fedpress.errors import InvalidArgumentError

#: Codes, and sums of them.
Codes = NDArray[np.uint32]


class Integers:
    """How the updates of a training become codes; server and clients make the same of the same arguments.

    Attributes:
        bits: b; codes and sums are below 2^b.
        shapes: of an update, by name.
        n_values: how many values it has, and so how many codes.
    """

    def __init__(
        self,
        shapes: Mapping[str, Any],
        *,
        bits: int,
        clients: int,
        clip: float,
        range: float = 5.0,
        noise_multiplier: float = 0.0,
        sharers: int | None = None,
    ) -> None:
        """Choose as many levels of a code as there is headroom for.

        Args:
            shapes: arrays or shapes by name, in an order that all have.
            bits: of a code, 2 to 32. Each doubling of ``clients`` takes one.
            clients: most of a sum.
            clip: L2 norm that an update is scaled down to, all arrays together. Smaller updates are coded as
                coarsely, so it should be what honest ones have.
            range: where coefficients are cut off, in their standard deviations in an update of norm ``clip``.
            noise_multiplier: standard deviation of the noise in the sum over what one client can change of
                it; 0 is none.
            sharers: honest clients that make up that noise; ``clients`` unless given. Fewer in a round are less
                private, so let a round fail that has fewer.

        Raises:
            InvalidArgumentError: there is no headroom for a single level, or a number is out of range.
        """
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(getattr(shape, "shape", shape)) for name, shape in shapes.items()
        }
        self.bits = bits
        self.n_values = sum(math.prod(shape) for shape in self.shapes.values())
        noise = (noise_multiplier, clients if sharers is None else sharers) if noise_multiplier else None
        self._rule = _fedpress.Integers(self.n_values, bits, clients, clip, range, noise)

    @property
    def levels(self) -> int:
        """Codes of a client, before noise, stand for -levels to levels."""
        return self._rule.levels

    @property
    def step(self) -> float:
        """What one step of a code is in a coefficient of the update."""
        return self._rule.step

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise of one client, in steps."""
        return self._rule.deviation

    def codes(
        self, update: Mapping[str, Any], *, seed: int, round: int, secret: bytes | None = None
    ) -> Codes:
        """Return the codes of an update, trained minus received.

        Args:
            update: arrays by name, read as float32.
            seed: that all clients of the round share; whoever knows it learns nothing.
            round: number of the round.
            secret: 32 bytes that nobody else knows, and that were not used for this round before; drawn
                unless given.

        Raises:
            InvalidArgumentError: names or shapes are others, or a value is not finite.
        """
        secret = secrets.token_bytes(32) if secret is None else secret
        if len(secret) != 32:
            raise InvalidArgumentError(f"secret: expected 32 bytes, found {len(secret)}")
        return _numbers(self._rule.codes(as_bytes(self._flat(update)), seed, round, secret))

    def add(self, parts: Iterable[Any]) -> Codes:
        """Return the sum of codes, or of sums of them, modulo 2^bits.

        Raises:
            InvalidArgumentError: one has another length, or a number that is not below 2^bits.
        """
        return _numbers(self._rule.add([self._given(part) for part in parts]))

    def mean(self, total: Any, divisor: float, *, seed: int, round: int) -> dict[str, Array]:
        """Return what a sum of codes stands for, over ``divisor``, as float32 arrays by name.

        Args:
            total: sum of the codes of all clients that took part.
            divisor: how many they are; with noise, how many were expected, as the number that came tells of each.
            seed: as for :meth:`codes`.
            round: as for :meth:`codes`.

        Raises:
            InvalidArgumentError: it has another length, or a number that is not below 2^bits.
        """
        if not (math.isfinite(divisor) and divisor > 0):
            raise InvalidArgumentError(f"divisor: expected a number above 0, found {divisor}")
        flat = from_bytes(self._rule.mean(self._given(total), divisor, seed, round), "F32", [self.n_values])
        found, start = {}, 0
        for name, shape in self.shapes.items():
            found[name] = flat[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        return found

    def pack(self, codes: Any) -> bytes:
        """Return codes, masked or not, in ``bits`` bits each.

        Raises:
            InvalidArgumentError: they are more or fewer, or one is not below 2^bits.
        """
        return self._rule.pack(as_bytes(self.add([codes])))

    def unpack(self, packed: Any) -> Codes:
        """Return the codes that were packed.

        Raises:
            CorruptError: there are more or fewer bytes, or bits behind the last code are set.
        """
        return _numbers(self._rule.unpack(memoryview(packed).cast("B")))

    def _flat(self, update: Mapping[str, Any]) -> Array:
        arrays = {name: as_numpy(value, name) for name, value in update.items()}
        found = {name: array.shape for name, array in arrays.items()}
        if found != self.shapes:
            raise InvalidArgumentError(f"update: expected {self.shapes}, found {found}")
        parts = [arrays[name].astype(np.float32, copy=False).reshape(-1) for name in self.shapes]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _given(self, codes: Any) -> Array:
        array = as_numpy(codes)
        if array.dtype.kind not in "ui" or array.ndim != 1:
            raise InvalidArgumentError(
                f"codes: expected integers in one dimension, found {array.dtype} of shape {array.shape}"
            )
        if array.size and not (0 <= int(array.min()) and int(array.max()) < 2**self.bits):
            raise InvalidArgumentError(f"codes: expected numbers from 0 to 2^{self.bits} - 1")
        return as_bytes(array.astype(np.uint32, copy=False))


def _numbers(memory: Any) -> Codes:
    return np.frombuffer(memory, dtype="<u4")
