"""Speed, error and bytes from Python, beside OpenFL's EDEN pipeline, on the same arrays in the same run.

usage: python speed.py [--log2 22]

OpenFL is run where it is installed: `pip install --no-deps openfl==1.9` and torch, scikit-learn, dynaconf, tqdm
and tensorboardX, which is what its pipelines import. float16 and a scale for 4096 values of eight bits are what
NVFlare's quantizers send, without their GPU. One thread of ours; the others take what they take.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable

import numpy as np

import fedpress

Codec = tuple[Callable, Callable, Callable]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log2", type=int, default=22)
    arguments = parser.parse_args()
    values = np.random.default_rng(1).normal(size=1 << arguments.log2).astype(np.float32)
    print(f"{'who':34} {'bytes':>11} {'NMSE':>9} {'encode s':>9} {'decode s':>9}")
    specs = [f"hadamard|q={bits}" for bits in (4, 8, 14)] + [f"rotation|lm={bits}" for bits in (1, 2, 4, 8)]
    for spec in [*specs, "rotation|trellis=1", "rotation|trellis=4"]:
        report(f"fedpress {spec}", values, *fedpress_codec(spec))
    for bits in (1, 2, 4):
        codec = openfl_eden(bits)
        if codec is None:
            print("OpenFL is not installed")
            break
        report(f"OpenFL 1.9, EDEN, {bits} bits", values, *codec)
    report("float16", values, lambda a: a.astype(np.float16), lambda b: b.astype(np.float32), nbytes)
    report("8 bits, blocks of 4096", values, *blockwise8())


def fedpress_codec(spec: str) -> Codec:
    """Encode and decode of fedpress, one thread."""
    return (
        lambda a: fedpress.encode({"x": a}, spec, several=False),
        lambda b: fedpress.decode(b)["x"],
        len,
    )


def openfl_eden(bits: int) -> Codec | None:
    """OpenFL's pipeline, where it is installed; it is told its settings, and says them on standard output."""
    try:
        from openfl.pipelines.eden_pipeline import EdenPipeline
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        pipeline = EdenPipeline(n_bits=bits)
    return pipeline.forward, lambda sent: pipeline.backward(*sent), lambda sent: len(sent[0])


def blockwise8() -> Codec:
    """Eight bits with a scale for every 4096 values, as bitsandbytes' blockwise quantization has it (linear)."""

    def encode(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        blocks = array.reshape(-1, 4096)
        scale = np.abs(blocks).max(axis=1, keepdims=True)
        return np.rint(blocks / scale * 127).astype(np.int8), scale.astype(np.float32)

    def decode(sent: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return (sent[0] * (sent[1] / np.float32(127))).reshape(-1)

    return encode, decode, lambda sent: sent[0].nbytes + sent[1].nbytes


def nbytes(array: np.ndarray) -> int:
    """Bytes of an array."""
    return array.nbytes


def report(name: str, values: np.ndarray, encode: Callable, decode: Callable, size: Callable) -> None:
    """Time a codec, the best of three, and print a row."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        sent = encode(values)
        middle = time.perf_counter()
        back = decode(sent)
        times.append((middle - started, time.perf_counter() - middle))
        if sum(times[-1]) > 10:
            break
    error = fedpress.compare(values, np.asarray(back, np.float32)).nmse
    encoding, decoding = (min(column) for column in zip(*times, strict=True))
    print(f"{name:34} {size(sent):>11} {error:>9.2g} {encoding:>9.3f} {decoding:>9.3f}", flush=True)


if __name__ == "__main__":
    main()
