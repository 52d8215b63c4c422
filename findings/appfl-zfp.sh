#!/usr/bin/env bash
# appfl 1.12.0: what its ZFP compressor (ZFPCompressor) gives back of valid modules.
#
# Behaviour: what is not compressed lossily is read back as float32, whatever it was: BatchNorm's int64 counter, which
# has the value 1, becomes a tensor of two float32 near zero. A module in half precision ends in a TypeError.
# Why it matters here: fedpress carries counters exactly, and half models (python/tests/test_peers.py,
# test_flower_models.py).
# Seen on 2026-11-30:
#   counter: torch.float32 of [2]
#   half: TypeError
# Fails if any of this has changed. Takes minutes: PyTorch comes with the libraries of its GPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# NumPy 1, as its extra "zfp" has it.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy==1.26.4 zfpy==1.0.1 omegaconf zstd \
    blosc packaging
# What its compressors import is above.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps appfl==1.12.0
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from appfl.compressor import ZFPCompressor
from omegaconf import OmegaConf

SETTINGS = dict(lossless_compressor="blosc", error_bounding_mode="REL", error_bound=1e-3, param_cutoff=1024)


def back(module):
    compressor = ZFPCompressor(OmegaConf.create(SETTINGS))
    return compressor.decompress_model(compressor.compress_model(module.state_dict()), module)


norm = torch.nn.BatchNorm1d(8)
norm(torch.ones(4, 8))
counter = back(norm)["num_batches_tracked"]
print("counter:", counter.dtype, "of", list(counter.shape))
try:
    back(torch.nn.Linear(64, 64).half())
    kind = "none"
except TypeError:
    kind = "TypeError"
print("half:", kind)
assert norm.num_batches_tracked == 1 and counter.dtype == torch.float32 and counter.shape == (2,)
assert kind == "TypeError"
PYTHON
