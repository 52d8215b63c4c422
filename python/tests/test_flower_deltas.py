"""Downloads as what changed since a version: whatever a node holds, all of a round decode the same model."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed")

from federation import Federation, coded_bytes
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

import fedpress
from fedpress.flower import Compressed, Deltas, arrays_of, record_of

Model = dict[str, np.ndarray]


def model() -> Model:
    draws = np.random.default_rng(5)
    return {
        "bias": draws.normal(size=70).astype("f"),
        "w": draws.normal(size=(60, 70)).astype("f"),
        "half": draws.normal(size=(40, 50)).astype(ml_dtypes.bfloat16),
        "wide": draws.normal(size=(40, 50)),
        "steps": np.array(3),
    }


def app(seen: dict[int, list[Model]]) -> Callable[[Message, Context], Message]:
    """A client that remembers what it was handed, and walks."""

    def train(message: Message, context: Context) -> Message:
        arrays = {name: np.array(array) for name, array in arrays_of(message.content["arrays"]).items()}
        records = {"metrics": MetricRecord({"num-examples": 1})}
        if message.metadata.message_type == "train":
            seen.setdefault(context.node_id, []).append(arrays)
            draws = np.random.default_rng([context.node_id, len(seen[context.node_id])])
            moved = {
                n: (a + 0.02 * draws.normal(size=a.shape)).astype(a.dtype) if n != "steps" else a + 1
                for n, a in arrays.items()
            }
            records["arrays"] = record_of(moved)
        return Message(RecordDict(records), reply_to=message)

    return train


def bits(arrays: Model) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in arrays.items()}


def test_nodes_that_come_now_and_then_are_sent_what_changed_and_have_the_same() -> None:
    seen: dict[int, list[Model]] = {}
    fed = Federation(app(seen), nodes=8)
    strategy = Compressed(
        flower.FedAvg(fraction_train=0.5, fraction_evaluate=0.0), uplink="lossless", downlink_updates=Deltas()
    )
    held_before, handed = set(), []

    def tamper(message: Message) -> Message:
        handed.append(seen[message.metadata.src_node_id][-1])
        return message

    fed.tamper = tamper
    result = fed.run_strategy(strategy, record_of(model()), 10)
    for round in range(10):
        of_round = handed[4 * round : 4 * round + 4]
        assert len({tuple(bits(arrays).items()) for arrays in of_round}) == 1, round
        for message in fed.sent[4 * round : 4 * round + 4]:
            node, base = message.metadata.dst_node_id, message.content["fedpress"]["base"]
            assert bool(base) == (node in held_before), "whoever came before is sent what changed"
        held_before |= {message.metadata.dst_node_id for message in fed.sent[4 * round : 4 * round + 4]}
    assert len(held_before) == 8 and not any(r.refused for r in strategy.report().rounds.values())
    # Types, order and exact tensors are those of the model.
    last, first = handed[-1], model()
    assert [(n, a.dtype, a.shape) for n, a in last.items()] == [
        (n, a.dtype, a.shape) for n, a in first.items()
    ]
    made = arrays_of(result.arrays)
    assert int(made["steps"]) == int(last["steps"]) + 1
    errors = [r.down.mean_nmse for r in strategy.report().rounds.values()]
    assert max(errors[1:]) < 1e-3


def test_a_run_ends_where_the_exact_one_does() -> None:
    def run(strategy: flower.Strategy) -> Model:
        return arrays_of(Federation(app({}), nodes=3).run_strategy(strategy, record_of(plain()), 5).arrays)

    def plain() -> Model:
        return {name: array for name, array in model().items() if name != "half"}

    exact = run(flower.FedAvg())
    coded = run(Compressed(flower.FedAvg(), uplink="lossless", downlink_updates=Deltas()))
    for name in ("w", "bias", "wide"):
        np.testing.assert_allclose(coded[name], exact[name], atol=1e-5)


def test_bytes_are_those_of_what_changed() -> None:
    fed = Federation(app({}), nodes=2)
    strategy = Compressed(flower.FedAvg(), uplink="lossless", downlink_updates=Deltas(step=3.5))
    big = {"w": np.random.default_rng(1).normal(size=(300, 300)).astype("f")}
    fed.run_strategy(strategy, record_of(big), 5)
    sizes = [8 * coded_bytes([message]) / big["w"].size for message in fed.sent[::2]]
    # To train and to evaluate in each round: once, and as nothing where it is the same model.
    assert sizes[0] > 6 and sizes[2::2] == [0.0] * len(sizes[2::2])
    assert all(bits < 1.7 for bits in sizes[3::2]), sizes
    assert strategy.report().total("down").n_bytes == coded_bytes(fed.sent)


def test_a_node_that_lost_its_state_is_left_out_once_and_gets_the_model() -> None:
    fed = Federation(app({}), nodes=2)
    answers = fed.forgetting(10, after=2)
    strategy = Compressed(flower.FedAvg(fraction_evaluate=0.0), uplink="lossless", downlink_updates=Deltas())
    result = fed.run_strategy(strategy, record_of(model()), 4)
    assert answers[2].has_error() and list(result.train_metrics_clientapp) == [1, 2, 3, 4]
    assert "builds on version" in str(strategy.report())
    bases = [m.content["fedpress"]["base"] for m in fed.sent if m.metadata.dst_node_id == 10]
    assert [bool(base) for base in bases] == [False, True, True, False]


def test_who_was_away_for_longer_than_versions_are_kept_gets_the_model() -> None:
    turns = iter([[10, 11], [10], [10], [10], [10, 11], [10, 11]])

    class Turns(flower.FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            asked = next(turns)
            messages = super().configure_train(server_round, arrays, config, grid)
            return [message for message in messages if message.metadata.dst_node_id in asked]

    fed = Federation(app({}), nodes=2)
    how = dict(uplink="lossless", downlink_updates=Deltas(rounds=2))
    fed.run_strategy(Compressed(Turns(fraction_evaluate=0.0), **how), record_of(model()), 6)
    bases = [bool(m.content["fedpress"]["base"]) for m in fed.sent if m.metadata.dst_node_id == 11]
    assert bases == [False, False, True]


@pytest.mark.parametrize("inner", ["FedAvg", "FedMedian"])
def test_submodels_are_cut_out_of_versions(inner: str) -> None:
    draws = np.random.default_rng(6)
    shapes = {"fc1.weight": (80, 60), "fc1.bias": (80,), "fc2.weight": (50, 80), "fc2.bias": (50,)}
    layers = {name: draws.normal(size=shape).astype("f") for name, shape in shapes.items()}
    seen: list[int] = []

    def train(message: Message, context: Context) -> Message:
        arrays = arrays_of(message.content["arrays"])
        records = {"metrics": MetricRecord({"num-examples": 1})}
        if message.metadata.message_type == "train":
            seen.append(arrays["fc1.weight"].shape[0])
            records["arrays"] = record_of({name: array + np.float32(1) for name, array in arrays.items()})
        return Message(RecordDict(records), reply_to=message)

    strategy = Compressed(
        getattr(flower, inner)(), uplink="lossless", downlink_updates=Deltas(), keep=0.5, seed=4
    )
    result = Federation(train, nodes=3).run_strategy(strategy, record_of(layers), 1)
    moved = arrays_of(result.arrays)["fc1.weight"] - layers["fc1.weight"]
    assert seen == [40] * 3 and set(np.round(moved, 4).ravel().tolist()) == {0.0, 1.0}


def test_a_model_of_nothing_that_moves_is_refused() -> None:
    small = {"w": np.zeros((3, 4), "f")}
    with pytest.raises(fedpress.InvalidArgumentError, match="large enough"):
        Federation(app({})).run_strategy(
            Compressed(flower.FedAvg(), downlink_updates=Deltas()), record_of(small), 1
        )
