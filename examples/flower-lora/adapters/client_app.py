"""A node: trains adapters of a base that it has, and that never travels. fedpress is the mod of its app."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from adapters import base, task, transformer
from fedpress.flower import arrays_of, codec_mod, record_of

app = ClientApp(mods=[codec_mod()])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the adapters on the texts of this node, and send them in the type in which they came."""
    config, node = context.run_config, int(context.node_config["partition-id"])
    seed, record = int(config["seed"]), message.content["arrays"]
    adapters = unpacked(record)
    texts = task.make_texts(seed, node, 500)
    draws = np.random.default_rng([seed, node, int(message.content["config"]["server-round"])])
    loss = transformer.train(frozen(context), adapters, texts, draws, int(config["steps"]), rate=2e-3)
    metrics = MetricRecord({"train-loss": loss, "num-examples": len(texts)})
    records = {"arrays": packed(adapters, arrays_of(record)), "metrics": metrics}
    return Message(RecordDict(records), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate on texts that no node trains on."""
    texts = task.make_texts(int(context.run_config["seed"]), task.TESTS, 300)
    loss = transformer.evaluate(frozen(context), unpacked(message.content["arrays"]), texts)
    metrics = MetricRecord({"loss": loss, "num-examples": len(texts)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def frozen(context: Context) -> transformer.Arrays:
    """Return the base."""
    config = context.run_config
    return base.load(int(config["seed"]), int(config["width"]), int(config["base-steps"]))


def unpacked(record: ArrayRecord) -> transformer.Arrays:
    """Return adapters to be trained, in float32."""
    return {name: array.astype(np.float32) for name, array in arrays_of(record).items()}


def packed(adapters: transformer.Arrays, like: transformer.Arrays) -> ArrayRecord:
    """Return adapters to be sent, in the types of those that came."""
    return record_of({name: array.astype(like[name].dtype) for name, array in adapters.items()})
