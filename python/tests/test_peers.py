"""Beside what other libraries were seen to do on 2026-11-27 and 30: the same input through fedpress.

| library, version, where | what it does | here |
|---|---|---|
| flwr 1.42.0, findings/flower-mean.sh | its mean broadcasts, averages counters, ends in NaN or TypeError | test_flower.py |
| safetensors 0.8.0, findings/safetensors-numpy.sh | writes arrays in the order of their memory | test_codec.py |
| ml_dtypes 0.6.0, findings/ml-dtypes-npy.sh | np.load does not know its types | test_flower.py, below |
| nvflare 2.9.0, findings/nvflare-quantizers.sh | refuses counters, turns 1e5 into 65504, one NaN into many | test_nvflare.py, below |
| openfl 1.9, findings/openfl-pipelines.sh | its default fails on NumPy 2.4.6, EDEN on zeros and one value | below, test_flower_models.py |
| openfl 1.9, findings/openfl-kmeans.sh | brings two distinct values back as one | below |
| appfl 1.12.0, findings/appfl-zfp.sh | a BatchNorm counter becomes two float32; half models fail | below, test_flower_models.py |
| torch 2.15.0, ml_dtypes 0.6.0, findings/torch-float8.sh | infinity becomes 448, or NaN | test_torch.py, below |
| bitsandbytes 0.50.2, findings/nvflare-quantizers.sh | zeros come back as 2.1e-5 of the block's maximum | below |
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import fedpress

N = 5000
LOSSY = [
    "hadamard|q=2", "rotation|lm=1", "rotation|lm=4", "rotation|trellis=1", "identity|step=2", "kashin|q=4",
    "auto|rate=1|biased", "auto|rate=2", "small",
]  # fmt: skip


def back(array: np.ndarray, spec: str, **keywords: object) -> np.ndarray:
    return fedpress.decode(fedpress.encode({"x": array}, spec, min_values=0, several=False, **keywords))["x"]


@pytest.mark.parametrize("spec", LOSSY)
def test_tensors_of_zeros_and_of_one_value_come_back(spec: str) -> None:
    zeros = np.zeros(N, "f")
    np.testing.assert_array_equal(back(zeros, spec), zeros)
    for shape in ((1,), (), (0,), (1, 1, 1)):
        for value in (0.0, -3.5):
            array = np.full(shape, value, "f")
            np.testing.assert_allclose(back(array, spec), array, rtol=1e-6)
    # A constant is the worst that a basis can be given; its mean is right all the same.
    constant = np.full(N, 2.5, "f")
    means = [back(constant, spec, seed=seed).mean() for seed in range(8)]
    assert abs(np.mean(means) - 2.5) < 0.4


def test_two_values_stay_two() -> None:
    given = np.array([1, 5] * N, "f")
    for spec in ("none", "lossless", "identity|q=1", "identity|q=1,nearest"):
        np.testing.assert_array_equal(back(given, spec), given)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_models_with_counters_travel(dtype: type) -> None:
    draws = np.random.default_rng(1)
    model = {
        "conv.weight": draws.normal(size=(64, 300)).astype(dtype),
        "bn.weight": np.ones(64, dtype),
        "bn.num_batches_tracked": np.array((1 << 53) + 1),
    }
    for spec in ("rotation|trellis=4", "hadamard|q=8", "auto", "small"):
        found = fedpress.decode(fedpress.encode(model, spec))
        for name, array in model.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert int(found["bn.num_batches_tracked"]) == (1 << 53) + 1
        assert found["bn.weight"].tobytes() == model["bn.weight"].tobytes()
        assert fedpress.compare(model["conv.weight"], found["conv.weight"]).nmse < 0.2


def test_eight_bits_are_carried_and_not_converted() -> None:
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        every = np.arange(256, dtype=np.uint8).view(getattr(ml_dtypes, name))
        for spec in ("none", "rotation|trellis=2", "auto"):
            found = back(every, spec)
            assert found.dtype == every.dtype and found.tobytes() == every.tobytes()


def test_zeros_beside_large_values_stay_zeros() -> None:
    given = np.zeros(1 << 14, "f")
    given[::97] = np.random.default_rng(1).normal(size=len(given[::97]))
    for spec in ("identity|q=8,nearest", "identity|q=4,nearest|zstd", "identity|step=2,biased", "lossless"):
        assert not back(given, spec)[given == 0].any()


def test_large_values_keep_their_size_and_nan_its_place() -> None:
    given = np.random.default_rng(1).normal(size=N).astype("f")
    given[7] = 1e5
    assert abs(back(given, "hadamard|q=8")[7] / 1e5 - 1) < 0.01
    given[9] = np.nan
    found = back(given, "hadamard|q=8", non_finite="lossless")
    assert np.isnan(found).tolist() == np.isnan(given).tolist()
    with pytest.raises(fedpress.InvalidArgumentError, match='"x"'):
        back(given, "hadamard|q=8")
