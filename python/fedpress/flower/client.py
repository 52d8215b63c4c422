"""The half of fedpress that is in a ClientApp."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

import fedpress
from fedpress.delta import Replica
from fedpress.flower import protocol
from fedpress.flower.chain import joined
from fedpress.flower.dropout import Part
from fedpress.flower.errors import ProtocolError
from fedpress.flower.model import Model, Signature, apply_update, encode_update
from fedpress.flower.protocol import KEY, MODEL, UPDATE, VALUES, VERSION, Instructions, Receipt
from fedpress.flower.records import arrays_of, record_of
from fedpress.specs import may_share_rotation
from fedpress.submodel import Layout

CallNext = Callable[[Message, Context], Message]
Mod = Callable[[Message, Context, CallNext], Message]

# Keys in Context.state.
HELD, HELD_IDENTITY, LOST = "fedpress.held", "fedpress.held.identity", "fedpress.lost"
# Where what changed is sent: a Replica's state.
REPLICA = "fedpress.replica"


def codec_mod(*, memory_limit: int = fedpress.MEMORY_LIMIT, threads: int = 1) -> Mod:
    """Return a mod that decodes what the server sends and encodes the update that goes back.

    It obeys what each message of :class:`fedpress.flower.Compressed` says; messages of other strategies
    pass as they are. Put it last in the list of mods, next to the app: mods before it see coded bytes.

    Args:
        memory_limit: most memory that decoding a message may take, in bytes; raise it for models beyond
            that size.
        threads: to encode and decode with.
    """

    def mod(message: Message, context: Context, call_next: CallNext) -> Message:
        instructions = protocol.read(Instructions, message.content)
        if instructions is None:
            return call_next(message, context)
        started = time.perf_counter()
        base = _receive(message.content, instructions, context.state, memory_limit, threads)
        received = time.perf_counter() - started
        if instructions.keep < 1:
            layout = Layout.from_toml(instructions.layout)
            base = Part.drawn(layout, instructions.keep, instructions.part).of(base)
        message.content = _decoded(message.content, instructions, base)
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        started = time.perf_counter()
        nmse, raw_bytes = 0.0, 0
        if instructions.uplink:
            reply.content, nmse, raw_bytes = _encoded(reply.content, instructions, base, context, threads)
        receipt = Receipt(
            base=instructions.model,
            holds=instructions.model if instructions.hold else "",
            nmse=nmse,
            raw_bytes=raw_bytes,
            encode_seconds=time.perf_counter() - started,
            decode_seconds=received,
        )
        reply.content[KEY] = protocol.write(receipt)
        return reply

    return mod


def _receive(
    content: RecordDict, instructions: Instructions, state: RecordDict, memory_limit: int, threads: int
) -> Model:
    """Return the model of a message, and keep it where the server says so."""
    blobs = protocol.blobs_of(content.array_records[instructions.arrays])
    if VERSION in blobs:
        model = _advanced(state, blobs, instructions.model, memory_limit)
    else:
        model = _decoded_model(state, blobs, instructions, memory_limit, threads)
    if instructions.hold:
        state[HELD] = record_of(model)
        state[HELD_IDENTITY] = ConfigRecord({"identity": instructions.model})
    else:
        for key in (HELD, HELD_IDENTITY, REPLICA):
            state.pop(key, None)
    return model


def _advanced(state: RecordDict, blobs: dict[str, bytes], identity: str, memory_limit: int) -> Model:
    """Return the version that a message leads to from what this node holds, and keep what it then holds."""
    shapes = {t.name: t.shape for t in fedpress.inspect(blobs[VERSION], memory_limit=memory_limit).tensors}
    layout = Layout.whole(shapes)
    kept = state.config_records.get(REPLICA, ConfigRecord()).get("state")
    replica = Replica(layout, state=kept, memory_limit=memory_limit)
    received = replica.decode(blobs[VERSION])
    model, found = joined(received, fedpress.decode(blobs[VALUES], memory_limit=memory_limit))
    if found != identity:
        raise ProtocolError("the arrays are not those that the server announces")
    state[REPLICA] = ConfigRecord({"state": replica.save()})
    return model


def _decoded_model(
    state: RecordDict, blobs: dict[str, bytes], instructions: Instructions, memory_limit: int, threads: int
) -> Model:
    """Return the model of a message, or what it is an update of with the update."""
    if blobs and protocol.identity(instructions.base, blobs) != instructions.model:
        raise ProtocolError("the arrays are not those that the server announces")
    decoded = {
        name: fedpress.decode(blob, memory_limit=memory_limit, threads=threads)
        for name, blob in blobs.items()
    }
    if MODEL in decoded:
        model = decoded[MODEL]
    else:
        model = _held(state, instructions.base)
        if blobs:
            model = apply_update(model, decoded[UPDATE], decoded[VALUES])
    return model


def _held(state: RecordDict, identity: str) -> Model:
    found = state.config_records.get(HELD_IDENTITY, ConfigRecord()).get("identity")
    if found != identity:
        raise ProtocolError(
            f"this node holds model {found!r}, not {identity!r}, of which it was sent an update"
        )
    return arrays_of(state.array_records[HELD])


def _decoded(content: RecordDict, instructions: Instructions, model: Model) -> RecordDict:
    """Return the message as the app expects it; the one that came may be shared, and stays as it is."""
    records = {name: record for name, record in content.items() if name != KEY}
    records[instructions.arrays] = record_of(model)
    return RecordDict(records)


def _encoded(
    content: RecordDict, instructions: Instructions, base: Model, context: Context, threads: int
) -> tuple[RecordDict, float, int]:
    """Return the reply with its arrays encoded, the error of that, and their bytes before."""
    key = _key_of_arrays(content, instructions)
    trained = arrays_of(content.array_records[key])
    Signature.of(base).check(trained)
    options = fedpress.options(
        seed=instructions.seed,
        round=instructions.round,
        client=instructions.client,
        clients=instructions.clients,
        # The server then undoes it once.
        rotation="shared" if may_share_rotation(instructions.uplink) else "own",
        several=len(base) > 1,
        threads=threads,
    )
    lost = _lost(context.state) if instructions.feedback else None
    update = encode_update(trained, base, fedpress.Spec(instructions.uplink), options, lost)
    if instructions.feedback:
        remaining = {name: update.wanted[name] - update.sent[name] for name in update.wanted}
        context.state[LOST] = record_of(remaining)
    raw_bytes = sum(array.nbytes for array in trained.values())
    records = dict(content.items())
    records[key] = protocol.coded(update.blobs)
    return RecordDict(records), update.nmse, raw_bytes


def _lost(state: RecordDict) -> Model:
    return {n: np.array(a) for n, a in arrays_of(state.array_records.get(LOST, ArrayRecord())).items()}


def _key_of_arrays(content: RecordDict, instructions: Instructions) -> str:
    """Return the key of the trained model: that of the message, or the only one."""
    keys = list(content.array_records)
    if instructions.arrays in keys:
        return instructions.arrays
    if len(keys) != 1:
        raise ProtocolError(f"the reply has array records {keys}: expected one, {instructions.arrays!r}")
    return keys[0]
