"""Versions and replicas: every client lands on the version, whatever it held, and nothing else is built upon."""

from __future__ import annotations

import numpy as np
import pytest

import fedpress
from fedpress.delta import Replica, Versions
from fedpress.submodel import Layout

SHAPES = {"fc1.weight": (40, 60), "fc1.bias": (40,), "fc2.weight": (30, 40), "fc2.bias": (30,)}
Model = dict[str, np.ndarray]


def models(n: int) -> list[Model]:
    """A model that walks."""
    draws = np.random.default_rng(1)
    found = [{name: draws.normal(size=shape).astype("f") for name, shape in SHAPES.items()}]
    for _ in range(n - 1):
        walk = {n: (a + 0.01 * draws.normal(size=a.shape)).astype("f") for n, a in found[-1].items()}
        found.append(walk)
    return found


def same(a: Model, b: Model) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_whatever_a_client_held_it_lands_on_the_same_version() -> None:
    layout = Layout.whole(SHAPES)
    versions, replicas = Versions(layout, exact=["fc2.bias"]), {c: Replica(layout) for c in range(4)}
    for round, model in enumerate(models(8)):
        versions.advance(round, model)
        fresh = Replica(layout).decode(versions.message()).model
        for client, replica in replicas.items():
            if round % (client + 1):
                continue  # away: client 3 comes every fourth round
            before = versions.held_by(client)
            received = replica.decode(versions.message(client, run=9, seed=4, uplink="auto", task="x"))
            assert same(received.model, fresh), (round, client, before)
            assert (received.run, received.round, received.client, received.seed) == (9, round, client, 4)
            assert (received.uplink, received.task) == (fedpress.Spec("auto"), "x")
            versions.acknowledge(client, round)
        assert fresh["fc2.bias"].tobytes() == model["fc2.bias"].tobytes()
        error = np.concatenate([(fresh[n] - model[n]).ravel() for n in SHAPES])
        # A quantum of 3.5 times the change at most, of which .75 waits; the first follows the weights.
        assert np.abs(error).max() < (0.75 * 3.5 * 0.012 if round > 1 else 0.2)


def test_a_delta_is_smaller_than_the_model_and_waits_for_its_acknowledgement() -> None:
    layout = Layout.whole(SHAPES)
    versions, replica = Versions(layout), Replica(layout)
    steps = models(5)
    sizes = []
    for round, model in enumerate(steps):
        versions.advance(round, model)
        message = versions.message(7)
        sizes.append(len(message))
        replica.decode(message)
        # Of the update of round 2 the server never hears.
        if round != 2:
            versions.acknowledge(7, round)
    assert sizes[1] < sizes[0] and sizes[2] < sizes[0] / 3 and sizes[4] < sizes[0] / 3
    versions.forget(7)
    assert versions.held_by(7) is None and len(versions.message(7)) > 2 * sizes[4]


def test_submodels_are_patched_together() -> None:
    layout = Layout.infer(SHAPES)
    versions, replica = Versions(layout), Replica(layout)
    for round, model in enumerate(models(6)):
        versions.advance(round, model)
        kept = layout.select(keep=0.5, number=round)
        message = versions.message(7, kept=kept)
        found = replica.decode(message).model
        expected = layout.pack(kept, Replica(layout).decode(versions.message()).model)
        assert same(found, expected)
        versions.acknowledge(7, round, kept=kept)


def test_both_sides_go_on_in_another_process() -> None:
    layout = Layout.whole(SHAPES)
    versions, replica, alone = Versions(layout), Replica(layout), Versions(layout)
    for round, model in enumerate(models(6)):
        for server in (versions, alone):
            server.advance(round, model)
        assert versions.message(7) == alone.message(7)
        replica.decode(versions.message(7))
        for server in (versions, alone):
            server.acknowledge(7, round)
        versions = Versions(layout, state=versions.save(), model=model)
        replica = Replica(layout, state=replica.save())
        assert versions.round == versions.held_by(7) == round
    other = Layout.whole({"w": (3, 4)})
    for make, state in ((Versions, versions.save()), (Replica, replica.save())):
        with pytest.raises(fedpress.Error):
            make(other, state=state)
        with pytest.raises(fedpress.Error):
            make(layout, state=state[:-1])


def test_who_is_out_of_step_says_so_and_is_as_before() -> None:
    layout = Layout.whole(SHAPES)
    versions, replica, walk = Versions(layout), Replica(layout), models(3)
    versions.advance(0, walk[0])
    replica.decode(versions.message(7))
    versions.acknowledge(7, 0)
    versions.advance(1, walk[1])
    message, state = versions.message(7), replica.save()
    with pytest.raises(fedpress.OutOfStepError, match="version"):
        Replica(layout).decode(message)
    for bad in (message[:-1], message[:40] + b"?" + message[41:], b""):
        with pytest.raises(fedpress.Error):
            replica.decode(bad)
    assert replica.save() == state
    replica.decode(message)


def test_what_cannot_be_is_refused() -> None:
    layout, model = Layout.whole(SHAPES), models(1)[0]
    versions = Versions(layout)
    invalid = pytest.raises(fedpress.InvalidArgumentError)
    with invalid:
        versions.message()
    for other in (
        {"w": model["fc1.bias"]},
        model | {"fc1.bias": model["fc1.bias"][:3]},
        model | {"fc1.bias": model["fc1.bias"].astype("d")},
    ):
        with pytest.raises(fedpress.InvalidArgumentError):
            versions.advance(0, other)
    versions.advance(3, dict(reversed(model.items())))
    with pytest.raises(fedpress.InvalidArgumentError, match="the last one was 3"):
        versions.advance(3, model)
    versions.acknowledge(1, 3)
    with pytest.raises(fedpress.InvalidArgumentError, match="it holds version 3"):
        versions.acknowledge(1, 3)
    with pytest.raises(fedpress.InvalidArgumentError, match="everyone"):
        versions.message((1 << 64) - 1)
    for options in (dict(step=0), dict(step=65), dict(dead_zone=0.4), dict(rounds=0), dict(exact=["x"])):
        with pytest.raises(fedpress.InvalidArgumentError):
            Versions(layout, **options)
