#!/usr/bin/env bash
# FedLab 1.3.0: QSGDCompressor(n) gives codes from 0 to 2^n, one more than n bits hold and than its documentation says
# (0 to 2^n - 1): the largest value of a tensor always has that code. They come as integers of 32 bits. With random=False values
# are cut and not rounded, so that what comes back is smaller than what was sent.
#
# Seen on 2026-12-01 (1,000 normal values; the gain is the part of the tensor that is left):
#   1 bits: codes 0 to 2 in torch.int32, gain 0.98; random=False 0.26
#   2 bits: codes 0 to 4 in torch.int32, gain 1.00; random=False 0.62
#   4 bits: codes 0 to 16 in torch.int32, gain 1.00; random=False 0.91
# Who packs the codes into n bits so loses the largest values, and finds three levels at "one bit".
#
# Fails if that changes. Needs python3 and PyPI; uses nothing of fedpress.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps fedlab==1.3.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from fedlab.contrib.compressor.quantization import QSGDCompressor

torch.manual_seed(0)
tensor = torch.randn(1000)


def gain(codec, signature):
    return (codec.decompress(signature) @ tensor / (tensor @ tensor)).item()


for bits in [1, 2, 4]:
    random, cut = QSGDCompressor(bits), QSGDCompressor(bits, random=False)
    signature = random.compress(tensor)
    codes = signature[2]
    kept, left = gain(random, signature), gain(cut, cut.compress(tensor))
    print(f"{bits} bits: codes {codes.min()} to {codes.max()} in {codes.dtype}, gain {kept:.2f}; random=False {left:.2f}")
    assert codes.max() == 2**bits, "changed: another largest code"
    assert codes.dtype == torch.int32, "changed: another type of codes"
    assert left < 0.95 and left < kept, "changed: values are rounded"
PYTHON
