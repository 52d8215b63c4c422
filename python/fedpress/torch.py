"""PyTorch: a ``state_dict`` to bytes and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from fedpress import _fedpress, describe, specs
from fedpress.arrays import Array, as_numpy
from fedpress.errors import CorruptError, InvalidArgumentError, UnsupportedError

# Key of the metadata that says which names share a tensor.
_SHARED = "fedpress.torch.shared"

_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, attribute)
    for name, attribute in {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "U16": "uint16",
        "I16": "int16",
        "U32": "uint32",
        "I32": "int32",
        "U64": "uint64",
        "I64": "int64",
        "F16": "float16",
        "BF16": "bfloat16",
        "F32": "float32",
        "F64": "float64",
        "C64": "complex64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "F8_E8M0": "float8_e8m0fnu",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
    }.items()
    if hasattr(torch, attribute)
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def encode_state_dict(
    state_dict: Mapping[str, torch.Tensor],
    spec: specs.SpecLike,
    *,
    rules: specs.Rules | None = None,
    metadata: Mapping[str, str] | None = None,
    **keywords: Any,
) -> bytes:
    """Encode a ``state_dict``: parameters and buffers, on any device.

    Tensors that share their memory, as tied weights do, travel once and come back shared.

    Args:
        state_dict: of a module; tensors on another device are copied to the CPU one by one.
        spec: as of :func:`fedpress.encode`.
        rules: as there.
        metadata: as there.
        keywords: those of :func:`fedpress.options`.

    Raises:
        InvalidArgumentError: a tensor is sparse, quantized or without memory.
        Error, TypeError: as :func:`fedpress.encode`.
    """
    shared = _shared(state_dict)
    text = dict(metadata or {})
    if shared:
        text[_SHARED] = json.dumps(shared)
    choose = specs.chooser(spec, rules)
    # What is moved to the CPU lives until all is encoded.
    given = [_given(name, tensor, choose(name)) for name, tensor in state_dict.items()]
    return _fedpress.encode(given, specs.options(**keywords), text or None, False)


def decode_state_dict(
    blob: Any, *, memory_limit: int = describe.MEMORY_LIMIT, threads: int = 1
) -> dict[str, torch.Tensor]:
    """Decode what :func:`encode_state_dict` made: tensors on the CPU, in the order of the stream.

    Args:
        blob: the stream.
        memory_limit: as of :func:`fedpress.decode`.
        threads: as there.

    Raises:
        UnsupportedError: this PyTorch lacks an element type.
        Error: as :func:`fedpress.decode`.
    """
    made = _fedpress.decode(describe.flat(blob), memory_limit, threads)
    tensors = {name: _tensor(memory, dtype, shape) for name, dtype, shape, memory in made}
    text = describe.inspect(blob, memory_limit=memory_limit).metadata.get(_SHARED, "{}")
    return tensors | _aliases(text, tensors)


def _aliases(text: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    try:
        return {alias: tensors[name] for alias, name in json.loads(text).items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CorruptError(f"metadata {_SHARED}: {error!r}") from error


def _shared(state_dict: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return, for tensors that share their memory with one before them, whose it is."""
    shared: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in state_dict.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"tensor {name!r}: expected a tensor, found {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            message = f"tensor {name!r}: expected one that is dense and has memory"
            raise InvalidArgumentError(message, tensor=name)
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and place in first:
            shared[name] = first[place]
        else:
            first[place] = name
    return shared


def _given(
    name: str, tensor: torch.Tensor, spec: _fedpress.Spec
) -> tuple[str, str, list[int], Array, _fedpress.Spec]:
    if tensor.dtype not in _NAMES:
        raise TypeError(f"tensor {name!r}: streams have no elements of type {tensor.dtype}")
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    flat = plain.reshape(-1).view(torch.uint8)
    return name, _NAMES[tensor.dtype], list(tensor.shape), as_numpy(flat.numpy()), spec


def _tensor(memory: Any, dtype: str, shape: list[int]) -> torch.Tensor:
    if dtype not in _DTYPES:
        raise UnsupportedError(f"this PyTorch has no elements of type {dtype}")
    if len(memory) == 0:
        return torch.empty(shape, dtype=_DTYPES[dtype])
    return torch.frombuffer(memory, dtype=torch.uint8).view(_DTYPES[dtype]).reshape(shape)
