"""The data: texts whose next token depends on the last and on the one before the one before it."""

from __future__ import annotations

import numpy as np

TOKENS, LENGTH = 32, 32

# Partitions that are no node's.
BASE, TESTS = -1, -2


def make_texts(seed: int, partition: int, texts: int) -> np.ndarray:
    """Return texts of a partition, [texts, LENGTH + 1].

    That of the base is in one language; all others are in a dialect of it, those of nodes about topics of their own.
    """
    language = np.random.default_rng(seed)
    last, before = language.normal(scale=1.5, size=(2, TOKENS, TOKENS))
    draws = np.random.default_rng([seed, partition + 10])
    topics = np.zeros(TOKENS)
    if partition != BASE:
        # Of low rank, as what adapters learn.
        left, right = language.normal(size=(2, 2, TOKENS, 4))
        last, before = (
            old + new @ more.T for old, new, more in zip((last, before), left, right, strict=True)
        )
        topics = draws.normal(size=TOKENS) * (partition >= 0)
    found = np.zeros((texts, LENGTH + 1), np.int64)
    found[:, :3] = draws.integers(TOKENS, size=(texts, 3))
    for i in range(3, LENGTH + 1):
        logits = last[found[:, i - 1]] + before[found[:, i - 3]] + topics
        # The largest of logits and Gumbel noise is a draw by their softmax.
        found[:, i] = (logits + draws.gumbel(size=logits.shape)).argmax(axis=1)
    return found
