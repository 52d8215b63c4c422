"""Peak memory and seconds of a server that averages replies: Flower's own mean, and fedpress.

Seconds are those of the clock, and of all processors together, which do not depend on what else they do.

usage: python memory.py flower|fedpress [--replies 100] [--values 25000000] [--spec 'rotation|lm=2'] [--threads 0]

Each in a process of its own, as memory that was taken is not always given back. A reply is made when it is
asked for and handed over, as one that arrives is, so that what is measured is the strategy's. Flower's mean
takes a list, so there all replies are in memory, which is what its users have.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

import fedpress
from fedpress.flower import record_of
from fedpress.flower.average import WeightedMean
from fedpress.flower.protocol import Receipt
from fedpress.flower.records import flower_array
from fedpress.flower.replies import Reply


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=["flower", "fedpress"])
    parser.add_argument("--replies", type=int, default=100)
    parser.add_argument("--values", type=int, default=25_000_000)
    parser.add_argument("--spec", default="rotation|lm=2")
    parser.add_argument("--threads", type=int, default=0, help="of fedpress; 0: one for each core")
    arguments = parser.parse_args()
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    side = int(arguments.values**0.5)
    delta = np.random.default_rng(1).normal(size=(side, side)).astype(np.float32)
    if arguments.who == "flower":
        seconds, busy, peak, before = flower(delta, arguments.replies)
    else:
        seconds, busy, peak, before = folded(delta, arguments.replies, arguments.spec, arguments.threads)
    models = (peak - before) / delta.nbytes
    print(
        f"{arguments.who}: {arguments.replies} replies of {delta.size} values: {seconds:.2f} s, "
        f"{busy:.2f} of processors, {models:.2f} models of memory beside the model"
    )


def flower(delta: np.ndarray, replies: int) -> tuple[float, float, int, int]:
    """Flower's own weighted mean of plain replies, which it has to have all at once."""
    asked = Message(RecordDict(), dst_node_id=1, message_type="train")
    before = peak_bytes()

    def reply() -> Message:
        records = {"arrays": record_of({"w": delta}), "metrics": MetricRecord({"num-examples": 1})}
        return Message(RecordDict(records), reply_to=asked)

    messages = [reply() for _ in range(replies)]
    started = now()
    FedAvg().aggregate_train(1, messages)
    return *since(started), peak_bytes(), before


def folded(delta: np.ndarray, replies: int, spec: str, threads: int) -> tuple[float, float, int, int]:
    """fedpress's mean of encoded replies, folded as they come."""
    rotation = "shared" if fedpress.specs.may_share_rotation(spec) else "own"
    blob = fedpress.encode({"w": delta}, spec, several=False, rotation=rotation)
    model = {"w": delta}
    asked = Message(RecordDict(), dst_node_id=1, message_type="train")
    receipt = Receipt("", "", 0.0, delta.nbytes, 0.0, 0.0)

    def arriving() -> Iterator[Reply]:
        for node in range(replies):
            yield Reply(node, asked, receipt, "arrays", bytes(bytearray(blob)), {}, len(blob))

    before = peak_bytes()
    started = now()
    mean = WeightedMean(model, 1 << 34, threads)
    for reply in arriving():
        mean.add(reply, model, 1.0)
    array = flower_array(mean.take("w"))
    assert array.shape == delta.shape
    return *since(started), peak_bytes(), before


def now() -> tuple[float, float]:
    """Return the time, and how long this process has kept processors busy."""
    return time.perf_counter(), time.process_time()


def since(started: tuple[float, float]) -> tuple[float, float]:
    """Return what has passed of both."""
    return time.perf_counter() - started[0], time.process_time() - started[1]


def peak_bytes() -> int:
    """Return the peak of resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
