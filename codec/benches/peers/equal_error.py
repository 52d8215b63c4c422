"""The other way round: bits that a codec takes to reach an error."""

from __future__ import annotations

from collections.abc import Iterator

from metrics import Floats

from codec import Family

#: Bits between which is searched, and how often they are halved (by their logarithm).
BITS = (0.1, 12.0)
HALVINGS = 11


def bits_at(x: Floats, family: Family, error: float) -> float | None:
    """The fewest real bits a value at which the NMSE of one transfer is no more than ``error``."""
    (low, high), found = BITS, None
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        codec = family.at(x, middle)
        if codec is not None and codec.error(x) <= error:
            high, found = middle, codec
        else:
            low = middle
    return None if found is None else found.bits(x)


def table(tensor: str, x: Floats, families: list[Family], errors: list[float]) -> Iterator[str]:
    """A line for each codec that takes a rate, with its bits at each error."""
    yield f"### {tensor}, {x.size} values: bits a value at an NMSE"
    yield ""
    yield "| codec | " + " | ".join(f"{error:g}" for error in errors) + " |"
    yield "|---|" + "---|" * len(errors)
    for family in families:
        found = [bits_at(x, family, error) for error in errors]
        yield (
            f"| {family.name} | " + " | ".join("" if bits is None else f"{bits:.3f}" for bits in found) + " |"
        )
    yield ""
