"""Laws of integer updates from Python: the sum of codes is the code of the sum, masked or not."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedpress
from fedpress.integers import Integers

SHAPES = {"conv.weight": (8, 3, 3, 3), "conv.bias": (8,), "step": ()}


def updates(n: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    return [
        {name: np.asarray(generator.normal(size=shape) / 16, np.float32) for name, shape in SHAPES.items()}
        for _ in range(n)
    ]


@given(bits=st.integers(8, 32), n=st.integers(1, 6), spare=st.integers(0, 4), seed=st.integers(0, 2**64 - 1))
def test_the_mean_of_masked_codes_is_the_mean_of_updates(bits: int, n: int, spare: int, seed: int) -> None:
    rule = Integers(SHAPES, bits=bits, clients=n + spare, clip=2.0)
    given = updates(n, seed % 2**32)
    codes = [rule.codes(update, seed=seed, round=3) for update in given]
    generator = np.random.default_rng(seed)
    masks = [generator.integers(0, 2**bits, rule.n_values, np.uint64) for _ in codes]
    masks[-1] = -sum(masks[:-1], np.zeros(rule.n_values, np.uint64)) % 2**bits
    masked = [(code + mask) % 2**bits for code, mask in zip(codes, masks, strict=True)]
    total = rule.add(masked)
    np.testing.assert_array_equal(total, rule.add(codes))
    # As each travels, and added in parts.
    again = [rule.unpack(rule.pack(code)) for code in masked]
    np.testing.assert_array_equal(total, rule.add([rule.add(again[:1]), *again[1:]]))
    mean = rule.mean(total, n, seed=seed, round=3)
    # Each coefficient is rounded to one of two steps, and a rotation keeps norms; f32 has 24 bits.
    bound = rule.step * np.sqrt(rule.n_values) + 1e-5
    error = sum(
        np.sum((mean[name] - np.mean([update[name] for update in given], axis=0)) ** 2) for name in SHAPES
    )
    assert {name: array.shape for name, array in mean.items()} == SHAPES
    assert np.sqrt(error) <= bound


def test_codes_average_out_over_secrets() -> None:
    """The mean of 400 codings of one update: squares of its error behave as those of 400 independent ones."""
    rule = Integers(SHAPES, bits=8, clients=1, clip=2.0)
    (update,) = updates(1)
    n = 400

    def error(codes: list[np.ndarray]) -> float:
        means = [rule.mean(code, 1, seed=1, round=0) for code in codes]
        return float(
            sum(np.sum((np.mean([m[name] for m in means], axis=0) - update[name]) ** 2) for name in SHAPES)
        )

    codes = [rule.codes(update, seed=1, round=0) for _ in range(n)]
    single = np.mean([error([code]) for code in codes])
    # A sum of 225 squares; five of its standard deviations.
    assert error(codes) < single / n * (1 + 5 * np.sqrt(2 / rule.n_values))


def test_noise_is_what_it_says() -> None:
    """The variance of 64 sums of zeros with the noise of 16 clients, within five of its standard deviations."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    rule = Integers(SHAPES, bits=24, clients=16, clip=1.0, noise_multiplier=0.5)
    assert rule.deviation > 3
    sums = [
        rule.mean(rule.add([rule.codes(zeros, seed=1, round=r) for _ in range(16)]), 1, seed=1, round=r)
        for r in range(64)
    ]
    values = np.concatenate([array.ravel() for mean in sums for array in mean.values()])
    expected = rule.deviation**2 * 16 * rule.step**2
    assert abs(np.var(values) / expected - 1) < 5 * np.sqrt(2 / values.size)


def test_secrets_make_codes_repeat() -> None:
    rule, (update,) = Integers(SHAPES, bits=12, clients=3, clip=1.0), updates(1)
    first, again, other = (
        rule.codes(update, seed=1, round=0, secret=secret) for secret in (b"a" * 32, b"a" * 32, b"b" * 32)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", [np.float16, np.float64, ml_dtypes.bfloat16, ">f4"])
def test_updates_of_any_type_are_read_as_float32(kind: type) -> None:
    (update,) = updates(1)
    rule = Integers(SHAPES, bits=16, clients=1, clip=1.0)
    other = {name: array.astype(kind) for name, array in update.items()}
    same = {name: np.asarray(array, np.float32) for name, array in other.items()}
    secret = bytes(32)
    np.testing.assert_array_equal(
        rule.codes(other, seed=2, round=1, secret=secret), rule.codes(same, seed=2, round=1, secret=secret)
    )


def test_what_does_not_fit_is_refused() -> None:
    rule, (update,) = Integers(SHAPES, bits=8, clients=4, clip=1.0), updates(1)
    codes = rule.codes(update, seed=1, round=0)
    with pytest.raises(fedpress.InvalidArgumentError, match="headroom"):
        Integers(SHAPES, bits=4, clients=100, clip=1.0)
    with pytest.raises(fedpress.InvalidArgumentError, match=r"conv\.bias"):
        rule.codes({"conv.bias": update["conv.bias"]}, seed=1, round=0)
    with pytest.raises(fedpress.InvalidArgumentError):
        rule.codes({**update, "step": np.float32(np.nan)}, seed=1, round=0)
    with pytest.raises(fedpress.InvalidArgumentError, match="32 bytes"):
        rule.codes(update, seed=1, round=0, secret=b"short")
    for bad in (codes[:-1], codes + 256, codes.astype(np.float32), -codes.astype(np.int64) - 1):
        with pytest.raises(fedpress.InvalidArgumentError):
            rule.add([codes, bad])
    with pytest.raises(fedpress.InvalidArgumentError, match="divisor"):
        rule.mean(codes, 0, seed=1, round=0)
    with pytest.raises(fedpress.CorruptError):
        rule.unpack(rule.pack(codes) + b"x")
