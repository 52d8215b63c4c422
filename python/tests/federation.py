"""A Flower federation in one process: real messages, records, strategies and mods, no transport."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore.task_identity import TaskIdentity

from fedpress.flower import codec_mod

Train = Callable[[Message, Context], Message]


class Federation(Grid):
    """Nodes that answer at once. What goes over the wire is copied, so that nobody shares memory."""

    def __init__(
        self,
        train: Train | ClientApp,
        nodes: int = 2,
        mods: list | None = None,
        run_config: dict | None = None,
    ) -> None:
        # What a ServerApp's process knows of itself.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.nodes = {10 + i: self._context(10 + i, i, run_config or {}) for i in range(nodes)}
        if isinstance(train, ClientApp):
            self.app = train
        else:
            self.app = ClientApp(mods=[codec_mod()] if mods is None else mods)
            self.app.train()(train)
            self.app.evaluate()(train)
        self.sent: list[Message] = []
        self.replies: list[Message] = []
        self.waiting: dict[str, Message] = {}
        self.tamper: Callable[[Message], Message] = lambda message: message

    def forgetting(self, node: int, after: int) -> list[Message]:
        """Lets a node lose its state behind so many answers, as after a new installation; what it answers is
        in the list that is returned, as it comes."""
        answers: list[Message] = []

        def tamper(message: Message) -> Message:
            if message.metadata.src_node_id == node:
                answers.append(message)
                if len(answers) == after:
                    self.nodes[node].state = RecordDict()
            return message

        self.tamper = tamper
        return answers

    @staticmethod
    def _context(node: int, partition: int, run_config: dict) -> Context:
        return Context(1, node, {"partition-id": partition}, RecordDict(), run_config)

    def set_run(self, run: object) -> None: ...

    @property
    def run(self) -> None:
        return None

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        numbers = []
        for message in messages:
            numbers.append(str(len(self.sent) + 1))
            self.waiting[numbers[-1]] = self.tamper(self._answer(message))
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self.waiting.pop(number) for number in message_ids if number in self.waiting]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return [self.tamper(self._answer(message)) for message in messages]

    def _answer(self, message: Message) -> Message:
        self.sent.append(message)
        node = message.metadata.dst_node_id
        arrived = copy.deepcopy(message)
        state = copy.deepcopy(self.nodes[node].state)
        context = copy.copy(self.nodes[node])
        context.state = state
        try:
            reply = self.app(arrived, context)
        except Exception as error:
            # As flwr's own runtime does: the state stays as it was.
            return Message(Error(code=2, reason=f"{type(error)}:<'{error}'>"), reply_to=message)
        self.nodes[node].state = state
        self.replies.append(reply)
        return copy.deepcopy(reply)

    def run_strategy(self, strategy: Strategy, initial: ArrayRecord, rounds: int = 3) -> Result:
        return strategy.start(
            grid=self, initial_arrays=initial, num_rounds=rounds, train_config=ConfigRecord()
        )


def coded_bytes(messages: list[Message]) -> int:
    """Bytes of all arrays in messages."""
    records = (record for m in messages for record in m.content.array_records.values())
    return sum(len(array.data) for record in records for array in record.values())
