"""The data: two patterns side by side, whose numbers add up to the class, under noise."""

from __future__ import annotations

import numpy as np

CLASSES, SIDE = 6, 100
FEATURES = 32
EDGE = (2 * SIDE, FEATURES, CLASSES)
SERVER = (FEATURES, 200, 200, CLASSES)


def make_data(seed: int, partition: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and classes of a partition; a negative one is for tests.

    The class is the sum of the numbers of both patterns, modulo their number: what one layer does not tell.
    """
    patterns = np.random.default_rng(seed).normal(size=(2, CLASSES, SIDE)).astype(np.float32)
    draws = np.random.default_rng([seed, 1000 + partition])
    left, right = draws.integers(CLASSES, size=(2, samples))
    inputs = np.concatenate([patterns[0, left], patterns[1, right]], axis=1)
    inputs += draws.normal(scale=0.7, size=inputs.shape).astype(np.float32)
    return inputs, (left + right) % CLASSES
