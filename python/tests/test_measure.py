"""Plans, sweeps and estimates, against the command on the same tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from safetensors.numpy import save_file

import fedpress

SEEDS = dict(seed=7, private_seed=5)
FLAGS = ["--seed", "7", "--private-seed", "5"]
Model = dict[str, np.ndarray]


@pytest.fixture
def model(tmp_path: Path, command: Command, generator: np.random.Generator) -> Model:
    """Tensors of different sizes and kinds, in the order of their file."""
    tensors = {
        "a.weight": 3 * generator.normal(size=(700, 500)).astype("f"),
        "b.weight": generator.standard_t(3, size=(40, 2000)).astype("f"),
        "half": generator.normal(size=(64, 64)).astype(np.float16),
        "holes": np.where(np.arange(6000) == 7, np.nan, 1).astype("f").reshape(60, 100),
        "bias": generator.normal(size=70).astype("f"),
        "steps": np.array(9),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    command("encode", "model.safetensors", "-o", "order.fp", "--spec", "lossless")
    order = fedpress.inspect((tmp_path / "order.fp").read_bytes()).tensors
    return {tensor.name: tensors[tensor.name] for tensor in order}


@pytest.mark.parametrize("sample", ["64M", "1M"])
def test_a_sweep_is_that_of_the_command(sample: str, model: Model, command: Command) -> None:
    words = ["sweep", "model.safetensors", "--rates", "0.5,2,4", "--sample", sample, "--json", *FLAGS]
    printed = json.loads(command(*words).stdout)
    size = {"64M": 64 << 20, "1M": 1 << 20}[sample]
    found = fedpress.sweep(model, rates=[0.5, 2, 4], sample=size, **SEEDS)
    rows = [row for pipeline in printed["pipelines"] for row in pipeline["results"]]
    assert [str(m.spec) for m in found] == [row["spec"] for row in rows] and len(rows) > 8
    assert [m.n_bytes for m in found] == [row["bytes"] for row in rows]
    for m, row in zip(found, rows, strict=True):
        assert m.nmse == pytest.approx(row["nmse"], rel=1e-6)
        assert m.ratio == pytest.approx(row["ratio"]) and m.bits_per_value == pytest.approx(
            row["bits_per_value"]
        )
    if sample == "1M":
        whole = sum(array.nbytes for array in model.values())
        assert printed["sample_bytes"] < 0.8 * whole, "a part was looked at"


def test_an_estimate_is_that_of_the_command_and_is_right(model: Model, command: Command) -> None:
    printed = json.loads(command("estimate", "model.safetensors", "--sample", "1M", "--json", *FLAGS).stdout)
    found = fedpress.estimate(model, sample=1 << 20, **SEEDS)
    assert list(found) == [row["preset"] for row in printed["presets"]]
    for row in printed["presets"]:
        m = found[row["preset"]]
        # The command counts what it skips of the shapes, too.
        assert m.n_bytes == pytest.approx(row["bytes"], rel=1e-3)
        assert (m.nmse, m.is_unbiased) == (pytest.approx(row["nmse"], rel=1e-6), row["unbiased"])
    for name, m in found.items():
        assert m.n_bytes == pytest.approx(len(fedpress.encode(model, name, non_finite="lossless")), rel=0.05)


@pytest.mark.parametrize(
    "target", [dict(target_bytes=150_000), dict(target_ratio=10), dict(target_bits=3), dict(target_nmse=0.02)]
)
def test_a_plan_makes_the_stream_of_its_target(target: dict, model: Model, command: Command) -> None:
    (kind, number), model = next(iter(target.items())), {n: a for n, a in model.items() if n != "holes"}
    specs = fedpress.plan(model, "auto", **target, **SEEDS)
    stream = fedpress.encode(model, specs, **SEEDS)
    assert stream == fedpress.encode(model, "auto", **target, **SEEDS)
    # What is spared, small or no float is lossless.
    assert [n for n, spec in specs.items() if not spec.is_lossy] == [
        n for n in model if n in ("bias", "steps")
    ]
    assert specs["a.weight"].rates == (0.1, 12.0)
    n_values = sum(array.size for array in model.values())
    most = {
        "target_bytes": number,
        "target_ratio": sum(a.nbytes for a in model.values()) / number,
        "target_bits": n_values * number / 8,
    }
    if kind in most:
        assert 0.99 * most[kind] < len(stream) <= most[kind]


def test_weights_move_bits_to_where_errors_count(generator: np.random.Generator) -> None:
    layers = {f"{i}.weight": generator.normal(size=(100, 100)).astype("f") for i in range(3)}

    def rates(weights: dict[str, float] | None) -> list[float]:
        specs = fedpress.plan(layers, "rotation|trellis=1", weights=weights, target_bits=3)
        return [32 / specs[name].formula_ratio for name in layers]

    even = rates(None)
    assert max(even) - min(even) < 0.1
    # Four times the weight is a bit: errors fall by four with each.
    one, two, three = rates({"0.*": 16.0, "*.weight": 1.0})
    assert one - two == pytest.approx(2, abs=0.1) and two == pytest.approx(three, abs=0.1)
    assert one + two + three == pytest.approx(sum(even), abs=0.1)
    as_asked = fedpress.encode(layers, "rotation|trellis=1", weights={"0.*": 16.0}, target_bits=3, **SEEDS)
    given = fedpress.plan(layers, "rotation|trellis=1", weights={"0.*": 16.0}, target_bits=3, **SEEDS)
    assert as_asked == fedpress.encode(layers, given, **SEEDS)


def test_what_cannot_be_planned_is_said(model: Model) -> None:
    small = {"a": model["a.weight"]}
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(fedpress.InvalidArgumentError, match="weight: expected a number above 0"):
            fedpress.plan(small, weights={"a": weight}, target_bits=3)
    with pytest.raises(fedpress.InvalidArgumentError, match="hadamard"):
        fedpress.plan(small, "hadamard|q=4", target_bits=3)
    with pytest.raises(fedpress.InvalidArgumentError, match="lowest rates"):
        fedpress.plan(small, target_bytes=10)
    for targets in ({}, dict(target_bits=3, target_nmse=0.1)):
        with pytest.raises(TypeError, match="target"):
            fedpress.plan(small, **targets)
    with pytest.raises(TypeError, match="for a target"):
        fedpress.encode(small, "auto", weights={"a": 2.0})
    with pytest.raises(fedpress.InvalidArgumentError, match="'a'"):
        fedpress.encode(small, {"b": "lossless"})
    with pytest.raises(fedpress.InvalidArgumentError, match="rate"):
        fedpress.sweep(small, ["auto"], [99])
    assert fedpress.encode(small, {"b": "none"}, rules={"a": "lossless"})


def test_a_spec_says_its_rates() -> None:
    auto = fedpress.Spec("auto")
    assert auto.rates == (0.1, 12.0) and auto.at_rate(1.5) == fedpress.Spec("auto|rate=1.5")
    assert fedpress.Spec("hadamard|q=4").rates is None
    with pytest.raises(fedpress.InvalidArgumentError, match="12"):
        auto.at_rate(13)
