"""Quantizers of PyTorch's world on the processor: bitsandbytes and torchao. One thread, rounding to nearest.

Only with ``--torch``: they bring PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitsandbytes.functional as bnb
import torch
from metrics import Floats
from torchao.quantization.quant_primitives import (
    MappingType,
    choose_qparams_affine,
    dequantize_affine,
    quantize_affine,
)

from codec import Codec, Family

torch.set_num_threads(1)

BLOCK = 64


def _bitsandbytes(quantize: Callable[[Any], Any], dequantize: Callable[[Any, Any], Any]) -> Codec:
    def n_bytes(sent: Any) -> int:
        codes, state = sent
        return int(codes.nbytes + state.absmax.nbytes)

    return Codec(
        lambda x, _seed: quantize(torch.from_numpy(x.reshape(-1))),
        lambda sent: dequantize(*sent).numpy(),
        n_bytes=n_bytes,
    )


def _torchao(bits: int) -> Codec:
    """Affine integers, a scale and a zero point for each block of 64; codes counted as if packed."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def encode(x: Floats, _seed: int) -> Any:
        flat = torch.from_numpy(x.reshape(-1))
        flat = torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK))
        scale, zero = choose_qparams_affine(flat, MappingType.ASYMMETRIC, (BLOCK,), torch.int8, low, high)
        return quantize_affine(flat, (BLOCK,), scale, zero, torch.int8, low, high), scale, zero, x.size

    def decode(sent: Any) -> Any:
        codes, scale, zero, n = sent
        y = dequantize_affine(codes, (BLOCK,), scale, zero, torch.int8, low, high)
        return y.numpy()[:n]

    def n_bytes(sent: Any) -> int:
        codes, scale, zero, _n = sent
        return int(codes.numel() * bits // 8 + scale.nbytes + zero.numel())

    return Codec(encode, decode, n_bytes=n_bytes)


def _once(name: str, codec: Codec) -> Family:
    return Family(name, False, lambda _x, _bits: codec, rated=False)


FAMILIES = [
    _once(
        "bitsandbytes, 8 bits, blocks of 256",
        _bitsandbytes(lambda t: bnb.quantize_blockwise(t, blocksize=256), bnb.dequantize_blockwise),
    ),
    _once(
        "bitsandbytes, NF4, blocks of 64",
        _bitsandbytes(lambda t: bnb.quantize_4bit(t, blocksize=64, quant_type="nf4"), bnb.dequantize_4bit),
    ),
    _once("torchao, 4 bits, blocks of 64", _torchao(4)),
    _once("torchao, 8 bits, blocks of 64", _torchao(8)),
]
