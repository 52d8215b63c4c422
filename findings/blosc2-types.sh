#!/usr/bin/env bash
# blosc2 4.14.1: truncating precision turns a NaN into infinity, and bfloat16 arrays come back without their type.
#
# Behaviour: the filter TRUNC_PREC clears low bits of every element. A NaN whose payload stands in those, such as R's
# NA (0x7ff00000000007a2), becomes an infinity. blosc2.asarray gives bfloat16 and float8_e4m3fn of ml_dtypes back as
# bytes without a type, and fails on float8_e5m2; pack_array2 gives them back as records without fields. No warnings.
# Why it matters here: fedpress looks at all bits before it calls a value finite (codec/tests/auto.rs), and its
# streams name the types (python/tests/test_codec.py).
# Seen on 2026-11-30:
#   R's NA with 20 bits kept: inf
#   bfloat16 by asarray: |V2
#   bfloat16 by pack_array2: 0 fields, 2 bytes
#   float8_e5m2 by asarray: TypeError
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check blosc2==4.14.1 numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import blosc2
import ml_dtypes
import numpy as np

warnings.simplefilter("error")
x = np.ones(1000)
x[:1] = np.array([0x7FF00000000007A2], np.uint64).view(np.float64)
assert np.isnan(x[0])
filters = {"filters": [blosc2.Filter.TRUNC_PREC, blosc2.Filter.SHUFFLE], "filters_meta": [20, 0]}
truncated = blosc2.asarray(x, cparams=filters)[:]
print("R's NA with 20 bits kept:", truncated[0])
half = np.arange(6).astype(ml_dtypes.bfloat16)
array, packed = blosc2.asarray(half)[:], blosc2.unpack_array2(blosc2.pack_array2(half))
print("bfloat16 by asarray:", array.dtype.str)
print(f"bfloat16 by pack_array2: {len(packed.dtype.names)} fields, {packed.dtype.itemsize} bytes")
try:
    blosc2.asarray(np.arange(6).astype(ml_dtypes.float8_e5m2))
    kind = "none"
except TypeError:
    kind = "TypeError"
print("float8_e5m2 by asarray:", kind)
assert np.isposinf(truncated[0]) and np.isfinite(truncated[1:]).all()
assert array.dtype.str == "|V2" and packed.dtype.names == () and packed.dtype.itemsize == 2
assert kind == "TypeError"
PYTHON
