"""Tensors to bytes and back in one call; :mod:`fedpress.stream` works piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import numpy as np

from fedpress import _fedpress
from fedpress._fedpress import EncodeOptions
from fedpress.arrays import DTYPES, Array, from_bytes, n_bytes
from fedpress.describe import MEMORY_LIMIT, flat, inspect
from fedpress.errors import InvalidArgumentError
from fedpress.planning import planned, taken, target_of
from fedpress.specs import Rules, SpecLike, chooser, options


def encode(
    tensors: Mapping[str, Any],
    spec: SpecLike | Mapping[str, SpecLike],
    *,
    rules: Rules | None = None,
    metadata: Mapping[str, str] | None = None,
    manifest: bool = False,
    encode_options: EncodeOptions | None = None,
    weights: Mapping[str, float] | None = None,
    target_bytes: int | None = None,
    target_ratio: float | None = None,
    target_bits: float | None = None,
    target_nmse: float | None = None,
    **keywords: Any,
) -> bytes:
    """Encode named arrays into one stream.

    >>> import numpy as np, fedpress
    >>> w = np.linspace(-1, 1, 100_000, dtype=np.float32).reshape(100, 1000)
    >>> blob = fedpress.encode({"fc.weight": w, "step": np.int64(7)}, "hadamard|q=4", seed=7)
    >>> len(blob) * 7 < w.nbytes
    True
    >>> back = fedpress.decode(blob)
    >>> back["fc.weight"].shape, back["fc.weight"].dtype, int(back["step"])
    ((100, 1000), dtype('float32'), 7)
    >>> len(fedpress.encode({"fc.weight": w}, "auto", target_bytes=20_000)) <= 20_000
    True

    Args:
        tensors: arrays by name: NumPy arrays, CPU tensors of PyTorch and other libraries. Memory of
            contiguous ones is read where it is, with the interpreter released: it must not be written
            meanwhile.
        spec: the pipeline, such as ``"hadamard|q=4|zstd"``, or the name of a preset; or one for each name,
            as :func:`plan` returns them. It applies to float32, float16 and bfloat16; everything else
            travels without loss.
        rules: pipelines for tensors whose names match a pattern with ``*``, ``?`` and ``[...]``; the
            first that matches applies.
        metadata: text to travel with the stream.
        manifest: whether the stream begins with the names and shapes of what follows.
        encode_options: what :func:`options` makes of ``keywords``, made before.
        weights: with a target, what a squared error of a tensor counts beside those of others, by patterns
            as in ``rules``; 1 for all others.
        target_bytes: the most bytes of the stream. With this or another target each tensor whose pipeline
            has a rate (``auto``, ``small``, ``step``, ``trellis``) gets one of its own, so that the whole errs
            least; it is encoded several times for that. One target at most.
        target_ratio: how many times smaller than the arrays the stream has to be.
        target_bits: the most bits of the stream for each value.
        target_nmse: the squared error over the squared length that is expected of all that is lossy.
        keywords: those of :func:`options`.

    Returns:
        The stream.

    Raises:
        InvalidArgumentError: a spec that is none, NaN or infinity in a lossy tensor, a tensor on
            another device; a target that the lowest rates do not meet.
        TypeError: what is no array, or has elements that streams do not have; several targets.
    """
    target = target_of(target_bytes, target_ratio, target_bits, target_nmse)
    if encode_options is not None and keywords:
        raise TypeError("either encode_options or its keywords")
    if weights is not None and target is None:
        raise TypeError("weights are for a target")
    choose = chooser(spec, rules)
    given = [taken(name, value, choose) for name, value in tensors.items()]
    made, text = encode_options or options(**keywords), dict(metadata) if metadata else None
    if target is not None:
        given = planned(given, target, weights, made, text, manifest)
    return _fedpress.encode(given, made, text, manifest)


def decode(
    blob: Any,
    *,
    out: Mapping[str, Array] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    threads: int = 1,
) -> dict[str, Array]:
    """Decode all tensors of a stream, or of several that follow each other.

    Args:
        blob: the bytes, in any object with the buffer protocol.
        out: arrays to decode into, by name: of the shape and type of the tensor, in C order,
            writable, no two of them overlapping. A name that the stream does not have is an error.
        memory_limit: most memory to take for what the stream claims, in bytes.
        threads: chunks decoded at the same time; 0 is one for each core.

    Returns:
        Arrays by name, in the order of the stream, writable, with the types and shapes of what was
        encoded. Those of ``out`` are the arrays given. Elements below a byte (``F4``, ``F6``) come
        packed, as a flat array of bytes.

    Raises:
        CorruptError: the bytes are not a stream, or were changed.
        TruncatedError: they end too early.
        UnsupportedError: they are of another version.
        LimitError: more memory would be needed.
        InvalidArgumentError: an array of ``out`` does not fit. What was decoded before stays.
    """
    if out is None:
        made = _fedpress.decode(flat(blob), memory_limit, threads)
        return {name: from_bytes(memory, dtype, shape) for name, dtype, shape, memory in made}
    outputs = _checked_outputs(blob, out, memory_limit)
    found = _fedpress.decode_into(flat(blob), outputs, memory_limit, threads)
    return {
        name: out[name] if memory is None else from_bytes(memory, dtype, shape)
        for name, dtype, shape, memory in found
    }


def add_into(
    blob: Any,
    sums: MutableMapping[str, Array] | Mapping[str, Array],
    weight: float = 1.0,
    *,
    memory_limit: int = MEMORY_LIMIT,
) -> int:
    """Decode and add, without the decoded tensors ever being whole in memory.

    ``sums[name] += weight * tensor`` for every tensor of the stream.

    Args:
        blob: the stream. Its tensors are float32, float16 or bfloat16.
        sums: float32 arrays in C order, writable, with the shapes of the tensors.
        weight: what every value is multiplied by.
        memory_limit: most memory to take, in bytes.

    Returns:
        How many values were added.

    Raises:
        KeyError: a tensor has no sum.
        InvalidArgumentError: a shape or type does not fit. Nothing was added.
        Error: as :func:`decode`; chunks before the bad one were added (``values_done`` of that
            tensor), so the sums are lost.
    """
    for name, dtype, shape, _spec in _described(blob, memory_limit):
        if name not in sums:
            raise KeyError(f"no sum for tensor {name!r}")
        check_sum(name, dtype, shape, sums[name])
    _check_apart(blob, sums)
    values = {name: array.reshape(-1) for name, array in sums.items()}
    return _fedpress.add_into(flat(blob), values, weight, memory_limit)


def _described(blob: Any, memory_limit: int) -> Iterable[tuple[str, str, tuple[int, ...], str]]:
    for tensor in inspect(blob, memory_limit=memory_limit).tensors:
        yield tensor.name, tensor.dtype, tensor.shape, tensor.spec


def _checked_outputs(blob: Any, out: Mapping[str, Array], memory_limit: int) -> dict[str, Array]:
    """Return the outputs as flat bytes, after a look at whether they fit."""
    tensors = {name: (dtype, shape) for name, dtype, shape, _ in _described(blob, memory_limit)}
    missing = out.keys() - tensors.keys()
    if missing:
        raise InvalidArgumentError(f"the stream has no tensors {sorted(missing)}")
    for name, array in out.items():
        _check_output(name, *tensors[name], array)
    _check_apart(blob, out)
    arrays = list(out.values())
    for i, array in enumerate(arrays):
        if any(np.may_share_memory(array, other) for other in arrays[:i]):
            raise InvalidArgumentError("two arrays of out overlap")
    return {name: array.reshape(-1).view(np.uint8) for name, array in out.items()}


def _check_apart(blob: Any, arrays: Mapping[str, Array]) -> None:
    """Check that what is written is not what is read."""
    stream = np.frombuffer(flat(blob), np.uint8)
    for name, array in arrays.items():
        if np.may_share_memory(array, stream):
            raise InvalidArgumentError(f"array {name!r} is memory of the stream", tensor=name)


def _check_output(name: str, dtype: str, shape: tuple[int, ...], array: Array) -> None:
    expected = DTYPES.get(dtype, np.dtype(np.uint8))
    if dtype not in DTYPES:
        shape = (n_bytes(dtype, shape),)
    if array.dtype != expected or array.shape != shape:
        found = f"{array.dtype} of shape {array.shape}"
        message = f"out[{name!r}]: expected {expected} of shape {shape}, found {found}"
        raise InvalidArgumentError(message, tensor=name)
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise InvalidArgumentError(f"out[{name!r}]: not writable in C order", tensor=name)


def check_sum(name: str, dtype: str, shape: tuple[int, ...], array: Array) -> None:
    """Check that a tensor can be added to an array.

    Raises:
        InvalidArgumentError: it cannot; the message says why.
    """
    if dtype not in ("F32", "F16", "BF16"):
        raise InvalidArgumentError(f"{dtype} values cannot be added to f32", tensor=name)
    fits = array.dtype == np.dtype(np.float32) and array.shape == shape
    if not (fits and array.flags.c_contiguous and array.flags.writeable):
        found = f"{array.dtype} of shape {array.shape}"
        message = f"sum {name!r}: expected writable float32 of shape {shape} in C order, found {found}"
        raise InvalidArgumentError(message, tensor=name)
