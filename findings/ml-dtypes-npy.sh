#!/usr/bin/env bash
# numpy 2.4.6 with ml_dtypes 0.6.0: np.save writes arrays of float8_e5m2 that np.load then refuses, and
# arrays of bfloat16 and float8_e4m3fn that come back as bytes without a type, all without a warning.
#
# Seen on 2026-11-30:
#   float8_e5m2 saved, then: ValueError: descr is not a valid dtype descriptor: '<f1'
#   bfloat16 saved, then dtype |V2
#   float8_e4m3fn saved, then dtype |V1
# So a checkpoint in npy or npz loses its type (which `fedpress --dtype` can say), or cannot be read by
# NumPy at all.
#
# Fails if that changes. Needs python3 and PyPI; uses nothing of fedpress.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 ml_dtypes==0.6.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import warnings

import ml_dtypes
import numpy as np

warnings.simplefilter("error")
print("numpy", np.__version__, "ml_dtypes", ml_dtypes.__version__)
for name, expected in [("float8_e5m2", "ValueError"), ("bfloat16", "|V2"), ("float8_e4m3fn", "|V1")]:
    np.save("x.npy", np.arange(4).astype(getattr(ml_dtypes, name)))
    try:
        found = np.load("x.npy").dtype.str
        print(f"{name} saved, then dtype {found}")
    except ValueError as error:
        found = "ValueError"
        print(f"{name} saved, then: ValueError: {error}")
    assert found == expected, f"changed: {name} gives {found}, not {expected}"
PYTHON
