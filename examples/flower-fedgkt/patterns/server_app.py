"""The server: trains a large network on the features of all nodes, and answers with its logits."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

import fedpress
import fedpress.exchange as gkt
from patterns import kept, networks, task
from patterns.messages import carried, carrying

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are left, and print what they cost and gave."""
    config = context.run_config
    server = Server(int(config["seed"]), str(config["folder"]))
    clients = hello(grid, int(config["nodes"]))
    print(f"{'round':>5} {'up':>10} {'raw':>10} {'down':>8}  accuracy  of the nodes alone")
    rounds = []
    while server.round < int(config["num-server-rounds"]):
        row = run_round(grid, server, clients)
        rounds.append(row)
        print(
            f"{row['round']:>5} {row['up']:>10} {row['raw']:>10} {row['down']:>8}  "
            f"{row['accuracy']:>8.3f}  {row['own']:>8.3f}"
        )
    if config["result"]:
        Path(str(config["result"])).write_text(json.dumps({"rounds": rounds, "run": context.run_id}))


class Server:
    """A large network, and what the nodes sent; with a folder, it goes on where an earlier run ended."""

    def __init__(self, seed: int, folder: str) -> None:
        """Begin, or go on."""
        self.seed, self.folder = seed, folder
        before = kept.read(folder, "server")
        self.round = int(before.texts["round"]) if before else 0
        draws = np.random.default_rng([seed, 99])
        self.network = before.arrays if before else networks.make_network(draws, task.SERVER)
        self.store = gkt.FeatureStore(
            run=seed,
            shape=(task.FEATURES,),
            classes=task.CLASSES,
            folder=Path(folder) / "features" if folder else None,
        )

    def train(self) -> None:
        """Train on the last features of every client, all shuffled together."""
        samples = [(client, id) for client in self.store.clients() for id in self.store.samples(client)]
        known = self.store.read(samples)
        draws = np.random.default_rng([self.seed, self.round])
        networks.train(self.network, draws, known.features, known.labels, known.logits, epochs=10, rate=0.02)
        self.round += 1
        kept.write(self.folder, "server", self.network, {"round": str(self.round)})

    def answer(self, client: int) -> bytes:
        """Return the message with the logits of the samples of a client."""
        ids = self.store.samples(client)
        features = self.store.read([(client, id) for id in ids]).features
        return self.logits(client, features, ids)

    def logits(self, client: int, features: np.ndarray, ids: list[int]) -> bytes:
        """Return the message with the logits of some features."""
        writer = gkt.LogitWriter(gkt.Logits(self.seed, self.round, client, task.CLASSES), seed=self.round)
        writer.batch(ids, networks.forward(self.network, features)[-1])
        return writer.finish()


def run_round(grid: Grid, server: Server, clients: Mapping[int, int]) -> dict[str, float]:
    """Have the clients train and send, train, and have them judge what became of it."""
    round, contents = server.round, {}
    for client in clients:
        known = client in server.store.clients()
        # A run that ended in the midst of a round has some of its uploads already.
        if known and server.store.clients()[client][0] == round:
            continue
        asked = ConfigRecord({"run": server.seed, "round": round, "labels": not known})
        records = {"asked": asked}
        if known:
            records["logits"] = carrying(server.answer(client))
        contents[client] = RecordDict(records)
    up = raw = 0
    down = sum(len(carried(c["logits"])) for c in contents.values() if "logits" in c)
    for client, content in ask(grid, "train", contents, clients).items():
        message = carried(content["features"])
        try:
            if server.store.receive(client, round, message) is None:
                server.store.forget(client)
                print(f"client {client}: its upload ends too early")
        except fedpress.RejectedError as error:
            print(error)
        up, raw = up + len(message), raw + int(content["metrics"]["raw-bytes"])
    if not server.store.clients():
        raise RuntimeError("no node has sent features that could be used")
    server.train()
    return {"round": round + 1, "up": up, "raw": raw, "down": down} | judge(grid, server, clients)


def judge(grid: Grid, server: Server, clients: Mapping[int, int]) -> dict[str, float]:
    """Return how often the server is right about samples of the nodes that nobody trained on."""
    asked = ask(grid, "query.features", {client: RecordDict() for client in clients}, clients)
    judged = {}
    for client, content in asked.items():
        features = fedpress.decode(carried(content["features"]))["features"]
        message = server.logits(client, features, list(range(len(features))))
        judged[client] = RecordDict({"logits": carrying(message)})
    found = ask(grid, "evaluate", judged, clients).values()
    metrics = [content["metrics"] for content in found]
    return {key: float(np.mean([m[key] for m in metrics])) for key in ("accuracy", "own")}


def hello(grid: Grid, nodes: int) -> dict[int, int]:
    """Wait for so many nodes, and return their ids by their numbers as clients."""
    while len(ids := list(grid.get_node_ids())) < nodes:
        time.sleep(1)
    by_id = {id: id for id in ids}
    replies = ask(grid, "query.hello", {id: RecordDict() for id in ids}, by_id)
    return {int(content["metrics"]["client"]): id for id, content in sorted(replies.items())}


def ask(
    grid: Grid, kind: str, contents: Mapping[int, RecordDict], clients: Mapping[int, int]
) -> dict[int, RecordDict]:
    """Send messages, and return the replies of those clients that gave one, in ascending order."""
    numbers = {clients[client]: client for client in contents}
    messages = [Message(c, dst_node_id=clients[k], message_type=kind) for k, c in contents.items()]
    found = {}
    for reply in grid.send_and_receive(messages, timeout=600):
        client = numbers[reply.metadata.src_node_id]
        if reply.has_error():
            print(f"client {client}: {reply.error.reason}")
        else:
            found[client] = reply.content
    return dict(sorted(found.items()))
