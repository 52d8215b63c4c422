#!/usr/bin/env bash
# FedML 0.9.6: its compressor "quantize" at 8 bits turns all but 91 of 10^6 normal values into zeros, at 4 bits all of them;
# "qsgd" by default shrinks an update to a fifth at 8 bits and to .003 at 2; and neither gives fewer bytes: what they return is
# as many values of 32 bits.
#
# Seen on 2026-12-01 (10^6 normal values; the gain is the part of the update that is left):
#   quantize, 8 bits: 91 values left, gain 0.001, 4000000 bytes
#   quantize, 4 bits: 0 values left, gain 0, 4000000 bytes
#   qsgd, 8 bits: gain 0.2, 4000000 bytes
#   qsgd, 2 bits: gain 0.003, 4000000 bytes
# Levels are parts of the vector's whole norm, and the first rounds down to them; the second is biased by its own choice
# (is_biased=True divides by 1 + sqrt(values) / levels). So neither is what "8 bits" means elsewhere, and an average over clients
# does not mend it.
#
# Only the module of the compressors is run: installed without what the rest of FedML needs.
#
# Fails if that changes. Needs python3 and PyPI; uses nothing of fedpress.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps fedml==0.9.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.util
import pathlib
import sysconfig

import torch

path = pathlib.Path(sysconfig.get_path("purelib"), "fedml", "utils", "compression.py")
spec = importlib.util.spec_from_file_location("compression", path)
compression = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compression)

torch.manual_seed(0)
update = torch.randn(10**6)


def seen(name, bits):
    found = compression.compressors[name]().compress(update, quantize_level=bits)
    gain = (found @ update / (update @ update)).item()
    left = int((found != 0).sum())
    size = found.numel() * found.element_size()
    kept = f"{left} values left, " if name == "quantize" else ""
    print(f"{name}, {bits} bits: {kept}gain {gain:.1g}, {size} bytes")
    assert size == 4 * update.numel(), "changed: fewer bytes"
    return left, gain


left, _ = seen("quantize", 8)
assert left < 1000, "changed: more than a thousandth of the values is left"
left, _ = seen("quantize", 4)
assert left == 0, "changed: some values are left"
_, gain = seen("qsgd", 8)
assert 0.15 < gain < 0.25, "changed: another gain at 8 bits"
_, gain = seen("qsgd", 2)
assert gain < 0.01, "changed: another gain at 2 bits"
PYTHON
