"""Laws of the search for a rate, a bound and an error, on codecs whose bits and errors are known."""

import math

import numpy as np
import pytest
from equal_error import bits_at
from tensors import gaussian

from codec import Codec, Family, Ladder, least_error, scaled

X = gaussian(8000)


def known(bits, error):
    """A codec that takes so many bits a value and has that NMSE."""
    return Codec(
        lambda x, _seed: x,
        lambda x: x * np.float32(1 + math.sqrt(error)),
        n_bytes=lambda x: math.ceil(bits * x.size / 8),
    )


@pytest.mark.parametrize("factor", [0.97, 1.0, 1.03, 1.2])
def test_a_rate_is_found_just_below_what_was_asked(factor):
    found = scaled(X, 2.0, lambda asked: known(factor * asked, 4.0**-asked))
    # Up to 1.05 times the bits are asked for, no more.
    least = min(1.0, 1.05 * factor)
    assert found is not None and 0.996 * least * 2.0 < found.bits(X) <= 2.002 * 2.0


def test_a_rate_is_found_where_steps_are_coarse():
    found = scaled(X, 2.0, lambda asked: known(math.ceil(32 * asked + 0.3) / 32, 0.1))
    assert found is not None and 1.9 < found.bits(X) <= 2.004


def test_no_rate_is_found_where_all_take_too_much():
    assert scaled(X, 0.2, lambda _asked: known(4.0, 0.1)) is None


def test_the_smallest_bound_within_the_bits_is_found():
    rms = float(np.sqrt(np.mean(np.square(X, dtype=np.float64))))
    ladder = Ladder(X, lambda bound: known(max(0.1, 3 - math.log2(bound / rms)), 0.1))
    for bits in (1.0, 2.0, 4.0):
        found = ladder.codec(bits)
        assert found is not None and bits - 1 / 50 < found.bits(X) <= bits * 1.003
    assert ladder.codec(0.05) is None


def test_bits_at_an_error_are_those_of_the_code():
    family = Family("known", False, lambda _x, bits: known(bits, 4.0**-bits))
    for bits in (0.5, 2.0, 5.0):
        assert bits_at(X, family, 4.0**-bits) == pytest.approx(bits, rel=0.005)
    assert bits_at(X, family, 4.0**-13) is None


def test_the_least_error_is_taken():
    found = least_error(X, [None, known(1, 0.3), known(1, 0.1), known(1, 0.2)])
    assert found is not None and found.error(X) == pytest.approx(0.1, rel=1e-4)
    assert least_error(X, [None]) is None
