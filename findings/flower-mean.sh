#!/usr/bin/env bash
# Flower 1.42.0: what its weighted mean (flwr.serverapp.strategy, FedAvg) makes of valid replies.
#
# Behaviour: replies of different shapes are added by broadcasting instead of being refused; int64 counters, such
# as BatchNorm's num_batches_tracked, and uint8 codes come back as float64; a reply with weight 0 still turns the
# model into NaN if it holds one; bfloat16 arrays, which an Array holds and carries, end in a TypeError.
# Why it matters here: fedpress.flower.Compressed checks replies before it adds them, restores types, and
# carries bfloat16 (python/tests/test_flower.py).
# Seen on 2026-11-30:
#   shapes (2,) and (1,): [4.0, 4.5]
#   counter 10 and 11: 10.5 float64
#   NaN of weight 0: [nan, nan]
#   bfloat16: TypeError
# Fails if any of this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6 ml_dtypes==0.6.0
FLWR_TELEMETRY_ENABLED=0 FLWR_HOME="$folder/home" "$folder/venv/bin/python" - <<'PYTHON'
import ml_dtypes
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords


def reply(array, weight):
    arrays = ArrayRecord({"x": Array(np.asarray(array))})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": weight})})


def mean(*replies):
    return aggregate_arrayrecords(list(replies), "num-examples")["x"].numpy()


shapes = mean(reply([1.0, 2.0], 1), reply([7.0], 1)).tolist()
print("shapes (2,) and (1,):", shapes)
counter = mean(reply(np.int64(10), 1), reply(np.int64(11), 1))
print("counter 10 and 11:", counter, counter.dtype)
nan = mean(reply([1.0, 2.0], 1), reply([np.nan, np.nan], 0)).tolist()
print("NaN of weight 0:", nan)
try:
    half = np.ones(2, ml_dtypes.bfloat16)
    mean(reply(half, 1), reply(half, 1))
    kind = "none"
except TypeError:
    kind = "TypeError"
print("bfloat16:", kind)
assert shapes == [4.0, 4.5] and counter == 10.5 and counter.dtype == np.float64
assert np.isnan(nan).all() and kind == "TypeError"
PYTHON
