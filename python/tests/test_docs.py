"""Docstrings run, and stubs say what is there."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "name", ["fedpress", "fedpress.codec", "fedpress.stream", "fedpress.aggregate", "fedpress.submodel"]
)
def test_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0 and (result.attempted > 0)


def test_the_readme_runs() -> None:
    """The examples with prompts as they are, the others as programs."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    result = doctest.testfile("../README.md", optionflags=doctest.ELLIPSIS)
    assert result.failed == 0 and result.attempted >= 6
    pytest.importorskip("flwr", reason="Flower is not installed")
    programs = [part for part in text.split("```python\n")[1:] if not part.startswith(">>>")]
    assert len(programs) == 2
    for program in programs:
        exec(program.split("```")[0], {})


def test_the_stubs_say_what_is_there() -> None:
    words = [sys.executable, "-m", "mypy.stubtest", "fedpress._fedpress"]
    found = subprocess.run(words, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_types_are_right() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "-p", "fedpress"],
        cwd=__file__.rsplit("/", 2)[0],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout
