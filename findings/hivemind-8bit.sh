#!/usr/bin/env bash
# hivemind 1.1.12: its 8-bit quantizers turn two outliers into the mean of all large values, and with the NumPy that pip resolves
# nothing that they encode can be decoded.
#
# Seen on 2026-12-01:
#   numpy 2.4.6: Uniform8BitQuantization encodes, decoding: TypeError
#   numpy 2.4.6: Quantile8BitQuantization encodes, decoding: TypeError
#   numpy 2.3.5: Uniform8BitQuantization: 100 and 10 among 100,000 normal values come back as 4.5 and 4.5
#   numpy 2.3.5: Quantile8BitQuantization: 100 and 10 among 100,000 normal values come back as 3.3 and 3.3
# Values beyond three deviations share one code, whose value is the mean of those that have it; the other quantizer has one code
# for the largest 256th. The sum is right, and the entries that matter most, as in embeddings and biases, are gone. The length of
# the codebook is read by int() of an array of one element, which NumPy 2.4 refuses.
#
# Fails if that changes. Needs python3 and PyPI; uses nothing of fedpress.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6 scipy==1.17.1 protobuf==7.36.2 grpcio-tools==1.85.1 prefetch_generator==1.0.3 \
    ConfigArgParse==1.9.0 pydantic==2.14.4 msgpack==1.2.4 sortedcontainers==2.4.0 uvloop==0.23.0 multiaddr==0.2.0 \
    pymultihash==0.8.2 cryptography==50.0.2 packaging==26.4 varint==1.0.2 base58==2.1.1 netaddr==1.3.0 psutil==7.2.2 PyYAML==6.0.3
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps hivemind==1.1.12
cat > "$folder/outliers.py" <<'PYTHON'
import hivemind.compression as compression
import numpy
import torch
from hivemind.compression.base import CompressionInfo

torch.manual_seed(0)
tensor = torch.cat([torch.randn(100_000), torch.tensor([100.0, 10.0])])
for name, expected in [("Uniform8BitQuantization", 4.5), ("Quantile8BitQuantization", 3.3)]:
    codec = getattr(compression, name)()
    message = codec.compress(tensor, CompressionInfo.from_tensor(tensor))
    try:
        found = codec.extract(message)[-2:].tolist()
    except TypeError:
        print(f"numpy {numpy.__version__}: {name} encodes, decoding: TypeError")
        assert numpy.__version__ == "2.4.6", "changed: this NumPy could decode"
        continue
    print(f"numpy {numpy.__version__}: {name}: 100 and 10 among 100,000 normal values come back as", "{:.1f} and {:.1f}".format(*found))
    assert numpy.__version__ == "2.3.5", "changed: this NumPy could not decode"
    assert all(abs(value - expected) < 0.3 for value in found), "changed: another value"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/outliers.py"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.3.5
"$folder/venv/bin/python" -W ignore "$folder/outliers.py"
