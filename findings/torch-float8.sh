#!/usr/bin/env bash
# torch 2.15.0 and ml_dtypes 0.6.0: what becomes of infinity and of large numbers in eight bits.
#
# Behaviour: to float8_e4m3fn, which has no infinity, torch saturates (448) and ml_dtypes gives NaN, without a
# warning of either; so the same checkpoint, converted by the one or the other, diverges or not. NaN stays NaN.
# Why it matters here: fedpress never converts elements of eight bits, but carries their bytes
# (python/tests/test_torch.py, test_peers.py).
# Seen on 2026-11-30:
#   torch: [448.0, 448.0, -448.0, nan]
#   ml_dtypes: [nan, nan, nan, nan]
# Fails if any of this has changed. Takes minutes: PyTorch comes with the libraries of its GPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 ml_dtypes==0.6.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import ml_dtypes
import torch

warnings.simplefilter("error", UserWarning)
values = torch.tensor([float("inf"), 1e9, -1e9, float("nan")])
by_torch = values.to(torch.float8_e4m3fn).float().tolist()
by_ml_dtypes = values.numpy().astype(ml_dtypes.float8_e4m3fn).astype("f").tolist()
print("torch:", by_torch)
print("ml_dtypes:", by_ml_dtypes)
assert str(by_torch) == "[448.0, 448.0, -448.0, nan]" and str(by_ml_dtypes) == "[nan, nan, nan, nan]"
PYTHON
