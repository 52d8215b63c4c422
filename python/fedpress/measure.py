"""Error against size: what pipelines make of one's own tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedpress._fedpress import Spec
from fedpress.arrays import Array, as_numpy, dtype_name
from fedpress.codec import decode, encode
from fedpress.describe import compare
from fedpress.errors import InvalidArgumentError
from fedpress.specs import PRESETS, SpecLike, as_spec, effective_spec, options

#: Pipelines that :func:`sweep` measures unless it is told others.
PIPELINES = ("auto", "auto|rate=4|biased", "small", "hadamard|q=4|zstd")
#: Rates, in bits a value, of those that have one.
RATES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)

# Bytes that are taken at a time of a large tensor, but for whole rows.
_RUN = 1 << 18


@dataclass(frozen=True)
class Measured:
    """What a pipeline costs, and what it does to the values.

    Attributes:
        spec: the pipeline.
        is_unbiased: whether the expectation of what is decoded is the original.
        n_bytes: of the stream, headers included.
        ratio: how many times smaller that is than the arrays.
        bits_per_value: of all values, those that are sent without loss included.
        nmse: squared error over squared length, in the mean over the tensors that are sent lossily,
            weighted by their values; 0 without any.
    """

    spec: Spec
    is_unbiased: bool
    n_bytes: int
    ratio: float
    bits_per_value: float
    nmse: float


def sweep(
    tensors: Mapping[str, Any],
    specs: Sequence[SpecLike] = PIPELINES,
    rates: Sequence[float] = RATES,
    *,
    sample: int = 64 << 20,
    **keywords: Any,
) -> list[Measured]:
    """Measure pipelines, each at all rates that it has: what ``fedpress sweep`` prints.

    >>> import numpy as np, fedpress
    >>> gradient = np.random.default_rng(1).standard_t(3, size=(200, 300)).astype(np.float32)
    >>> for row in fedpress.sweep({"w": gradient}, ["rotation|trellis=1", "hadamard|q=4"], [1, 2]):
    ...     print(f"{row.spec!s:18} {row.bits_per_value:.1f} bits, NMSE {row.nmse:.2f}")
    rotation|trellis=1 1.0 bits, NMSE 0.39
    rotation|trellis=2 2.0 bits, NMSE 0.08
    hadamard|q=4       4.0 bits, NMSE 0.04

    Args:
        tensors: as of :func:`fedpress.encode`. NaN and infinity travel without loss.
        specs: pipelines.
        rates: in bits a value, for pipelines that have a rate; those beyond the range of a pipeline are
            left out.
        sample: about how many bytes of the arrays are looked at, evenly spread over them.
        keywords: those of :func:`fedpress.options`, and ``rules`` and ``weights`` of :func:`fedpress.encode`.

    Raises:
        InvalidArgumentError: a spec that is none, or has a rate of which none of ``rates`` is.
        TypeError: as of :func:`fedpress.encode`.
    """
    parts = _excerpt(tensors, sample)
    return [_measured(parts, spec, keywords) for asked in specs for spec in _at_rates(as_spec(asked), rates)]


def estimate(tensors: Mapping[str, Any], *, sample: int = 16 << 20, **keywords: Any) -> dict[str, Measured]:
    """Say what each preset would make of tensors, by a part of them: what ``fedpress estimate`` prints.

    >>> import numpy as np, fedpress
    >>> update = np.random.default_rng(1).normal(size=(300, 1000)).astype(np.float32)
    >>> found = fedpress.estimate({"w": update})
    >>> found["lossless"].nmse, 10 < found["small"].ratio
    (0.0, True)

    Args:
        tensors: as of :func:`fedpress.encode`.
        sample: as of :func:`sweep`.
        keywords: as of :func:`sweep`.

    Returns:
        By the name of the preset; ``n_bytes`` is what is expected of the whole.
    """
    parts = _excerpt(tensors, sample)
    n_bytes = sum(as_numpy(value, name).nbytes for name, value in tensors.items())
    found = {preset.name: _measured(parts, as_spec(preset.spec), keywords) for preset in PRESETS}
    return {name: replace(m, n_bytes=int(n_bytes / m.ratio)) for name, m in found.items()}


def _at_rates(spec: Spec, rates: Sequence[float]) -> list[Spec]:
    if spec.rates is None:
        return [spec]
    least, most = spec.rates
    found = [spec.at_rate(rate) for rate in rates if least <= rate <= most]
    if not found:
        raise InvalidArgumentError(f"{spec}: no rate from {least:g} to {most:g} bits was asked for")
    return found


def _measured(parts: Mapping[str, Array], spec: Spec, keywords: Mapping[str, Any]) -> Measured:
    blob = encode(parts, spec, **{"non_finite": "lossless", **keywords})
    back = decode(blob, memory_limit=1 << 62, threads=int(keywords.get("threads", 1)))
    settings = {"several": len(parts) > 1, **keywords}
    settings = {key: value for key, value in settings.items() if key not in ("rules", "weights")}
    made = options(**settings)
    error = weight = 0.0
    for name, array in parts.items():
        effective = effective_spec(name, dtype_name(array, name), array.shape, spec, made)
        if effective.is_lossy and np.isfinite(array).all():
            error += array.size * compare(array, back[name]).nmse
            weight += array.size
    n_bytes = sum(array.nbytes for array in parts.values())
    return Measured(
        spec=spec,
        is_unbiased=spec.is_unbiased,
        n_bytes=len(blob),
        ratio=n_bytes / len(blob),
        bits_per_value=8 * len(blob) / max(1, sum(array.size for array in parts.values())),
        nmse=error / weight if weight else 0.0,
    )


def _excerpt(tensors: Mapping[str, Any], limit: int) -> dict[str, Array]:
    """Return the arrays, or of each every so many runs of its rows, that they take about ``limit`` bytes."""
    arrays = {name: as_numpy(value, name) for name, value in tensors.items()}
    every = max(1, -(-sum(array.nbytes for array in arrays.values()) // max(1, limit)))
    return {name: array if every == 1 else _runs(array, every) for name, array in arrays.items()}


def _runs(array: Array, every: int) -> Array:
    if array.ndim == 0 or array.size == 0:
        return array
    rows = max(1, _RUN // (array.nbytes // len(array)))
    return np.concatenate([array[at : at + rows] for at in range(0, len(array), every * rows)])
