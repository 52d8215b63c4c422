"""One row for each tensor, rate and codec: real bits, error, bias, speed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from metrics import Floats, best_seconds, bias, bits_per_value, nmse

from codec import Codec, Family


@dataclass(frozen=True)
class Row:
    """A measurement.

    Attributes:
        asked: bits a value that were asked for; None of a codec without a rate.
        bias: K * NMSE of the mean / mean NMSE over K seeds; K itself where no seed enters the error.
        encode, decode: GB of float32 a second, the best of several calls; None of a port.
    """

    tensor: str
    n: int
    name: str
    unbiased: bool
    asked: float | None
    bits: float
    nmse: float
    bias: float
    encode: float | None
    decode: float | None
    setting: str


def _error(x: Floats, codec: Codec, seeds: int) -> tuple[float, float]:
    if not codec.seeded:
        error = nmse(x, codec.decode(codec.encode(x, 0)))
        return error, float(seeds) if error else 1.0
    return bias(x, (codec.decode(codec.encode(x, seed)) for seed in range(seeds)))


def _speeds(x: Floats, codecs: list[Codec], repeats: int) -> list[tuple[float | None, float | None]]:
    timed = [codec for codec in codecs if codec.timed and repeats > 0]
    sent = [codec.encode(x, 0) for codec in timed]
    calls = [partial(codec.encode, x, 0) for codec in timed]
    calls += [partial(codec.decode, blob) for codec, blob in zip(timed, sent, strict=True)]
    rates = [4e-9 * x.size / seconds for seconds in best_seconds(calls, repeats)] if timed else []
    pairs = iter(zip(rates[: len(timed)], rates[len(timed) :], strict=True))
    return [next(pairs) if codec.timed and repeats > 0 else (None, None) for codec in codecs]


def measure(
    tensor: str, x: Floats, families: list[Family], asked: float | None, seeds: int, repeats: int
) -> list[Row]:
    """Measure all families at a rate; at ``None`` those without a rate."""
    found = [
        (family, family.at(x, asked or 0.0)) for family in families if family.rated == (asked is not None)
    ]
    there = [(family, codec) for family, codec in found if codec is not None]
    speeds = _speeds(x, [codec for _, codec in there], repeats)
    rows = []
    for (family, codec), (encode, decode) in zip(there, speeds, strict=True):
        bits = bits_per_value(codec.n_bytes(codec.encode(x, 0)), x.size)
        error, ratio = _error(x, codec, seeds)
        rows.append(
            Row(
                tensor,
                x.size,
                family.name,
                family.unbiased,
                asked,
                bits,
                error,
                ratio,
                encode,
                decode,
                codec.setting,
            )
        )
        print(f"{tensor}: {family.name} at {bits:.3f} bits: NMSE {error:.3g}", file=sys.stderr, flush=True)
    return rows


def save(rows: Iterable[Row], path: Path) -> None:
    """Keep rows in a file."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=0) + "\n")


def load(path: Path) -> list[Row]:
    """Rows of a file."""
    return [Row(**row) for row in json.loads(path.read_text())]
