#!/usr/bin/env bash
# flax 0.12.8: arrays in the other byte order come back with their bytes swapped, without an error: the message has the name of the
# type (float32), which does not say the order, and the bytes as they lie.
#
# Seen on 2026-12-01:
#   >f4 [1.0, 2.0, 3.0] -> [4.6e-41, 9.0e-44, 2.3e-41]
#   >i4 [1, 2, 3] -> [16777216, 33554432, 50331648]
#   <f4 [1.0, 2.0, 3.0] -> [1.0, 2.0, 3.0]
# Weights out of big-endian files (HDF5, FITS, old npy) are such arrays: what a JAX client sends of them is noise.
#
# Fails if that changes. Needs python3 and PyPI; uses nothing of fedpress.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from flax import serialization

for kind in [">f4", ">i4", "<f4"]:
    sent = np.array([1, 2, 3], dtype=kind)
    found = serialization.msgpack_restore(serialization.msgpack_serialize({"w": sent}))["w"]
    shown = "[" + ", ".join(f"{v:.1e}" if 0 < v < 1e-3 else str(v) for v in found.tolist()) + "]"
    print(kind, sent.tolist(), "->", shown)
    swapped = kind.startswith(">")
    assert (found == sent).all() != swapped, f"changed: {kind} comes back otherwise"
    assert not swapped or (found == sent.byteswap().view(sent.dtype)).all(), f"changed: {kind} is not just swapped"
PYTHON
