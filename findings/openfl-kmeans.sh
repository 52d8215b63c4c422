#!/usr/bin/env bash
# openfl 1.9: what its k-means pipeline (KCPipeline), which compresses tensors, gives back for two distinct values.
#
# Behaviour: values travel as indices with a table from index to value, and the table is applied to the array in
# place, entry by entry: a value that was restored already and equals a later index is replaced once more. So a
# tensor of ones and fives comes back as fives alone; and a small integer among the centers is enough for that.
# Why it matters here: fedpress carries such a tensor without loss or with its two values (python/tests/test_peers.py).
# Seen on 2026-11-30:
#   ones and fives: [5.0]
#   two and a half and seven: [2.5, 7.0]
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scikit-learn==1.9.1 protobuf==5.29.6 \
    grpcio==1.65.5 packaging PyYAML requests msgpack docker dynaconf tqdm tensorboardX psutil
# What its pipelines import is above; all of its requirements are of web servers and notebooks.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps openfl==1.9
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from openfl.pipelines.kc_pipeline import KCPipeline


def back(*values):
    pipeline = KCPipeline(n_clusters=6)
    given = np.array(values * 10, np.float32)
    coded, metadata = pipeline.forward(given)
    return sorted(set(np.asarray(pipeline.backward(coded, metadata)).ravel().tolist()))


two, apart = back(1.0, 5.0), back(2.5, 7.0)
print("ones and fives:", two)
print("two and a half and seven:", apart)
assert two == [5.0] and apart == [2.5, 7.0]
PYTHON
