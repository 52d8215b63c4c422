"""Models that other libraries are known to fail on (test_peers.py has the list), through a whole federation."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed")

from federation import Federation
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from fedpress.flower import Compressed, Deltas, arrays_of, record_of

Model = dict[str, np.ndarray]
SPECS = ["lossless", "hadamard|q=2", "rotation|lm=2", "rotation|trellis=1", "auto|rate=1|biased", "small"]


def model() -> Model:
    """What BatchNorm, pruning, fresh biases and half precision make of a model."""
    draws = np.random.default_rng(1)
    return {
        "conv.weight": draws.normal(size=(64, 9, 9)).astype(np.float16),
        "bn.weight": np.ones(64, np.float16),
        "bn.running_var": np.full(64, 0.9, np.float32),
        "bn.num_batches_tracked": np.array((1 << 53) + 1),
        "zeros.weight": np.zeros((50, 70), np.float32),
        "one.weight": np.full((50, 70), -3.5, ml_dtypes.bfloat16),
        "two.weight": np.where(np.arange(3500) % 3, 1, 5).astype(np.float32).reshape(50, 70),
        "sparse.weight": np.where(np.arange(3500) % 97, 0, 8).astype(np.float32).reshape(50, 70),
        "large.weight": 1e5 * draws.normal(size=(50, 70)).astype(np.float32),
        "scalar": np.array(2.5, np.float32),
        "single": np.array([7.0], np.float32),
        "none": np.zeros((0, 3), np.float32),
        "empty.name": np.array([], np.int64),
    }


def run(step: float, spec: str, inner: str, deltas: bool = False) -> tuple[Model, Compressed]:
    """Two rounds in which every node adds ``step`` to every float and counts its batches."""

    def app(message: Message, context: Context) -> Message:
        arrays = arrays_of(message.content["arrays"])
        metrics = MetricRecord({"num-examples": 3})
        records = {"metrics": metrics}
        if message.metadata.message_type == "train":
            is_float = {name: array.dtype.kind not in "iu" for name, array in arrays.items()}
            moved = {
                name: (array + array.dtype.type(step)).astype(array.dtype) if is_float[name] else array
                for name, array in arrays.items()
            }
            moved["bn.num_batches_tracked"] = arrays["bn.num_batches_tracked"] + int(step > 0)
            records["arrays"] = record_of(moved)
        return Message(RecordDict(records), reply_to=message)

    updates = Deltas() if deltas else spec
    strategy = Compressed(
        getattr(flower, inner)(), uplink=spec, downlink=spec, downlink_updates=updates, seed=3
    )
    result = Federation(app, nodes=3).run_strategy(strategy, record_of(model()), 2)
    assert not any(round.refused for round in strategy.report().rounds.values())
    return arrays_of(result.arrays), strategy


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("inner, deltas", [("FedAvg", False), ("FedMedian", False), ("FedAvg", True)])
def test_a_model_that_nobody_moves_stays_as_it_is_to_the_bit(spec: str, inner: str, deltas: bool) -> None:
    """Whatever the download loses: an update is relative to what was decoded."""
    made, _ = run(0, spec, inner, deltas)
    for name, array in model().items():
        found = made[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        if array.dtype.kind == "i":
            # A mean of integers is taken in float64.
            assert np.array_equal(found.astype("d"), array.astype("d")), name
        else:
            assert found.tobytes() == array.tobytes(), name


@pytest.mark.parametrize("spec", SPECS)
def test_a_step_of_one_value_arrives_as_that_in_the_mean(spec: str) -> None:
    """All differences of a tensor are one value: for any basis the worst there is."""
    made, strategy = run(1.0, spec, "FedAvg")
    error = strategy.report().total("up").mean_nmse
    for name, array in model().items():
        if array.dtype.kind == "i":
            continue
        moved = made[name].astype("d") - array.astype("d")
        if array.size < 1024:
            # Such tensors travel whole; halves have ten bits.
            np.testing.assert_allclose(moved, 2, atol=0.01, err_msg=name)
            continue
        # Two steps, each the mean of three with errors of their own; rounding to halves is less than that.
        expected = 2 * error / 3 + 0.02
        assert np.square(moved - 2).mean() < 4 * expected, name
        # A basis has the whole of it in one coefficient, so the mean errs as that one does.
        assert abs(moved.mean() - 2) < 1.2, name
