"""Speed beside SZ3 at the same real bits: one thread, in turns on the same array, the best of many calls."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import bounded
import ours
import scalar
from metrics import Floats, best_seconds
from tensors import gaussian

from codec import Codec, Family

BITS = 2.0


def compared() -> list[Family]:
    """SZ3 first, which the others are held against; then what is fast."""
    plain = bounded.family("SZ3, no prediction", [bounded.sz3("no prediction")], 1)
    return [bounded.FAMILIES[0], plain, *ours.UNBIASED, *ours.BIASED, *scalar.CASTS]


def _seconds(x: Floats, codecs: list[Codec], repeats: int) -> tuple[list[float], list[float]]:
    sent = [codec.encode(x, 0) for codec in codecs]
    calls = [partial(codec.encode, x, 0) for codec in codecs]
    calls += [partial(codec.decode, blob) for codec, blob in zip(codecs, sent, strict=True)]
    seconds = best_seconds(calls, repeats)
    return seconds[: len(codecs)], seconds[len(codecs) :]


def table(log2: int, repeats: int) -> Iterator[str]:
    """GB of float32 a second of 2^log2 normal values at two bits, and as ratios to SZ3."""
    x = gaussian(1 << log2)
    found = [(family, family.at(x, BITS)) for family in compared()]
    there = [(family.name, codec) for family, codec in found if codec is not None]
    encode, decode = _seconds(x, [codec for _, codec in there], repeats)
    yield f"### Speed, 2^{log2} normal values at {BITS:g} bits, the best of {repeats}"
    yield ""
    yield "| codec | bits | NMSE | encode GB/s | decode GB/s | encode / SZ3 | decode / SZ3 |"
    yield "|---|---|---|---|---|---|---|"
    for (name, codec), e, d in zip(there, encode, decode, strict=True):
        speeds = (
            f"{4e-9 * x.size / e:.3f} | {4e-9 * x.size / d:.3f} | {encode[0] / e:.2f} | {decode[0] / d:.2f}"
        )
        yield f"| {name} | {codec.bits(x):.3f} | {codec.error(x):.3g} | {speeds} |"
    yield ""
