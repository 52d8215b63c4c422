#!/usr/bin/env bash
# bitsandbytes 0.50.2 on the processor, which NVFlare's quantizers call: a NaN in a block of 8-bit codes comes back as
# a number, in a block of NF4 it takes its whole block with it; an infinity makes all of its 8-bit block infinite.
#
# Behaviour: quantize_blockwise gives a NaN the lowest code, so that it comes back as about minus the largest value of its
# block, and nothing tells. quantize_4bit makes the scale of the block NaN, so that all 64 values are. And a tensor of
# one dimension with 256 values comes back from quantize_4bit with two.
# Why it matters here: a diverged client is caught by its NaN. fedpress refuses NaN and infinity in lossy tensors, or
# keeps them bit by bit with the rest of their chunk; shapes are part of the stream.
# Seen on 2026-11-30 (PyTorch 2.15.0, which this installs: 3 GB):
#   8 bits: the NaN comes back as about minus the largest of its block; 0 NaN, 0 infinite
#   8 bits, infinity: 256 of 256 infinite
#   NF4: 64 of 256 NaN; shape (1, 256)
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check bitsandbytes==0.50.2 torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import bitsandbytes.functional as bnb
import torch

torch.manual_seed(0)
values = torch.randn(256)


def with_value(value):
    x = values.clone()
    x[3] = value
    return x


def eight(x):
    return bnb.dequantize_blockwise(*bnb.quantize_blockwise(x, blocksize=256))


def four(x):
    return bnb.dequantize_4bit(*bnb.quantize_4bit(x, blocksize=64, quant_type="nf4"))


y = eight(with_value(float("nan")))
others = torch.cat([values[:3], values[4:]]).abs().max()
lowest = bool(-1 <= y[3] / others < -0.98)
print("8 bits: the NaN comes back as", "about minus the largest of its block;" if lowest else y[3], end=" ")
print(int(y.isnan().sum()), "NaN,", int(y.isinf().sum()), "infinite")
infinite = int(eight(with_value(float("inf"))).isinf().sum())
print("8 bits, infinity:", infinite, "of 256 infinite")
z = four(with_value(float("nan")))
print("NF4:", int(z.isnan().sum()), "of 256 NaN; shape", tuple(z.shape))
assert lowest and not y.isnan().any() and infinite == 256
assert int(z.isnan().sum()) == 64 and z.shape == (1, 256)
PYTHON
