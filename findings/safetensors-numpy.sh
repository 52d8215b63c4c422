#!/usr/bin/env bash
# safetensors 0.8.0, NumPy side: arrays that are not in C order are written in the order of their memory.
#
# Behaviour: a transposed array is saved with the right shape and its elements in the wrong places, without an
# error; 0.7.0 was right. bfloat16 arrays (ml_dtypes) are written, but cannot be read back.
# Why it matters here: fedpress reads arrays in any order of memory (python/tests/test_codec.py) and hands
# safetensors only arrays in C order; its command reads and writes bfloat16.
# Seen on 2026-11-30:
#   0.7.0 transposed: right
#   0.8.0 transposed: wrong
#   0.8.0 bfloat16: written, KeyError on reading
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import sys

import ml_dtypes
import numpy as np
from safetensors.numpy import load, save

version, expected = sys.argv[1:]
array = np.arange(6, dtype=np.float32).reshape(2, 3).T
back = load(save({"x": array}))["x"]
found = "right" if np.array_equal(back, array) else "wrong"
print(version, "transposed:", found)
assert back.shape == array.shape and found == expected
if version == "0.8.0":
    blob = save({"x": np.ones(3, ml_dtypes.bfloat16)})
    try:
        load(blob)
        kind = "read"
    except KeyError:
        kind = "KeyError on reading"
    print(version, "bfloat16: written,", kind)
    assert kind == "KeyError on reading"
PYTHON
for pair in 0.7.0:right 0.8.0:wrong; do
    version=${pair%:*}
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "safetensors==$version" numpy==2.4.6 ml_dtypes==0.6.0
    "$folder/$version/bin/python" "$folder/try.py" "$version" "${pair#*:}"
done
