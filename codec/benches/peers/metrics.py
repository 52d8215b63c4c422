"""What is measured: real bits a value, error, bias, speed, and the bounds that theory sets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def bits_per_value(n_bytes: int, n_values: int) -> float:
    """Bits that travel for each value, every header counted."""
    return 8.0 * n_bytes / n_values


def nmse(x: Floats, y: npt.NDArray[Any]) -> float:
    """Squared error over the squared norm of ``x``, in double precision."""
    x64 = x.reshape(-1).astype(np.float64)
    error = y.reshape(-1).astype(np.float64) - x64
    return float(error @ error) / float(x64 @ x64)


def bias(x: Floats, decoded: Iterable[npt.NDArray[Any]]) -> tuple[float, float]:
    """Mean NMSE over K seeds, and the bias ratio ``K * NMSE of the mean / mean NMSE``.

    The ratio is 1 where errors are unbiased and independent, K where they are the same for all seeds, below 1
    where they cancel. Its standard error is about sqrt(2 / n) for n values whose errors are alike in size, and
    more where a few carry the error.
    """
    total, alone, k = np.zeros(x.size), 0.0, 0
    for y in decoded:
        total += y.reshape(-1)
        alone += nmse(x, y)
        k += 1
    mean = alone / k
    return mean, k * nmse(x, total / k) / mean if mean > 0.0 else 1.0


def bound_biased(bits: float) -> float:
    """The least NMSE of any code for independent Gaussian values (Shannon 1959)."""
    return math.exp2(-2.0 * bits)


def bound_unbiased(bits: float) -> float:
    """The least NMSE where what is decoded is right in the mean: D / (1 - D)."""
    return 1.0 / (math.exp2(2.0 * bits) - 1.0)


def best_seconds(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of the fastest run of each call, in turns, so that what else a machine does meets all alike."""
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best
