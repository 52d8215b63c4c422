"""Messages of FedGKT: what a client sends is what a server reads, and nothing half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fedpress
import fedpress.exchange as gkt

SHAPE, CLASSES = (3, 4, 4), 10


def samples(n: int, seed: int = 1) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    return {
        "ids": draws.permutation(1000)[:n],
        "features": np.maximum(draws.normal(size=(n, *SHAPE)), 0).astype("f"),
        "logits": draws.normal(size=(n, CLASSES)).astype("f"),
        "labels": draws.integers(CLASSES, size=n),
    }


def upload(given: dict[str, np.ndarray], *, round: int = 0, labels: bool = True, spec: str = "none") -> bytes:
    head = gkt.Features(run=7, round=round, client=3, shape=SHAPE, classes=CLASSES)
    writer = gkt.FeatureWriter(head, features=spec, logits="none", seed=round)
    for start in range(0, len(given["ids"]), 16):
        part = {name: array[start : start + 16] for name, array in given.items()}
        writer.batch(part["ids"], part["features"], part["logits"], part["labels"] if labels else None)
    return writer.finish()


def store(**keywords: object) -> gkt.FeatureStore:
    return gkt.FeatureStore(run=7, shape=SHAPE, classes=CLASSES, **keywords)


@pytest.mark.parametrize("piece", [1 << 20, 333])
def test_an_upload_is_read_in_any_order(piece: int) -> None:
    given, kept = samples(40), store()
    message = upload(given)
    taken = [kept.receive(3, 0, message[at : at + piece]) for at in range(0, len(message), piece)]
    assert taken == [None] * (len(taken) - 1) + [40]
    assert kept.clients() == {3: (0, 40)} and kept.samples(3) == sorted(given["ids"])
    order = np.random.default_rng(2).permutation(40)
    found = kept.read((3, id) for id in given["ids"][order])
    for name in ("features", "logits", "labels"):
        np.testing.assert_array_equal(getattr(found, name), given[name][order])
    assert kept.held == given["features"].nbytes
    kept.remove(3)
    assert kept.clients() == {} and kept.held == 0


def test_the_usual_pipelines_lose_little_and_take_little() -> None:
    given, kept = samples(400), store()
    head = gkt.Features(run=7, round=0, client=3, shape=SHAPE, classes=CLASSES)
    writer = gkt.FeatureWriter(head)
    writer.batch(**given)
    message = writer.finish()
    assert kept.receive(3, 0, message) == 400
    found = kept.read([(3, id) for id in given["ids"]])
    assert fedpress.compare(given["features"], found.features).nmse < 0.01
    assert fedpress.compare(given["logits"], found.logits).nmse < 1e-8
    # Two bytes for each logit and some bits for an id are in it.
    assert len(message) < given["features"].nbytes / 5


def test_what_is_wrong_is_rejected_with_its_reason_and_changes_nothing() -> None:
    given, kept = samples(40), store()
    with pytest.raises(fedpress.RejectedError, match="client 3") as caught:
        kept.receive(3, 0, upload(given, labels=False))
    assert (caught.value.reason, caught.value.number) == ("MissingLabel", 17)
    message = upload(given)
    assert kept.receive(3, 0, message) == 40
    before = kept.read([(3, id) for id in given["ids"]])
    bad = {
        "Duplicate": (0, upload(given)),
        "WrongRound": (1, message),
        "SecondLabel": (1, upload(given, round=1)),
        "MissingSample": (1, upload({n: a[:20] for n, a in given.items()}, round=1, labels=False)),
        "Malformed": (1, b"no message at all, but long enough to tell"),
        "NotFinite": (1, upload(given | {"logits": given["logits"] * np.nan}, round=1, labels=False)),
    }
    for reason, (round, bytes_) in bad.items():
        with pytest.raises(fedpress.RejectedError) as caught:
            kept.receive(3, round, bytes_)
        assert caught.value.reason == reason
    after = kept.read([(3, id) for id in given["ids"]])
    np.testing.assert_array_equal(before.features, after.features)
    assert kept.receive(3, 1, upload(given, round=1, labels=False)) == 40
    np.testing.assert_array_equal(kept.read([(3, given["ids"][0])]).labels, given["labels"][:1])


def test_a_writer_takes_all_of_a_batch_or_nothing() -> None:
    given = samples(8)
    head = gkt.Features(run=7, round=0, client=3, shape=SHAPE, classes=CLASSES)
    writer = gkt.FeatureWriter(head, features="none", logits="none")
    bad = [
        {"features": given["features"][:7]},
        {"features": given["features"].reshape(8, -1)},
        {"logits": given["logits"][:, :9]},
        {"labels": given["labels"][:7]},
        {"labels": np.full(8, CLASSES)},
        {"labels": np.full(8, -1)},
        {"labels": np.ones(8)},
        {"ids": np.zeros(8, int)},
        {"ids": given["ids"] + (1 << 32)},
        {"ids": given["ids"][None]},
    ]
    for other in bad:
        with pytest.raises(fedpress.InvalidArgumentError):
            writer.batch(**given | other)
    writer.batch(**given)
    with pytest.raises(fedpress.InvalidArgumentError):
        writer.batch(**given)
    kept = store()
    assert kept.receive(3, 0, writer.finish()) == 8
    with pytest.raises(ValueError, match="finished"):
        writer.finish()
    with pytest.raises(fedpress.InvalidArgumentError):
        gkt.FeatureWriter(gkt.Features(7, 0, 3, (), CLASSES))


def test_logits_come_back_by_sample() -> None:
    given = samples(40)
    writer = gkt.LogitWriter(gkt.Logits(run=7, round=2, client=3, classes=CLASSES), logits="none")
    for some in (slice(0, 25), slice(25, 40)):
        writer.batch(given["ids"][some], given["logits"][some])
    message = writer.finish()
    found = gkt.decode_logits(message)
    assert found.head == gkt.Logits(7, 2, 3, CLASSES)
    order = np.random.default_rng(3).permutation(40)
    np.testing.assert_array_equal(found.in_order(given["ids"][order]), given["logits"][order])
    for other in (given["ids"][:39], [*given["ids"][:39], given["ids"][0]], [*given["ids"], 5000]):
        with pytest.raises(fedpress.InvalidArgumentError):
            found.in_order(other)
    with pytest.raises(fedpress.LimitError):
        gkt.decode_logits(message, memory_limit=1000)
    for bad in (message[:-1], upload(given), b"", fedpress.encode({"0/ids": np.zeros(2, "u4")}, "none")):
        with pytest.raises(fedpress.Error):
            gkt.decode_logits(bad)


def test_a_store_with_a_folder_survives(tmp_path: Path) -> None:
    given, kept = samples(40), store(folder=tmp_path)
    assert kept.receive(3, 0, upload(given)) == 40
    half = upload(given, round=1, labels=False)
    assert kept.receive(3, 1, half[: len(half) // 2]) is None
    del kept
    again = store(folder=tmp_path)
    assert again.clients() == {3: (0, 40)}
    np.testing.assert_array_equal(again.read([(3, given["ids"][5])]).features, given["features"][5:6])
    del again
    with pytest.raises(fedpress.InvalidArgumentError):
        gkt.FeatureStore(run=8, shape=SHAPE, classes=CLASSES, folder=tmp_path)
    assert store(folder=tmp_path, fresh=True).clients() == {}


def test_seeds_decide_all_of_a_message() -> None:
    """Two writers that are told the same write the same."""
    given = samples(40)
    head = gkt.Features(run=7, round=0, client=3, shape=SHAPE, classes=CLASSES)
    made = []
    for private in (5, 5, 6):
        writer = gkt.FeatureWriter(head, features="hadamard|q=2", seed=9, private_seed=private)
        writer.batch(**given)
        made.append(writer.finish())
    assert made[0] == made[1] != made[2]
