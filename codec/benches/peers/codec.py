"""A codec as it is measured, families of them by rate, and the search for the setting of a rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from metrics import Floats, bits_per_value, nmse

#: Real bits may be so much above the bits asked for: what a byte is of a small tensor.
SLACK = 1.002
#: Less than this part of the bits asked for is too little, if more can be had.
LEAST_USE = 0.997
#: No rate below is asked for.
SMALLEST_RATE = 0.1


@dataclass(frozen=True)
class Codec:
    """How a tensor becomes bytes and comes back.

    Attributes:
        encode: of values and the number of a seed.
        decode: what ``encode`` returned; the result has as many values, in any shape.
        n_bytes: of what ``encode`` returned, all that has to travel but the shape.
        seeded: whether the error depends on the seed.
        timed: whether its time says something: a port of formulas only says what the error is.
        setting: what was chosen to meet the rate, for the reader.
    """

    encode: Callable[[Floats, int], Any]
    decode: Callable[[Any], npt.NDArray[Any]]
    n_bytes: Callable[[Any], int] = len
    seeded: bool = False
    timed: bool = True
    setting: str = ""

    def bits(self, x: Floats) -> float:
        """Real bits a value."""
        return bits_per_value(self.n_bytes(self.encode(x, 0)), x.size)

    def error(self, x: Floats) -> float:
        """NMSE of one transfer."""
        return nmse(x, self.decode(self.encode(x, 0)))


@dataclass(frozen=True)
class Family:
    """Codecs under one name.

    Attributes:
        name: as it stands in tables.
        unbiased: whether its mean over seeds is right by construction.
        at: the codec for these values at so many real bits at most; None where there is none.
        rated: whether ``at`` depends on the bits; what does not is measured once.
    """

    name: str
    unbiased: bool
    at: Callable[[Floats, float], Codec | None]
    rated: bool = True


def scaled(x: Floats, bits: float, make: Callable[[float], Codec]) -> Codec | None:
    """The rate to ask for so that no more than ``bits`` are really taken; for codecs that are told a rate."""
    asked, found = bits, None
    for attempt in range(8):
        codec = make(asked)
        taken = codec.bits(x)
        if taken <= bits * SLACK:
            found = codec
            if taken > bits * LEAST_USE:
                break
            asked *= bits / taken
        else:
            # A little less each time: steps of a codec may be coarse.
            asked *= bits / taken * 0.999**attempt
        # Up to a little more than is wanted: what goes without loss takes the same whatever is asked.
        asked = min(asked, 1.05 * bits)
        if asked < SMALLEST_RATE:
            break
    return found


class Ladder:
    """Steps of 2^(1/64) of a bound, and the bits that each takes, measured when asked for."""

    PER_OCTAVE = 64
    OCTAVES = range(-24, 8)

    def __init__(self, x: Floats, make: Callable[[float], Codec]) -> None:
        """``make`` turns a bound, in the units of ``x``, into a codec; more of it takes fewer bits."""
        self._rms = float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
        self._x, self._make, self._bits = x, make, dict[int, float]()

    def codec(self, bits: float) -> Codec | None:
        """The codec of the smallest bound that takes no more than ``bits``."""
        low, high = self.OCTAVES.start * self.PER_OCTAVE, self.OCTAVES.stop * self.PER_OCTAVE
        while high - low > 1:
            middle = (low + high) // 2
            if self._taken(middle) <= bits * SLACK:
                high = middle
            else:
                low = middle
        return self._at(high) if self._taken(high) <= bits * SLACK else None

    def _at(self, place: int) -> Codec:
        return self._make(self._rms * 2.0 ** (place / self.PER_OCTAVE))

    def _taken(self, place: int) -> float:
        if place not in self._bits:
            self._bits[place] = self._at(place).bits(self._x)
        return self._bits[place]


def least_error(x: Floats, codecs: list[Codec | None]) -> Codec | None:
    """Of several codecs that take no more than was asked for, the one of the least error."""
    there = [codec for codec in codecs if codec is not None]
    return min(there, key=lambda codec: codec.error(x)) if there else None
