"""Speed, error and bytes from Python, beside other libraries, on the same arrays in the same run.

usage: python speed.py [--log2 22]

One thread of ours; the others (peers.py says which, and how to install them) take what they take. Behind the table: for
each of them, what fedpress needs for no more error.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from peers import Codec, peers

import fedpress

SPECS = [
    *(f"hadamard|q={bits}" for bits in (4, 8, 14)),
    *(f"rotation|lm={bits}" for bits in (1, 2, 4, 8)),
    *(f"rotation|trellis={rate}" for rate in (1, 2, 4)),
    "auto|rate=2",
]
# Ascending: eighths of a bit, and beyond the trellis whole ones.
BY_BITS = [f"rotation|trellis={i / 8}" for i in range(1, 97)] + [
    f"hadamard|q={bits}" for bits in (14, 15, 16)
]


@dataclass
class Row:
    """What a codec did."""

    name: str
    n_bytes: int
    nmse: float
    encode_seconds: float
    decode_seconds: float

    def __str__(self) -> str:
        """Return the row of the table."""
        times = f"{self.encode_seconds:>9.3f} {self.decode_seconds:>9.3f}"
        return f"{self.name:36} {self.n_bytes:>11} {self.nmse:>9.2g} {times}"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log2", type=int, default=22)
    arguments = parser.parse_args()
    values = np.random.default_rng(1).normal(size=1 << arguments.log2).astype(np.float32)
    print(f"{'who':36} {'bytes':>11} {'NMSE':>9} {'encode s':>9} {'decode s':>9}")
    for spec in SPECS:
        print(measured(ours(spec), values), flush=True)
    others = []
    for codec in peers():
        others.append(measured(codec, values))
        print(others[-1], flush=True)
    print(f"\n{'at no more error than':36} {'bytes':>11} {'less':>7} {'faster':>7}  fedpress")
    for other in others:
        print(beside(other, values), flush=True)


def ours(spec: str) -> Codec:
    """Fedpress, one thread."""
    return Codec(
        f"fedpress {spec}",
        lambda array: fedpress.encode({"x": array}, spec, several=False),
        lambda blob: fedpress.decode(blob)["x"],
        len,
    )


def measured(codec: Codec, values: np.ndarray) -> Row:
    """Time a codec, the best of three."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        sent = codec.encode(values)
        middle = time.perf_counter()
        back = codec.decode(sent)
        times.append((middle - started, time.perf_counter() - middle))
        if sum(times[-1]) > 5:
            break
    error = fedpress.compare(values, np.asarray(back, np.float32)).nmse
    encoding, decoding = (min(column) for column in zip(*times, strict=True))
    return Row(codec.name, codec.size(sent), error, encoding, decoding)


def beside(other: Row, values: np.ndarray) -> str:
    """Find the pipeline of the fewest bits whose error is no larger, and compare."""
    some = values[: 1 << 18]
    low, high = 0, len(BY_BITS) - 1
    while low < high:
        middle = (low + high) // 2
        blob = fedpress.encode({"x": some}, BY_BITS[middle], several=False)
        is_good = fedpress.compare(some, fedpress.decode(blob)["x"]).nmse <= other.nmse
        low, high = (low, middle) if is_good else (middle + 1, high)
    row = measured(ours(BY_BITS[low]), values)
    while row.nmse > other.nmse:
        low += 1
        row = measured(ours(BY_BITS[low]), values)
    times = [r.encode_seconds + r.decode_seconds for r in (other, row)]
    less, faster = f"{other.n_bytes / row.n_bytes:.2f}x", f"{times[0] / times[1]:.2g}x"
    return (
        f"{other.name:36} {row.n_bytes:>11} {less:>7} {faster:>7}  {row.name.split()[1]}, NMSE {row.nmse:.2g}"
    )


if __name__ == "__main__":
    main()
