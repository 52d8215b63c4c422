"""SZ3 (Liang et al. 2023) and zfp (Lindstrom 2014): biased, and told an error bound instead of bits.

Both are handed the tensor in its own shape, as they would be by a user, and the bound is searched for. "Best of
its settings" is whatever of shape (its own, flat) and method gives the least error at no more than the bits asked
for, which nobody knows without trying.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import zfpy
from metrics import Floats
from pysz import sz, szAlgorithm, szConfig, szErrorBoundMode

from codec import Codec, Family, Ladder, least_error

METHODS = {
    "interpolation and Lorenzo": szAlgorithm.INTERP_LORENZO,
    "Lorenzo and regression": szAlgorithm.LORENZO_REG,
    "no prediction": szAlgorithm.NOPRED,
}
DEFAULT = "interpolation and Lorenzo"
#: zfp takes no more than four dimensions, pysz neither.
MOST_DIMENSIONS = 4

Make = Callable[[tuple[int, ...]], Callable[[float], Codec]]


def shapes(x: Floats) -> list[tuple[int, ...]]:
    """The tensor's own shape, without dimensions of one, and flat."""
    own = tuple(n for n in x.shape if n > 1)
    return list(dict.fromkeys([own, (x.size,)])) if 0 < len(own) <= MOST_DIMENSIONS else [(x.size,)]


def sz3(method: str) -> Make:
    """SZ3 with an absolute bound, by its PyPI package pysz."""

    def shaped(shape: tuple[int, ...]) -> Callable[[float], Codec]:
        def make(bound: float) -> Codec:
            config = szConfig(shape)
            config.errorBoundMode = szErrorBoundMode.ABS
            config.absErrorBound = bound
            config.cmprAlgo = METHODS[method]
            return Codec(
                lambda x, _seed: sz.compress(x.reshape(shape), config)[0],
                lambda coded: sz.decompress(coded, np.float32, shape)[0],
                n_bytes=lambda coded: int(coded.nbytes),
                setting=f"{method}, {len(shape)}-D, bound {bound:.3g}",
            )

        return make

    return shaped


def zfp(shape: tuple[int, ...]) -> Callable[[float], Codec]:
    """Zfp in its mode of fixed accuracy."""

    def make(tolerance: float) -> Codec:
        return Codec(
            lambda x, _seed: zfpy.compress_numpy(x.reshape(shape), tolerance=tolerance),
            zfpy.decompress_numpy,
            setting=f"{len(shape)}-D, tolerance {tolerance:.3g}",
        )

    return make


def family(name: str, makes: list[Make], n_shapes: int | None) -> Family:
    """The least error of several ways to make a codec, each searched; ladders are kept for the next rate."""
    ladders: dict[int, list[Ladder]] = {}

    def at(x: Floats, bits: float) -> Codec | None:
        if id(x) not in ladders:
            ladders.clear()
            ladders[id(x)] = [Ladder(x, make(shape)) for make in makes for shape in shapes(x)[:n_shapes]]
        return least_error(x, [ladder.codec(bits) for ladder in ladders[id(x)]])

    return Family(name, False, at)


FAMILIES = [
    family("SZ3", [sz3(DEFAULT)], 1),
    family("SZ3, best of its settings", [sz3(method) for method in METHODS], None),
    family("zfp, best of its shapes", [zfp], None),
]
