"""A fedpress message in a record of Flower."""

from __future__ import annotations

from flwr.app import Array, ArrayRecord


def carrying(message: bytes) -> ArrayRecord:
    """Return a record that carries a message."""
    array = Array(dtype="uint8", shape=(len(message),), stype="fedpress message", data=message)
    return ArrayRecord({"message": array})


def carried(record: ArrayRecord) -> bytes:
    """Return the message that a record carries."""
    return record["message"].data
