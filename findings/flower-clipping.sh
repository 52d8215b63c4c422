#!/usr/bin/env bash
# flwr 1.42.0: what its clipping for differential privacy makes of an update that is within the bound.
#
# Behaviour: the norm of a tensor is taken in the tensor's own type. A float16 update whose squares add up to more
# than 65504, a norm of 256, has the norm infinity; it is scaled by bound / infinity and comes back as no update at
# all, however large the bound is. In float32 the same update is kept. And an update of zeros, of a client that trained
# nothing, is a ZeroDivisionError in place of an update of zeros.
# Why it matters here: a client's clipping and a server's bound add up squares in float64, and a norm of zero is within
# every bound (fl/src/aggregate/bound.rs, its laws in fl/tests/bounds.rs and fl/tests/privacy.rs).
# Seen on 2026-11-30:
#   norm 316 within a bound of 1000, float32: 316.2
#   norm 316 within a bound of 1000, float16: 0.0
#   no change: ZeroDivisionError
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from flwr.supercore.differential_privacy import compute_clip_model_update


def norm_after(dtype, change, bound):
    before = np.zeros(100_000, dtype)
    trained = [before + dtype(change)]
    compute_clip_model_update(trained, [before], bound)
    return float(np.linalg.norm((trained[0] - before).astype(np.float64)))


single, half = (norm_after(dtype, 1, 1000.0) for dtype in (np.float32, np.float16))
print(f"norm 316 within a bound of 1000, float32: {single:.1f}")
print(f"norm 316 within a bound of 1000, float16: {half:.1f}")
try:
    norm_after(np.float32, 0, 1.0)
    unchanged = "kept"
except ZeroDivisionError:
    unchanged = "ZeroDivisionError"
print("no change:", unchanged)
assert 316 < single < 317 and half == 0 and unchanged == "ZeroDivisionError"
PYTHON
