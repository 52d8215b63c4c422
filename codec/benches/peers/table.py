"""Rows as Markdown: one table for each tensor, and how fedpress compares with its peers at the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from measure import Row
from metrics import bound_biased, bound_unbiased

#: Bits are said where they are further than this part from what was asked for.
OFF = 0.01


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.3g}" if 1e-3 <= value < 1e4 else f"{value:.2e}"


def _cell(row: Row) -> str:
    """The error, and the bits really taken where they are not those asked for."""
    off = row.asked is None or abs(row.bits / row.asked - 1) > OFF
    return _number(row.nmse) + (f" ({row.bits:.3f})" if off else "")


def _bias(rows: list[Row]) -> str:
    """The ratio furthest from 1 over all rates."""
    ratio = max((row.bias for row in rows), key=lambda bias: abs(math.log(max(bias, 1e-9))))
    return f"{ratio:.2f}" if ratio < 1.995 else f"{ratio:.1f}"


def _speed(rows: list[Row]) -> str:
    """Of the rate nearest to two bits."""
    row = min(rows, key=lambda row: abs(math.log2((row.asked or row.bits) / 2)))
    return "" if row.encode is None or row.decode is None else f"{row.encode:.2f} / {row.decode:.2f}"


def _asked(rows: Iterable[Row]) -> list[float]:
    return sorted({row.asked for row in rows if row.asked is not None})


def _line(rows: list[Row], rates: list[float]) -> str:
    cells = {row.asked: _cell(row) for row in rows}
    listed = " | ".join(cells.get(rate, "") for rate in rates)
    return f"| {rows[0].name} | {listed} | {_bias(rows)} | {_speed(rows)} |"


def _bound(name: str, bound: Callable[[float], float], rates: list[float]) -> str:
    return f"| *{name}* | " + " | ".join(_number(bound(rate)) for rate in rates) + " | | |"


def tensor_table(rows: list[Row]) -> Iterator[str]:
    """The lines of the tables of one tensor: of what has a rate, and of what has none."""
    rates = _asked(rows)
    by_name = {
        name: [row for row in rows if row.name == name] for name in dict.fromkeys(r.name for r in rows)
    }
    yield f"### {rows[0].tensor}, {rows[0].n} values: NMSE at real bits a value"
    yield ""
    if rates:
        yield "| codec | " + " | ".join(f"{rate:g}" for rate in rates) + " | bias ratio | GB/s |"
        yield "|---|" + "---|" * len(rates) + "---|---|"
        for unbiased in (True, False):
            name = "Gaussian bound, " + ("unbiased" if unbiased else "biased")
            yield _bound(name, bound_unbiased if unbiased else bound_biased, rates)
            found = [own for own in by_name.values() if own[0].unbiased == unbiased]
            yield from (_line(own, rates) for own in found if own[0].asked is not None)
        yield ""
    yield "| without a rate | bits | NMSE | GB/s |"
    yield "|---|---|---|---|"
    for row in rows:
        if row.asked is None:
            yield f"| {row.name} | {row.bits:.3f} | {_number(row.nmse)} | {_speed([row])} |"


def tables(rows: list[Row]) -> Iterator[str]:
    """All tables."""
    for tensor in dict.fromkeys(row.tensor for row in rows):
        yield from tensor_table([row for row in rows if row.tensor == tensor])
        yield ""


def against(rows: list[Row], ours: str, peers: list[str]) -> Iterator[str]:
    """How many times the error of ``ours`` each peer has, at the same bits asked for."""
    yield f"| tensor | bits | NMSE of {ours} | " + " | ".join(peers) + " |"
    yield "|---|---|---|" + "---|" * len(peers)
    for tensor in dict.fromkeys(row.tensor for row in rows):
        here = [row for row in rows if row.tensor == tensor]
        for asked in _asked(here):
            found = {row.name: row.nmse for row in here if row.asked == asked}
            if ours not in found:
                continue
            cells = [f"{found[peer] / found[ours]:.2f} x" if peer in found else "" for peer in peers]
            yield f"| {tensor} | {asked:g} | {_number(found[ours])} | " + " | ".join(cells) + " |"
    yield ""
