"""Tensors to measure on: made here, or out of safetensors, npy and npz files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from metrics import Floats
from safetensors import safe_open


def gaussian(n: int, seed: int = 1) -> Floats:
    """Normal values."""
    return np.random.default_rng(seed).standard_normal(n, np.float32)


def laplace(n: int) -> Floats:
    """Tails of a gradient's kind."""
    return np.random.default_rng(2).laplace(size=n).astype(np.float32)


def heavy(n: int) -> Floats:
    """A random sign and the exponential of 1.5 times a normal value: a few values hold the energy."""
    rng = np.random.default_rng(3)
    size = np.exp(1.5 * rng.standard_normal(n, np.float32))
    return np.asarray(size * (2 * rng.integers(0, 2, n) - 1), np.float32)


def sparse(n: int) -> Floats:
    """One row of 64 values in eight is there, the others are zero: rows of an embedding that were used."""
    rng = np.random.default_rng(4)
    rows = rng.laplace(size=(n // 64, 64)) * (rng.random((n // 64, 1)) < 0.125)
    return rows.astype(np.float32)


def features(n: int) -> Floats:
    """Smooth maps behind a ReLU, 32 by 32, half zeros: noise, averaged over its neighbours three times."""
    maps = np.random.default_rng(5).standard_normal((n // 1024, 32, 32), np.float32)
    for _ in range(3):
        maps = sum(np.roll(maps, shift, axis) for axis in (1, 2) for shift in (-1, 0, 1)) / 6  # type: ignore[assignment]
    return np.maximum(maps, 0).reshape(-1, min(16, len(maps)), 32, 32).astype(np.float32)


def made(log2: int) -> Iterator[tuple[str, Floats]]:
    """The tensors that are made here, with 2^log2 values each."""
    n = 1 << log2
    yield "Gaussian", gaussian(n)
    yield "Laplace", laplace(n)
    yield "heavy tails", heavy(n)
    yield "sparse rows", sparse(n)
    yield "smooth features", features(n)


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    if path.suffix == ".safetensors":
        with safe_open(str(path), "np") as file:
            for name in file.keys():
                if file.get_slice(name).get_dtype() in ("F32", "F16"):
                    yield name, file.get_tensor(name)
        return
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        yield "", loaded
    else:
        yield from loaded.items()


def of_file(path: Path, smallest: int) -> Iterator[tuple[str, Floats]]:
    """Tensors of a file that have at least so many values, as float32.

    Raises:
        OSError, ValueError: the file is not there, or is none of the kinds that are read.
    """
    for name, array in _arrays(path):
        if array.dtype.kind == "f" and array.size >= smallest:
            values = np.ascontiguousarray(array, np.float32)
            if np.isfinite(values).all() and values.any():
                yield f"{path.stem} {name}".strip(), values
