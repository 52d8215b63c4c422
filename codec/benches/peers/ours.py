"""fedpress, by its wheel: one thread, one tensor to a stream, every byte of the stream counted."""

from __future__ import annotations

from typing import Any

from metrics import Floats

import fedpress
from codec import Codec, Family, scaled

#: How many clients share a round, each with a rotation and draws of its own.
CLIENTS = 24


def codec(spec: str, *, seeded: bool = True) -> Codec:
    """A codec of a spec."""

    def encode(x: Floats, seed: int) -> bytes:
        made = fedpress.options(seed=7, client=seed, clients=CLIENTS, private_seed=1000 + seed, several=False)
        blob: bytes = fedpress.encode({"x": x}, spec, encode_options=made)
        return blob

    def decode(blob: Any) -> Any:
        return fedpress.decode(blob)["x"]

    return Codec(encode, decode, seeded=seeded, setting=spec)


def at_rate(name: str, pattern: str, *, unbiased: bool) -> Family:
    """A family whose spec has a rate in the place of ``R``, in thousandths of a bit."""

    def at(x: Floats, bits: float) -> Codec | None:
        return scaled(x, bits, lambda asked: codec(pattern.replace("R", f"{asked:.3f}")))

    return Family(name, unbiased, at)


def whole_bits(name: str, pattern: str, *, unbiased: bool) -> Family:
    """A family of whole bits, ``Q``; there is none at other rates. Headers come on top."""

    def at(_x: Floats, bits: float) -> Codec | None:
        return codec(pattern.replace("Q", f"{bits:.0f}")) if bits >= 1 and bits == int(bits) else None

    return Family(name, unbiased, at)


def fixed(name: str, spec: str) -> Family:
    """A family without a rate."""
    return Family(name, True, lambda _x, _bits: codec(spec, seeded=False), rated=False)


UNBIASED = [
    at_rate("fedpress `auto\\|rate=R`", "auto|rate=R", unbiased=True),
    at_rate("fedpress `rotation\\|trellis=R`", "rotation|trellis=R", unbiased=True),
    at_rate("fedpress `identity\\|step=R`", "identity|step=R", unbiased=True),
    whole_bits("fedpress `rotation\\|lm=Q`", "rotation|lm=Q", unbiased=True),
    whole_bits("fedpress `hadamard\\|q=Q`", "hadamard|q=Q", unbiased=True),
]
BIASED = [
    at_rate("fedpress `auto\\|rate=R\\|biased`", "auto|rate=R|biased", unbiased=False),
    at_rate("fedpress `rotation\\|trellis=R,biased`", "rotation|trellis=R,biased", unbiased=False),
    at_rate("fedpress `identity\\|step=R,biased`", "identity|step=R,biased", unbiased=False),
]
LOSSLESS = [fixed("fedpress `lossless`", "lossless")]
