"""The example of adapters, in one process: real apps, messages and states, no transport."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed")

from federation import Federation
from flwr.app import Context, RecordDict

from fedpress.flower import arrays_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower-lora"
sys.path.insert(0, str(EXAMPLE))

from adapters import base, client_app, server_app, task, transformer  # noqa: E402

CONFIG = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]


@pytest.fixture(autouse=True)
def bases_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bases are kept in a folder of the test."""
    monkeypatch.setattr(base, "__file__", str(tmp_path / "base.py"))
    base.load.cache_clear()


@pytest.mark.parametrize("trains_base", [False, True])
def test_gradients_are_the_slopes_of_the_loss(trains_base: bool) -> None:
    draws = np.random.default_rng(1)
    weights = {n: a.astype("d") for n, a in transformer.make_base(draws, 16).items()}
    adapters = {
        n: a + 0.1 * draws.normal(size=a.shape) for n, a in transformer.make_adapters(draws, weights).items()
    }
    texts = draws.integers(task.TOKENS, size=(3, task.LENGTH + 1))

    def loss() -> float:
        return transformer.Pass(weights, adapters).loss(texts)

    way = transformer.Pass(weights, adapters, trains_base)
    way.loss(texts)
    gradients = way.backward()
    trained = weights if trains_base else adapters
    assert gradients.keys() >= trained.keys()
    for name, array in trained.items():
        direction, step = draws.normal(size=array.shape), 1e-6
        array += step * direction
        above = loss()
        array -= 2 * step * direction
        slope = (above - loss()) / (2 * step)
        array += step * direction
        # Among so many values a few cross the kink of their rectifier.
        assert slope == pytest.approx(float((gradients[name] * direction).sum()), rel=0.01), name


def test_a_place_does_not_see_what_follows() -> None:
    draws = np.random.default_rng(1)
    weights = transformer.make_base(draws, 16)
    texts = draws.integers(task.TOKENS, size=(2, task.LENGTH + 1))
    changed = texts.copy()
    changed[:, 20:] = (changed[:, 20:] + 1) % task.TOKENS
    ways = [transformer.Pass(weights, {}), transformer.Pass(weights, {})]
    for way, given in zip(ways, (texts, changed), strict=True):
        way.loss(given)
    ours, theirs = (way._last[2] for way in ways)
    np.testing.assert_allclose(ours[:, :20], theirs[:, :20], atol=1e-6)
    assert not np.allclose(ours[:, 20:], theirs[:, 20:], atol=1e-3)


def test_adapters_travel_in_few_bits_and_learn_as_in_32(tmp_path: Path) -> None:
    config = CONFIG | {"base-steps": 60, "num-server-rounds": 3, "result": str(tmp_path / "result.json")}
    grid = Federation(client_app.app, run_config=config)
    server_app.app(grid, Context(1, 1, {}, RecordDict(), config))
    found = json.loads((tmp_path / "result.json").read_text())
    plain, coded = found["losses"]["plain"], found["losses"]["fedpress"]
    texts = task.make_texts(1, task.TESTS, 300)
    frozen = base.load(1, config["width"], config["base-steps"])
    before = transformer.evaluate(frozen, {}, texts)
    # Most of what is learned in three rounds is learned in two bits, too.
    assert plain[-1] < plain[0] < before - 0.05
    assert before - coded[-1] > 0.9 * (before - plain[-1])
    # 16 bits to 2; 24 narrow tensors have headers of a hundred bytes each.
    up, down = found["traffic"]["up"], found["traffic"]["down"]
    assert up["raw_bytes"] / up["n_bytes"] > 5.5 and down["raw_bytes"] / down["n_bytes"] > 5
    # What nodes hold are the adapters, in their type, and nothing of the base.
    for context in grid.nodes.values():
        held = arrays_of(context.state["fedpress.held"])
        assert {array.dtype for array in held.values()} == {np.dtype(ml_dtypes.bfloat16)}
        assert sum(array.nbytes for array in held.values()) * 2 * 3 == up["raw_bytes"]
        assert not held.keys() & frozen.keys()


def test_a_base_is_trained_once_and_is_the_same_from_its_file(tmp_path: Path) -> None:
    made = base.load(3, 16, 2)
    (file,) = tmp_path.glob("base-*.npz")
    written = file.stat().st_mtime_ns
    base.load.cache_clear()
    again = base.load(3, 16, 2)
    assert file.stat().st_mtime_ns == written
    assert made.keys() == again.keys() and all(np.array_equal(made[n], again[n]) for n in made)
