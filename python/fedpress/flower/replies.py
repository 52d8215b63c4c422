"""What comes up: replies, checked before anything of them is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Message, RecordDict

import fedpress
from fedpress.aggregate import WEIGHTS, is_weight
from fedpress.arrays import Array
from fedpress.flower import protocol
from fedpress.flower.errors import ReplyError
from fedpress.flower.model import FLOATS, Model, Signature, difference
from fedpress.flower.protocol import KEY, UPDATE, VALUES, Receipt


@dataclass(frozen=True)
class Reply:
    """A reply that is right.

    Attributes:
        node: that sent it.
        message: as it came.
        receipt: what it says of itself.
        key: of the trained arrays among its records.
        update: encoded differences, float32.
        values: tensors that travelled as they are.
        n_bytes: of the encoded arrays.
    """

    node: int
    message: Message
    receipt: Receipt
    key: str
    update: bytes
    values: Model
    n_bytes: int

    def delta(self, base: Model, memory_limit: int) -> tuple[Model, Model]:
        """Return the differences to ``base`` of all floats, in float32, and the other tensors.

        Raises:
            ReplyError: the update is damaged, or has NaN or infinity.
        """
        try:
            deltas = fedpress.decode(self.update, memory_limit=memory_limit)
        except fedpress.Error as error:
            raise ReplyError(self.node, str(error)) from error
        self._check_finite(deltas)
        small, exact = self.value_deltas(base)
        return deltas | small, exact

    def value_deltas(self, base: Mapping[str, Array]) -> tuple[Model, Model]:
        """Return the same of those tensors that travelled as they are.

        Raises:
            ReplyError: a difference is NaN or infinite: both sides may be finite.
        """
        exact = {name: array for name, array in self.values.items() if array.dtype not in FLOATS}
        deltas = {n: difference(array, base[n]) for n, array in self.values.items() if n not in exact}
        self._check_finite(deltas)
        return deltas, exact

    def _check_finite(self, deltas: Model) -> None:
        for name, delta in deltas.items():
            if not np.isfinite(delta).all():
                raise ReplyError(self.node, f"array {name!r}: NaN or infinite")

    def metrics(self) -> RecordDict:
        """Return the records of the reply but arrays and our own."""
        records = self.message.content.items()
        return RecordDict({name: record for name, record in records if name not in (KEY, self.key)})


def checked(message: Message, signature: Signature, expected: str | None, memory_limit: int) -> Reply:
    """Return a reply whose names, shapes, types and values are right.

    Args:
        message: without an error.
        signature: of the model.
        expected: identity of the model that the node was sent; None if it was sent nothing.
        memory_limit: most memory to take for what it claims, in bytes.

    Raises:
        ReplyError: it names the node, and what is wrong.
    """
    node = message.metadata.src_node_id
    try:
        receipt = protocol.read(Receipt, message.content)
        if receipt is None:
            raise ReplyError(node, _lacks_mod())
        if receipt.base != expected:
            raise ReplyError(node, f"an update of model {receipt.base}, it was sent {expected}")
        key, blobs = _arrays(message, node)
        update, values = blobs[UPDATE], fedpress.decode(blobs[VALUES], memory_limit=memory_limit)
        _check(update, values, signature, memory_limit)
    except fedpress.Error as error:
        if isinstance(error, ReplyError):
            raise
        raise ReplyError(node, str(error)) from error
    return Reply(node, message, receipt, key, update, values, sum(map(len, blobs.values())))


def _lacks_mod() -> str:
    return (
        "its reply was not encoded: its ClientApp needs mods=[fedpress.flower.codec_mod()], or the mod was "
        "put behind one that replaces the reply"
    )


def _arrays(message: Message, node: int) -> tuple[str, dict[str, bytes]]:
    records = message.content.array_records
    if len(records) != 1:
        raise ReplyError(node, f"array records {sorted(records)}: expected one")
    key, record = next(iter(records.items()))
    blobs = protocol.blobs_of(record)
    if blobs.keys() != {UPDATE, VALUES}:
        raise ReplyError(node, f"arrays {sorted(blobs)}: expected {UPDATE!r} and {VALUES!r}")
    return key, blobs


def _check(update: bytes, values: Mapping[str, Array], signature: Signature, limit: int) -> None:
    described = fedpress.inspect(update, memory_limit=limit).tensors
    shapes = {tensor.name: tensor.shape for tensor in described}
    twice = shapes.keys() & values.keys()
    if twice or len(shapes) != len(described):
        raise fedpress.InvalidArgumentError(f"arrays that come twice: {sorted(twice)}")
    signature.check_shapes(shapes | {name: array.shape for name, array in values.items()})
    for tensor in described:
        if tensor.dtype != "F32" or signature.dtypes[tensor.name] not in FLOATS:
            kinds = f"{tensor.dtype}, of a tensor of {signature.dtypes[tensor.name]}"
            raise fedpress.InvalidArgumentError(f"array {tensor.name!r}: a difference in {kinds}")
    for name, array in values.items():
        if array.dtype != signature.dtypes[name]:
            message = f"array {name!r}: expected {signature.dtypes[name]}, found {array.dtype}"
            raise fedpress.InvalidArgumentError(message, tensor=name)
        if array.dtype.kind not in "iub" and not np.isfinite(array.astype(np.complex128)).all():
            raise fedpress.InvalidArgumentError(f"array {name!r}: NaN or infinite", tensor=name)


def weight_of(reply: Reply, key: str) -> float:
    """Return the weight of a reply: a number of its metrics.

    Raises:
        ReplyError: there is none, or it is below 0, or nothing that float32 holds.
    """
    records = reply.message.content.metric_records
    if len(records) != 1:
        raise ReplyError(reply.node, f"metric records {sorted(records)}: expected one")
    found = next(iter(records.values())).get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ReplyError(reply.node, f"metric {key!r}: expected a number, found {found!r}")
    if not is_weight(found):
        raise ReplyError(reply.node, f"metric {key!r}: expected {WEIGHTS}, found {found}")
    return float(found)
