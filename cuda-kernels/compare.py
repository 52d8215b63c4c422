"""The same steps by others, on the GPU of this machine: PyTorch operations, compiled and not, and
Dao-AILab's fast-hadamard-transform. Prints a line for each that is installed; times with events,
median of 30, over 1 GiB of f32 in blocks of 2^12."""

import statistics
import sys

try:
    import torch
except ImportError:
    print("PyTorch is not here: nothing to compare with")
    sys.exit(0)
if not torch.cuda.is_available():
    print("PyTorch finds no GPU: nothing to compare with")
    sys.exit(0)

BLOCK = 1 << 12
VALUES = 1 << 28


def seconds(operation):
    operation()
    times = []
    for _ in range(30):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        operation()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def report(name, operation):
    try:
        print(f"{name}: {VALUES * 4 / seconds(operation) / 1e9:.0f} GB/s of f32")
    except Exception as error:  # out of memory, a compiler that is missing
        print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")


def transform(x):
    h = 1
    while h < BLOCK:
        pair = x.view(-1, BLOCK // (2 * h), 2, h)
        x = torch.stack((pair[:, :, 0] + pair[:, :, 1], pair[:, :, 0] - pair[:, :, 1]), 2)
        h *= 2
    return x.view(-1, BLOCK) * BLOCK**-0.5


def encode(x, signs):
    y = transform(x * signs)
    low, high = y.aminmax(dim=1, keepdim=True)
    t = (y - low) * (15 / (high - low))
    codes = torch.floor(t + torch.rand_like(t)).clamp_(0, 15).to(torch.uint8)
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


x = torch.randn(VALUES // BLOCK, BLOCK, device="cuda")
signs = torch.randint(0, 2, (BLOCK,), device="cuda") * 2.0 - 1.0
report("PyTorch, rotate", lambda: transform(x * signs))
report("PyTorch, encode q=4", lambda: encode(x, signs))
report("PyTorch, encode q=4, compiled", lambda f=torch.compile(encode): f(x, signs))
try:
    from fast_hadamard_transform import hadamard_transform
except ImportError:
    print("fast-hadamard-transform is not here")
else:
    report("fast-hadamard-transform, f32, without signs", lambda: hadamard_transform(x, BLOCK**-0.5))
