"""What group knowledge transfer (FedGKT, He et al. 2020) sends: features up, logits down.

A client runs its samples through the first layers of its model and sends features and logits, with its
first upload also the labels. The server keeps what is complete and right in a :class:`FeatureStore`, trains a
large model on it, and answers with logits of its own. A sample is a number of the client's choosing, so
nothing depends on the order in which a loader shuffles. No gradient travels, and no weights; but features
and labels tell the server much of the data: section 1.6 of ``fl/MESSAGES.md`` says what.

>>> import numpy as np, fedpress.exchange as gkt
>>> head = gkt.Features(run=1, round=0, client=3, shape=(2, 2), classes=3)
>>> writer = gkt.FeatureWriter(head)
>>> features = np.array([[[0, 1.5], [0, 0.25]]], np.float32)
>>> writer.batch([40], features, [[0.1, -1, 2]], labels=[2])
>>> store = gkt.FeatureStore(run=1, shape=(2, 2), classes=3)
>>> store.receive(3, 0, writer.finish())
1
>>> samples = store.read([(3, 40)])
>>> samples.features.shape, samples.labels
((1, 2, 2), array([2], dtype=uint16))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpress import _fedpress
from fedpress.arrays import Array, as_bytes, as_numpy, from_bytes
from fedpress.describe import MEMORY_LIMIT, flat
from fedpress.errors import InvalidArgumentError
from fedpress.specs import SpecLike, as_spec


@dataclass(frozen=True)
class Features:
    """Head of an upload.

    Attributes:
        run: which training this is.
        round: of the server.
        client: whose samples these are, below 2^64 - 1.
        shape: of the features of one sample: 1 to 8 dimensions.
        classes: how many there are, 1 to 65,536, and so logits for each sample.
    """

    run: int
    round: int
    client: int
    shape: tuple[int, ...]
    classes: int


@dataclass(frozen=True)
class Logits:
    """Head of an answer: as :class:`Features`, without a shape."""

    run: int
    round: int
    client: int
    classes: int


class FeatureWriter:
    """Encodes an upload batch by batch; features are to be float32, or become it."""

    def __init__(
        self,
        head: Features,
        *,
        features: SpecLike | None = None,
        logits: SpecLike | None = None,
        seed: int = 0,
        private_seed: int | None = None,
    ) -> None:
        """Begin a message.

        Args:
            head: what it says beside its batches.
            features: spec of the features; ``identity|q=4,nearest|zstd`` unless given.
            logits: spec of the logits; ``identity|q=16,nearest`` unless given.
            seed: shared seed, another one for each upload.
            private_seed: how values round; drawn afresh unless given.

        Raises:
            InvalidArgumentError: a head, or a spec, that is none.
        """
        self._head = head
        specs = (_spec(features), _spec(logits))
        numbers = (head.run, head.round, head.client)
        self._writer = _fedpress.FeatureWriter(
            numbers, list(head.shape), head.classes, specs, seed, private_seed
        )

    def batch(self, ids: Any, features: Any, logits: Any, labels: Any = None) -> None:
        """Encode the next samples.

        Args:
            ids: the client's own numbers of n samples, below 2^32, none of them twice in an upload.
            features: n times the shape of the head.
            logits: [n, classes].
            labels: n classes, in every batch of a client's first upload, and in no batch of a later
                one.

        Raises:
            InvalidArgumentError: other shapes, a label that is no class, an id that came before. Nothing
                was written.
        """
        numbers = _integers("ids", ids, np.uint32)
        n = len(numbers)
        values = _floats("features", features, (n, *self._head.shape))
        scores = _floats("logits", logits, (n, self._head.classes))
        classes = None if labels is None else as_bytes(_integers("labels", labels, np.uint16))
        self._writer.batch(as_bytes(numbers), values, scores, classes)

    def finish(self) -> bytes:
        """End the message and return it."""
        return self._writer.finish()


class LogitWriter:
    """Encodes the server's answer to one client, batch by batch."""

    def __init__(
        self,
        head: Logits,
        *,
        logits: SpecLike | None = None,
        seed: int = 0,
        private_seed: int | None = None,
    ) -> None:
        """Begin a message; arguments and errors are those of :class:`FeatureWriter`."""
        self._head = head
        numbers = (head.run, head.round, head.client)
        self._writer = _fedpress.LogitWriter(numbers, head.classes, _spec(logits), seed, private_seed)

    def batch(self, ids: Any, logits: Any) -> None:
        """Encode the logits of the next samples, [n, classes].

        Raises:
            InvalidArgumentError: other shapes, or an id that came before. Nothing was written.
        """
        numbers = _integers("ids", ids, np.uint32)
        scores = _floats("logits", logits, (len(numbers), self._head.classes))
        self._writer.batch(as_bytes(numbers), scores)

    def finish(self) -> bytes:
        """End the message and return it."""
        return self._writer.finish()


@dataclass(frozen=True)
class SampleLogits:
    """The server's logits for samples of one client.

    Attributes:
        head: run, round, client, classes.
        ids: of the samples, uint32, none of them twice.
        values: [n, classes], float32.
    """

    head: Logits
    ids: Array
    values: Array

    def in_order(self, ids: Any) -> Array:
        """Return the logits of exactly these samples, in this order.

        Raises:
            InvalidArgumentError: one is missing, comes twice, or others are there.
        """
        wanted = _integers("ids", ids, np.uint32)
        order, places = np.argsort(self.ids), np.argsort(wanted)
        if not np.array_equal(self.ids[order], wanted[places]):
            raise InvalidArgumentError(
                f"logits for {len(self.ids)} samples, which are not the {len(wanted)} asked for"
            )
        ordered = np.empty_like(self.values)
        ordered[places] = self.values[order]
        return ordered


def decode_logits(message: Any, *, memory_limit: int = MEMORY_LIMIT) -> SampleLogits:
    """Return what an answer says.

    Args:
        message: what a :class:`LogitWriter` made, whole.
        memory_limit: most memory for ids and logits, and again to decode them, in bytes.

    Raises:
        CorruptError: it is no such message, or has an id twice, NaN or infinity.
        Error: as :func:`fedpress.decode`.
    """
    (run, round, client), classes, ids, values = _fedpress.decode_logits(flat(message), memory_limit)
    n = len(ids) // 4
    head = Logits(run, round, client, classes)
    return SampleLogits(head, from_bytes(ids, "U32", [n]), from_bytes(values, "F32", [n, classes]))


@dataclass(frozen=True)
class Samples:
    """Samples of a store.

    Attributes:
        features: [n, shape], float32.
        logits: of the clients, [n, classes], float32.
        labels: [n], uint16.
    """

    features: Array
    logits: Array
    labels: Array


class FeatureStore:
    """The last complete upload of each client, in bounded memory.

    The first upload that is taken from a client names its samples and their labels; each later one has
    features and logits of exactly these. An upload is checked as it arrives and changes nothing before
    it is complete. With a folder, a store survives a restart.
    """

    def __init__(
        self,
        *,
        run: int,
        shape: Sequence[int],
        classes: int,
        folder: str | os.PathLike[str] | None = None,
        fresh: bool = False,
        memory: int = 1 << 30,
        max_samples: int = 1 << 16,
        max_clients: int = 1024,
        max_in_flight: int = 16,
        max_message_bytes: int = 1 << 32,
        decode_memory: int = 256 << 20,
    ) -> None:
        """Open a store, with what an earlier one left in the folder.

        Args:
            run: uploads of another run are refused.
            shape: of the features of one sample.
            classes: how many there are.
            folder: where uploads are kept; None: in memory alone.
            fresh: whether what is in the folder is removed, unread.
            memory: most decoded features in memory, in bytes; with a folder, more are read from there,
                without one, what does not fit is refused.
            max_samples: of one client.
            max_clients: that are known.
            max_in_flight: uploads that have begun and not ended.
            max_message_bytes: of one upload.
            decode_memory: most memory to decode one upload, in bytes.

        Raises:
            InvalidArgumentError: a shape, a number of classes or a limit that is none; a file of another
                run or shape.
            Error: a file is damaged, or the folder cannot be used; the message names it.
        """
        self._shape, self._classes = tuple(shape), classes
        limits = (memory, max_samples, max_clients, max_in_flight, max_message_bytes, decode_memory)
        path = None if folder is None else os.fspath(folder)
        self._store = _fedpress.FeatureStore(run, list(shape), classes, path, fresh, limits)

    def receive(self, client: int, round: int, data: Any) -> int | None:
        """Take the next bytes of a client's upload, cut anywhere.

        Args:
            client: who sends them, as the transport vouches for.
            round: of the server: the upload has to be of it, and the client's only one in it.
            data: the bytes.

        Returns:
            How many samples the upload had, when it is complete and was taken; None before.

        Raises:
            RejectedError: it was not taken, and why; the store is as it was. What is still to come of this
                upload is not to be handed in.
            StreamIOError: the disk refuses. The store is as it was.
        """
        return self._store.receive(client, round, flat(data))

    def read(self, samples: Iterable[tuple[int, int]]) -> Samples:
        """Return samples by client and id, in the order that is asked for.

        Raises:
            InvalidArgumentError: a sample that is not known.
            Error: its file cannot be read, or is damaged.
        """
        wanted = [(int(client), int(id)) for client, id in samples]
        features, logits, labels = self._store.read(wanted)
        n = len(wanted)
        return Samples(
            from_bytes(features, "F32", [n, *self._shape]),
            from_bytes(logits, "F32", [n, self._classes]),
            from_bytes(labels, "U16", [n]),
        )

    def forget(self, client: int) -> None:
        """Forget an upload that will not be finished."""
        self._store.forget(client)

    def remove(self, client: int) -> None:
        """Forget all of a client: samples, labels, its file. What it sends next is a first upload.

        Raises:
            StreamIOError: the disk refuses.
        """
        self._store.remove(client)

    def clients(self) -> dict[int, tuple[int, int]]:
        """Return round and number of samples of the last upload of each client."""
        return {client: (round, n) for client, round, n in self._store.clients()}

    def samples(self, client: int) -> list[int]:
        """Return the samples of a client, ascending; none of one that is not known."""
        return self._store.samples(client)

    @property
    def held(self) -> int:
        """Bytes of decoded features in memory."""
        return self._store.held()


def _spec(spec: SpecLike | None) -> _fedpress.Spec | None:
    return None if spec is None else as_spec(spec)


def _integers(what: str, values: Any, dtype: type[np.unsignedinteger[Any]]) -> Array:
    """Return integers as those that travel, one dimension; none changes."""
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(dtype)
    most = np.iinfo(dtype).max
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array < 0).any() or (array > most).any():
        raise InvalidArgumentError(f"{what}: expected one dimension of integers from 0 to {most}")
    return array.astype(dtype)


def _floats(what: str, values: Any, shape: tuple[int, ...]) -> Array:
    """Return the bytes of float32 of that shape."""
    array = as_numpy(values) if hasattr(values, "__dlpack__") else np.asarray(values)
    if array.shape != shape:
        raise InvalidArgumentError(f"{what}: expected shape {shape}, found {array.shape}")
    return as_bytes(array.astype(np.float32, copy=False))
