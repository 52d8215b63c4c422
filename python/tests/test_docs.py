"""Docstrings run, and stubs say what is there."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fedpress


@pytest.mark.parametrize(
    "name",
    [
        "fedpress",
        "fedpress.codec",
        "fedpress.stream",
        "fedpress.aggregate",
        "fedpress.planning",
        "fedpress.measure",
        "fedpress.delta",
        "fedpress.submodel",
        "fedpress.exchange",
        "fedpress.integers",
    ],
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


def test_the_tutorial_runs() -> None:
    pytest.importorskip("flwr", reason="Flower is not installed")
    result = doctest.testfile("../TUTORIAL.md", optionflags=doctest.ELLIPSIS)
    assert result.failed == 0 and result.attempted >= 20


def test_everything_public_is_documented() -> None:
    """In a sentence at least: modules, what they define, and methods, those of the extension module, too."""
    lacking = []
    for module in public_modules():
        for path, value in members(module):
            if not (inspect.getdoc(value) or "").strip():
                lacking.append(path)
    assert lacking == []


def test_the_reference_is_made_of_the_docstrings_as_they_are() -> None:
    script = Path(__file__).parents[1] / "docs" / "reference.py"
    found = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def public_modules() -> list[ModuleType]:
    """All but those whose libraries are not here."""
    found = []
    for info in pkgutil.walk_packages(fedpress.__path__, "fedpress."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            with contextlib.suppress(ModuleNotFoundError):
                found.append(importlib.import_module(info.name))
    assert len(found) > 15
    return [fedpress, *found]


def members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """A module, its public functions and classes, and their public methods and properties."""
    yield module.__name__, module
    names = getattr(module, "__all__", [name for name in list(vars(module)) if not name.startswith("_")])
    for name in names:
        value = getattr(module, name)
        here = getattr(value, "__module__", "").startswith("fedpress")
        if not here or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        yield f"{module.__name__}.{name}", value
        for inner, method in list(vars(value).items()) if inspect.isclass(value) else ():
            is_documented_by_class = inner.startswith("_") or inner in getattr(value, "__annotations__", {})
            if not is_documented_by_class and (inspect.isroutine(method) or isinstance(method, property)):
                yield f"{module.__name__}.{name}.{inner}", getattr(value, inner)


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
