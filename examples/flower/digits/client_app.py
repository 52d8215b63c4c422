"""The client: fedpress is the mod in its second line."""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits import task
from fedpress.flower import codec_mod

app = ClientApp(mods=[codec_mod()])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the data of this node."""
    model = {name: array.numpy() for name, array in message.content["arrays"].items()}
    inputs, labels = task.make_data(int(context.run_config["seed"]), int(context.node_config["partition-id"]))
    trained = task.train(model, inputs, labels)
    loss, _ = task.evaluate(trained, inputs, labels)
    arrays = ArrayRecord({name: Array(array) for name, array in trained.items()})
    metrics = MetricRecord({"train-loss": loss, "num-examples": len(labels)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate on data that no node trains on."""
    model = {name: array.numpy() for name, array in message.content["arrays"].items()}
    inputs, labels = task.make_data(int(context.run_config["seed"]), -1)
    loss, accuracy = task.evaluate(model, inputs, labels)
    metrics = MetricRecord({"loss": loss, "accuracy": accuracy, "num-examples": len(labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
