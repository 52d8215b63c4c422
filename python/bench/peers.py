"""Codecs of other libraries for speed.py: those that are installed.

OpenFL: `pip install --no-deps openfl==1.9`, then torch, scikit-learn, dynaconf, tqdm and tensorboardX, which is what its
pipelines import. NVFlare's quantizers are those of bitsandbytes, here on the CPU, where NVFlare itself would ask for a
GPU, and its AdaQuant: `pip install nvflare==2.9.0 bitsandbytes==0.50.2 torch`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Codec:
    """An encoder, its decoder, and the bytes of what is between them."""

    name: str
    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any], np.ndarray]
    size: Callable[[Any], int]


def peers() -> Iterator[Codec]:
    """All that are installed."""
    yield Codec(
        "float16 (NVFlare, AMP)", lambda a: a.astype(np.float16), lambda b: b.astype("f"), lambda b: b.nbytes
    )
    if importlib.util.find_spec("openfl") and importlib.util.find_spec("torch"):
        yield from (eden(bits) for bits in (1, 2, 4))
    else:
        print("OpenFL is not installed")
    if importlib.util.find_spec("bitsandbytes"):
        yield blockwise8()
        yield from (four_bits(kind) for kind in ("fp4", "nf4"))
    else:
        print("bitsandbytes is not installed")
    if importlib.util.find_spec("nvflare") and importlib.util.find_spec("bitsandbytes"):
        yield adaquant()


def eden(bits: int) -> Codec:
    """OpenFL's EDEN; it is told its settings, and says them on standard output."""
    from openfl.pipelines.eden_pipeline import EdenPipeline

    with contextlib.redirect_stdout(io.StringIO()):
        pipeline = EdenPipeline(n_bits=bits)
    decode = lambda sent: pipeline.backward(*sent)  # noqa: E731
    return Codec(f"OpenFL 1.9, EDEN, {bits} bits", pipeline.forward, decode, lambda sent: len(sent[0]))


def blockwise8() -> Codec:
    """What NVFlare calls blockwise8: codes, and a scale for every 4096 values."""
    import torch
    from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise

    return Codec(
        "blockwise8 (NVFlare, bitsandbytes)",
        lambda a: quantize_blockwise(torch.from_numpy(a)),
        lambda sent: dequantize_blockwise(*sent).numpy(),
        lambda sent: sent[0].numel() + 4 * sent[1].absmax.numel(),
    )


def four_bits(kind: str) -> Codec:
    """What NVFlare calls float4 and normfloat4: a scale for every 64 values."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    return Codec(
        f"{kind} (NVFlare, bitsandbytes)",
        lambda a: quantize_4bit(torch.from_numpy(a), quant_type=kind),
        lambda sent: dequantize_4bit(*sent).numpy(),
        lambda sent: sent[0].numel() * sent[0].element_size() + 4 * sent[1].absmax.numel(),
    )


def adaquant() -> Codec:
    """NVFlare's AdaQuant, with bz2."""
    import torch
    from nvflare.app_opt.pt.quantization.ada_quant import AdaQuantizer

    quantizer = AdaQuantizer()

    def size(sent: Any) -> int:
        codes, state = sent
        return int(state["compressed_tensor"].nbytes if "compressed_tensor" in state else codes.nbytes)

    return Codec(
        "adaquant (NVFlare)",
        lambda a: quantizer.quantize(torch.from_numpy(a)),
        lambda sent: quantizer.dequantized(*sent).numpy().reshape(-1),
        size,
    )
