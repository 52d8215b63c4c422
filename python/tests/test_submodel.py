"""Submodels, against the command on the same model."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import Command
from safetensors.numpy import load_file, save_file

import fedpress
from fedpress.submodel import Layout


@pytest.fixture
def model(generator: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = {
        "conv1.weight": (8, 1, 3, 3), "conv1.bias": (8,), "conv2.weight": (12, 8, 3, 3),
        "conv2.bias": (12,), "fc1.weight": (20, 48), "fc1.bias": (20,), "fc2.weight": (5, 20),
        "fc2.bias": (5,),
    }  # fmt: skip
    return {name: generator.normal(size=shape).astype("f") for name, shape in shapes.items()}


def test_packing_is_that_of_the_command(
    model: dict[str, np.ndarray], command: Command, tmp_path: Path
) -> None:
    save_file(model, tmp_path / "model.safetensors")
    flags = ["--keep", "0.5", "--seed", "3"]
    command("submodel", "pack", "model.safetensors", "-o", "small.safetensors", *flags)
    layout = Layout.infer(model)
    small = layout.pack(layout.select("random", keep=0.5, number=3), model)
    of_command = load_file(tmp_path / "small.safetensors")
    assert of_command.keys() == small.keys()
    for name, array in of_command.items():
        np.testing.assert_array_equal(small[name], array)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int64])
@pytest.mark.parametrize("rule", ["random", "ordered", "rolling"])
def test_merging_puts_back_what_was_packed_and_nothing_else(
    rule: str, dtype: type, model: dict[str, np.ndarray]
) -> None:
    full = {name: (array * 9).astype(dtype) for name, array in model.items()}
    layout = Layout.infer(full)
    kept = layout.select(rule, keep=0.4, number=5)
    small = layout.pack(kept, full)
    assert {name: array.shape for name, array in small.items()} == layout.packed_shapes(kept)
    target = {name: np.zeros_like(array) for name, array in full.items()}
    layout.merge(kept, small, target)
    assert all(
        np.array_equal(a, b) for a, b in zip(layout.pack(kept, target).values(), small.values(), strict=True)
    )
    for name, array in target.items():
        places = array != 0
        assert np.array_equal(array[places], full[name][places])
        assert places.sum() <= small[name].size


def test_what_does_not_fit_is_named(model: dict[str, np.ndarray]) -> None:
    layout = Layout.infer(model)
    kept = layout.select(keep=0.5)
    with pytest.raises(fedpress.InvalidArgumentError, match="fc2.bias"):
        layout.pack(kept, {n: a for n, a in model.items() if n != "fc2.bias"})
    with pytest.raises(fedpress.InvalidArgumentError, match=r"conv1\.bias.*\(8,\).*\(9,\)"):
        layout.pack(kept, model | {"conv1.bias": np.zeros(9, "f")})
    with pytest.raises(fedpress.InvalidArgumentError):
        layout.merge(kept, model, dict(model))
    with pytest.raises(fedpress.InvalidArgumentError):
        layout.select(keep=0)
    with pytest.raises(fedpress.InvalidArgumentError, match="embedding"):
        Layout.infer({"embed.weight": (10, 3)})
    assert Layout.from_toml(layout.to_toml()).groups == layout.groups == {"conv1": 8, "conv2": 12, "fc1": 20}


def test_families_are_recognized_and_whole_layouts_have_no_units() -> None:
    adapters = {
        f"model.layers.0.self_attn.{part}_proj.lora_{side}.weight": shape
        for part in ("q", "v")
        for side, shape in (("A", (8, 96)), ("B", (96, 8)))
    }
    layout = Layout.recognize(adapters)
    assert layout is not None and layout.family == "LoRA" and set(layout.groups.values()) == {8}
    small = layout.packed_shapes(layout.select(keep=0.5))
    assert {small[name] for name in adapters} == {(4, 96), (96, 4)}
    assert Layout.recognize({"coef": (10, 20)}) is None
    whole = Layout.whole({"coef": (10, 20), "intercept": (10,)})
    assert whole.groups == {} and whole.parameters == {"coef": (10, 20), "intercept": (10,)}
    with pytest.raises(fedpress.InvalidArgumentError):
        Layout.whole({})
