"""The command of the wheel, and that Python and it make the same bytes of the same input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from safetensors.numpy import load_file, save_file

import fedpress

SEEDS = dict(seed=7, round=3, client=11, private_seed=5)
FLAGS = ["--seed", "7", "--round", "3", "--client-id", "11", "--private-seed", "5"]


@pytest.fixture
def model(tmp_path: Path, generator: np.random.Generator) -> dict[str, np.ndarray]:
    tensors = {
        "fc1.bias": generator.normal(size=3000).astype("f"),
        "fc1.weight": generator.normal(size=(300, 400)).astype("f"),
        "half": generator.normal(size=(64, 64)).astype(np.float16),
        "steps": np.array(9),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return dict(sorted(tensors.items()))


@pytest.mark.parametrize("preset", [p.name for p in fedpress.PRESETS] + ["rotation|lm=2", "none"])
def test_python_and_the_command_make_the_same_bytes(
    preset: str, model: dict[str, np.ndarray], command: Command, tmp_path: Path
) -> None:
    command("encode", "model.safetensors", "-o", "model.fp", "--spec", preset, *FLAGS)
    of_command = (tmp_path / "model.fp").read_bytes()
    order = [tensor.name for tensor in fedpress.inspect(of_command).tensors]
    ordered = {name: model[name] for name in order}
    assert fedpress.encode(ordered, preset, **SEEDS) == of_command
    encoder = fedpress.Encoder(preset, **SEEDS)
    pieces = [encoder.add(name, array) for name, array in ordered.items()]
    assert b"".join(pieces) + encoder.finish() == of_command


def test_each_decodes_what_the_other_encoded(
    model: dict[str, np.ndarray], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "py.fp").write_bytes(fedpress.encode(model, "careful", **SEEDS))
    command("decode", "py.fp", "-o", "back.safetensors")
    of_command, of_python = (
        load_file(tmp_path / "back.safetensors"),
        fedpress.decode((tmp_path / "py.fp").read_bytes()),
    )
    assert of_command.keys() == of_python.keys()
    for name, array in of_python.items():
        assert array.dtype == of_command[name].dtype
        np.testing.assert_array_equal(array, of_command[name])


def test_exit_codes_pass_through(command: Command, tmp_path: Path) -> None:
    assert command("--version").stdout.split()[1].decode() == fedpress.__version__
    (tmp_path / "junk.fp").write_bytes(b"junk")
    assert command("decode", "junk.fp", "-o", "x.npy", check=False).returncode == 3
    assert command("nonsense", check=False).returncode == 2
    assert command("decode", "absent.fp", "-o", "x.npy", check=False).returncode == 5
