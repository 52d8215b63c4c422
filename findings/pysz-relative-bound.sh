#!/usr/bin/env bash
# pysz 1.1.0 (SZ3): with a relative error bound, one NaN or infinity can switch compression off, without a word.
#
# Behaviour: the bound is a part of the range of the values. A NaN in the first place, or an infinity in any, makes
# that range NaN or infinite, and what comes out is all values without loss, six times the bytes; a NaN elsewhere
# changes nothing. The absolute bound does not have this.
# Why it matters here: fedpress refuses NaN and infinity in lossy tensors, or sends the chunk that holds them without
# loss and says so (--non-finite lossless).
# Seen on 2026-11-30, 65536 normal values, relative bound .01:
#   clean: 39643 bytes
#   NaN in place 0: 242338 bytes
#   NaN in place 1: 39648 bytes
#   infinity in place 40000: 242337 bytes
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pysz==1.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from pysz import sz, szConfig, szErrorBoundMode

values = np.random.default_rng(0).normal(size=1 << 16).astype(np.float32)


def n_bytes(place=None, value=0.0, mode=szErrorBoundMode.REL):
    x = values.copy()
    if place is not None:
        x[place] = value
    config = szConfig(x.shape)
    config.errorBoundMode = mode
    config.relErrorBound = config.absErrorBound = 0.01
    return sz.compress(x, config)[0].nbytes


clean = n_bytes()
print("clean:", clean, "bytes")
for place, value, factor in [(0, np.nan, 6), (1, np.nan, 1), (40000, np.inf, 6)]:
    found = n_bytes(place, value)
    print(f"{value} in place {place}: {found} bytes")
    assert abs(found / clean - factor) < 0.2
absolute = n_bytes(mode=szErrorBoundMode.ABS)
assert abs(n_bytes(0, np.nan, szErrorBoundMode.ABS) / absolute - 1) < 0.01
PYTHON
