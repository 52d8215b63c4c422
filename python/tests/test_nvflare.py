"""The filters of NVFlare, by themselves and in its simulator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nvflare", reason="NVFlare is not installed: its tests run in .ci/thorough")

from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants

import fedpress
from fedpress.nvflare import Decode, Encode


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "conv.weight": generator.normal(size=(64, 32, 3, 3)).astype("f"),
        "bn.num_batches_tracked": np.array(21),
        "bn.running_var": generator.random(64).astype("f"),
    }


def there_and_back(data: dict, spec: str, kind: str = DataKind.WEIGHT_DIFF) -> tuple[dict, int]:
    meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: 5, MetaKey.CURRENT_ROUND: 3}
    shareable = DXO(kind, data=data, meta=meta).to_shareable()
    sent = Encode(spec).process(shareable, FLContext())
    n_bytes = sum(value.nbytes for value in from_shareable(sent).data.values())
    assert from_shareable(sent).get_meta_prop(MetaKey.PROCESSED_ALGORITHM)
    back = from_shareable(Decode().process(sent, FLContext()))
    assert back.data_kind == kind and back.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND) == 5
    assert back.get_meta_prop(MetaKey.PROCESSED_ALGORITHM) is None
    return back.data, n_bytes


def test_weights_come_back_with_their_counters() -> None:
    """NVFlare's own quantizer refuses a BatchNorm's integers."""
    data = weights()
    back, n_bytes = there_and_back(data, "hadamard|q=4")
    assert {n: (a.dtype, a.shape) for n, a in back.items()} == {
        n: (a.dtype, a.shape) for n, a in data.items()
    }
    assert back["bn.num_batches_tracked"] == 21 and np.array_equal(
        back["bn.running_var"], data["bn.running_var"]
    )
    assert n_bytes < sum(a.nbytes for a in data.values()) / 7


def test_large_values_and_one_nan_do_no_harm_to_the_others() -> None:
    """In float16 1e5 becomes 65504; AdaQuant makes NaN of everything for one."""
    back, _ = there_and_back({"w": np.full(2000, 1e5, "f")}, "hadamard|q=8")
    np.testing.assert_allclose(back["w"], 1e5, rtol=1e-2)
    one = {"w": np.ones(2000, "f"), "other": np.ones(2000, "f")}
    one["w"][7] = np.nan
    back, _ = there_and_back(one, "lossless")
    assert np.isnan(back["w"]).sum() == 1 and (back["other"] == 1).all()


def test_one_dictionary_for_many_clients_is_encoded_once_and_not_changed() -> None:
    data, filter_ = weights(), Encode("hadamard|q=4")
    before = {name: array.copy() for name, array in data.items()}
    shareable = in_round(3)
    made = [filter_.process_dxo(DXO(DataKind.WEIGHTS, data=data), shareable, FLContext()) for _ in range(3)]
    blobs = [next(iter(dxo.data.values())) for dxo in made]
    assert all(blob is blobs[0] for blob in blobs)
    assert all(np.array_equal(data[name], before[name]) for name in before)


def in_round(number: int) -> Shareable:
    """As NVFlare's workflows say the round: in the header of the message, not in its DXO."""
    shareable = Shareable()
    shareable.set_header(AppConstants.CURRENT_ROUND, number)
    return shareable


@pytest.mark.parametrize("messages", [[in_round(1), in_round(2)], [Shareable(), Shareable()]])
def test_a_dictionary_that_is_trained_in_place_is_encoded_anew(messages: list[Shareable]) -> None:
    data, filter_ = {"w": np.zeros(2000, "f")}, Encode("lossless")
    for value, shareable in enumerate(messages):
        data["w"][:] = value
        encoded = filter_.process_dxo(DXO(DataKind.WEIGHTS, data=data), shareable, FLContext())
        back = Decode().process_dxo(encoded, shareable, FLContext())
        assert (back.data["w"] == value).all()


def test_every_round_rotates_differently() -> None:
    """With few bits the error follows from the rotation: of ten rounds with one, it would not average out."""
    data = np.random.default_rng(1).normal(size=4096).astype("f")
    total = np.zeros(4096)
    for number in range(10):
        dxo, shareable = DXO(DataKind.WEIGHTS, data={"w": data}), in_round(number)
        encoded = Encode("rotation|lm=1").process_dxo(dxo, shareable, FLContext())
        total += Decode().process_dxo(encoded, shareable, FLContext()).data["w"]
    # One transfer has .57.
    assert fedpress.compare(data, (total / 10).astype("f")).nmse < 0.12


def test_what_is_not_encoded_passes_and_what_is_is_not_encoded_again() -> None:
    dxo = DXO(DataKind.WEIGHTS, data=weights())
    assert Decode().process_dxo(dxo, None, FLContext()) is None
    encoded = Encode("none").process_dxo(dxo, None, FLContext())
    assert Encode("none").process_dxo(encoded, None, FLContext()) is None


def test_it_works_in_the_simulator(tmp_path: Path) -> None:
    job = Path(__file__).parents[2] / "examples" / "nvflare"
    words = [sys.executable, str(job / "job.py"), "--workspace", str(tmp_path / "work")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400)
    result = tmp_path / "work" / "result.json"
    assert result.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(result.read_text())
    assert found["rounds"] == 3 and found["error"] < 0.2
