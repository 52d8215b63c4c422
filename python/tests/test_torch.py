"""PyTorch: state dicts, and tensors without a copy."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its tests run in .ci/thorough")

import fedpress  # noqa: E402
import fedpress.torch as fp  # noqa: E402

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
EIGHT_BITS = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """The same type, shape and bits."""

    def bits(t: torch.Tensor) -> torch.Tensor:
        return t.contiguous().reshape(-1).view(torch.uint8)

    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


@pytest.mark.parametrize("dtype", [*FLOATS, *EIGHT_BITS, torch.int64, torch.bool, torch.float64])
def test_every_type_comes_back(dtype: torch.dtype) -> None:
    values = torch.randn(6, 5)
    tensor = (values > 0) if dtype == torch.bool else values.to(dtype)
    for view in (tensor, tensor.t(), tensor[::2, 1:], tensor[0, 0], tensor[:0]):
        back = fp.decode_state_dict(fp.encode_state_dict({"x": view}, "none"))["x"]
        assert same(back, view)
        assert fedpress.decode(fedpress.encode({"x": view}, "none")).keys() == {"x"}


def test_a_model_comes_back_with_its_ties_and_counters() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(),
        torch.nn.Linear(32, 32), torch.nn.Linear(32, 32, bias=False),
    )  # fmt: skip
    model[4].weight = model[3].weight
    model(torch.randn(4, 3, 4, 4))
    state = model.state_dict()
    blob = fp.encode_state_dict(state, "lossless")
    back = fp.decode_state_dict(blob)
    assert back.keys() == state.keys() and all(same(back[name], state[name]) for name in state)
    assert back["1.num_batches_tracked"].shape == () and back["1.num_batches_tracked"] == 1
    assert back["4.weight"].data_ptr() == back["3.weight"].data_ptr()
    sizes = {tensor.name: tensor.n_bytes for tensor in fedpress.inspect(blob).tensors}
    assert sizes["4.weight"] < 100 < sizes["3.weight"]
    model.load_state_dict(back)


def test_lossy_state_dicts_spare_statistics() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(200, 100), torch.nn.BatchNorm1d(100))
    back = fp.decode_state_dict(fp.encode_state_dict(model.state_dict(), "hadamard|q=4"))
    exact = {name for name, tensor in model.state_dict().items() if same(tensor, back[name])}
    assert exact == model.state_dict().keys() - {"0.weight"}


def test_a_tensor_that_is_trained_is_taken_without_a_copy() -> None:
    tensor = torch.randn(1000, requires_grad=True)
    array = fedpress.arrays.as_numpy(tensor)
    assert array.ctypes.data == tensor.data_ptr()
    bf16 = torch.randn(1000).bfloat16()
    assert fedpress.arrays.as_numpy(bf16).ctypes.data == bf16.data_ptr()


def test_what_cannot_travel_is_named() -> None:
    for bad in (torch.randn(3, 3).to_sparse(), torch.empty(3, device="meta")):
        with pytest.raises(fedpress.InvalidArgumentError, match="'x'"):
            fp.encode_state_dict({"x": bad}, "none")
        with pytest.raises((fedpress.InvalidArgumentError, TypeError), match="'x'"):
            fedpress.encode({"x": bad}, "none")
    with pytest.raises(TypeError, match="complex128"):
        fp.encode_state_dict({"x": torch.zeros(2, dtype=torch.complex128)}, "none")


def test_infinity_in_eight_bits_stays_as_it_was() -> None:
    # Frameworks differ in what a conversion to float8 makes of it; bytes are not converted.
    tensor = torch.tensor([float("inf"), -1e9, 3.0]).to(torch.float8_e4m3fn)
    assert same(fp.decode_state_dict(fp.encode_state_dict({"x": tensor}, "lossless"))["x"], tensor)


def test_a_torch_model_trains_in_flower_and_keeps_its_types() -> None:
    """As apps of PyTorch are written: ArrayRecord(state_dict()) and to_torch_state_dict()."""
    pytest.importorskip("flwr", reason="Flower is not installed")
    from federation import Federation
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.serverapp.strategy import FedAvg

    from fedpress.flower import Compressed

    def network() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(20, 200), torch.nn.BatchNorm1d(200), torch.nn.ReLU(), torch.nn.Linear(200, 2)
        )

    inputs = torch.randn(400, 20, generator=torch.Generator().manual_seed(1))
    labels = (inputs[:, 0] > 0).long()
    losses = []

    def app(message: Message, context: Context) -> Message:
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        metrics = MetricRecord({"num-examples": 200})
        records: dict = {"metrics": metrics}
        if message.metadata.message_type == "train":
            own = slice(0, 200) if context.node_id == 10 else slice(200, 400)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
            for _ in range(10):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(inputs[own]), labels[own])
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
            records["arrays"] = ArrayRecord(model.state_dict())
        return Message(RecordDict(records), reply_to=message)

    torch.manual_seed(1)
    first = ArrayRecord(network().state_dict())
    Federation(app).run_strategy(FedAvg(), first, 4)
    plain, losses = losses, []
    strategy = Compressed(FedAvg(), uplink="rotation|trellis=2", downlink="rotation|trellis=5")
    federation = Federation(app)
    result = federation.run_strategy(strategy, first, 4)
    assert len(federation.replies) == len(federation.sent), "no node failed"
    found = result.arrays.to_torch_state_dict()
    assert {n: (t.dtype, t.shape) for n, t in found.items()} == {
        n: (t.dtype, t.shape) for n, t in network().state_dict().items()
    }
    assert int(found["1.num_batches_tracked"]) == 40
    # Of both nodes, in whatever order they were asked; six runs were within .3 %.
    assert sum(losses[-2:]) < 1.01 * sum(plain[-2:])
    assert strategy.report().total("up").ratio > 3
