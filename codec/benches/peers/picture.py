"""Error against bits as SVG: a panel for each tensor, a line for each codec."""

from __future__ import annotations

import math
from collections.abc import Iterator

from measure import Row
from metrics import bound_biased, bound_unbiased

#: What is drawn: name of the rows, words of the legend, color, dashes.
LINES = [
    ("fedpress `auto\\|rate=R`", "fedpress auto, unbiased", "#0b6e4f", ""),
    ("fedpress `auto\\|rate=R\\|biased`", "fedpress auto, biased", "#0b6e4f", "5 3"),
    ("EDEN, port", "EDEN, unbiased", "#c1121f", ""),
    ("uniform q bits, blocks of 1024, port", "uniform q bits, unbiased", "#b08900", ""),
    ("SZ3", "SZ3, biased", "#7fa8d9", "5 3"),
    ("SZ3, best of its settings", "SZ3, best settings, biased", "#3a5ba0", "5 3"),
    ("zfp, best of its shapes", "zfp, biased", "#7b3fa0", "5 3"),
]
GREY = "#777"
WIDTH, HEIGHT, LEFT, TOP, GAP = 300, 260, 52, 46, 24
BITS = (0.25, 4.0)
LEGEND = 22
DECADES = (-5, 1)


def _x(bits: float) -> float:
    return LEFT + WIDTH * math.log2(bits / BITS[0]) / math.log2(BITS[1] / BITS[0])


def _y(error: float) -> float:
    low, high = DECADES
    part = (high - math.log10(max(error, 10.0**low))) / (high - low)
    return TOP + HEIGHT * min(max(part, 0.0), 1.0)


def _path(points: list[tuple[float, float]], color: str, dashes: str, width: float = 2) -> str:
    line = " ".join(f"{'M' if i == 0 else 'L'}{_x(b):.1f} {_y(e):.1f}" for i, (b, e) in enumerate(points))
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="{line}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>'


def _text(
    x: float, y: float, words: str, anchor: str = "middle", size: int = 11, weight: str = "normal"
) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">{words}</text>'


def _grid() -> Iterator[str]:
    low, high = DECADES
    for decade in range(low, high + 1):
        y = _y(10.0**decade)
        yield f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="#ddd"/>'
        yield _text(LEFT - 6, y + 4, f"1e{decade}" if decade else "1", "end")
    for bits in (0.25, 0.5, 1, 2, 4):
        yield f'<path d="M{_x(bits):.1f} {TOP}v{HEIGHT}" stroke="#ddd"/>'
        yield _text(_x(bits), TOP + HEIGHT + 16, f"{bits:g}")
    yield _text(LEFT + WIDTH / 2, TOP + HEIGHT + 32, "real bits a value")
    yield _text(LEFT - 6, TOP - 12, "NMSE", "end")


def _panel(title: str, rows: list[Row]) -> Iterator[str]:
    yield _text(LEFT + WIDTH / 2, TOP - 12, title, size=13, weight="bold")
    yield from _grid()
    range_of_bits = [BITS[0] * 2.0 ** (i / 8) for i in range(33)]
    yield _path([(b, bound_unbiased(b)) for b in range_of_bits], GREY, "", 1)
    yield _path([(b, bound_biased(b)) for b in range_of_bits], GREY, "5 3", 1)
    for name, _words, color, dashes in LINES:
        found = sorted({(row.bits, row.nmse) for row in rows if row.name == name and row.asked is not None})
        points = [(b, e) for b, e in found if BITS[0] * 0.9 <= b <= BITS[1] * 1.1]
        if points:
            yield _path(points, color, dashes)
            yield from (
                f'<circle cx="{_x(b):.1f}" cy="{_y(e):.1f}" r="2.5" fill="{color}"/>' for b, e in points
            )


def _legend(top: float) -> Iterator[str]:
    entries = [(words, color, dashes) for _name, words, color, dashes in LINES]
    entries += [("Gaussian bound, unbiased", GREY, ""), ("Gaussian bound, biased", GREY, "5 3")]
    for number, (words, color, dashes) in enumerate(entries):
        x, y = LEFT + (number % 2) * 230, top + LEGEND * (number // 2)
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        yield f'<path d="M{x} {y - 4}h28" stroke="{color}" stroke-width="2"{dash}/>'
        yield _text(x + 36, y, words, "start")


def picture(rows: list[Row]) -> str:
    """An SVG of all tensors, two panels beside each other."""
    tensors = list(dict.fromkeys(row.tensor for row in rows))
    columns = min(2, len(tensors))
    across, down = LEFT + WIDTH + GAP, TOP + HEIGHT + 44
    lines = -(-len(tensors) // columns)
    parts = []
    for number, tensor in enumerate(tensors):
        x, y = (number % columns) * across, (number // columns) * down
        panel = "\n".join(_panel(tensor, [row for row in rows if row.tensor == tensor]))
        parts.append(f'<g transform="translate({x} {y})">\n{panel}\n</g>')
    parts += _legend(lines * down + LEGEND)
    width = max(columns * across, LEFT + 2 * 230)
    height = lines * down + LEGEND * 6
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'{head} font-family="sans-serif" fill="#222">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )
