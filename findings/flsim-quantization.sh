#!/usr/bin/env bash
# FLSim 0.1.0: ScalarQuantizationChannel takes 1 to 8 bits; with 1 nothing of an update is left, and with 8 nothing of one whose
# values are as small as 1e-8, whatever their number.
#
# Seen on 2026-12-01 (a layer of 64 x 64; NMSE of the weights that the server receives):
#   8 bits: affine 1.5e-05, symmetric 1.5e-05
#   2 bits: affine 0.11, symmetric 0.11
#   1 bits: affine 1, symmetric 1
#   8 bits, values times 1e-06: affine 0.22, symmetric 0.22
#   8 bits, values times 1e-08: affine 1, symmetric 1
# One bit has the levels -1 and 0, and both schemes put zero in the middle. No step is below 2^-23, as the observers of PyTorch have
# it, who are made for activations: what clients send after some rounds at a small rate is below it.
#
# Fails if that changes. Needs python3 and PyPI; uses nothing of fedpress.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.3.5 hydra-core==1.3.8 omegaconf==2.3.1 pandas==3.1.1 \
    scikit-learn==1.9.1 tensorboard==2.21.0 opacus==1.6.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps flsim==0.1.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import copy

import torch
from flsim.channels.message import Message
from flsim.channels.scalar_quantization_channel import ScalarQuantizationChannel


class Model:
    def __init__(self, module):
        self.module = module

    def fl_get_module(self):
        return self.module


def error(bits, scheme, scale=1.0):
    torch.manual_seed(0)
    module = torch.nn.Linear(64, 64)
    module.weight.data *= scale
    sent = copy.deepcopy(module).weight.detach().double()
    channel = ScalarQuantizationChannel(n_bits=bits, qscheme=scheme)
    message = channel.client_to_server(Message(Model(module)))
    found = message.model.fl_get_module().weight.detach().double()
    return (((found - sent) ** 2).sum() / (sent**2).sum()).item()


for bits, scale, least, most in [(8, 1, 0, 1e-4), (2, 1, 0.05, 0.2), (1, 1, 0.99, 1.01), (8, 1e-6, 0.1, 0.5), (8, 1e-8, 0.99, 1.01)]:
    errors = {scheme: error(bits, scheme, scale) for scheme in ["affine", "symmetric"]}
    scaled = f", values times {scale:.0e}" if scale != 1 else ""
    print(f"{bits} bits{scaled}:", ", ".join(f"{scheme} {error:.2g}" for scheme, error in errors.items()))
    assert all(least <= error <= most for error in errors.values()), "changed: another error"
PYTHON
