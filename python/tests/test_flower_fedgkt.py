"""The example of group knowledge transfer, in one process: real apps, messages and states, no transport."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="Flower is not installed")

from federation import Federation
from flwr.app import Context, Message, RecordDict

import fedpress.exchange as gkt

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower-fedgkt"
sys.path.insert(0, str(EXAMPLE))

from patterns import client_app, server_app  # noqa: E402
from patterns.messages import carried  # noqa: E402

CONFIG = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]


def run(result: Path, tamper: object = None, **config: object) -> tuple[list[dict], Federation]:
    """Run the apps; return what the server wrote of each round, and the federation."""
    config = CONFIG | {"samples": 300, "num-server-rounds": 3, "result": str(result / "result.json")} | config
    grid = Federation(client_app.app, run_config=config)
    if tamper is not None:
        grid.tamper = tamper
    server_app.app(grid, Context(1, 1, {}, RecordDict(), config))
    return json.loads((result / "result.json").read_text())["rounds"], grid


def test_features_go_up_logits_come_down_and_both_sides_learn(tmp_path: Path) -> None:
    rounds, grid = run(tmp_path, samples=800, **{"num-server-rounds": 4})
    assert [r["round"] for r in rounds] == [1, 2, 3, 4]
    # Chance is a sixth.
    assert rounds[-1]["accuracy"] > 0.4 and rounds[-1]["own"] > 0.25
    assert rounds[-1]["accuracy"] > rounds[0]["accuracy"]
    assert all(r["up"] * 6 < r["raw"] for r in rounds)
    assert rounds[0]["down"] == 0 < rounds[1]["down"]
    # Nothing of a network goes anywhere: four kinds of messages, with features, logits and numbers in them.
    for message in [*grid.sent, *grid.replies]:
        assert message.content.keys() <= {"asked", "logits", "features", "metrics"}
    uploads = [carried(m.content["features"]) for m in grid.replies if m.metadata.message_type == "train"]
    store = gkt.FeatureStore(run=1, shape=(32,), classes=6)
    assert [store.receive(client, 0, uploads[client]) for client in (0, 1)] == [800, 800]
    # Without labels, as all but the first.
    assert [store.receive(client, 1, uploads[2 + client]) for client in (0, 1)] == [800, 800]
    assert all(list(context.state) == ["network"] for context in grid.nodes.values())


def test_quantized_features_teach_as_well_as_those_of_32_bits(tmp_path: Path) -> None:
    coded, _ = run(tmp_path, samples=800, **{"num-server-rounds": 4})
    exact, _ = run(tmp_path, samples=800, features="none", **{"num-server-rounds": 4})
    # 600 judged samples: a standard error of .02 each.
    assert abs(coded[-1]["accuracy"] - exact[-1]["accuracy"]) < 0.08


def test_a_run_goes_on_where_another_ended_to_the_same_numbers(tmp_path: Path) -> None:
    whole, _ = run(tmp_path)
    folder = str(tmp_path / "kept")
    first, _ = run(tmp_path, folder=folder, **{"num-server-rounds": 2})
    # Another process of the server, and nodes whose state is gone.
    rest, _ = run(tmp_path, folder=folder)
    assert first + rest == whole


def test_a_run_that_ended_in_the_midst_of_a_round_takes_the_other_uploads(tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")

    class EndedError(Exception): ...

    def end(message: Message) -> Message:
        if message.metadata.message_type == "train" and message.metadata.src_node_id == 11:
            raise EndedError
        return message

    run(tmp_path, folder=folder, **{"num-server-rounds": 1})
    with pytest.raises(EndedError):
        run(tmp_path, end, folder=folder)
    store = gkt.FeatureStore(run=1, shape=(32,), classes=6, folder=Path(folder) / "features")
    assert store.clients() == {0: (0, 300), 1: (0, 300)}
    del store
    rounds, _ = run(tmp_path, folder=folder)
    assert [r["round"] for r in rounds] == [2, 3]


def test_a_node_that_fails_in_a_round_is_missed_and_not_waited_for(tmp_path: Path) -> None:
    def fail(message: Message) -> Message:
        asked = message.metadata.message_type == "train" and message.metadata.src_node_id == 11
        return broken(message) if asked else message

    rounds, _ = run(tmp_path, fail)
    assert [r["round"] for r in rounds] == [1, 2, 3]


def broken(message: Message) -> Message:
    """The same reply with an upload that ends too early."""
    record = message.content["features"]
    array = record["message"]
    array.data = array.data[: len(array.data) // 2]
    return message
