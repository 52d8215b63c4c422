"""What server and nodes say to each other beside the arrays: two records under one key.

Mods are fixed in a client and specs in a server, so every message says how it is coded and how its reply
is to be; a message without such a record is left alone. PROTOCOL.md beside this file lists the fields.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

import fedpress
from fedpress.flower.errors import ProtocolError

#: Number of this protocol: raised when a side of another number would not be understood.
PROTOCOL = 1
#: Key of the records.
KEY = "fedpress"
#: Marks encoded arrays. Flower prints it where nobody decoded them, so it says what to do.
STYPE = f"fedpress/{PROTOCOL}, to be decoded by ClientApp(mods=[fedpress.flower.codec_mod()])"

# Names of encoded arrays in an ArrayRecord.
MODEL = "model"  # a whole model
UPDATE = "update"  # differences to a model that both sides have
VALUES = "values"  # beside an update or a version: tensors that travel as they are
VERSION = "version"  # what a fedpress.delta.Replica takes

_Record = TypeVar("_Record", bound="Instructions | Receipt")


@dataclass(frozen=True)
class Instructions:
    """From the server: how its arrays are coded, and how the reply is to be.

    Attributes:
        arrays: key of the ArrayRecord in the message.
        base: what the arrays are an update of, or, without arrays, what they are; empty for a model.
        model: identity of the model that they make.
        hold: whether the node keeps that model for the next message.
        uplink: spec of the reply; empty where no arrays are expected.
        feedback: whether what encoding loses is added to the next update.
        seed: shared seed.
        round: of the server.
        client: number of the node among those of the round, from 0.
        clients: how many nodes were asked in the round.
        keep: fraction of the units to train; 1 for all.
        part: number of the random units.
        layout: which axes have units, as a layout file; empty with all of them.
        protocol: its number.
        version: of fedpress, for messages.
    """

    arrays: str
    base: str
    model: str
    hold: bool
    uplink: str
    feedback: bool
    seed: int
    round: int
    client: int
    clients: int
    keep: float = 1.0
    part: int = 0
    layout: str = ""
    protocol: int = PROTOCOL
    version: str = fedpress.__version__


@dataclass(frozen=True)
class Receipt:
    """From a node: what its arrays are, what it holds, and what coding cost.

    Attributes:
        base: identity of the model that the arrays are an update of.
        holds: identity of the model that the node kept; empty if it keeps none.
        nmse: squared error of the update over its squared norm; 0 without an update.
        raw_bytes: bytes of the arrays, uncoded.
        encode_seconds: spent on the reply.
        decode_seconds: spent on the message.
        protocol: its number.
        version: of fedpress, for messages.
    """

    base: str
    holds: str
    nmse: float
    raw_bytes: int
    encode_seconds: float
    decode_seconds: float
    protocol: int = PROTOCOL
    version: str = fedpress.__version__


def write(record: Instructions | Receipt) -> ConfigRecord:
    """Return the record as Flower carries it."""
    return ConfigRecord(asdict(record))


def read(kind: type[_Record], content: RecordDict) -> _Record | None:
    """Return the record in a message, or None where there is none.

    Raises:
        ProtocolError: it is of another version.
    """
    found = content.config_records.get(KEY)
    if found is None:
        return None
    protocol, version = found.get("protocol"), found.get("version")
    if protocol != PROTOCOL:
        raise ProtocolError(
            f"the other side speaks protocol {protocol!r} of fedpress {version!r}, this one {PROTOCOL} of "
            f"fedpress {fedpress.__version__}: install the same version on server and nodes"
        )
    wanted: dict[str, Any] = {}
    for field in fields(kind):
        value = found.get(field.name)
        if type(value).__name__ != field.type:
            raise ProtocolError(f"{field.name}: expected {field.type}, found {value!r}")
        wanted[field.name] = value
    return kind(**wanted)


def coded(blobs: dict[str, bytes]) -> ArrayRecord:
    """Return a record of encoded arrays."""
    array = {k: FlowerArray(dtype="uint8", shape=(len(b),), stype=STYPE, data=b) for k, b in blobs.items()}
    return ArrayRecord(array)


def blobs_of(record: ArrayRecord) -> dict[str, bytes]:
    """Return the encoded arrays of a record.

    Raises:
        ProtocolError: it holds others.
    """
    for name, array in record.items():
        if array.stype != STYPE or name not in (MODEL, UPDATE, VALUES, VERSION):
            raise ProtocolError(f"array {name!r} is {array.stype!r}: it was not encoded by fedpress")
    return {name: array.data for name, array in record.items()}


def identity(base: str, blobs: dict[str, bytes]) -> str:
    """Return the identity of the model that encoded arrays make: equal on both sides, as decoding is."""
    digest = hashlib.blake2b(base.encode(), digest_size=16)
    for name, blob in sorted(blobs.items()):
        digest.update(f"{name} {len(blob)} ".encode())
        digest.update(blob)
    return digest.hexdigest()
