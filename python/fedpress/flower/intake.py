"""The replies of one round, taken as they come: checked, and folded where the strategy is a mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from logging import ERROR
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from fedpress.flower import protocol
from fedpress.flower.average import WeightedMean
from fedpress.flower.dropout import Part
from fedpress.flower.errors import ReplyError
from fedpress.flower.model import Model, Signature
from fedpress.flower.protocol import KEY, Receipt
from fedpress.flower.replies import Reply, checked, weight_of
from fedpress.flower.report import Round


@dataclass
class Intake:
    """What a round expects, and what has come of it.

    Attributes:
        model: of the server.
        bases: the models that nodes were sent, by identity.
        sent: identity of what each node was sent.
        parts: the submodels of those nodes that train one.
        mean: where replies are folded; None where they are kept for the strategy.
        weight_key: the metric that is the weight of a reply.
        memory_limit: most memory to take for what a reply claims, in bytes.
        drop: whether a bad reply is left out, or an error.
        report: of the round.
        good: replies that are right; of those that were folded, without their arrays.
        failed: messages with errors.
        holds: identity of the model that nodes say they hold.
    """

    model: Model
    bases: Callable[[str], Model]
    sent: Mapping[int, str]
    parts: Mapping[int, Part]
    mean: WeightedMean | None
    weight_key: str
    memory_limit: int
    drop: bool
    report: Round
    good: list[Reply] = field(default_factory=list)
    failed: list[Message] = field(default_factory=list)
    holds: dict[int, str] = field(default_factory=dict)
    _taken: list[Message] = field(default_factory=list)

    def take(self, message: Message) -> Message:
        """Take a reply; return what is left of it to be kept, which is taken only once.

        Raises:
            ReplyError: it is bad, and bad replies are not dropped.
        """
        if any(message is taken for taken in self._taken):
            return message
        left = self._take(message)
        self._taken.append(left)
        return left

    def _take(self, message: Message) -> Message:
        node = message.metadata.src_node_id
        if message.has_error():
            self.failed.append(message)
            if "fedpress" in str(message.error.reason):
                self.report.refused[node] = f"node {node}: {message.error.reason}"
            return message
        try:
            reply = checked(message, self._signature(node), self.sent.get(node), self.memory_limit)
            if self.mean is not None:
                self._fold(self.mean, reply, weight_of(reply, self.weight_key))
                message = without_arrays(message)
                reply = replace(reply, message=message, update=b"", values={})
        except ReplyError as error:
            if not self.drop:
                raise
            log(ERROR, "fedpress: left out %s", error)
            self.report.refused[node] = str(error)
            return without_arrays(message)
        self.good.append(reply)
        self._note(reply)
        return message

    def _signature(self, node: int) -> Signature:
        part = self.parts.get(node)
        return Signature.of(part.of(self.model) if part else self.model)

    def _note(self, reply: Reply) -> None:
        receipt = reply.receipt
        if receipt.holds:
            self.holds[reply.node] = receipt.holds
        seconds = receipt.encode_seconds + receipt.decode_seconds
        self.report.up.add(reply.n_bytes, receipt.raw_bytes, receipt.nmse, seconds)

    def _fold(self, mean: WeightedMean, reply: Reply, weight: float) -> None:
        """Fold a reply in, of the whole model or of a part.

        Raises:
            ReplyError: it is damaged, or has NaN or infinity. Nothing was added.
        """
        base, part = self.bases(reply.receipt.base), self.parts.get(reply.node)
        if part is None:
            mean.add(reply, base, weight)
            return
        deltas, exact = reply.delta(part.of(base), self.memory_limit)
        shapes = {name: array.shape for name, array in self.model.items()}
        ones = {name: np.ones_like(delta) for name, delta in deltas.items()}
        mean.add_part(part.spread(deltas, shapes), part.spread(ones, shapes), weight)
        mean.add_exact(exact, weight)


class FoldingGrid:
    """A grid whose replies are taken one by one as they arrive, so that no two are in memory encoded."""

    # Seconds between two looks for replies, as in Flower's own grids.
    _PAUSE = 3.0

    def __init__(self, grid: Grid, take: Callable[[Message], Message]) -> None:
        """Wrap a grid.

        Args:
            grid: of Flower.
            take: what is done with a reply; what it returns is kept.
        """
        self._grid, self._take = grid, take

    def __getattr__(self, name: str) -> Any:
        """Everything else is the grid's."""
        return getattr(self._grid, name)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Push messages, and take their replies as they come, until all are there or time is up."""
        deadline = None if timeout is None else time.monotonic() + timeout
        waiting = [number for number in self._grid.push_messages(list(messages)) if number]
        replies: list[Message] = []
        while waiting:
            waiting = [number for number in waiting if not self._pull(number, replies)]
            if not waiting or (deadline is not None and time.monotonic() >= deadline):
                break
            time.sleep(self._PAUSE)
        return replies

    def _pull(self, number: str, replies: list[Message]) -> bool:
        """Take the reply to a message, if it is there."""
        arrived = list(self._grid.pull_messages([number]))
        replies.extend(self._take(message) for message in arrived)
        return bool(arrived)


def without_arrays(message: Message) -> Message:
    """Return a message without its arrays, and without our record."""
    records = message.content.items()
    return replaced(message, {n: r for n, r in records if n != KEY and not isinstance(r, ArrayRecord)})


def replaced(message: Message, records: Mapping[str, Any]) -> Message:
    """Return a message that differs in its content."""
    copy = object.__new__(Message)
    copy.__dict__.update(message.__dict__)
    copy.content = RecordDict(dict(records))
    return copy


def held_by(message: Message) -> str:
    """Return the identity of the model that a node says it holds, or nothing."""
    receipt = protocol.read(Receipt, message.content)
    return receipt.holds if receipt is not None else ""
