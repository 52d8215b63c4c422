#!/usr/bin/env bash
# numcodecs 0.16.6 (the codecs of zarr): Quantize on half floats turns 1234 into infinity, and BitRound turns some NaN into zeros
# and the largest finite number into infinity, without an error.
#
# Seen on 2026-12-01:
#   Quantize(digits=3) of float16 [0.5, 1.5, 12.0, 1234.0]: [0.5, 1.5, 12.0, inf]
#   BitRound(keepbits=4) of NaN with all bits of its payload set, of either sign: -0.0 and 0.0
#   BitRound(keepbits=4) of the largest float32: inf
# The first multiplies by 1024 in the type of the values; the second adds half of the last kept bit to the bits as an integer, which
# carries into the exponent and from there into the sign. NumPy's own NaN has one bit of payload and survives.
#
# Fails if that changes. Needs python3 and PyPI; uses nothing of fedpress.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numcodecs==0.16.6 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from numcodecs import BitRound, Quantize

halves = np.array([0.5, 1.5, 12.0, 1234.0], dtype="f2")
found = Quantize(3, "f2").encode(halves).tolist()
print(f"Quantize(digits=3) of float16 {halves.tolist()}: {found}")
assert found == [0.5, 1.5, 12.0, np.inf], "changed: 1234 is not infinite"


def rounded(bits):
    codec = BitRound(4)
    return codec.decode(codec.encode(np.array(bits, dtype="u4").view("f4"))).view("f4")


found = rounded([0x7FFFFFFF, 0xFFFFFFFF])
print("BitRound(keepbits=4) of NaN with all bits of its payload set, of either sign:", found[0], "and", found[1])
assert (found == 0).all(), "changed: these NaN are not zeros"
found = rounded([0x7F7FFFFF])[0]
print("BitRound(keepbits=4) of the largest float32:", found)
assert np.isinf(found), "changed: the largest number stays finite"
PYTHON
