"""The half of fedpress that is in a ServerApp: a wrapper around any strategy."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from logging import ERROR, INFO, WARNING
from typing import Any, Literal, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result, Strategy

import fedpress
from fedpress.arrays import is_added
from fedpress.flower import protocol
from fedpress.flower.average import WeightedMean, as_type
from fedpress.flower.chain import Chain, Deltas
from fedpress.flower.download import Downloads, Sent
from fedpress.flower.dropout import Dropout, Part, Scope
from fedpress.flower.errors import NoUsableReplyError, ReplyError
from fedpress.flower.intake import FoldingGrid, Intake, held_by, replaced
from fedpress.flower.model import Model, Signature, added
from fedpress.flower.protocol import KEY, Instructions
from fedpress.flower.records import arrays_of, flower_array, record_of
from fedpress.flower.replies import Reply
from fedpress.flower.report import Report
from fedpress.specs import SpecLike
from fedpress.submodel import Layout


class Compressed(Strategy):
    """A strategy whose models and updates travel encoded.

    ::

        strategy = Compressed(FedAvg(fraction_train=0.1))
        result = strategy.start(grid=grid, initial_arrays=ArrayRecord(model.state_dict()), num_rounds=50)
        print(strategy.report())

    and, in the ClientApp, ``app = ClientApp(mods=[fedpress.flower.codec_mod()])``.

    The server keeps its model in full precision and adds decoded updates to it, so what the download
    loses does not add up. Every reply is checked (names, shapes, types, values) before anything of it is
    added. Where the inner strategy is a weighted mean, replies are folded one by one and never decoded
    as a whole; any other strategy is handed decoded replies.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        uplink: SpecLike | Callable[[int], SpecLike] = "rotation|lm=2",
        downlink: SpecLike = "rotation|lm=6",
        downlink_updates: SpecLike | Deltas | None = "rotation|lm=3",
        error_feedback: bool = False,
        keep: float = 1.0,
        dropout_scope: Scope = "round",
        layout: Layout | None = None,
        bad_replies: Literal["drop", "raise"] = "drop",
        seed: int | None = None,
        memory_limit: int = 4 << 30,
        threads: int = 0,
    ) -> None:
        """Wrap a strategy.

        Args:
            strategy: that samples, configures and aggregates.
            uplink: spec of the updates of nodes, or a function that says it for the id of a node: fewer
                bits for one on a thin link.
            downlink: spec of whole models.
            downlink_updates: spec of the difference to the model that a node holds, which it keeps in
                its state from one message to the next; a node that missed more than a round is sent a whole
                model. Or :class:`Deltas`, for nodes that are asked now and then: whatever version a node holds,
                it is sent what changed since, and all have the same; ``downlink`` is then of no use. None:
                nodes hold nothing, and every message has the whole model.
            error_feedback: whether a node adds what encoding lost to its next update. For specs with an
                error (NMSE) below 1, such as ``rotation|lm=1``.
            keep: below 1, Federated Dropout: each node trains this fraction of the units of every hidden
                layer, cut out of the model that it holds, so its app is handed smaller arrays.
            dropout_scope: whether all nodes of a round train the same units, or each its own.
            layout: which axes have units; found from names and shapes of a plain sequence of PyTorch
                layers unless given.
            bad_replies: whether a reply that cannot be used is left out, with an error in the log and in
                the report, or ends the run. If no reply can be used, it ends.
            seed: shared seed of the run; drawn unless given.
            memory_limit: most memory to take for what one reply claims, in bytes.
            threads: to encode and decode with; 0 is one for each core.
        """
        if not 0 < keep <= 1:
            raise ValueError(f"keep: expected a fraction above 0 and up to 1, found {keep}")
        if keep < 1 and (downlink_updates is None or error_feedback):
            raise ValueError(
                "keep: submodels are cut out of held models (downlink_updates), without feedback"
            )
        self.strategy = strategy
        self.keep, self.dropout_scope, self.layout = keep, dropout_scope, layout
        self._dropout: Dropout | None = None
        self.uplink = uplink if callable(uplink) else fedpress.Spec(str(uplink))
        self.error_feedback = error_feedback
        self.bad_replies = bad_replies
        self.seed = secrets.randbits(62) if seed is None else seed
        self.memory_limit = memory_limit
        self.threads = threads
        self._holds_models = downlink_updates is not None
        self._down = f"{downlink}, updates: {downlink_updates}"
        self._downloads: Downloads | Chain
        if isinstance(downlink_updates, Deltas):
            self._downloads = Chain(downlink_updates, self.seed)
        else:
            updates = None if downlink_updates is None else fedpress.Spec(str(downlink_updates))
            # With updates, those of nodes that missed a message, too.
            most_held = 1 if updates is None else 2
            models = fedpress.Spec(str(downlink))
            self._downloads = Downloads(models, updates, self.seed, threads, most_held)
        self._report = Report()
        self._model: Model = {}
        self._record: ArrayRecord | None = None
        self._inner_record: ArrayRecord | None = None
        # What nodes hold, as they said, and what they were sent in this round.
        self._holds: dict[int, str] = {}
        self._sent: dict[int, str] = {}
        self._parts: dict[int, Part] = {}
        self._intake: Intake | None = None

    def report(self) -> Report:
        """Return bytes, errors and seconds so far; printed, it is a table."""
        return self._report

    def summary(self) -> None:
        """Log the specs, then the summary of the wrapped strategy."""
        log(INFO, "\t├──> fedpress %s:", fedpress.__version__)
        uplink = "by node" if callable(self.uplink) else self.uplink
        log(INFO, "\t│\t├── Up: %s%s", uplink, ", error feedback" if self.error_feedback else "")
        log(INFO, "\t│\t└── Down: %s", self._down)
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let the wrapped strategy configure the round, and encode its model."""
        self._set_model(arrays)
        messages = self.strategy.configure_train(server_round, self._for_inner(), config, grid)
        encoded = self._encoded(server_round, list(messages), training=True)
        self._intake = self._expecting(server_round)
        return encoded

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let the wrapped strategy configure the evaluation, and encode its model."""
        self._set_model(arrays)
        messages = self.strategy.configure_evaluate(server_round, self._for_inner(), config, grid)
        return self._encoded(server_round, list(messages), training=False)

    def start(self, grid: Grid, *args: Any, **keywords: Any) -> Result:
        """Run the strategy, as :meth:`flwr.serverapp.strategy.Strategy.start`.

        Where the strategy is a mean, replies are folded as they arrive, and none waits for the others.
        """
        if _is_mean(self.strategy):
            grid = cast(Grid, FoldingGrid(grid, self._take))
        return super().start(grid, *args, **keywords)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the replies, and aggregate those that are right as the wrapped strategy does."""
        intake, self._intake = self._intake, None
        assert intake is not None, "a round is configured before it is aggregated"
        for message in replies:
            intake.take(message)
        self._holds.update(intake.holds)
        _require_usable(intake, len(intake.good))
        if intake.mean is not None:
            arrays, metrics = self._mean(server_round, intake)
        else:
            arrays, metrics = self._by_inner(server_round, intake)
        return arrays, self._with_traffic(server_round, metrics)

    def _take(self, message: Message) -> Message:
        """Take a reply that has just arrived."""
        return message if self._intake is None else self._intake.take(message)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the wrapped strategy aggregate the evaluation."""
        plain = []
        for message in replies:
            if not message.has_error():
                held = held_by(message)
                if held:
                    self._holds[message.metadata.src_node_id] = held
                message = replaced(message, {n: r for n, r in message.content.items() if n != KEY})
            plain.append(message)
        return self.strategy.aggregate_evaluate(server_round, plain)

    # Down.

    def _set_model(self, arrays: ArrayRecord) -> None:
        """Take the model of the round up."""
        if arrays is not self._record:
            self._record, self._model = arrays, arrays_of(arrays)
            self._inner_record = None
        self._downloads.set_model(self._model, arrays)
        if self.keep < 1 and self._dropout is None:
            layout = self.layout or _layout(self._model)
            self._dropout = Dropout(layout, self.keep, self.dropout_scope, self.seed)

    def _for_inner(self) -> ArrayRecord:
        """Return the model for the wrapped strategy, which knows no bfloat16."""
        assert self._record is not None
        if self._inner_record is None:
            alien = any(is_added(array.dtype) for array in self._model.values())
            self._inner_record = record_of(_plain(self._model)) if alien else self._record
        return self._inner_record

    def _encoded(self, server_round: int, messages: list[Message], training: bool) -> list[Message]:
        """Encode the model in messages of the wrapped strategy, which may all share one content."""
        down = self._report.round(server_round).down
        raw_bytes = sum(array.nbytes for array in self._model.values())
        self._sent, self._parts = {}, {}
        for client, message in enumerate(messages):
            node, content = message.metadata.dst_node_id, message.content
            key = self._key(content)
            sent = self._downloads.sent(self._holds.pop(node, ""), server_round)
            uplink = self._uplink_of(node) if training else ""
            number = self._draw(server_round, node) if training else 0
            position = (server_round, client, len(messages))
            message.content = self._content(content, key, sent, uplink, position, number)
            self._sent[node] = sent.identity
            down.add(sent.n_bytes, raw_bytes, sent.nmse)
        self._downloads.forget_old({*self._holds.values(), *self._sent.values()})
        return messages

    def _key(self, content: RecordDict) -> str:
        """Return the key of the model in a message."""
        expected = self._for_inner()
        for key, record in content.array_records.items():
            if record is expected or dict(record) == dict(expected):
                return key
        raise NotImplementedError(
            f"{type(self.strategy).__name__} sends other arrays than the model, which are not encoded"
        )

    def _uplink_of(self, node: int) -> str:
        """Return the spec of a node's update.

        Raises:
            InvalidArgumentError: the function that says it says something else.
        """
        return str(fedpress.Spec(str(self.uplink(node))) if callable(self.uplink) else self.uplink)

    def _draw(self, server_round: int, node: int) -> int:
        """Draw the part of a node, and return its number; 0 for the whole model."""
        if self._dropout is None:
            return 0
        number = self._dropout.number(server_round, node)
        self._parts[node] = self._dropout.part(number)
        return number

    def _content(
        self,
        content: RecordDict,
        key: str,
        sent: Sent,
        uplink: str,
        position: tuple[int, int, int],
        part: int,
    ) -> RecordDict:
        """Return a message with encoded arrays, which it shares with others, and instructions of its own."""
        server_round, client, clients = position
        dropout = self._dropout if uplink else None
        instructions = Instructions(
            arrays=key,
            base=sent.base,
            model=sent.identity,
            hold=self._holds_models,
            uplink=uplink,
            feedback=self.error_feedback,
            seed=self.seed,
            round=server_round,
            client=client,
            clients=clients,
            keep=dropout.keep if dropout else 1.0,
            part=part,
            layout=dropout.layout.to_toml() if dropout else "",
        )
        records = dict(content.items())
        return RecordDict(records | {key: sent.record, KEY: protocol.write(instructions)})

    # Up.

    def _expecting(self, server_round: int) -> Intake:
        is_mean = _is_mean(self.strategy)
        return Intake(
            model=self._model,
            bases=self._downloads.decoded,
            sent=self._sent,
            parts=self._parts,
            mean=WeightedMean(self._model, self.memory_limit, self.threads) if is_mean else None,
            weight_key=getattr(self.strategy, "weighted_by_key", ""),
            memory_limit=self.memory_limit,
            drop=self.bad_replies == "drop",
            report=self._report.round(server_round),
        )

    def _mean(self, server_round: int, intake: Intake) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average what was folded; the strategy is FedAvg or one that goes on from its mean."""
        assert isinstance(self.strategy, FedAvg) and intake.mean is not None
        key, mean = self.strategy.weighted_by_key, intake.mean
        for message in intake.failed:
            node, reason = message.metadata.src_node_id, message.error.reason
            log(INFO, "\t> Received error in reply from node %d: %s", node, reason)
        log(INFO, "aggregate_train: Folded %d results, %d failures", len(intake.good), len(intake.failed))
        if not intake.good:
            return None, None
        if mean.weight == 0:
            log(WARNING, "fedpress: all replies have weight 0, the model stays as it is")
            return None, None
        metrics = self.strategy.train_metrics_aggr_fn([reply.metrics() for reply in intake.good], key)
        record = ArrayRecord({name: flower_array(mean.take(name)) for name in self._model})
        if type(self.strategy).aggregate_train is FedAvg.aggregate_train:
            return record, metrics
        return self._go_on(server_round, record, intake.good[0], key), metrics

    def _go_on(self, server_round: int, mean: ArrayRecord, reply: Reply, key: str) -> ArrayRecord | None:
        """Let the strategy go on from the mean, as if one node had sent it."""
        content = {reply.key: record_of(_plain(arrays_of(mean))), "metrics": MetricRecord({key: 1.0})}
        arrays, _ = self.strategy.aggregate_train(server_round, [replaced(reply.message, content)])
        return self._restored(arrays)

    def _by_inner(self, server_round: int, intake: Intake) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the wrapped strategy aggregate decoded replies."""
        decoded = list(intake.failed)
        for reply in intake.good:
            try:
                decoded.append(replaced(reply.message, self._decoded_content(reply)))
            except ReplyError as error:
                if self.bad_replies == "raise":
                    raise
                log(ERROR, "fedpress: left out %s", error)
                intake.report.refused[reply.node] = str(error)
        _require_usable(intake, len(decoded) - len(intake.failed))
        arrays, metrics = self.strategy.aggregate_train(server_round, decoded)
        return self._restored(arrays), metrics

    def _decoded_content(self, reply: Reply) -> dict[str, Any]:
        """Return the records of a reply with the model as the server would have it: its own, plus what was
        trained. What a node did not train is as it was."""
        base, part = self._downloads.decoded(reply.receipt.base), self._parts.get(reply.node)
        deltas, exact = reply.delta(part.of(base) if part else base, self.memory_limit)
        if part:
            deltas = part.spread(deltas, {name: array.shape for name, array in self._model.items()})
        plain = _plain(self._model)
        trained = {n: added(a, deltas[n]) if n in deltas else exact.get(n, a) for n, a in plain.items()}
        records = {n: record for n, record in reply.message.content.items() if n != KEY}
        return records | {reply.key: record_of(trained)}

    def _restored(self, arrays: ArrayRecord | None) -> ArrayRecord | None:
        """Return arrays of the wrapped strategy in the types of the model."""
        if arrays is None:
            return None
        made = arrays_of(arrays)
        Signature.of(self._model).check_shapes({name: array.shape for name, array in made.items()})
        dtypes = {name: array.dtype for name, array in self._model.items()}
        return record_of({name: as_type(made[name], dtype) for name, dtype in dtypes.items()})

    def _with_traffic(self, server_round: int, metrics: MetricRecord | None) -> MetricRecord | None:
        if metrics is None:
            return None
        round = self._report.round(server_round)
        for way, traffic in (("down", round.down), ("up", round.up)):
            metrics[f"fedpress-{way}-bytes"] = traffic.n_bytes
            metrics[f"fedpress-{way}-nmse"] = traffic.mean_nmse
        return metrics


def _require_usable(intake: Intake, usable: int) -> None:
    """Raise NoUsableReplyError where no reply is left, and fedpress knows why."""
    if intake.report.refused and usable == 0:
        raise NoUsableReplyError("; ".join(intake.report.refused.values()))


def _is_mean(strategy: Strategy) -> bool:
    """Whether a strategy starts from FedAvg's weighted mean: those of Flower that are known to."""
    known = ("FedAvg", "FedProx", "FedAvgM", "FedAdagrad", "FedAdam", "FedYogi")
    kind = type(strategy)
    method = kind.aggregate_train
    module = getattr(method, "__module__", "")
    owner = getattr(method, "__qualname__", "").split(".")[0]
    return isinstance(strategy, FedAvg) and module.startswith("flwr.serverapp.strategy") and owner in known


def _layout(model: Model) -> Layout:
    """Return the layout of those tensors that are weights or biases."""
    parts = ("weight", "bias", "kernel")
    shapes = {name: array for name, array in model.items() if name.rpartition(".")[2] in parts}
    return Layout.infer(shapes)


def _plain(model: Model) -> Model:
    """Return a model in types that NumPy has: bfloat16 and float8 as float32."""
    return {n: a.astype(np.float32) if is_added(a.dtype) else a for n, a in model.items()}
