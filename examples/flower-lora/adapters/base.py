"""The frozen base: trained once, where it is first asked for, and kept in a file beside this one."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import numpy as np

from adapters import task, transformer


@functools.cache
def load(seed: int, width: int, steps: int) -> transformer.Arrays:
    """Return the base of these settings: the same in every process, as all of it follows from the seed."""
    path = Path(__file__).parent / f"base-{seed}-{width}-{steps}.npz"
    if path.exists():
        with np.load(path) as kept:
            return dict(kept)
    draws = np.random.default_rng(seed)
    base = transformer.make_base(draws, width)
    texts = task.make_texts(seed, task.BASE, 2000)
    transformer.train(base, {}, texts, draws, steps, rate=3e-3, trains_base=True)
    # Where the folder cannot be written, each process trains its own.
    with contextlib.suppress(OSError):
        half = path.with_name(f"{path.stem}-{os.getpid()}.npz")
        np.savez(half, **base)
        os.replace(half, path)
    return base
