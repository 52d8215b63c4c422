"""Rows as Markdown: one table for each tensor, and how fedpress compares with its peers at the same bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from measure import Row
from metrics import bound_biased, bound_unbiased


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.3g}" if 1e-3 <= value < 1e4 else f"{value:.2e}"


def _speed(row: Row) -> str:
    return "" if row.encode is None or row.decode is None else f"{row.encode:.2f} / {row.decode:.2f}"


def _asked(rows: Iterable[Row]) -> list[float | None]:
    return sorted({row.asked for row in rows}, key=lambda asked: (asked is None, asked))


def tensor_table(rows: list[Row]) -> Iterator[str]:
    """The lines of the table of one tensor."""
    yield f"### {rows[0].tensor}, {rows[0].n} values"
    yield ""
    yield "| codec | bits | NMSE | bias ratio | GB/s, encode / decode |"
    yield "|---|---|---|---|---|"
    for asked in _asked(rows):
        yield f"| **{'without a rate' if asked is None else f'{asked:g} bits'}** | | | | |"
        if asked is not None:
            yield f"| Gaussian bound, unbiased | {asked:g} | {_number(bound_unbiased(asked))} | | |"
        yield from _lines([row for row in rows if row.asked == asked and row.unbiased])
        if asked is not None:
            yield f"| Gaussian bound, biased | {asked:g} | {_number(bound_biased(asked))} | | |"
        yield from _lines([row for row in rows if row.asked == asked and not row.unbiased])


def _lines(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        ratio = f"{row.bias:.2f}" if row.bias < 1.995 else f"{row.bias:.1f}"
        yield f"| {row.name} | {row.bits:.3f} | {_number(row.nmse)} | {ratio} | {_speed(row)} |"


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
            if asked is None or ours not in found:
                continue
            cells = [f"{found[peer] / found[ours]:.2f} x" if peer in found else "" for peer in peers]
            yield f"| {tensor} | {asked:g} | {_number(found[ours])} | " + " | ".join(cells) + " |"
    yield ""
