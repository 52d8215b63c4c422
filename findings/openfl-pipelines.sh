#!/usr/bin/env bash
# openfl 1.9: what its default pipeline (NoCompressionPipeline) and its EDEN pipeline (EdenPipeline) do with valid
# tensors, on the NumPy that pip resolves for it (2.4.6).
#
# Behaviour: the default pipeline ends in a TypeError for every tensor, as NumPy dropped an argument that it uses; EDEN
# fails on a tensor of zeros, and on one of exactly as many values as its threshold, which goes up uncompressed and is
# taken for compressed on the way back; tensors below the threshold, single values among them, go through the default
# pipeline and fail as it does.
# Why it matters here: fedpress carries zeros, constants, single values and every size (python/tests/test_peers.py,
# test_flower.py).
# Seen on 2026-11-30:
#   default: TypeError
#   EDEN, zeros: TypeError
#   EDEN, 100 values: KeyError
#   EDEN, one value: TypeError
# Fails if any of this has changed. Takes minutes: PyTorch comes with the libraries of its GPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 torch==2.15.0 scikit-learn==1.9.1 \
    protobuf==5.29.6 grpcio==1.65.5 packaging PyYAML requests msgpack docker dynaconf tqdm tensorboardX psutil
# What its pipelines import is above; all of its requirements are of web servers and notebooks.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps openfl==1.9
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from openfl.pipelines import EdenPipeline, NoCompressionPipeline


def ends(pipeline, values):
    try:
        coded, metadata = pipeline.forward(values)
        pipeline.backward(coded, metadata)
    except Exception as error:
        return type(error).__name__
    return "none"


eden, draws = EdenPipeline(n_bits=8), np.random.default_rng(1)
found = {
    "default": ends(NoCompressionPipeline(), np.ones((2, 3), np.float32)),
    "EDEN, zeros": ends(eden, np.zeros((100, 100), np.float32)),
    "EDEN, 100 values": ends(eden, draws.normal(size=100).astype(np.float32)),
    "EDEN, one value": ends(eden, np.ones(1, np.float32)),
}
for what, error in found.items():
    print(f"{what}: {error}")
assert ends(eden, draws.normal(size=(100, 100)).astype(np.float32)) == "none"
assert "none" not in found.values()
PYTHON
