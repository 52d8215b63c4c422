#!/usr/bin/env bash
# zfpy 1.0.1.post0 (zfp): with a tolerance, NaN and infinity come back as ordinary numbers, without an error.
#
# Behaviour: a NaN comes back as -4 or -8, an infinity as -2, as if it were a value of the tensor; without a tolerance
# (reversible) both are kept. zfp's documentation says that lossy modes do not take them; zfpy does not look.
# Why it matters here: a diverged client is caught by its NaN, and these would hide it. fedpress refuses NaN and
# infinity in lossy tensors, or keeps them bit by bit (--non-finite lossless); fedpress.flower leaves such replies out.
# Seen on 2026-11-30:
#   ones with a NaN: -4.0 in its place
#   normal values with a NaN: -7.9999542236328125 in its place
#   ones with infinity: -2.0 in its place
#   reversible: nan inf
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check zfpy==1.0.1.post0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import zfpy


def back(array, value, **mode):
    array = array.copy()
    array[5, 6] = value
    return float(zfpy.decompress_numpy(zfpy.compress_numpy(array, **mode))[5, 6])


ones = np.ones((16, 16), np.float32)
normal = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
found = [back(ones, np.nan, tolerance=1e-3), back(normal, np.nan, tolerance=1e-3), back(ones, np.inf, tolerance=1e-3)]
print("ones with a NaN:", found[0], "in its place")
print("normal values with a NaN:", found[1], "in its place")
print("ones with infinity:", found[2], "in its place")
kept = back(ones, np.nan), back(ones, np.inf)
print("reversible:", *kept)
assert np.isfinite(found).all()
assert np.isnan(kept[0]) and kept[1] == np.inf
PYTHON
