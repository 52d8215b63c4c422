"""A real Flower deployment on loopback: a SuperLink and SuperNodes as processes, ended by their ids.

As a program it runs the example and prints Flower's own count of bytes:
``python python/tests/deployment.py compress=false num-server-rounds=3``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"
BIN = Path(sys.executable).parent


@dataclass
class Deployment:
    """A SuperLink and its SuperNodes, in a folder of their own."""

    folder: Path
    nodes: int = 2
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = free_port()
        home = self.folder / "flwrhome"
        home.mkdir(parents=True)
        address = f'[superlink.here]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        (home / "config.toml").write_text(address)
        self.environment = offline(home)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of Flower, in a process group of its own."""
        log = (self.folder / f"{len(self.processes)}-{name}.log").open("wb")
        process = subprocess.Popen(
            [str(BIN / name), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start_all(self) -> None:
        """Start the SuperLink, and the nodes when it listens."""
        at = ["--host", "127.0.0.1", "--port", str(self.port)]
        self.start("flower-superlink", "--insecure", *at)
        wait_for(lambda: listens(self.port), "the SuperLink")
        for i in range(self.nodes):
            self.start_node(i)

    def start_node(self, i: int) -> subprocess.Popen[bytes]:
        """Start a SuperNode."""
        config = f"partition-id={i} num-partitions={self.nodes}"
        link = ["--superlink", f"127.0.0.1:{self.port}", "--port", str(free_port())]
        return self.start("flower-supernode", "--insecure", *link, "--node-config", config)

    def run(self, config: dict[str, Any], app: Path = EXAMPLE) -> dict[str, Any]:
        """Run the app; return what it wrote as its result, and Flower's entry of the run."""
        result = self.folder / "result.json"
        overrides = " ".join(
            f"{key}={toml(value)}" for key, value in {**config, "result": str(result)}.items()
        )
        done = self.flwr("run", str(app), "here", "--stream", "-c", overrides)
        if not result.exists():
            raise RuntimeError(f"{done}\n{self.logs()}")
        found = json.loads(result.read_text())
        result.unlink()
        return found | {"entry": self.entry(), "output": done}

    def entry(self) -> dict[str, Any]:
        """Return what Flower says of the last run, its count of bytes among it."""
        # The count is complete when the run is.
        deadline = time.monotonic() + 60
        while True:
            listed = json.loads(self.flwr("list", "here", "--format", "json"))
            entry = max(listed["runs"], key=lambda run: run.get("pending-at", ""))
            if entry["status"].startswith("finished") or time.monotonic() > deadline:
                return dict(entry)
            time.sleep(1)

    def flwr(self, *arguments: str) -> str:
        """Run the command flwr; return what it prints."""
        done = subprocess.run(
            [str(BIN / "flwr"), *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        if done.returncode != 0:
            raise RuntimeError(f"flwr {arguments}: {done.stdout}{done.stderr}\n{self.logs()}")
        return done.stdout

    def logs(self) -> str:
        """Return the end of what every process said."""
        return "\n".join(
            f"{log.name}: {log.read_text()[-3000:]}" for log in sorted(self.folder.glob("*.log"))
        )

    def stop(self) -> None:
        """End all processes, nodes first, and what they started."""
        for process in reversed(self.processes):
            end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and those of its group."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)


@contextlib.contextmanager
def deployment(nodes: int = 2) -> Iterator[Deployment]:
    """A deployment that is up, and ended whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="fedpress-flower-"))
    made = Deployment(folder, nodes)
    try:
        made.start_all()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def offline(home: Path) -> dict[str, str]:
    """Return an environment in which Flower keeps to this machine and to that folder."""
    return os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
        "OPENBLAS_NUM_THREADS": "1",
    }


def toml(value: object) -> str:
    """Return a value as Flower's command line wants it."""
    return json.dumps(value)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Any, what: str, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come up")
        time.sleep(0.2)


def main() -> None:
    """Run the example with the settings on the command line."""
    config = {k: json.loads(v) for k, v in (word.split("=", 1) for word in sys.argv[1:])}
    with deployment() as here:
        found = here.run(config)
    print(found["output"][-2500:])
    print(json.dumps({k: v for k, v in found.items() if k != "output"}, indent=1))


if __name__ == "__main__":
    main()
