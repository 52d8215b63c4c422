"""Encode and decode from Python beside the Rust command of the same wheel, on the same values in the same run.

usage: python rust.py [--log2 24] [--rounds 5]

One thread each. `fedpress bench` decodes into memory that is there, as `out=` does here. The two take turns, and of each
the best round counts, as others use the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fedpress

SPECS = ("hadamard|q=4", "rotation|lm=4", "rotation|trellis=2")


def main() -> None:
    """Measure, and print a table in MB of float32 a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log2", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    values = np.random.default_rng(1).normal(size=1 << arguments.log2).astype(np.float32)
    print(f"{'spec':20} {'encode':>8} {'in Rust':>8} {'':>6} {'decode':>8} {'in Rust':>8}")
    # Touched, as the command's is: else what is measured is the system giving out memory.
    back = np.ones_like(values)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "values.npy"
        np.save(file, values)
        for spec in SPECS:
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                ours.append(in_python(values, spec, back))
                theirs.append(in_rust(file, spec))
            (a, b), (c, d) = best(ours), best(theirs)
            print(
                f"{spec:20} {a:>8.0f} {c:>8.0f} {a / c:>5.2f}x {b:>8.0f} {d:>8.0f} {b / d:>5.2f}x", flush=True
            )


def in_python(values: np.ndarray, spec: str, back: np.ndarray) -> tuple[float, float]:
    """MB a second to encode and to decode."""
    started = time.perf_counter()
    blob = fedpress.encode({"x": values}, spec, several=False)
    middle = time.perf_counter()
    fedpress.decode(blob, out={"x": back})
    ended = time.perf_counter()
    return values.nbytes / 1e6 / (middle - started), values.nbytes / 1e6 / (ended - middle)


def in_rust(file: Path, spec: str) -> tuple[float, float]:
    """MB a second to encode and to decode, of the command."""
    words = [
        sys.executable,
        "-m",
        "fedpress",
        "bench",
        str(file),
        "-s",
        spec,
        "-T",
        "1",
        "--iters",
        "1",
        "--json",
    ]
    found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)["results"][0]
    return found["encode_gbs"] * 1e3, found["decode_gbs"] * 1e3


def best(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    """The best of each."""
    encode, decode = (max(column) for column in zip(*rounds, strict=True))
    return encode, decode


if __name__ == "__main__":
    main()
