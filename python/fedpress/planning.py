"""Rates for the tensors of a model, so that all of it takes so many bytes, or errs so much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from fedpress import _fedpress
from fedpress._fedpress import EncodeOptions, Spec
from fedpress.arrays import Array, as_bytes, as_numpy, dtype_name
from fedpress.specs import Rules, SpecLike, chooser, options

Given = tuple[str, str, list[int], Array, Spec]


def taken(name: str, value: Any, spec: Callable[[str], Spec]) -> Given:
    """Return a tensor as the extension module takes it: name, element type, shape, bytes, pipeline.

    Raises:
        TypeError: the name is no text, or the value no array of a type that streams have.
        InvalidArgumentError: a tensor on another device.
    """
    if not isinstance(name, str):
        raise TypeError(f"names are text, found {name!r}")
    array = as_numpy(value, name)
    return name, dtype_name(array, name), list(array.shape), as_bytes(array), spec(name)


def target_of(
    target_bytes: int | None, target_ratio: float | None, target_bits: float | None, target_nmse: float | None
) -> tuple[str, float] | None:
    """Return the target that was given, if there is one: its kind and number.

    Raises:
        TypeError: there are several.
    """
    targets = {"bytes": target_bytes, "ratio": target_ratio, "bits": target_bits, "nmse": target_nmse}
    asked = [(kind, float(number)) for kind, number in targets.items() if number is not None]
    if len(asked) > 1:
        raise TypeError("one target at most")
    return asked[0] if asked else None


def planned(
    given: list[Given],
    target: tuple[str, float],
    weights: Mapping[str, float] | None,
    encode_options: EncodeOptions,
    metadata: dict[str, str] | None = None,
    manifest: bool = False,
) -> list[Given]:
    """Return the tensors with the pipelines by which their stream meets the target."""
    counts = [_weight(name, weights or {}) for name, *_ in given]
    specs = _fedpress.plan(given, counts, target, encode_options, metadata, manifest)
    return [(*tensor, spec) for (*tensor, _), spec in zip(given, specs, strict=True)]  # type: ignore[misc]


def plan(
    tensors: Mapping[str, Any],
    spec: SpecLike | Mapping[str, SpecLike] = "auto",
    *,
    rules: Rules | None = None,
    weights: Mapping[str, float] | None = None,
    target_bytes: int | None = None,
    target_ratio: float | None = None,
    target_bits: float | None = None,
    target_nmse: float | None = None,
    encode_options: EncodeOptions | None = None,
    **keywords: Any,
) -> dict[str, Spec]:
    """Find a pipeline for each tensor, so that together they meet a target and err least.

    :func:`fedpress.encode` with the same target does this for its stream; a plan serves for more: for all
    clients of a round, or for rounds to come.

    >>> import numpy as np, fedpress
    >>> draws = np.random.default_rng(1)
    >>> model = {"a": draws.normal(size=(100, 100)), "b": 8 * draws.normal(size=(100, 100))}
    >>> model = {name: array.astype(np.float32) for name, array in model.items()}
    >>> specs = fedpress.plan(model, "rotation|trellis=1", target_bits=3)
    >>> specs["b"].formula_ratio < specs["a"].formula_ratio / 2  # so many more bits
    True
    >>> len(fedpress.encode(model, specs)) <= 3 * 20_000 / 8
    True

    Args:
        tensors: as of :func:`fedpress.encode`.
        spec: as there; those that are lossy need a rate (``auto``, ``small``, ``step``, ``trellis``).
        rules: as there.
        weights: what a squared error of a tensor counts beside those of others, for names that match a
            pattern, the first that does; 1 for all others. Of a layer whose errors hurt four times as much,
            say 4.
        target_bytes: the most bytes of the stream. One target has to be given.
        target_ratio: how many times smaller than the arrays the stream has to be.
        target_bits: the most bits of the stream for each value.
        target_nmse: the squared error over the squared length that is expected of all that is lossy,
            without weights.
        encode_options: what :func:`fedpress.options` made.
        keywords: those of :func:`fedpress.options`.

    Returns:
        Pipelines by name, which :func:`fedpress.encode` takes as its spec.

    Raises:
        InvalidArgumentError: a target that the lowest rates do not meet, a pipeline without a rate, a
            weight that is no number above 0.
        TypeError: as of :func:`fedpress.encode`; no target, or several.
    """
    if encode_options is not None and keywords:
        raise TypeError("either encode_options or its keywords")
    target = target_of(target_bytes, target_ratio, target_bits, target_nmse)
    if target is None:
        raise TypeError("expected a target: target_bytes, target_ratio, target_bits or target_nmse")
    choose = chooser(spec, rules)
    given = [taken(name, value, choose) for name, value in tensors.items()]
    found = planned(given, target, weights, encode_options or options(**keywords))
    return {name: spec for name, *_, spec in found}


def _weight(name: str, weights: Mapping[str, float]) -> float:
    matching = (weight for pattern, weight in weights.items() if fnmatchcase(name, pattern))
    return float(next(matching, 1.0))
