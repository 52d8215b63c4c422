"""Compression for federated learning.

>>> import numpy as np, fedpress
>>> w = np.ones((100, 1000), np.float32)
>>> blob = fedpress.encode({"w": w}, "hadamard|q=8", seed=7)
>>> fedpress.decode(blob)["w"].shape
(100, 1000)

Inside Flower: :mod:`fedpress.flower`. PyTorch: :mod:`fedpress.torch`. Lists of arrays:
:mod:`fedpress.numpy`. Submodels: :mod:`fedpress.submodel`. None of PyTorch and Flower is imported
before it is asked for.
"""

from __future__ import annotations

from fedpress._fedpress import EncodeOptions, Spec, __version__
from fedpress.aggregate import Aggregator
from fedpress.codec import add_into, decode, encode
from fedpress.describe import MEMORY_LIMIT, Comparison, Summary, TensorInfo, compare, inspect
from fedpress.errors import (
    CorruptError,
    DeviceError,
    Error,
    InvalidArgumentError,
    LimitError,
    OutOfStepError,
    PoisonedError,
    RejectedError,
    StreamIOError,
    TruncatedError,
    UnsupportedError,
)
from fedpress.measure import Measured, estimate, sweep
from fedpress.planning import plan
from fedpress.specs import PRESETS, Preset, effective_spec, options
from fedpress.stream import Decoder, Encoder

__all__ = [
    "MEMORY_LIMIT",
    "PRESETS",
    "Aggregator",
    "Comparison",
    "CorruptError",
    "Decoder",
    "DeviceError",
    "EncodeOptions",
    "Encoder",
    "Error",
    "InvalidArgumentError",
    "LimitError",
    "Measured",
    "OutOfStepError",
    "PoisonedError",
    "Preset",
    "RejectedError",
    "Spec",
    "StreamIOError",
    "Summary",
    "TensorInfo",
    "TruncatedError",
    "UnsupportedError",
    "__version__",
    "add_into",
    "compare",
    "decode",
    "effective_spec",
    "encode",
    "estimate",
    "inspect",
    "options",
    "plan",
    "sweep",
]
