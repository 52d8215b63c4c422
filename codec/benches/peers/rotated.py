"""EDEN (Vargaftik et al. 2022), by its formulas, in NumPy; at one bit it is DRIVE (Vargaftik et al. 2021).

Rotate by a randomized Hadamard transform, round each coordinate to the nearest Lloyd-Max level of a Gaussian,
scale by ``|x|^2 / <Rx, levels>``, which makes it unbiased. Below one bit, a random part of the values goes at one
bit. The reference pads to a power of two; here a tensor is cut into powers of two instead, each with a scale of
its own, so that no bit is paid for padding. Twice rotated, as OpenFL does, since one rotation is biased on a few
large values. Codes and scales are counted at their exact length; its speed is not that of any EDEN.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import erf, exp, pi, sqrt

import numpy as np
import numpy.typing as npt
from metrics import Floats

from codec import Codec, Family

#: Smallest piece: what is left of a tensor is padded to it.
SMALLEST = 256
SCALE_BYTES = 4


@cache
def levels(bits: int) -> npt.NDArray[np.float32]:
    """Lloyd-Max levels of a standard Gaussian, ascending, by Lloyd's iteration on the exact moments."""
    count = 1 << bits
    found = np.linspace(-1.0, 1.0, count) * (1.0 + bits)
    for _ in range(20_000):
        edges = [-np.inf, *((found[1:] + found[:-1]) / 2), np.inf]
        mass = np.diff([0.5 * (1 + erf(edge / sqrt(2))) for edge in edges])
        moment = -np.diff([exp(-edge * edge / 2) / sqrt(2 * pi) for edge in edges])
        moved = np.divide(moment, mass, out=found.copy(), where=mass > 1e-300)
        done = float(np.abs(moved - found).max()) < 1e-6
        found = moved
        if done:
            break
    return found.astype(np.float32)


def hadamard(x: Floats) -> Floats:
    """The orthonormal Walsh-Hadamard transform of a power of two of values."""
    y, half = x, 1
    while half < x.size:
        pairs = y.reshape(-1, 2, half)
        y = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        half *= 2
    return np.asarray(y / np.float32(sqrt(x.size)), np.float32)


def signs(n: int, seed: tuple[int, ...]) -> Floats:
    """Random signs."""
    draws = np.random.default_rng(seed).integers(0, 2, n, dtype=np.int8)
    return (2 * draws - 1).astype(np.float32)


def rotate(x: Floats, seed: tuple[int, ...]) -> Floats:
    """Twice by signs and a Hadamard transform."""
    for turn in range(2):
        x = hadamard(x * signs(x.size, (*seed, turn)))
    return x


def rotate_back(y: Floats, seed: tuple[int, ...]) -> Floats:
    """The inverse of :func:`rotate`."""
    for turn in (1, 0):
        y = hadamard(y) * signs(y.size, (*seed, turn))
    return y


def pieces(n: int) -> list[int]:
    """Powers of two that add up to ``n``, descending; the last may be more than what is left."""
    sizes = []
    while n > 0:
        size = max(1 << (n.bit_length() - 1), SMALLEST)
        sizes.append(size)
        n -= size
    return sizes


@dataclass(frozen=True)
class Sent:
    """What travels: level numbers and a scale for each piece; and which seed and how many values."""

    codes: list[npt.NDArray[np.uint8]]
    scales: list[float]
    bits: int
    seed: int
    n: int
    kept: int

    def n_bytes(self) -> int:
        """Codes packed without gaps, scales, and one number that says how many were kept."""
        return sum(-(-self.bits * code.size // 8) + SCALE_BYTES for code in self.codes) + SCALE_BYTES


def _kept(n: int, kept: int, seed: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng((seed, 9)).permutation(n)[:kept])


def encode(x: Floats, bits: float, seed: int) -> Sent:
    """Send ``x`` with a whole number of bits a value, or with less than one."""
    flat, whole = x.reshape(-1), max(1, int(bits))
    kept = flat.size if bits >= 1 else int(flat.size * bits)
    if kept < flat.size:
        flat = flat[_kept(x.size, kept, seed)]
    edges = (levels(whole)[1:] + levels(whole)[:-1]) / 2
    codes, scales, at = [], [], 0
    for number, size in enumerate(pieces(kept)):
        piece = np.zeros(size, np.float32)
        part = flat[at : at + size]
        piece[: part.size] = part
        at += size
        y = rotate(piece, (seed, number)).astype(np.float64)
        square = float(y @ y)
        code = np.searchsorted(edges, y * sqrt(size / square) if square else y).astype(np.uint8)
        codes.append(code)
        scales.append(square / float(y @ levels(whole)[code]) if square else 0.0)
    return Sent(codes, scales, whole, seed, x.size, kept)


def decode(sent: Sent) -> Floats:
    """What was sent, with the expectation of what it was."""
    back = [
        rotate_back(levels(sent.bits)[code] * np.float32(scale), (sent.seed, number))
        for number, (code, scale) in enumerate(zip(sent.codes, sent.scales, strict=True))
    ]
    values = np.concatenate(back)[: sent.kept]
    if sent.kept == sent.n:
        return values
    y = np.zeros(sent.n, np.float32)
    y[_kept(sent.n, sent.kept, sent.seed)] = values * np.float32(sent.n / sent.kept)
    return y


def _at(_x: Floats, bits: float) -> Codec | None:
    if bits > 1 and bits != int(bits):
        return None
    return Codec(
        lambda x, seed: encode(x, bits, seed), decode, n_bytes=Sent.n_bytes, seeded=True, timed=False
    )


FAMILIES = [Family("EDEN, port", True, _at)]
