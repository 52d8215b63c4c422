#!/usr/bin/env bash
# The tests that need PyTorch and NVFlare, and NVFlare's simulator with the filters and without.
# usage: frameworks.sh, behind check.sh, whose wheel it tests
set -euo pipefail
cd "$(dirname "$0")/.."
venv=target/frameworks-venv
[ -d "$venv" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r python/requirements-frameworks.txt
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --force-reinstall target/wheels/fedpress-*.whl
export OMP_NUM_THREADS=1
"$venv/bin/pytest" -c python/pyproject.toml python/tests/test_torch.py python/tests/test_nvflare.py
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for plain in "" --plain; do
    # It finds client.py by its folder, and python by its name.
    PATH=$PWD/$venv/bin:$PATH "$venv/bin/python" examples/nvflare/job.py --workspace "$folder/work$plain" $plain \
        > "$folder/log" 2>&1 || { tail -50 "$folder/log"; exit 1; }
    tail -2 "$folder/log"
    # Three rounds go seven eighths of the way: a 64th of the squared distance is left, and what encoding lost.
    "$venv/bin/python" -c 'import json, sys
error = json.load(open(sys.argv[1]))["error"]
assert error < 0.03, error' "$folder/work$plain/result.json"
done
