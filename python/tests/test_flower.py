"""fedpress.flower in one process, with Flower's own messages, records and strategies."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed")

from federation import Federation, coded_bytes
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

import fedpress
from fedpress.flower import (
    Compressed,
    NoUsableReplyError,
    ReplyError,
    arrays_of,
    codec_mod,
    record_of,
)
from fedpress.flower.records import flower_array

Trained = dict[str, np.ndarray]
LOSSLESS = dict(uplink="lossless", downlink="lossless", downlink_updates=None)


def first_model(dtype: type = np.float32) -> Trained:
    generator = np.random.default_rng(5)
    return {
        "w": generator.normal(size=(60, 80)).astype(dtype),
        "b": generator.normal(size=80).astype(dtype),
        "num_batches_tracked": np.array(0),
        "mask": np.array([True, False, True]),
        "codes": np.arange(12, dtype=np.uint8),
    }


def moving(
    step: Callable[[Trained, Context], Trained] | None = None,
) -> Callable[[Message, Context], Message]:
    """A client that moves every float by a tenth of a number that depends on the node, and counts."""

    def app(message: Message, context: Context) -> Message:
        model = {name: np.array(array) for name, array in arrays_of(message.content["arrays"]).items()}
        node = context.node_id
        metrics = MetricRecord({"num-examples": node, "seen": float(model["w"].astype("f").sum())})
        if message.metadata.message_type.startswith("evaluate"):
            return Message(RecordDict({"metrics": metrics}), reply_to=message)
        for name in ("w", "b"):
            noise = np.random.default_rng(node).normal(size=model[name].shape)
            model[name] = (model[name] + 0.1 * noise).astype(model[name].dtype)
        model["num_batches_tracked"] = model["num_batches_tracked"] + node
        model = step(model, context) if step else model
        records = {"arrays": record_of(model), "metrics": metrics}
        return Message(RecordDict(records), reply_to=message)

    return app


def run(strategy: flower.Strategy, rounds: int = 3, dtype: type = np.float32, **federation: object):
    fed = Federation(moving(), **federation)
    result = fed.run_strategy(strategy, record_of(first_model(dtype)), rounds)
    return fed, arrays_of(result.arrays), result


@pytest.mark.parametrize(
    "name", ["FedAvg", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "FedMedian", "FedTrimmedAvg"]
)
def test_without_loss_every_strategy_does_what_it_does_alone(name: str) -> None:
    """The wrapper changes nothing but types that Flower loses and rounding in float32."""
    make = getattr(flower, name)
    _, alone, _ = run(make(), nodes=5)
    _, wrapped, result = run(Compressed(make(), **LOSSLESS), nodes=5)
    assert wrapped.keys() == alone.keys()
    for key in ("w", "b"):
        assert wrapped[key].dtype == np.float32
        np.testing.assert_allclose(wrapped[key], alone[key], rtol=2e-5, atol=2e-6)
    assert list(result.evaluate_metrics_clientapp) == [1, 2, 3]


def test_types_survive_the_mean() -> None:
    """Flower's own mean makes float64 of counters and codes: 10.5 batches."""
    _, wrapped, _ = run(Compressed(flower.FedAvg(), **LOSSLESS), rounds=1)
    _, alone, _ = run(flower.FedAvg(), rounds=1)
    first = first_model()
    assert {name: array.dtype for name, array in wrapped.items()} == {n: a.dtype for n, a in first.items()}
    assert alone["num_batches_tracked"].dtype == np.float64
    assert wrapped["num_batches_tracked"] == round((10 * 10 + 11 * 11) / 21)
    assert np.array_equal(wrapped["mask"], first["mask"]) and np.array_equal(wrapped["codes"], first["codes"])


def test_nodes_share_dither_out() -> None:
    """Of equal updates the errors cancel: that of the mean of six is a thirty-sixth of a node's, not a sixth."""

    def same(model: Trained, context: Context) -> Trained:
        first = first_model()
        return model | {"w": first["w"] + 0.1 * np.random.default_rng(1).normal(size=(60, 80)).astype("f")}

    def weighted(message: Message, context: Context) -> Message:
        reply = moving(same)(message, context)
        reply.content["metrics"]["num-examples"] = 10
        return reply

    specs = dict(downlink="lossless", downlink_updates=None)
    result = {}
    for uplink in ("identity|step=2", "lossless"):
        fed = Federation(weighted, nodes=6)
        strategy = Compressed(flower.FedAvg(), uplink=uplink, **specs)
        result[uplink] = arrays_of(fed.run_strategy(strategy, record_of(first_model()), 1).arrays)["w"]
    error = np.square(result["identity|step=2"] - result["lossless"]).sum()
    change = np.square(result["lossless"] - first_model()["w"]).sum()
    # .108 at two bits; 4,800 values tell it within a tenth.
    assert error / change < 1.3 * 0.108 / 36


@pytest.mark.parametrize("updates", [None, "rotation|lm=4"])
@pytest.mark.parametrize("name", ["FedAvg", "FedAvgM", "FedMedian"])
def test_lossy_runs_end_near_the_exact_one(name: str, updates: str | None) -> None:
    make = getattr(flower, name)
    specs = dict(uplink="rotation|lm=4", downlink="rotation|lm=6", downlink_updates=updates)
    fed, lossy, _ = run(Compressed(make(), **specs), nodes=4)
    _, exact, _ = run(make(), nodes=4)
    moved = exact["w"] - first_model()["w"]
    error = lossy["w"] - exact["w"]
    # Of updates at 4 bits, about 1 % each, averaged; of the download, nothing that adds up.
    assert np.square(error).sum() < 0.02 * np.square(moved).sum()
    assert coded_bytes(fed.replies) < len(fed.replies) / 2 * sum(a.nbytes for a in exact.values()) / 5


@pytest.mark.parametrize(
    "up, down, updates",
    [
        ("rotation|trellis=4", "rotation|trellis=6", "rotation|trellis=4"),
        ("auto|rate=4", "auto|rate=6", "auto|rate=4"),
        ("auto|rate=4|biased", "lossless", None),
    ],
)
@pytest.mark.parametrize("inner", ["FedAvg", "FedMedian"])
def test_specs_of_any_rate_go_both_ways(inner: str, up: str, down: str, updates: str | None) -> None:
    """Down as models and as updates, up as updates: each says its own pipeline, and loses little."""
    _, exact, _ = run(getattr(flower, inner)(), rounds=2)
    strategy = Compressed(getattr(flower, inner)(), uplink=up, downlink=down, downlink_updates=updates)
    fed, lossy, _ = run(strategy, rounds=2)
    moved, error = exact["w"] - first_model()["w"], lossy["w"] - exact["w"]
    assert 0 < np.square(error).sum() < 0.03 * np.square(moved).sum()
    report = strategy.report()
    assert not any(round.refused for round in report.rounds.values())
    assert 0 < report.total("up").mean_nmse < 0.01 and report.total("up").ratio > 6
    sent = {array: spec for m in fed.sent for array, spec in pipelines(m).items()}
    came = {array: spec for m in fed.replies for array, spec in pipelines(m).items()}
    assert sent["model"] == first_of(down) and came["update"] == first_of(up)
    assert updates is None or sent["update"] == first_of(updates)


def pipelines(message: Message) -> dict[str, str]:
    """What the weights of a message went through, by the name of the encoded array."""
    found = {}
    for record in message.content.array_records.values():
        for name, array in record.items():
            tensors = {tensor.name: tensor for tensor in fedpress.inspect(array.data).tensors}
            if "w" in tensors:
                found[name] = tensors["w"].spec
    return found


def first_of(spec: str) -> str:
    """What a tensor says of itself: of two pipelines the first, the other is in chunks that are better by it."""
    return str(fedpress.Spec(spec)).split(" or ")[0]


def test_bfloat16_models_travel_and_stay_bfloat16() -> None:
    """Flower's mean of bfloat16 ends in a TypeError of a ufunc."""
    with pytest.raises(TypeError):
        run(flower.FedAvg(), rounds=1, dtype=ml_dtypes.bfloat16)
    for make in (flower.FedAvg, flower.FedAdam, flower.FedMedian):
        _, made, _ = run(Compressed(make()), dtype=ml_dtypes.bfloat16, nodes=3)
        assert made["w"].dtype == ml_dtypes.bfloat16
        assert np.isfinite(made["w"].astype("f")).all()


def test_a_download_is_encoded_once_and_shared() -> None:
    fed, _, _ = run(Compressed(flower.FedAvg(), downlink_updates=None), nodes=3, rounds=1)
    blobs = {array.data for message in fed.sent for array in message.content["arrays"].values()}
    assert len(fed.sent) == 6 and len(blobs) == 2
    assert len({id(message.content["arrays"]) for message in fed.sent}) == 2


def test_what_a_node_holds_is_not_sent_again() -> None:
    strategy = Compressed(flower.FedAvg(), downlink_updates="rotation|lm=3")
    fed, _, _ = run(strategy, nodes=2, rounds=3)
    sizes = [coded_bytes([message]) for message in fed.sent[::2]]
    names = [list(message.content["arrays"]) for message in fed.sent[::2]]
    assert names == [["model"], ["update", "values"], [], ["update", "values"], [], ["update", "values"]]
    assert sizes[2] == sizes[4] == 0 and 0 < sizes[1] < sizes[0]


def test_a_node_that_missed_a_round_gets_what_it_needs() -> None:
    strategy = Compressed(flower.FedAvg(fraction_train=1.0), downlink_updates="rotation|lm=3")
    fed = Federation(moving(), nodes=2)
    answers = fed.forgetting(10, after=2)
    result = fed.run_strategy(strategy, record_of(first_model()), 4)
    assert answers[2].has_error() and list(result.train_metrics_clientapp) == [1, 2, 3, 4]
    assert "holds model None" in str(strategy.report())
    # It was left out once and was sent the whole model then.
    models = [m for m in fed.sent if m.metadata.dst_node_id == 10 and "model" in m.content["arrays"]]
    assert len(models) == 2


def test_a_message_is_not_changed_for_others() -> None:
    shared = RecordDict({"arrays": record_of(first_model()), "config": fedpress_config()})
    before = copy.deepcopy(shared)
    message = Message(shared, 10, "train")
    codec_mod()(message, Context(1, 10, {}, RecordDict(), {}), moving())
    assert shared == before


def fedpress_config():
    from flwr.app import ConfigRecord

    return ConfigRecord({"own": 1})


def test_a_mod_without_the_wrapper_and_off_switches_pass_messages_as_they_are() -> None:
    fed, with_mod, _ = run(flower.FedAvg())
    _, without, _ = run(flower.FedAvg(), mods=[])
    assert all(np.array_equal(with_mod[name], without[name]) for name in without)
    assert all("fedpress" not in message.content for message in fed.replies)


def test_a_client_without_the_mod_is_told_what_to_do() -> None:
    with pytest.raises(NoUsableReplyError, match=r"ClientApp\(mods=\[fedpress.flower.codec_mod\(\)\]\)"):
        run(Compressed(flower.FedAvg()), mods=[])


def test_another_version_is_told_by_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:

    fed = Federation(moving())
    fed.tamper = lambda message: tampered(message, "fedpress", protocol=99, version="9.9")
    with pytest.raises(NoUsableReplyError, match=r"node 10: .*protocol 99 of fedpress '9.9', this one 1"):
        fed.run_strategy(Compressed(flower.FedAvg()), record_of(first_model()))


def tampered(message: Message, key: str, **changes: object) -> Message:
    if not message.has_error():
        for name, value in changes.items():
            message.content[key][name] = value
    return message


def bad(change: Callable[[Trained], Trained]) -> Callable[[Trained, Context], Trained]:
    """Node 11 sends something else."""
    return lambda model, context: change(dict(model)) if context.node_id == 11 else model


BAD_MODELS = {
    "a shape that NumPy would broadcast": lambda m: m | {"b": m["b"][:1]},
    "a missing array": lambda m: {n: a for n, a in m.items() if n != "b"},
    "one too many": lambda m: m | {"x": np.zeros(3)},
    "another type": lambda m: m | {"w": m["w"].astype("d")},
    "NaN": lambda m: m | {"w": m["w"] * np.float32(np.nan)},
    "infinity in a small tensor": lambda m: m | {"b": m["b"] + np.float32(np.inf)},
}


@pytest.mark.parametrize("what", BAD_MODELS)
@pytest.mark.parametrize("inner", ["FedAvg", "FedMedian"])
def test_a_bad_reply_is_left_out_and_its_node_named(what: str, inner: str) -> None:
    """Flower adds replies of different shapes by broadcasting, and one NaN is in the whole model."""
    strategy = Compressed(getattr(flower, inner)(), **LOSSLESS)
    fed = Federation(moving(bad(BAD_MODELS[what])), nodes=3)
    result = fed.run_strategy(strategy, record_of(first_model()), 1)
    good = Federation(moving(), nodes=3)
    good.nodes.pop(11)
    expected = good.run_strategy(
        Compressed(getattr(flower, inner)(), **LOSSLESS), record_of(first_model()), 1
    )
    made = arrays_of(result.arrays)
    assert all(np.array_equal(made[n], a) for n, a in arrays_of(expected.arrays).items())
    assert list(strategy.report().rounds[1].refused) == [11]


@pytest.mark.parametrize("inner", ["FedAvg", "FedMedian"])
def test_a_finite_value_that_is_no_difference_in_float32_is_left_out(inner: str) -> None:
    def far(model: Trained, context: Context) -> Trained:
        wide = model | {"b": model["b"] + (1e300 if context.node_id == 11 else 1.0)}
        return wide

    strategy = Compressed(getattr(flower, inner)(), **LOSSLESS)
    fed = Federation(moving(far), nodes=2)
    result = fed.run_strategy(strategy, record_of(first_model(np.float64)), 1)
    assert list(strategy.report().rounds[1].refused) == [11]
    assert np.abs(arrays_of(result.arrays)["b"]).max() < 10


def test_a_round_of_nothing_but_nan_ends_the_run_whatever_the_strategy() -> None:
    def nan(model: Trained, context: Context) -> Trained:
        return model | {"b": model["b"] * np.float32(np.nan), "w": model["w"] * np.float32(np.nan)}

    for spec in ("lossless", "none"):
        for inner in (flower.FedAvg, flower.FedMedian):
            strategy = Compressed(inner(), **LOSSLESS | {"uplink": spec})
            with pytest.raises(NoUsableReplyError, match="(?=.*node 10)(?=.*node 11)"):
                Federation(moving(nan)).run_strategy(strategy, record_of(first_model()), 1)


@pytest.mark.parametrize("weight", [float("nan"), -1.0, float("inf"), [1.0, 2.0], 0, 1e300, 1e-300])
def test_weights_that_are_none_do_no_harm(weight: object) -> None:
    fed = Federation(moving())
    fed.tamper = lambda message: (
        tampered(message, "metrics", **{"num-examples": weight})
        if message.metadata.src_node_id == 11 and "arrays" in message.content
        else message
    )
    result = fed.run_strategy(Compressed(flower.FedAvg(), **LOSSLESS), record_of(first_model()), 1)
    assert arrays_of(result.arrays)["num_batches_tracked"] == 10


def test_a_nan_of_weight_0_poisons_nothing_and_weights_of_0_divide_nothing() -> None:
    nan = {"arrays": record_of({"w": np.full(2, np.nan)}), "metrics": MetricRecord({"num-examples": 0})}
    fine = {"arrays": record_of({"w": np.ones(2)}), "metrics": MetricRecord({"num-examples": 1})}
    mean = aggregate_arrayrecords([RecordDict(nan), RecordDict(fine)], "num-examples")
    assert np.isnan(arrays_of(mean)["w"]).all(), "Flower's own mean is poisoned"
    fed = Federation(moving())
    fed.tamper = lambda message: tampered(message, "metrics", **{"num-examples": 0})
    strategy = Compressed(flower.FedAvg(fraction_evaluate=0.0), **LOSSLESS)
    result = fed.run_strategy(strategy, record_of(first_model()), 1)
    assert len(result.arrays) == 0, "no mean, so no new model"


def test_flowers_own_mean_broadcasts() -> None:
    """What the checks are there for, seen on flwr 1.42.0."""
    one = RecordDict({"a": record_of({"w": np.array([1.0, 2.0])}), "m": MetricRecord({"n": 1})})
    other = RecordDict({"a": record_of({"w": np.array([7.0])}), "m": MetricRecord({"n": 1})})
    assert arrays_of(aggregate_arrayrecords([one, other], "n"))["w"].tolist() == [4.0, 4.5]


def test_bad_replies_can_end_the_run() -> None:
    fed = Federation(moving())
    fed.tamper = lambda m: tampered(m, "fedpress", base="0") if m.metadata.src_node_id == 10 else m
    with pytest.raises(ReplyError, match="node 10: an update of model 0"):
        fed.run_strategy(
            Compressed(flower.FedAvg(), bad_replies="raise", **LOSSLESS), record_of(first_model())
        )


@pytest.mark.parametrize("at", range(0, 4000, 190))
def test_damaged_bytes_change_no_model(at: int) -> None:
    fed = Federation(moving(), nodes=2)

    def tamper(message: Message) -> Message:
        if message.metadata.src_node_id == 11 and "arrays" in message.content:
            array = message.content["arrays"]["update" if at % 2 else "values"]
            data = bytearray(array.data)
            data[at % len(data)] ^= 4
            array.data = bytes(data)
        return message

    fed.tamper = tamper
    strategy = Compressed(flower.FedAvg(), uplink="hadamard|q=4")
    result = fed.run_strategy(strategy, record_of(first_model()), 1)
    assert arrays_of(result.arrays)["num_batches_tracked"] == 10, "only node 10 counts"
    assert list(strategy.report().rounds[1].refused) == [11]


def test_error_feedback_makes_up_for_one_bit() -> None:
    """What one bit loses of an update that is always the same, the next rounds send."""

    def steady(model: Trained, context: Context) -> Trained:
        model["w"] = model["w"] + np.random.default_rng(1).normal(size=model["w"].shape).astype("f")
        return model

    def final(feedback: bool) -> np.ndarray:
        fed = Federation(moving(steady))
        strategy = Compressed(
            flower.FedAvg(), uplink="rotation|lm=1", downlink="lossless", downlink_updates=None,
            error_feedback=feedback, seed=3,
        )  # fmt: skip
        return arrays_of(fed.run_strategy(strategy, record_of(first_model()), 8).arrays)["w"]

    exact = Federation(moving(steady)).run_strategy(flower.FedAvg(), record_of(first_model()), 8)
    wanted = arrays_of(exact.arrays)["w"]
    error = {feedback: float(np.square(final(feedback) - wanted).sum()) for feedback in (False, True)}
    # Without, errors of 8 rounds add up; with it, only that of the last is missing.
    assert error[True] < error[False] / 2


def test_metrics_and_report_count_the_bytes_that_went() -> None:
    strategy = Compressed(flower.FedAvg())
    fed, _, result = run(strategy, rounds=2)
    report = strategy.report()
    assert report.total("down").n_bytes == coded_bytes(fed.sent)
    trained = [message for message in fed.replies if message.content.array_records]
    assert report.total("up").n_bytes == coded_bytes(trained)
    assert result.train_metrics_clientapp[2]["fedpress-up-bytes"] == report.rounds[2].up.n_bytes
    assert 0 < report.rounds[1].up.mean_nmse < 0.3 and "less" in str(report)


def test_records_are_those_of_flower_byte_for_byte() -> None:
    for array in (
        np.arange(6, dtype="f").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3),
        np.zeros((0, 2)),
        np.arange(8, dtype="i2")[::2],
    ):
        own, flowers = flower_array(array), Array(np.ascontiguousarray(array).reshape(array.shape))
        assert own == flowers
        np.testing.assert_array_equal(own.numpy(), array)
        fortran = io.BytesIO()
        np.save(fortran, array)
        stored = Array(str(array.dtype), array.shape, "numpy.ndarray", fortran.getvalue())
        np.testing.assert_array_equal(arrays_of(ArrayRecord({"x": stored}))["x"], array)
    for dtype in fedpress.arrays.DTYPES.values():
        for array in (np.ones((3, 2)).astype(dtype), np.ones(()).astype(dtype), np.ones(0).astype(dtype)):
            back = arrays_of(record_of({"x": array}))["x"]
            assert back.dtype == dtype and back.shape == array.shape and back.tolist() == array.tolist()
    half = np.arange(5).astype(ml_dtypes.bfloat16)
    assert arrays_of(ArrayRecord({"x": Array(half)}))["x"].dtype == ml_dtypes.bfloat16
    with pytest.raises(fedpress.InvalidArgumentError, match="'x'"):
        arrays_of(ArrayRecord({"x": Array("float32", (2,), "else", b"12345678")}))


def layers(times: int = 1) -> Trained:
    generator = np.random.default_rng(6)
    n = 40 * times
    shapes = {"fc1.weight": (n, 60), "fc1.bias": (n,), "fc2.weight": (50, n), "fc2.bias": (50,)}
    return {name: generator.normal(size=shape).astype("f") for name, shape in shapes.items()} | {
        "steps": np.array(0)
    }


def one_more(message: Message, context: Context) -> Message:
    """A client that adds 1 to all that it is handed, whatever its size."""
    model = arrays_of(message.content["arrays"])
    metrics = MetricRecord({"num-examples": 1})
    records = {"metrics": metrics}
    if message.metadata.message_type == "train":
        records["arrays"] = record_of({name: array + array.dtype.type(1) for name, array in model.items()})
    return Message(RecordDict(records), reply_to=message)


@pytest.mark.parametrize("scope", ["round", "client"])
@pytest.mark.parametrize("inner", ["FedAvg", "FedMedian"])
def test_dropout_moves_what_was_trained_and_nothing_else(inner: str, scope: str) -> None:
    fed = Federation(one_more, nodes=3)
    strategy = Compressed(
        getattr(flower, inner)(), uplink="lossless", downlink="lossless", downlink_updates="lossless",
        keep=0.5, dropout_scope=scope, seed=4,
    )  # fmt: skip
    result = fed.run_strategy(strategy, record_of(layers()), 1)
    first, made = layers(), arrays_of(result.arrays)
    moved = {name: made[name] - first[name] for name in first}
    assert moved["steps"] == 1
    trained = [m for m in fed.replies if m.content.array_records]
    parts = {str(m.content["fedpress"].get("part")) for m in fed.sent if "part" in m.content["fedpress"]}
    assert len(trained) == 3 and len(parts - {"0"}) == (1 if scope == "round" else 3)
    for name, step in moved.items():
        values = set(np.round(step.reshape(-1), 4).tolist())
        # The mean of those who trained a unit is 1; in a median, those who did not count as unmoved.
        assert values <= {0.0, 1.0}, name
    rows = (moved["fc1.weight"] != 0).any(axis=1).sum()
    assert rows == 20 if scope == "round" else rows >= 20 or inner == "FedMedian"
    assert (moved["fc1.bias"] != 0).sum() == rows
    np.testing.assert_allclose(moved["fc2.bias"], 1, atol=1e-6, err_msg="outputs are never dropped")


def test_dropout_makes_updates_smaller_and_downloads_no_larger() -> None:
    def sizes(keep: float) -> tuple[int, int]:
        fed = Federation(one_more, nodes=2)
        strategy = Compressed(flower.FedAvg(), uplink="hadamard|q=4", seed=4, keep=keep)
        fed.run_strategy(strategy, record_of(layers(5)), 3)
        return coded_bytes([m for m in fed.replies if m.content.array_records]), coded_bytes(fed.sent)

    (up, down), (less_up, same_down) = sizes(1.0), sizes(0.5)
    assert less_up < 0.7 * up and abs(same_down - down) < 0.05 * down


def test_dropout_says_what_it_cannot_be_joined_with() -> None:
    for keep in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="keep"):
            Compressed(flower.FedAvg(), keep=keep)
    for other in (dict(downlink_updates=None), dict(error_feedback=True)):
        with pytest.raises(ValueError, match="keep"):
            Compressed(flower.FedAvg(), keep=0.5, **other)


def test_every_node_may_have_bits_of_its_own() -> None:
    strategy = Compressed(flower.FedAvg(), uplink=lambda node: "lossless" if node == 10 else "rotation|lm=1")
    fed, _, _ = run(strategy, nodes=2, rounds=1)
    sizes = {m.metadata.src_node_id: coded_bytes([m]) for m in fed.replies if m.content.array_records}
    assert sizes[10] > 10 * sizes[11]
    with pytest.raises(fedpress.InvalidArgumentError, match="nonsense"):
        run(Compressed(flower.FedAvg(), uplink=lambda node: "nonsense"), rounds=1)


def trained_by(model: Trained, step: float = 0.05) -> Callable[[Message, Context], Message]:
    """A client of any model: it moves every float by noise of its own."""

    def app(message: Message, context: Context) -> Message:
        arrays = arrays_of(message.content["arrays"])
        assert {n: (a.dtype, a.shape) for n, a in arrays.items()} == {
            n: (a.dtype, a.shape) for n, a in model.items()
        }
        metrics = MetricRecord({"num-examples": 10})
        if message.metadata.message_type.startswith("evaluate"):
            return Message(RecordDict({"metrics": metrics}), reply_to=message)
        draws = np.random.default_rng(context.node_id)
        moved = {
            name: (array + step * draws.normal(size=array.shape)).astype(array.dtype)
            for name, array in arrays.items()
        }
        return Message(RecordDict({"arrays": record_of(moved), "metrics": metrics}), reply_to=message)

    return app


def test_adapters_in_bfloat16_take_two_bits_a_value() -> None:
    """LoRA: a pair of narrow matrices for every projection, and nothing of the frozen base."""
    draws = np.random.default_rng(1)
    shapes = {"lora_A.weight": (8, 768), "lora_B.weight": (768, 8)}
    adapters = {
        f"base_model.model.layers.{i}.self_attn.{part}_proj.{name}": (0.1 * draws.normal(size=shape)).astype(
            ml_dtypes.bfloat16
        )
        for i in range(4)
        for part in ("q", "v")
        for name, shape in shapes.items()
    }
    strategy = Compressed(flower.FedAvg(), uplink="rotation|trellis=2", downlink="rotation|trellis=6")
    fed = Federation(trained_by(adapters))
    result = fed.run_strategy(strategy, record_of(adapters), 2)
    found = arrays_of(result.arrays)
    assert all(array.dtype == ml_dtypes.bfloat16 for array in found.values())
    up = strategy.report().total("up")
    # 16 bits to 2, and 140 bytes or so of headers beside 1,536 of codes.
    assert up.ratio > 6.5 and up.mean_nmse < 0.09
    moved = sum(float(np.square(found[n].astype("f") - adapters[n].astype("f")).sum()) for n in adapters)
    # Two rounds, two nodes: half the energy of a node's steps remains, twice.
    steps = 2 * 0.05**2 * sum(array.size for array in adapters.values())
    assert 0.4 < moved / steps < 0.8 * 2


def test_models_of_scikit_learn_are_float64_and_stay_so() -> None:
    draws = np.random.default_rng(1)
    model = {"coef": draws.normal(size=(10, 784)), "intercept": draws.normal(size=10)}
    strategy = Compressed(flower.FedAvg(), uplink="rotation|trellis=3", downlink="rotation|trellis=8")
    result = Federation(trained_by(model)).run_strategy(strategy, record_of(model), 2)
    found = arrays_of(result.arrays)
    assert {n: a.dtype for n, a in found.items()} == {n: np.float64 for n in model}
    assert strategy.report().total("up").ratio > 16
    # What is small travels whole: one difference of it is exact to float32.
    steps = [np.random.default_rng(node) for node in (10, 11)]
    for generator in steps:
        generator.normal(size=model["coef"].shape)
    expected = model["intercept"] + 2 * 0.05 * np.mean([g.normal(size=10) for g in steps], axis=0)
    np.testing.assert_allclose(found["intercept"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [preset.name for preset in fedpress.PRESETS])
def test_presets_go_both_ways_by_their_names(name: str) -> None:
    strategy = Compressed(flower.FedAvg(), uplink=name, downlink=name, downlink_updates=name)
    _, found, _ = run(strategy, rounds=2, nodes=4)
    _, exact, _ = run(flower.FedAvg(), rounds=2, nodes=4)
    assert not any(round.refused for round in strategy.report().rounds.values())
    error, up = float(np.square(found["w"] - exact["w"]).sum()), strategy.report().total("up")
    # Two rounds of the same steps of a tenth, whose errors are as reported, in a mean of four; where nothing is
    # drawn, both errors are the same.
    of_the_mean = 2 * up.mean_nmse * 0.1**2 * found["w"].size / 4
    assert error < 2.5 * of_the_mean + 1e-6
    if fedpress.Spec(name).is_lossy:
        assert error > 0.4 * of_the_mean and up.ratio > 2.5
