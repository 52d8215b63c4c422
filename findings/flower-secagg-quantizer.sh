#!/usr/bin/env bash
# flwr 1.42.0: what the quantizer of its secure aggregation (SecAgg+) makes of NaN.
#
# Behaviour: with the workflow's defaults, a clipping range of 8 and 2^22 steps, values are clipped, infinity too, and
# become integers from 0 to 2^22. NaN passes the clipping and becomes -2^31 by the cast to int32 (on x86-64), beyond that
# range. What comes back is -8200: finite, and a thousand times the range, in a sum in which nobody can see whose it was.
# Why it matters here: codes of fedpress's integer mode are refused at the client where a value is not finite
# (Download::codes in fl/src/message/broadcast.rs, fl/tests/integers.rs), as behind a secure sum it is too late.
# Seen on 2026-11-30:
#   NaN -> -2147483648 -> -8200.0
#   infinity -> 4194304 -> 8.0
#   1.0 -> 2359296 -> 1.0
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import platform

import numpy as np
from flwr.common.secure_aggregation.quantization import dequantize, quantize

values = {"NaN": np.nan, "infinity": np.inf, "1.0": 1.0}
codes = quantize([np.array(list(values.values()))], 8.0, 2**22)
back = dequantize(codes, 8.0, 2**22)
for name, code, value in zip(values, codes[0], back[0]):
    print(f"{name} -> {code} -> {value:.1f}")
assert np.isfinite(back[0]).all() and codes[0][1:].tolist() == [4194304, 2359296]
# What a cast of NaN gives is up to the processor.
assert platform.machine() != "x86_64" or (codes[0][0], back[0][0]) == (-(2**31), -8200)
PYTHON
