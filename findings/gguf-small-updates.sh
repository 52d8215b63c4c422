#!/usr/bin/env bash
# gguf 0.19.0: values a hundred thousand times smaller than weights, as updates are, have more error in Q8_0, 8.5 bits a value,
# than in Q4_0, 4.5 bits; ten times smaller still, Q8_0 loses all but 2 % of them.
#
# Seen on 2026-12-01 (normal values times a scale; NMSE):
#   scale 1: Q8_0 2.9e-05, Q4_0 0.0074
#   scale 0.0001: Q8_0 0.00012, Q4_0 0.0074
#   scale 1e-05: Q8_0 0.009, Q4_0 0.0075
#   scale 1e-06: Q8_0 1, Q4_0 0.011
# Each block of 32 has a scale in half precision, which is the largest value over 127 (over 8 in Q4_0): below 6e-8 it is zero, and
# below 6e-5 it has fewer bits than a code. The container suits weights, and not what federated clients send.
#
# Fails if that changes. Needs python3 and PyPI; uses nothing of fedpress.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gguf==0.19.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize

x = np.random.default_rng(0).standard_normal((64, 1024)).astype("f4")


def error(scale, kind):
    sent = (x * scale).astype("f4")
    found = dequantize(quantize(sent, kind), kind)
    return ((found / scale - x) ** 2).sum() / (x**2).sum()


for scale in [1, 1e-4, 1e-5, 1e-6]:
    bytes8, bytes4 = error(scale, Kind.Q8_0), error(scale, Kind.Q4_0)
    print(f"scale {scale}: Q8_0 {bytes8:.2g}, Q4_0 {bytes4:.2g}")
    assert (bytes8 > bytes4) == (scale <= 1e-5), "changed: the other has less error"
assert bytes8 > 0.9, "changed: Q8_0 keeps small values"
PYTHON
