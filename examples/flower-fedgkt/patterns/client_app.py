"""A node: trains a small network and sends features. What it keeps, that network, is in Context.state."""

from __future__ import annotations

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import fedpress
import fedpress.exchange as gkt
from fedpress.flower import arrays_of, record_of
from patterns import kept, networks, task
from patterns.messages import carried, carrying

app = ClientApp()

#: Key in Context.state.
NETWORK = "network"


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say whose samples these are: a number that stays when Flower gives this node another id."""
    return Message(RecordDict({"metrics": MetricRecord({"client": number(context)})}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take the server's logits up, train, and send features and logits of every sample."""
    asked, config, client = message.content["asked"], context.run_config, number(context)
    seed, round = int(config["seed"]), int(asked["round"])
    inputs, labels = task.make_data(seed, client, int(config["samples"]))
    ids = np.arange(len(inputs))
    network, teacher = own_network(context), None
    if "logits" in message.content:
        teacher = gkt.decode_logits(carried(message.content["logits"])).in_order(ids)
    draws = np.random.default_rng([seed, client, round])
    loss = networks.train(network, draws, inputs, labels, teacher, epochs=2, rate=0.02)
    keep(context, network)

    _, features, logits = networks.forward(network, inputs)
    head = gkt.Features(int(asked["run"]), round, client, features.shape[1:], task.CLASSES)
    writer = gkt.FeatureWriter(head, features=str(config["features"]), seed=round)
    for start in range(0, len(ids), 100):
        some = slice(start, start + 100)
        # Labels go with the first upload, and never again.
        classes = labels[some] if asked["labels"] else None
        writer.batch(ids[some], features[some], logits[some], classes)
    metrics = MetricRecord({"loss": loss, "raw-bytes": features.nbytes + logits.nbytes})
    records = {"features": carrying(writer.finish()), "metrics": metrics}
    return Message(RecordDict(records), reply_to=message)


@app.query("features")
def features_of_tests(message: Message, context: Context) -> Message:
    """Send features of samples to be judged, as a node does when training is over; labels stay here."""
    features = networks.forward(own_network(context), tests(context)[0])[1]
    coded = fedpress.encode({"features": features}, str(context.run_config["features"]))
    return Message(RecordDict({"features": carrying(coded)}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Say how often the server's logits for those samples are right, and how often this node's own."""
    inputs, labels = tests(context)
    judged = gkt.decode_logits(carried(message.content["logits"])).in_order(np.arange(len(inputs)))
    own = networks.forward(own_network(context), inputs)[-1]
    found = {"accuracy": networks.accuracy(judged, labels), "own": networks.accuracy(own, labels)}
    return Message(RecordDict({"metrics": MetricRecord(found)}), reply_to=message)


def number(context: Context) -> int:
    """Return the number of this client."""
    return int(context.node_config["partition-id"])


def own_network(context: Context) -> networks.Network:
    """Return the network of this node: of its state, of an earlier run, or a new one."""
    if NETWORK in context.state:
        return {name: np.array(array) for name, array in arrays_of(context.state[NETWORK]).items()}
    before = kept.read(str(context.run_config["folder"]), f"client-{number(context)}")
    if before is not None:
        return before.arrays
    seed = int(context.run_config["seed"])
    return networks.make_network(np.random.default_rng([seed, number(context)]), task.EDGE)


def keep(context: Context, network: networks.Network) -> None:
    """Keep the network of this node for the next message, and, with a folder, for the next run."""
    context.state[NETWORK] = record_of(network)
    kept.write(str(context.run_config["folder"]), f"client-{number(context)}", network, {})


def tests(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Return samples that nobody trains on."""
    return task.make_data(int(context.run_config["seed"]), -1 - number(context), 300)
