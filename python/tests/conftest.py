"""What the tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Command = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(20261129)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command line of the wheel under test, run in a folder of its own."""

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        words = [sys.executable, "-m", "fedpress", *arguments]
        return subprocess.run(words, cwd=tmp_path, check=check, capture_output=True)

    return run
