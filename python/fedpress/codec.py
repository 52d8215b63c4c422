"""Tensors to bytes and back in one call, and what streams hold; :mod:`fedpress.stream` works piece by piece."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fedpress import _fedpress
from fedpress._fedpress import EncodeOptions, Spec
from fedpress.arrays import (
    DTYPES,
    Array,
    as_bytes,
    as_numpy,
    dtype_name,
    from_bytes,
    n_bytes,
)
from fedpress.errors import InvalidArgumentError

#: Most memory that decoding takes unless it is told otherwise, in bytes.
MEMORY_LIMIT = 1 << 30

SpecLike = str | Spec
Rules = Mapping[str, SpecLike]


class Preset(NamedTuple):
    """A pipeline with a name, which stands for it wherever a spec is expected."""

    name: str
    spec: str
    purpose: str


#: The presets, from exact to smallest.
PRESETS: tuple[Preset, ...] = tuple(Preset(*preset) for preset in _fedpress.presets())


def as_spec(spec: SpecLike) -> Spec:
    """Return a :class:`Spec`, parsed if it is text.

    Raises:
        InvalidArgumentError: the text names no pipeline; the message says what there is.
    """
    return spec if isinstance(spec, Spec) else Spec(spec)


def options(
    *,
    seed: int = 0,
    round: int = 0,
    client: int = 0,
    clients: int = 0,
    private_seed: int | None = None,
    rotation: Literal["own", "shared"] = "own",
    threads: int = 1,
    min_values: int = 1024,
    non_finite: Literal["refuse", "lossless"] = "refuse",
    spare: bool = True,
    several: bool | None = None,
    chunk_values: int = 1 << 20,
    index: bool = False,
) -> EncodeOptions:
    """Return how to encode, for calls that do it more than once.

    Args:
        seed: shared seed: which rotation, which coefficients are kept. Travels with the tensors.
        round: number of the training round; every round rotates differently.
        client: number of this client; clients of a round may share the seed.
        clients: how many clients send in this round; 0 if that is not known.
        private_seed: how values round; drawn afresh unless given. It has to differ from client to
            client and from round to round, or rounding errors do not cancel in the average.
        rotation: ``"own"``: each client rotates for itself; ``"shared"``: all of a round alike.
        threads: tensors and chunks coded at the same time; 0 is one for each core. Bytes do not
            depend on it.
        min_values: tensors with fewer values travel without loss.
        non_finite: whether NaN and infinity in a lossy tensor are an error, or travel without loss
            with the chunk that holds them.
        spare: whether biases, statistics of norms, masks and scales travel without loss.
        several: whether the tensors are several of a model, of which vectors are spared; found out by
            counting unless given.
        chunk_values: values of a chunk, a power of two from 4096 to 2^20.
        index: whether the stream ends with an index for readers that seek.

    Raises:
        ValueError: an argument is out of its range.
    """
    return EncodeOptions(
        seed=seed,
        round=round,
        client=client,
        clients=clients,
        private_seed=private_seed,
        rotation=rotation,
        threads=threads,
        min_values=min_values,
        non_finite=non_finite,
        spare=spare,
        several=several,
        chunk_values=chunk_values,
        index=index,
    )


def encode(
    tensors: Mapping[str, Any],
    spec: SpecLike,
    *,
    rules: Rules | None = None,
    metadata: Mapping[str, str] | None = None,
    manifest: bool = False,
    encode_options: EncodeOptions | None = None,
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
        spec: the pipeline, such as ``"hadamard|q=4|zstd"``, or the name of a preset. It applies to
            float32, float16 and bfloat16; everything else travels without loss.
        rules: pipelines for tensors whose names match a pattern with ``*``, ``?`` and ``[...]``; the
            first that matches applies.
        metadata: text to travel with the stream.
        manifest: whether the stream begins with the names and shapes of what follows.
        encode_options: what :func:`options` makes of ``keywords``, made before.
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
    targets = {"bytes": target_bytes, "ratio": target_ratio, "bits": target_bits, "nmse": target_nmse}
    asked = [(kind, float(number)) for kind, number in targets.items() if number is not None]
    if len(asked) > 1:
        raise TypeError("one target at most")
    if encode_options is not None and keywords:
        raise TypeError("either encode_options or its keywords")
    choose = chooser(spec, rules)
    given = [taken(name, value, choose) for name, value in tensors.items()]
    made = encode_options or options(**keywords)
    target = asked[0] if asked else None
    return _fedpress.encode(given, made, dict(metadata) if metadata else None, manifest, target)


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


@dataclass(frozen=True)
class TensorInfo:
    """What a stream says about a tensor.

    Attributes:
        name: its name.
        dtype: its element type, by its name in the format, such as ``"BF16"``.
        shape: its dimensions.
        spec: the pipeline it went through.
        n_bytes: bytes that it takes in the stream, headers included.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    spec: str
    n_bytes: int


@dataclass(frozen=True)
class Summary:
    """What the headers of a stream say; its payloads were not looked at.

    Attributes:
        version: of the format.
        metadata: what the sender said.
        tensors: in the order of the stream.
        n_bytes: of all of it.
    """

    version: tuple[int, int]
    metadata: dict[str, str]
    tensors: tuple[TensorInfo, ...]
    n_bytes: int


def inspect(blob: Any, *, memory_limit: int = MEMORY_LIMIT) -> Summary:
    """Return what the headers of a stream say.

    Raises:
        Error: as :func:`decode`, for what is wrong with the headers.
    """
    found = _fedpress.inspect(flat(blob), memory_limit)
    tensors = tuple(
        TensorInfo(t["name"], t["dtype"], tuple(t["shape"]), t["spec"], t["bytes"]) for t in found["tensors"]
    )
    return Summary(tuple(found["version"]), found["metadata"], tensors, found["bytes"])


class Comparison(NamedTuple):
    """How far a tensor is from the original.

    Attributes:
        nmse: squared error over the squared norm of the original.
        cosine: of the angle between them.
        max_error: the largest difference.
        n_different: values whose bytes differ.
    """

    nmse: float
    cosine: float
    max_error: float
    n_different: int


def compare(original: Any, other: Any) -> Comparison:
    """Compare two arrays of one type and size.

    Raises:
        InvalidArgumentError: they differ in type or size.
    """
    a, b = as_numpy(original), as_numpy(other)
    if a.dtype != b.dtype:
        raise InvalidArgumentError(f"cannot compare {a.dtype} with {b.dtype}")
    return Comparison(*_fedpress.compare(dtype_name(a), as_bytes(a), as_bytes(b)))


def may_share_rotation(spec: SpecLike) -> bool:
    """Whether errors average out although all clients rotate alike (``rotation="shared"``).

    They do where every client draws how its values round, and sends all of them: uniform quantization that
    is not to the nearest level, without subsampling. An :class:`~fedpress.Aggregator` undoes a rotation that
    is shared once, and not once for each client.
    """
    stages = [stage.split(",") for stage in str(as_spec(spec)).split("|")]
    basis, *rest = stages
    is_drawn = all(name.startswith(("q=", "zstd")) and "nearest" not in more for name, *more in rest)
    return basis[0] in ("hadamard", "kashin", "rotation") and bool(rest) and is_drawn


def effective_spec(
    name: str, dtype: str, shape: Sequence[int], spec: SpecLike, encode_options: EncodeOptions
) -> Spec:
    """Return the pipeline that a tensor really gets: lossless where it is spared ``spec``.

    Args:
        name: of the tensor.
        dtype: its element type, by its name in the format.
        shape: its dimensions.
        spec: what was asked for.
        encode_options: what :func:`options` made.
    """
    return _fedpress.effective(name, dtype, list(shape), as_spec(spec), encode_options)


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


def chooser(spec: SpecLike, rules: Rules | None) -> Callable[[str], Spec]:
    """Return the function that chooses the pipeline of a name."""
    default = as_spec(spec)
    parsed = [(pattern, as_spec(rule)) for pattern, rule in (rules or {}).items()]

    def choose(name: str) -> Spec:
        matching = (spec for pattern, spec in parsed if fnmatch.fnmatchcase(name, pattern))
        return next(matching, default)

    return choose


def flat(blob: Any) -> memoryview:
    """Return the bytes of any object with the buffer protocol, one dimension."""
    return memoryview(blob).cast("B")


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
