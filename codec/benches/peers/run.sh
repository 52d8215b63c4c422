#!/usr/bin/env bash
# Compares fedpress with its peers on the same tensors at the same real bits, and prints Markdown:
#   codec/benches/peers/run.sh [--torch] [--svg FILE] [FILE...]     (--help says the rest)
# FILEs are safetensors, npy or npz; without any it makes tensors of its own. Into target/peers it installs the
# peers from PyPI and a wheel of this tree; --torch adds bitsandbytes and torchao, which bring PyTorch (3 GB).
# One thread each. Memory that was freed is kept for the next call, for all alike, so that what is timed is codecs
# and not the operating system.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
venv=$root/target/peers
[ -d "$venv" ] || python3 -m venv "$venv"
install() { "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
install -r "$here/requirements.txt"
for argument in "$@"; do
    [ "$argument" = --torch ] && install -r "$here/requirements-torch.txt"
done
rm -rf "$root/target/peers-wheel"
"$venv/bin/maturin" build --quiet --locked --release -m "$root/python/Cargo.toml" -o "$root/target/peers-wheel"
install --force-reinstall --no-deps "$root"/target/peers-wheel/fedpress-*.whl
export OMP_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864
exec "$venv/bin/python" "$here" "$@"
