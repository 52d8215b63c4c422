#!/usr/bin/env bash
# nvflare 2.9.0: what its quantization filters (ModelQuantizer, ModelDequantizer) make of valid weights.
#
# Behaviour: a state dict with an int64 counter, such as BatchNorm's num_batches_tracked, is refused; "float16"
# turns 1e5 into 65504 without a word; "adaquant" turns a tensor with one NaN into NaN altogether. And
# bitsandbytes 0.50.2, which the filters stand on, brings zeros back as 2.1e-5 of the largest value of their block.
# Why it matters here: fedpress.nvflare carries counters exactly, keeps to the range of float32, and sends the
# chunk with NaN without loss (python/tests/test_nvflare.py, test_peers.py).
# Seen on 2026-11-30:
#   counter: ValueError
#   float16: [65504.0, 1.0]
#   adaquant: [nan, nan, nan, nan]
#   bitsandbytes, zeros beside 1: 2.12e-05
# Fails if any of this has changed. Takes minutes: PyTorch comes with the libraries of its GPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nvflare==2.9.0 torch==2.15.0 bitsandbytes==0.50.2 \
    numpy==2.4.6
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging

import numpy as np
import torch
from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_opt.pt.quantization.dequantizer import ModelDequantizer
from nvflare.app_opt.pt.quantization.quantizer import ModelQuantizer

logging.disable(logging.CRITICAL)


def both_ways(kind, **weights):
    sent = DXO(DataKind.WEIGHTS, data=weights)
    sent = ModelQuantizer(kind).process_dxo(sent, Shareable(), FLContext())
    return ModelDequantizer().process_dxo(sent, Shareable(), FLContext()).data


try:
    both_ways("float16", w=torch.ones(3), num_batches_tracked=torch.tensor(3))
    counter = "carried"
except ValueError:
    counter = "ValueError"
print("counter:", counter)
large = both_ways("float16", w=np.array([1e5, 1], np.float32))["w"].tolist()
print("float16:", large)
nan = both_ways("adaquant", w=np.array([1, 2, np.nan, 4], np.float32))["w"].tolist()
print("adaquant:", nan)
block = torch.zeros(4096)
block[0] = 1
zero = float(dequantize_blockwise(*quantize_blockwise(block))[7])
print(f"bitsandbytes, zeros beside 1: {zero:.2e}")
assert counter == "ValueError" and large == [65504.0, 1.0] and np.isnan(nan).all() and 2e-5 < zero < 2.3e-5
PYTHON
