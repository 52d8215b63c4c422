"""Laws of the measuring itself: known errors, known biases, known bounds, and the ports at their theory."""

import math

import numpy as np
import pytest
import rotated
import scalar
from metrics import best_seconds, bias, bits_per_value, bound_biased, bound_unbiased, nmse
from tensors import gaussian

K = 24


def test_bits_count_every_byte():
    assert bits_per_value(n_bytes=1000, n_values=4000) == 2.0


def test_nmse_of_zeros_is_one_and_scales_by_the_square():
    x = gaussian(1000)
    assert nmse(x, np.zeros_like(x)) == 1.0
    assert nmse(x, x) == 0.0
    assert nmse(x, x * np.float32(1.5)) == pytest.approx(0.25, rel=1e-6)
    assert nmse(x.reshape(10, 100), x) == 0.0


def test_nmse_sees_small_errors():
    # In single precision these squares would be rounded.
    x = np.ones(1 << 20, np.float32)
    assert nmse(x, x + np.float32(2.0**-20)) == 2.0**-40


def noise(n, seed):
    return np.random.default_rng(seed).standard_normal(n, np.float32)


def test_bias_ratio_is_1_of_independent_errors_and_k_of_equal_ones():
    x, tolerance = gaussian(20_000), 5 * math.sqrt(2 / 20_000)
    mean, ratio = bias(x, (x + noise(x.size, 100 + seed) for seed in range(K)))
    assert ratio == pytest.approx(1, abs=tolerance)
    assert mean == pytest.approx(1, abs=tolerance)
    mean, ratio = bias(x, (np.zeros_like(x) for _ in range(K)))
    assert (mean, ratio) == (1.0, K)
    _, ratio = bias(x, (x + (-1) ** seed * noise(x.size, 3) for seed in range(K)))
    assert ratio == pytest.approx(0, abs=1e-9)


def test_bias_ratio_of_a_part_that_is_always_lost():
    # An error of b^2 that is the same for all beside one of v that is not: (v + K b^2) / (v + b^2).
    x, b = gaussian(20_000), 0.5
    _, ratio = bias(x, (x * np.float32(1 - b) + noise(x.size, seed) for seed in range(50, 50 + K)))
    assert ratio == pytest.approx((1 + K * b * b) / (1 + b * b), rel=0.05)


def test_bounds_meet_their_definition():
    for bits in (0.25, 1, 4):
        d = bound_biased(bits)
        assert bits == pytest.approx(-0.5 * math.log2(d))
        assert bound_unbiased(bits) == pytest.approx(d / (1 - d))


def test_best_seconds_keeps_the_order_of_calls():
    slow, fast = best_seconds([lambda: sum(range(200_000)), lambda: None], 3)
    assert 0 < fast < slow


@pytest.mark.parametrize(("bits", "theory"), [(0.5, 2.142), (1, 0.571), (2, 0.133), (4, 0.0096)])
def test_eden_has_the_error_of_its_formula_at_its_bits(bits, theory):
    x = gaussian(3 << 12)
    mean, ratio = bias(x, (rotated.decode(rotated.encode(x, bits, seed)) for seed in range(K)))
    assert mean == pytest.approx(theory, rel=0.04)
    assert ratio == pytest.approx(1, abs=0.1)
    assert bits_per_value(rotated.encode(x, bits, 0).n_bytes(), x.size) == pytest.approx(bits, rel=0.02)


def test_the_hadamard_transform_is_its_own_inverse():
    x = gaussian(1 << 10)
    assert np.allclose(rotated.hadamard(rotated.hadamard(x)), x, atol=1e-5)
    assert np.allclose(rotated.rotate_back(rotated.rotate(x, (1,)), (1,)), x, atol=1e-5)


def test_elias_omega_lengths_are_those_of_the_code():
    numbers = np.array([1, 2, 3, 4, 7, 8, 15, 16, 100])
    assert scalar.elias_omega_bits(numbers).tolist() == [1, 3, 3, 6, 6, 7, 7, 11, 13]


@pytest.mark.parametrize(
    "encode", [lambda x, s: scalar.qsgd(x, 0.5, s), lambda x, s: scalar.uniform(x, 2, s)]
)
def test_stochastic_rounding_is_unbiased(encode):
    x = gaussian(20_000)
    _, ratio = bias(x, (encode(x, seed).values() for seed in range(K)))
    assert ratio == pytest.approx(1, abs=0.1)
