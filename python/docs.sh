#!/usr/bin/env bash
# Writes the API reference, made of docstrings, to a folder (target/python-docs unless given).
# usage: docs.sh [FOLDER], behind check.sh, in whose environment it runs
set -euo pipefail
cd "$(dirname "$0")/.."
python=target/python-venv/bin/python
out=${1:-target/python-docs}
# All public modules. The libraries of some are large; where they are not installed, their pages are left out.
mapfile -t modules < <("$python" - <<'PYTHON'
import contextlib
import importlib
import pkgutil

import fedpress

print("fedpress")
for info in pkgutil.walk_packages(fedpress.__path__, "fedpress."):
    with contextlib.suppress(ModuleNotFoundError):
        if "._" not in info.name and importlib.import_module(info.name):
            print(info.name)
PYTHON
)
rm -rf "$out"
# A warning is what pdoc could not document.
"$python" -W error::UserWarning -m pdoc --docformat google --no-show-source -o "$out" "${modules[@]}"
echo "$out/index.html: ${#modules[@]} modules"
