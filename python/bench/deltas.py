"""Downloads as what changed, two ways: as the wrapper for Flower sends them, and by fedpress.delta.

usage: python deltas.py [--values 1000000] [--rounds 30] [--devices 60]

A model walks at random by .012 of its norm in each round. Silos: each of its clients in every round. Devices: a tenth of
them in each round, drawn at random, so that each was away for ten rounds in the mean. Bits a value of a message with every
byte counted, and the error of what the client then holds, both in the mean over the last two thirds of the rounds;
seconds to encode, over all; models that the server keeps for it at most.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import mean

import numpy as np

import fedpress
from fedpress.delta import Replica, Versions
from fedpress.flower.download import Downloads, nmse
from fedpress.submodel import Layout

Model = dict[str, np.ndarray]
# To a client in a round: bytes sent, and the model that it then has.
Send = Callable[[int, int, Model], tuple[int, Model]]


class Wrapper:
    """What Compressed does: the difference to the model that a node holds, of the last that were sent."""

    def __init__(self, updates: str, models: str, kept: int) -> None:
        """Set up."""
        specs = fedpress.Spec(models), fedpress.Spec(updates)
        self.downloads, self.holds, self.most = Downloads(*specs, 7, 1, kept), {}, 0

    def round(self, number: int, model: Model) -> None:
        """Begin a round."""
        self.downloads.forget_old(set(self.holds.values()))
        self.downloads.set_model(model, object())

    def send(self, client: int, number: int, model: Model) -> tuple[int, Model]:
        """Return bytes and what the client has of them."""
        sent = self.downloads.sent(self.holds.get(client, ""), number)
        self.holds[client] = sent.identity
        self.most = max(self.most, len(self.downloads._decoded))
        return sent.n_bytes, self.downloads.decoded(sent.identity)


class Chain:
    """fedpress.delta: a version of each round on a lattice, reached exactly from any other."""

    def __init__(self, model: Model, step: float, dead_zone: float) -> None:
        """Set up."""
        self.layout = Layout.whole(model)
        self.versions = Versions(self.layout, step=step, dead_zone=dead_zone)
        self.held: dict[int, int] = {}
        self.whole: Model = {}
        self.most = 0

    def round(self, number: int, model: Model) -> None:
        """Begin a round."""
        self.versions.advance(number, model)
        self.whole = Replica(self.layout).decode(self.versions.message()).model

    def send(self, client: int, number: int, model: Model) -> tuple[int, Model]:
        """Return bytes and what the client has of them: the version, whatever it held."""
        message = self.versions.message(client)
        self.versions.acknowledge(client, number)
        self.held[client] = number
        held = {round for round in self.held.values() if round >= number - 32}
        self.most = max(self.most, len(held | {number}) + 1)
        return len(message), self.whole


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--devices", type=int, default=60)
    arguments = parser.parse_args()
    first = next(walk(arguments.values))
    ways: dict[str, Callable[[], Wrapper | Chain]] = {
        "step 3.5, dead zone .75": lambda: Chain(first, 3.5, 0.75),
        "step 2, dead zone .5": lambda: Chain(first, 2, 0.5),
    }
    for rate, kept in ((0.87, 2), (1.73, 2), (1.73, 32), (2.42, 32)):
        name = f"rotation|trellis={rate}, {kept} models kept"
        ways[name] = lambda rate=rate, kept=kept: Wrapper(
            f"rotation|trellis={rate}", "rotation|trellis=6", kept
        )
    print(f"{'':36} {'clients':8} {'bits':>6} {'NMSE':>9} {'encode_s':>9} {'models':>7}")
    for name, make in ways.items():
        for clients in ("silos", "devices"):
            bits, error, seconds, most = run(make(), clients, arguments)
            print(f"{name:36} {clients:8} {bits:6.3f} {error:9.2e} {seconds:9.2f} {most:7}", flush=True)


def run(way: Wrapper | Chain, clients: str, arguments: argparse.Namespace) -> tuple[float, float, float, int]:
    """Return bits, error, seconds and models of one way."""
    draws, seconds = np.random.default_rng(3), 0.0
    bits, errors = [], []
    for number, model in zip(range(arguments.rounds), walk(arguments.values), strict=False):
        asked = (
            range(2)
            if clients == "silos"
            else draws.choice(arguments.devices, arguments.devices // 10, replace=False)
        )
        started = time.perf_counter()
        way.round(number, model)
        sent = [way.send(int(client), number, model) for client in asked]
        seconds += time.perf_counter() - started
        if number >= arguments.rounds // 3:
            bits += [8 * n_bytes / arguments.values for n_bytes, _ in sent]
            errors += [nmse(model, held) for _, held in sent]
    return mean(bits), mean(errors), seconds, way.most


def walk(values: int) -> Iterator[Model]:
    """Give a model of each round."""
    draws = np.random.default_rng(1)
    model = draws.normal(size=(values // 1000, 1000)).astype(np.float32)
    while True:
        yield {"w": model}
        model = model + np.float32(0.012) * draws.normal(size=model.shape).astype(np.float32)


if __name__ == "__main__":
    main()
