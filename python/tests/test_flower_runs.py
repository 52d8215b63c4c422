"""The example as a newcomer runs it, and as a deployment, with Flower's own count of bytes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="Flower is not installed")

from deployment import BIN, EXAMPLE, deployment, end_group, offline, wait_for

pytestmark = pytest.mark.slow

FEDGKT = EXAMPLE.parent / "flower-fedgkt"
LORA = EXAMPLE.parent / "flower-lora"
SMALL = {"hidden": 400, "num-server-rounds": 2}
OFF, ON = {**SMALL, "compress": False}, {**SMALL, "compress": True}


def test_the_counter_of_a_deployment_shrinks_and_the_model_learns() -> None:
    with deployment() as here:
        off, on = here.run(OFF), here.run(ON)
    traffic = {name: run["entry"]["network-traffic"] for name, run in (("off", off), ("on", on))}
    # Everything of Flower's own messages is in it, which weigh more here than in a large model.
    assert traffic["off"]["inbound-bytes"] > 20 * traffic["on"]["inbound-bytes"]
    assert traffic["off"]["outbound-bytes"] > 12 * traffic["on"]["outbound-bytes"]
    for run in (off, on):
        assert run["entry"]["status"] == "finished:completed"
        assert run["accuracies"][-1] > 0.5


def test_a_node_that_is_killed_in_a_round_does_not_end_the_run() -> None:
    with deployment(nodes=3) as here:
        node = here.processes[-1]
        run = subprocess.Popen(
            [
                str(BIN / "flwr"),
                "run",
                str(EXAMPLE),
                "here",
                "--stream",
                "-c",
                "hidden=400 num-server-rounds=3",
            ],
            cwd=here.folder,
            env=here.environment,
            stdout=(here.folder / "run.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        here.processes.append(run)
        log = here.folder / "run.log"
        wait_for(lambda: "ROUND 1" in log.read_text(), "the first round", 120)
        time.sleep(2)
        end_group(node)
        # It may count as available for a while; a round goes on without it, or waits for its timeout.
        wait_for(lambda: run.poll() is not None or "ROUND 2" in log.read_text(), "the next round", 400)
        text = log.read_text()
    assert "ROUND 2" in text, text[-3000:]


def test_features_and_logits_travel_in_a_deployment() -> None:
    """FedGKT: by Flower's own count, four bits and what zstd makes of them instead of 32."""
    config = {"samples": 3000, "num-server-rounds": 2}
    with deployment() as here:
        coded = here.run(config, FEDGKT)
        plain = here.run({**config, "features": "none"}, FEDGKT)
    counts = [run["entry"]["network-traffic"]["inbound-bytes"] for run in (coded, plain)]
    assert counts[0] * 3 < counts[1]
    for run in (coded, plain):
        assert run["entry"]["status"] == "finished:completed"
        assert [r["round"] for r in run["rounds"]] == [1, 2] and run["rounds"][-1]["accuracy"] > 0.25


@pytest.mark.parametrize(
    "app, config",
    [
        (EXAMPLE, "hidden=100 compress=true"),
        (EXAMPLE, "hidden=100 compress=false"),
        (FEDGKT, "samples=200"),
        (LORA, "base-steps=20 steps=5"),
    ],
)
def test_flwr_run_simulates_the_examples(app: Path, config: str, tmp_path: Path) -> None:
    home, result = tmp_path / "home", tmp_path / "result.json"
    home.mkdir()
    environment = offline(home)
    words = ["flwr", "run", str(app), "--stream", "-c"]
    config = f'num-server-rounds=1 {config} result="{result}"'
    try:
        done = subprocess.run([*words, config], env=environment, capture_output=True, text=True, timeout=300)
    finally:
        # Flower leaves a SuperLink of its own behind.
        for pid in started_in(home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    assert done.returncode == 0 and result.exists(), done.stdout + done.stderr
    # A run whose nodes all fail ends as well, with no round to tell of.
    found = json.loads(result.read_text())
    by_run = found["rounds"] if "rounds" in found else found["losses"]
    assert all(by_run.values()) if isinstance(by_run, dict) else by_run, done.stdout + done.stderr


def started_in(home: Path) -> list[int]:
    """Ids of processes of Flower whose folder is this one, and of no others."""
    ours = f"FLWR_HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if ours in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found
