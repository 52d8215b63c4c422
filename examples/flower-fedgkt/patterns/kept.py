"""Files that survive a run: arrays and a few texts each, complete or not there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fedpress


@dataclass
class Kept:
    """What a file holds."""

    arrays: dict[str, np.ndarray]
    texts: dict[str, str]


def write(folder: str, name: str, arrays: dict[str, np.ndarray], texts: dict[str, str]) -> None:
    """Write a file in place of the one before it; without a folder, nothing."""
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f"{name}.fp"
    half = path.with_suffix(".half")
    half.write_bytes(fedpress.encode(arrays, "lossless", metadata=texts))
    os.replace(half, path)


def read(folder: str, name: str) -> Kept | None:
    """Return what a file holds, if there is one."""
    path = Path(folder) / f"{name}.fp"
    if not folder or not path.exists():
        return None
    blob = path.read_bytes()
    return Kept(fedpress.decode(blob), dict(fedpress.inspect(blob).metadata))
