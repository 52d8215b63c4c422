"""Ports of quantizers without a rotation, in NumPy: QSGD, uniform q bits; and the cast to float16.

Their speed is not that of any library; the cast is what Flower's and NVFlare's users do, and is timed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from metrics import Floats

from codec import Codec, Family, Ladder

#: Values that share a norm (QSGD) or a range (uniform).
BUCKET = 512
BLOCK = 1024


class Levels(NamedTuple):
    """Whole numbers with what they are multiplied by, and the bytes that they take."""

    numbers: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    n: int
    n_bytes: int

    def values(self) -> Floats:
        """What is decoded."""
        return (self.numbers * self.scale + self.offset).reshape(-1)[: self.n].astype(np.float32)


def _rows(x: Floats, width: int) -> npt.NDArray[np.float64]:
    flat = x.reshape(-1).astype(np.float64)
    return np.pad(flat, (0, -flat.size % width)).reshape(-1, width)


def _stochastic(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.int64]:
    draws = np.random.default_rng((seed, 5)).random(values.shape)
    return np.floor(values + draws).astype(np.int64)


def elias_omega_bits(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Lengths of Elias' omega codes of numbers from 1 up, by which QSGD sends its levels."""
    bits = np.ones(numbers.shape, np.int64)
    left = numbers.copy()
    while np.any(left > 1):
        width = np.where(left > 1, np.floor(np.log2(np.maximum(left, 1))).astype(np.int64) + 1, 0)
        bits += width
        left = np.maximum(width - 1, 0)
    return bits


def qsgd(x: Floats, step: float, seed: int) -> Levels:
    """QSGD (Alistarh et al. 2017): levels of the norm of a bucket, stochastically rounded.

    As in section 3.1 of the paper each nonzero level goes with its sign, by Elias' code, and the gap to it by
    another; one float is the norm. ``step`` stands for the number of levels, bucket by bucket alike: it is the mean
    distance of two levels, and more of it takes fewer bits.
    """
    rows = _rows(x, BUCKET)
    norms = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    unit = norms * (step / max(float(norms.mean()), 1e-300))
    scaled = np.divide(np.abs(rows), unit, out=np.zeros_like(rows), where=unit > 0)
    numbers = _stochastic(scaled, seed)
    at = np.flatnonzero(numbers)
    gaps = np.diff(at, prepend=-1)
    bits = elias_omega_bits(numbers.reshape(-1)[at]) + 1 + elias_omega_bits(gaps)
    n_bytes = -(-int(bits.sum()) // 8) + 4 * len(rows)
    return Levels(numbers * np.sign(rows).astype(np.int64), unit, np.zeros((1, 1)), x.size, n_bytes)


def uniform(x: Floats, bits: int, seed: int) -> Levels:
    """2^bits levels between the least and the largest of a block, stochastically rounded."""
    rows = _rows(x, BLOCK)
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    scale = (high - low) / (2**bits - 1)
    scaled = np.divide(rows - low, scale, out=np.zeros_like(rows), where=scale > 0)
    n_bytes = -(-x.size * bits // 8) + 8 * len(rows)
    return Levels(_stochastic(scaled, seed), scale, low, x.size, n_bytes)


def _codec(encode: object) -> Codec:
    return Codec(encode, Levels.values, n_bytes=lambda sent: int(sent.n_bytes), seeded=True, timed=False)  # type: ignore[arg-type]


def _qsgd_at(x: Floats, bits: float) -> Codec | None:
    return Ladder(x, lambda step: _codec(lambda x, seed: qsgd(x, step, seed))).codec(bits)


def _uniform_at(_x: Floats, bits: float) -> Codec | None:
    whole = int(bits)
    return _codec(lambda x, seed: uniform(x, whole, seed)) if whole == bits else None


def _half_at(_x: Floats, _bits: float) -> Codec:
    return Codec(
        lambda x, _seed: x.astype(np.float16),
        lambda half: half.astype(np.float32),
        n_bytes=lambda half: int(half.nbytes),
    )


FAMILIES = [
    Family("QSGD, port", True, _qsgd_at),
    Family("uniform q bits, blocks of 1024, port", True, _uniform_at),
]
CASTS = [Family("float16", False, _half_at, rated=False)]
