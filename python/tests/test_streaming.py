"""Encoder, Decoder, add_into and Aggregator."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest

import fedpress


def blob_of(seed: int, spec: str = "hadamard|q=8", **more: object) -> bytes:
    generator = np.random.default_rng(seed)
    tensors = {"a": generator.normal(size=(40, 100)).astype("f"), "b": generator.normal(size=7).astype("f")}
    return fedpress.encode(tensors | more, spec, private_seed=seed)


@hypothesis.given(st.lists(st.integers(1, 3000), max_size=20))
def test_however_bytes_arrive_the_tensors_are_the_same(cuts: list[int]) -> None:
    blob = blob_of(1) + blob_of(2)
    decoder, found, at = fedpress.Decoder(), [], 0
    for cut in [*cuts, len(blob)]:
        found += decoder.push(blob[at : at + cut])
        at += cut
    decoder.finish()
    expected = [*fedpress.decode(blob_of(1)).items(), *fedpress.decode(blob_of(2)).items()]
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


def test_an_end_too_early_is_told() -> None:
    decoder = fedpress.Decoder()
    decoder.push(blob_of(1)[:-1])
    with pytest.raises(fedpress.TruncatedError):
        decoder.finish()


def test_a_decoder_is_of_no_use_after_an_error() -> None:
    decoder = fedpress.Decoder()
    with pytest.raises(fedpress.CorruptError):
        decoder.push(b"nonsense and more")
    with pytest.raises(fedpress.PoisonedError):
        decoder.push(blob_of(1))


def test_a_decoder_hands_out_nothing_after_an_error() -> None:
    """The last chunk would fit where the one before did not: a tensor with a hole."""
    n_values = (4 << 20) + (1 << 18)
    blob = fedpress.encode({"x": np.zeros(n_values, "f")}, "lossless", chunk_values=1 << 20)
    decoder, errors = fedpress.Decoder(memory_limit=14 << 20), []
    for at in range(len(blob)):
        try:
            assert decoder.push(blob[at : at + 1]) == []
        except fedpress.Error as error:
            errors.append(type(error))
    assert errors[0] is fedpress.LimitError and len(errors) > 1
    assert set(errors[1:]) == {fedpress.PoisonedError}
    with pytest.raises(fedpress.PoisonedError):
        decoder.finish()


def test_a_decoder_keeps_to_its_limit() -> None:
    blob = fedpress.encode({"x": np.zeros(1 << 22, "f")}, "lossless")
    assert len(blob) < 10_000
    with pytest.raises(fedpress.LimitError):
        fedpress.Decoder(memory_limit=12 << 20).push(blob)
    with pytest.raises(fedpress.LimitError):
        fedpress.decode(blob, memory_limit=12 << 20)


def test_an_encoder_takes_open_tensors_and_pieces() -> None:
    encoder = fedpress.Encoder("hadamard|q=8", rules={"rows": "lossless"}, metadata={"k": "v"}, seed=1)
    rows = np.arange(30_000, dtype=ml_dtypes.bfloat16).reshape(-1, 3)
    blob = encoder.begin("rows", ml_dtypes.bfloat16, (3,), open=True)
    for part in np.array_split(rows, 7):
        blob += encoder.push(part)
    blob += encoder.end() + encoder.add("w", np.ones((100, 100), "f")) + encoder.finish()
    assert np.array_equal(fedpress.decode(blob)["rows"], rows)
    assert fedpress.inspect(blob).metadata == {"k": "v"}
    with pytest.raises(fedpress.InvalidArgumentError):
        encoder.add("late", rows)


def test_an_encoder_takes_bytes_but_no_values_of_another_type() -> None:
    values = np.arange(6, dtype=np.float32)
    encoder = fedpress.Encoder("none")
    blob = encoder.begin("x", np.float32, (6,))
    for other in (values.astype("d")[:3], values.astype("i4"), values.astype(">f4").view("i4")):
        with pytest.raises(fedpress.InvalidArgumentError, match="F32"):
            encoder.push(other)
    blob += (
        encoder.push(values[:2])
        + encoder.push(values[2:4].tobytes())
        + encoder.push(values[4:].astype(">f4"))
    )
    blob += encoder.end() + encoder.finish()
    assert np.array_equal(fedpress.decode(blob)["x"], values)


def test_add_into_is_decode_and_add() -> None:
    sums = {"a": np.full((40, 100), 0.5, "f"), "b": np.zeros(7, "f"), "more": np.ones(3, "f")}
    expected = {
        name: array + np.float32(0.25) * fedpress.decode(blob_of(3)).get(name, 0)
        for name, array in sums.items()
    }
    assert fedpress.add_into(blob_of(3), sums, 0.25) == 4007
    for name, array in expected.items():
        np.testing.assert_allclose(sums[name], array, rtol=1e-6, atol=1e-7)


def test_add_into_refuses_before_it_adds() -> None:
    good = np.zeros((40, 100), "f")
    with pytest.raises(KeyError, match="'b'"):
        fedpress.add_into(blob_of(1), {"a": good})
    for b in (np.zeros(8, "f"), np.zeros(7, "d"), np.zeros(14, "f")[::2]):
        with pytest.raises(fedpress.InvalidArgumentError):
            fedpress.add_into(blob_of(1), {"a": good, "b": b})
    with pytest.raises(fedpress.InvalidArgumentError):
        fedpress.add_into(
            blob_of(1, n=np.int64(3)), {"a": good, "b": np.zeros(7, "f"), "n": np.zeros((), "f")}
        )
    assert not good.any()


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 1000)), min_size=1, max_size=8))
def test_the_mean_is_that_of_the_decoded(parts: list[tuple[int, int]]) -> None:
    total = fedpress.Aggregator({"a": (40, 100), "b": (7,)})
    for seed, weight in parts:
        total.add(blob_of(seed), weight)
    weights = sum(weight for _, weight in parts)
    assert total.weight == weights
    if weights == 0:
        with pytest.raises(fedpress.InvalidArgumentError):
            total.mean()
        return
    decoded = [(fedpress.decode(blob_of(seed)), weight) for seed, weight in parts]
    for name, mean in total.mean().items():
        expected = sum(d[name].astype("d") * w for d, w in decoded) / weights
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-5)


def test_a_bad_stream_leaves_the_sums_alone() -> None:
    total = fedpress.Aggregator({"a": (40, 100), "b": (7,)})
    total.add(blob_of(1), 2)
    before = total.mean()
    damaged = bytearray(blob_of(2))
    damaged[-60] ^= 1  # In the last tensor.
    nan = fedpress.encode({"a": np.zeros((40, 100), "f"), "b": np.array([0, np.nan] * 3 + [0], "f")}, "none")
    lacking = fedpress.encode({"a": np.zeros((40, 100), "f")}, "none")
    broadcast = fedpress.encode({"a": np.zeros((1, 100), "f"), "b": np.zeros(7, "f")}, "none")
    twice = blob_of(1) + blob_of(2)
    for bad in (damaged, nan, lacking, broadcast, twice, blob_of(1, more=np.zeros(1, "f")), b""):
        for weight in (0, 3):
            with pytest.raises(fedpress.Error):
                total.add(bad, weight)
    for weight in (-1, float("nan"), float("inf"), 1e300, 1e-300, 10**400):
        with pytest.raises(fedpress.InvalidArgumentError):
            total.add(blob_of(1), weight)
    assert total.weight == 2
    assert all(np.array_equal(before[name], array) for name, array in total.mean().items())


@pytest.mark.parametrize("spec", ["hadamard|q=4", "rotation|q=3|zstd", "kashin|q=4", "rotation|lm=3"])
def test_streams_of_one_rotation_are_summed_before_it_is_undone(spec: str) -> None:
    """As far as float32 tells, the same sum: whoever shares the rotation, and whoever does not."""
    draws = np.random.default_rng(1)
    shapes = {"a": (70, 1000), "b": (2000,), "c": (3,)}
    total = fedpress.Aggregator(shapes, threads=2)
    expected = {name: np.zeros(shape) for name, shape in shapes.items()}
    for client, rotation in enumerate(["shared", "own", "shared", "shared"]):
        arrays = {name: draws.normal(size=shape).astype("f") for name, shape in shapes.items()}
        # The last is of another round, and rotates otherwise.
        blob = fedpress.encode(
            arrays, spec, seed=7, round=client // 3, client=client, rotation=rotation, spare=False,
            rules={"b": "none"} if client == 2 else None,
        )  # fmt: skip
        total.add(blob, client + 1)
        for name, array in fedpress.decode(blob).items():
            expected[name] += (client + 1) * array.astype("d")
        bad = bytearray(blob)
        bad[-200] ^= 1
        with pytest.raises(fedpress.Error):
            total.add(bytes(bad), 1)
    mean = total.mean()
    for name in shapes:
        np.testing.assert_allclose(mean[name], expected[name] / 10, atol=2e-5)
    assert all(np.array_equal(mean[name], total.mean()[name]) for name in shapes)


def test_nan_in_one_tensor_keeps_a_stream_out_of_all_sums() -> None:
    total = fedpress.Aggregator({"a": (5000,), "b": (5000,)})
    good = {"a": np.ones(5000, "f"), "b": np.ones(5000, "f")}
    bad = good | {"b": np.where(np.arange(5000) == 4097, np.float32(np.inf), 1)}
    for rotation in ("own", "shared"):
        keywords = dict(rotation=rotation, non_finite="lossless", chunk_values=4096)
        total.add(fedpress.encode(good, "hadamard|q=16", **keywords), 1)
        with pytest.raises(fedpress.InvalidArgumentError, match="'b', value 4097"):
            total.add(fedpress.encode(bad, "hadamard|q=16", **keywords), 1)
        np.testing.assert_allclose(total.mean()["a"], 1, atol=1e-3)
