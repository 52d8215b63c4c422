"""encode and decode: every type, shape and order of memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest

import fedpress
from fedpress.arrays import DTYPES

LOSSLESS = ["none", "lossless", "zstd"]
LOSSY = [
    "hadamard|q=4", "hadamard|q=8|zstd", "rotation|lm=4", "kashin|q=6", "identity|q=8", "identity|step=4",
    "rotation|trellis=3.3", "auto|rate=4", "auto|rate=4|biased",
]  # fmt: skip


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    """The same type, shape and bits."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_importing_it_imports_no_framework() -> None:
    code = "import fedpress, sys; print({'torch', 'flwr', 'ray', 'nvflare'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert found.stdout.strip() == b"set()"


@pytest.mark.parametrize("spec", LOSSLESS)
@pytest.mark.parametrize("name", DTYPES)
def test_every_type_comes_back(name: str, spec: str, generator: np.random.Generator) -> None:
    bits = generator.integers(0, 2 if name == "BOOL" else 256, (3, 5, 16), np.uint8)
    array = bits.view(DTYPES[name])
    back = fedpress.decode(fedpress.encode({"x": array}, spec))["x"]
    assert equal(back, array) and back.flags.writeable


@hypothesis.given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.int64, np.uint8, np.bool_, np.complex64]),
        arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=7),
    ),
    st.sampled_from(LOSSLESS),
)
def test_any_array_comes_back(array: np.ndarray, spec: str) -> None:
    assert equal(fedpress.decode(fedpress.encode({"x": array}, spec))["x"], array)


@hypothesis.given(st.dictionaries(st.text(max_size=20).filter(lambda s: "\0" not in s), st.integers(0, 9)))
def test_names_and_their_order_come_back(sizes: dict[str, int]) -> None:
    tensors = {name: np.arange(n, dtype=np.float32) for name, n in sizes.items()}
    assert list(fedpress.decode(fedpress.encode(tensors, "none"))) == list(tensors)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(
    st.lists(st.slices(12), min_size=3, max_size=3),
    st.permutations([0, 1, 2]),
    st.sampled_from(["float32", "int16", ml_dtypes.bfloat16, ml_dtypes.float8_e5m2]),
    st.sampled_from("CF"),
)
def test_any_strides_are_read_right(cuts: list[slice], axes: list[int], dtype: str, order: str) -> None:
    whole = np.asarray(np.arange(12**3).reshape(12, 12, 12) % 100, dtype, order=order)
    view = whole[tuple(cuts)].transpose(axes)
    assert equal(fedpress.decode(fedpress.encode({"x": view}, "none"))["x"], view.copy("C"))


def test_big_endian_arrays_come_back_little_endian() -> None:
    array = np.arange(10, dtype=">f4")
    assert equal(fedpress.decode(fedpress.encode({"x": array}, "none"))["x"], array.astype("<f4"))


@pytest.mark.parametrize("spec", LOSSY)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_lossy_specs_keep_type_shape_and_most_of_the_values(
    spec: str, dtype: type, generator: np.random.Generator
) -> None:
    array = generator.normal(size=(64, 300)).astype(dtype)
    blob = fedpress.encode({"x": array}, spec, seed=3)
    back = fedpress.decode(blob)["x"]
    assert back.dtype == array.dtype and back.shape == array.shape
    assert fedpress.compare(array, back).nmse < 0.06
    assert len(blob) < array.nbytes * 0.6


def test_what_is_decoded_has_the_original_as_its_mean(generator: np.random.Generator) -> None:
    array = generator.normal(size=4096).astype(np.float32)
    rounds = 400
    total = np.zeros(4096)
    squares = 0.0
    for _ in range(rounds):
        back = fedpress.decode(fedpress.encode({"x": array}, "hadamard|q=2", seed=1))["x"]
        total += back
        squares += float(((back - array) ** 2).sum())
    error = float(((total / rounds - array) ** 2).sum())
    # The mean of independent errors has 1/rounds of their energy; its spread over 4096 values is
    # small beside 20 %.
    assert 0.8 < error / (squares / rounds / rounds) < 1.2


def test_the_same_seeds_give_the_same_bytes_on_any_number_of_threads() -> None:
    arrays_ = {f"w{i}": np.random.default_rng(i).normal(size=(300, 1000)).astype("f") for i in range(5)}
    options = dict(seed=1, round=2, client=3, clients=9, private_seed=4)
    blobs = {fedpress.encode(arrays_, "hadamard|q=4|zstd", threads=n, **options) for n in (0, 1, 3)}
    assert len(blobs) == 1
    assert fedpress.encode(arrays_, "hadamard|q=4|zstd", **options | {"round": 3}) not in blobs
    made = fedpress.options(**options)
    assert fedpress.encode(arrays_, "hadamard|q=4|zstd", encode_options=made) in blobs


def test_private_seeds_are_drawn_afresh() -> None:
    array = np.random.default_rng(1).normal(size=5000).astype("f")
    assert len({fedpress.encode({"x": array}, "hadamard|q=2") for _ in range(8)}) == 8


def test_rules_choose_by_name() -> None:
    array = np.random.default_rng(1).normal(size=(100, 100)).astype("f")
    rules = {"head.*": "none", "*": "hadamard|q=2"}
    blob = fedpress.encode({"head.w": array, "body.w": array}, "lossless", rules=rules)
    assert [t.spec for t in fedpress.inspect(blob).tensors] == ["none", "hadamard|q=2"]


def test_out_is_filled_and_returned(generator: np.random.Generator) -> None:
    tensors = {"a": generator.normal(size=(2000, 30)).astype("f"), "n": np.int64(5)}
    blob = fedpress.encode(tensors, "none")
    out = {"a": np.full((2000, 30), np.nan, np.float32)}
    back = fedpress.decode(blob, out=out, threads=2)
    assert back["a"] is out["a"] and equal(out["a"], tensors["a"]) and back["n"] == 5


def test_an_out_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    blob = fedpress.encode({"a": np.ones((2, 3), "f"), "b": np.ones(4, "f")}, "none")
    good = np.zeros((2, 3), "f")
    strided = np.zeros((2, 6), "f")[:, ::2]
    readonly = np.zeros(4, "f")
    readonly.flags.writeable = False
    shared = np.zeros(10, "f")
    for bad in [
        {"b": np.zeros(5, "f")},
        {"b": np.zeros(4, "d")},
        {"b": readonly},
        {"c": np.zeros(4, "f")},
        {"a": strided},
        {"a": shared[:6].reshape(2, 3), "b": shared[4:8]},
    ]:
        with pytest.raises(fedpress.InvalidArgumentError):
            fedpress.decode(blob, out={"a": good, **bad})
    assert not good.any() and not shared.any()


def test_a_stream_is_not_decoded_into_itself() -> None:
    blob = bytearray(fedpress.encode({"a": np.ones(6, "f")}, "none"))
    inside = np.frombuffer(blob, np.float32, count=6)
    before = bytes(blob)
    with pytest.raises(fedpress.InvalidArgumentError, match="'a'"):
        fedpress.decode(blob, out={"a": inside})
    with pytest.raises(fedpress.InvalidArgumentError, match="'a'"):
        fedpress.add_into(blob, {"a": inside})
    assert blob == before


class Dlpack:
    """An array of another library: nothing but the protocol."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack__(self) -> object:
        if self.device[0] != 1:
            raise BufferError("this tensor is elsewhere")
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def test_arrays_of_other_libraries_are_taken() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for other in (Dlpack(array), memoryview(array), Dlpack(array[:, ::2].T), array.tobytes()):
        blob = fedpress.encode({"x": other}, "none")
        expected = other.array if isinstance(other, Dlpack) else np.asarray(memoryview(other))
        assert equal(fedpress.decode(blob)["x"], expected.copy("C"))
    with pytest.raises(fedpress.InvalidArgumentError, match="'x'.*elsewhere"):
        fedpress.encode({"x": Dlpack(array, (2, 0))}, "none")


def test_what_dlpack_lends_is_given_back() -> None:
    import gc
    import weakref

    class Owner(np.ndarray):
        pass

    array = np.arange(8, dtype=np.float32).view(Owner)
    lent = weakref.ref(array)
    taken = fedpress.arrays.as_numpy(Dlpack(array))
    del array
    gc.collect()
    assert taken.tolist() == list(range(8)) and lent() is not None
    del taken
    gc.collect()
    assert lent() is None


def test_wrong_things_are_named() -> None:
    for bad in ([1.0], "text", 3, None, object()):
        with pytest.raises(TypeError, match="'x': expected an array"):
            fedpress.encode({"x": bad}, "none")
    for bad in (np.zeros(3, object), np.zeros(3, "M8[s]"), np.zeros(3, "S4"), np.zeros(3, "c16")):
        with pytest.raises(TypeError, match="'x': elements of type"):
            fedpress.encode({"x": bad}, "none")
    with pytest.raises(TypeError):
        fedpress.encode({1: np.zeros(3)}, "none")  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        fedpress.encode({}, "none", sed=3)
    with pytest.raises(fedpress.InvalidArgumentError, match="unknown stage"):
        fedpress.encode({}, "hadamrd")
    with pytest.raises(ValueError, match="rotation"):
        fedpress.encode({}, "none", rotation="other")
    with pytest.raises(fedpress.InvalidArgumentError) as nan:
        fedpress.encode({"x": np.full(5000, np.nan, "f")}, "hadamard|q=4")
    assert nan.value.tensor == "x"
    array = np.full(5000, np.nan, "f")
    blob = fedpress.encode({"x": array}, "hadamard|q=4", non_finite="lossless")
    assert equal(fedpress.decode(blob)["x"], array)


def test_every_damage_is_an_error_of_its_kind() -> None:
    blob = fedpress.encode({"x": np.random.default_rng(1).normal(size=5000).astype("f")}, "hadamard|q=4")
    with pytest.raises(fedpress.TruncatedError):
        fedpress.decode(blob[:-1])
    with pytest.raises(fedpress.TruncatedError):
        fedpress.decode(b"")
    for at in range(0, len(blob), 97):
        damaged = bytearray(blob)
        damaged[at] ^= 0x10
        with pytest.raises((fedpress.CorruptError, fedpress.UnsupportedError)):
            fedpress.decode(damaged)
    newer = bytearray(blob)
    newer[9] = 99
    with pytest.raises(fedpress.UnsupportedError):
        fedpress.decode(newer)
    with pytest.raises(fedpress.LimitError) as limit:
        fedpress.decode(blob, memory_limit=10_000)
    assert limit.value.limit == 10_000 < limit.value.needed
    for error in (fedpress.TruncatedError, fedpress.CorruptError, fedpress.LimitError):
        assert issubclass(error, fedpress.Error)


@hypothesis.given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_an_error(data: bytes) -> None:
    for reader in (fedpress.decode, fedpress.inspect, fedpress.Decoder().push):
        try:
            reader(data)
        except fedpress.Error:
            pass


def test_streams_that_follow_each_other_are_one() -> None:
    first, second = (fedpress.encode({n: np.ones(3)}, "none", metadata={n: "x"}) for n in "ab")
    assert list(fedpress.decode(first + second)) == ["a", "b"]
    assert fedpress.inspect(first + second).metadata == {"a": "x", "b": "x"}


def test_the_interpreter_is_released_while_it_works() -> None:
    array = np.random.default_rng(1).normal(size=1 << 23).astype("f")
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    blob = fedpress.encode({"x": array}, "hadamard|q=4")
    encoding, ticks[0] = ticks[0], 0
    fedpress.decode(blob)
    stop.set()
    thread.join()
    # Tens of milliseconds each; held, the interpreter switches not once.
    assert encoding >= 3 and ticks[0] >= 3


def test_threads_do_not_disturb_each_other() -> None:
    tensors = {f"{i}": np.random.default_rng(i).normal(size=(50, 1000)).astype("f") for i in range(8)}
    expected = {n: fedpress.encode({n: a}, "hadamard|q=4", private_seed=1) for n, a in tensors.items()}
    wrong: list[str] = []

    def work(name: str) -> None:
        for _ in range(20):
            blob = fedpress.encode({name: tensors[name]}, "hadamard|q=4", private_seed=1)
            if blob != expected[name] or not np.isfinite(fedpress.decode(blob)[name]).all():
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in tensors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_specs_print_and_compare_as_their_canonical_form() -> None:
    spec = fedpress.Spec(" hadamard,block=4096 | q=4 ")
    assert str(spec) == "hadamard|q=4" and spec == fedpress.Spec("hadamard|q=4")
    assert hash(spec) == hash(fedpress.Spec("hadamard|q=4")) and spec != fedpress.Spec("none")
    assert spec.is_lossy and spec.is_unbiased and spec.formula_ratio == 8
    for preset in fedpress.PRESETS:
        assert fedpress.Spec(preset.name) == fedpress.Spec(preset.spec)


def test_a_rotation_is_shared_where_errors_average_out_all_the_same() -> None:
    share = fedpress.specs.may_share_rotation
    assert all(map(share, ["hadamard|q=4", "rotation|q=1|zstd", "kashin|q=2", "paper-kashin"]))
    for spec in (
        "none", "lossless", "identity|q=4", "hadamard|q=4,nearest", "hadamard|subsample=0.5|q=4", "rotation|lm=4",
        "rotation|trellis=2", "auto", "hadamard",
    ):  # fmt: skip
        assert not share(spec)
    values = np.random.default_rng(1).normal(size=4096).astype("f")
    keywords = dict(seed=3, rotation="shared", min_values=0, several=False)
    made = [fedpress.encode({"x": values}, "rotation|q=2", client=i, **keywords) for i in range(40)]
    errors = [fedpress.decode(blob)["x"] - values for blob in made]
    one, of_mean = np.mean([np.square(e).mean() for e in errors]), np.square(np.mean(errors, axis=0)).mean()
    # A fortieth: of 4096 squared Gaussians, to 3 % or so.
    assert 0.85 < 40 * of_mean / one < 1.15


def test_a_target_is_met_by_rates_of_the_tensors(generator: np.random.Generator) -> None:
    loud, quiet = (generator.normal(size=(64, 512)).astype("f") * size for size in (1, 0.01))
    model, values = {"loud": loud, "quiet": quiet, "bias": np.ones(9, "f")}, 2 * 64 * 512 + 9

    def encode(**target: Any) -> bytes:
        return fedpress.encode(model, "auto", seed=7, private_seed=1, **target)

    for bits in (1, 3):
        found = len(encode(target_bits=bits))
        assert 0.99 * values * bits / 8 < found <= values * bits / 8
    blob = encode(target_bytes=20_000)
    assert 19_800 <= len(blob) <= 20_000
    assert blob == encode(target_ratio=4 * values / 20_000.5)
    back = fedpress.decode(encode(target_nmse=0.01))
    error = sum(float(((model[n] - back[n]) ** 2).sum()) for n in ("loud", "quiet"))
    assert abs(error / float((loud**2).sum() + (quiet**2).sum()) - 0.01) < 0.001
    with pytest.raises(fedpress.InvalidArgumentError, match="500 bytes"):
        encode(target_bytes=500)
    with pytest.raises(TypeError, match="one target"):
        encode(target_bytes=500, target_bits=1)
