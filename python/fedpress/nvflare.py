"""NVFlare: a pair of filters, for either direction of a job, on machines without a GPU.

On the side that sends, as the last of its filters, :class:`Encode`; on the side that receives, as the first,
:class:`Decode`. In a ``config_fed_client.json``::

    "task_result_filters": [{"tasks": ["train"], "filters": [
        {"path": "fedpress.nvflare.Encode", "args": {"spec": "rotation|lm=2"}}]}],
    "task_data_filters": [{"tasks": ["train"], "filters": [{"path": "fedpress.nvflare.Decode"}]}]

and the other way round on the server. A spec of few bits is for ``WEIGHT_DIFF``; whole weights want six or more.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.dxo_filter import DXOFilter
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants

from fedpress import codec, describe, specs
from fedpress.errors import InvalidArgumentError

#: What an encoded DXO says of itself; NVFlare's aggregators refuse what says something of the kind.
ALGORITHM = "fedpress/1"

_KINDS = [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF]
# The one entry of an encoded DXO: NumPy's for arrays, PyTorch's for tensors.
_ARRAYS, _TENSORS = "fedpress.arrays", "fedpress.tensors"


class Encode(DXOFilter):  # type: ignore[misc]
    """Encodes the arrays or tensors of weights and of their differences.

    What is handed in is never changed: NVFlare hands one dictionary to the filters of all clients, which is
    encoded once in a round.
    """

    def __init__(
        self, spec: str, seed: int = 0, data_kinds: list[str] | None = None, threads: int = 1
    ) -> None:
        """Set up.

        Args:
            spec: as of :func:`fedpress.encode`.
            seed: shared seed.
            data_kinds: of weights (``"WEIGHTS"``), differences (``"WEIGHT_DIFF"``), or both.
            threads: to encode with.
        """
        super().__init__(supported_data_kinds=_KINDS, data_kinds_to_filter=data_kinds)
        # Under the names of the arguments, where NVFlare looks for what to write into a job.
        self.spec, self.seed, self.threads = str(specs.as_spec(spec)), seed, threads
        self._lock = threading.Lock()
        # Data, how it was encoded, and what _encoded made of it.
        self._last: tuple[Any, dict[str, Any], str, Any] | None = None

    def process_dxo(self, dxo: DXO, shareable: Shareable, fl_ctx: FLContext) -> DXO | None:
        """Return a new DXO with the encoded weights; None where they are encoded already."""
        if dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM) == ALGORITHM:
            return None
        round, client = _round(dxo, shareable, fl_ctx), _client(fl_ctx)
        options = {"seed": self.seed, "round": round or 0, "client": client, "threads": self.threads}
        with self._lock:
            last = self._last
            # A site may train in place and send the same dictionary in every round.
            if last is None or last[0] is not dxo.data or round is None or last[1] != options:
                last = self._last = (dxo.data, options, *_encoded(dxo.data, self.spec, options))
            _, _, key, blob = last
        encoded = DXO(dxo.data_kind, data={key: blob}, meta=dict(dxo.meta))
        encoded.set_meta_prop(MetaKey.PROCESSED_ALGORITHM, ALGORITHM)
        return encoded


class Decode(DXOFilter):  # type: ignore[misc]
    """Decodes what :class:`Encode` made; what is not encoded passes."""

    def __init__(self, memory_limit: int = describe.MEMORY_LIMIT, threads: int = 1) -> None:
        """Set up.

        Args:
            memory_limit: most memory to take for what a message claims, in bytes.
            threads: to decode with.
        """
        super().__init__(supported_data_kinds=_KINDS, data_kinds_to_filter=None)
        self.memory_limit, self.threads = memory_limit, threads

    def process_dxo(self, dxo: DXO, shareable: Shareable, fl_ctx: FLContext) -> DXO | None:
        """Return a new DXO with the decoded weights, or None."""
        if dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM) != ALGORITHM:
            return None
        ((key, blob),) = dxo.data.items()
        if key == _TENSORS:
            from fedpress import torch

            data: Mapping[str, Any] = torch.decode_state_dict(
                blob, memory_limit=self.memory_limit, threads=self.threads
            )
        elif key == _ARRAYS:
            data = codec.decode(blob, memory_limit=self.memory_limit, threads=self.threads)
        else:
            raise InvalidArgumentError(f"expected {_ARRAYS!r} or {_TENSORS!r}, found {key!r}")
        meta = {name: value for name, value in dxo.meta.items() if name != MetaKey.PROCESSED_ALGORITHM}
        return DXO(dxo.data_kind, data=dict(data), meta=meta)


def _encoded(data: Mapping[str, Any], spec: specs.SpecLike, options: Mapping[str, Any]) -> tuple[str, Any]:
    """Return which library's arrays they are, and the stream, as an array: a type that NVFlare streams."""
    tensors = [name for name, value in data.items() if type(value).__module__.split(".")[0] == "torch"]
    if len(tensors) == len(data):
        from fedpress import torch

        blob, key = torch.encode_state_dict(data, spec, **options), _TENSORS
    else:
        blob, key = codec.encode(data, spec, **options), _ARRAYS
    return key, np.frombuffer(blob, np.uint8)


def _round(dxo: DXO, shareable: Shareable | None, fl_ctx: FLContext) -> int | None:
    """Return the number of the round, from where NVFlare's workflows write it; None where none does."""
    found = dxo.get_meta_prop(MetaKey.CURRENT_ROUND)
    if found is None and shareable is not None:
        found = shareable.get_header(AppConstants.CURRENT_ROUND)
    if found is None:
        found = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
    return None if found is None else int(found)


def _client(fl_ctx: FLContext) -> int:
    """Return a number for the site, the same on every run."""
    name = str(fl_ctx.get_identity_name() or "")
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
