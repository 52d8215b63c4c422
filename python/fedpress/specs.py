"""What says how to encode: pipelines, presets, rules by name, options."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from fedpress import _fedpress
from fedpress._fedpress import EncodeOptions, Spec
from fedpress.errors import InvalidArgumentError

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
        clients: how many clients send in this round, numbered from 0; 0 if that is not known. Where it is, ``step``
            shares its dither out over them: of clients that send much the same the errors cancel.
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


def chooser(spec: SpecLike | Mapping[str, SpecLike], rules: Rules | None) -> Callable[[str], Spec]:
    """Return the function that chooses the pipeline of a name.

    Raises:
        InvalidArgumentError: what is no pipeline; of the function, a name that a mapping does not have.
    """
    parsed = [(pattern, as_spec(rule)) for pattern, rule in (rules or {}).items()]
    named = {n: as_spec(given) for n, given in spec.items()} if isinstance(spec, Mapping) else None
    default = as_spec(spec) if not isinstance(spec, Mapping) else None

    def choose(name: str) -> Spec:
        for pattern, rule in parsed:
            if fnmatch.fnmatchcase(name, pattern):
                return rule
        found = default if named is None else named.get(name)
        if found is None:
            raise InvalidArgumentError(f"tensor {name!r}: the specs do not name it", tensor=name)
        return found

    return choose
