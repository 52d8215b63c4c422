#!/usr/bin/env bash
# Builds the wheel into a fresh environment and tests that one.
# usage: check.sh [--release] [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
profile=dev
# On a busy machine two threads of a small product wait for each other for longer than it takes.
export OPENBLAS_NUM_THREADS=1
[ "${1:-}" = --release ] && { profile=release; shift; }
venv=target/python-venv
tools() { "$venv/bin/$1" "${@:2}"; }

rm -rf "$venv" target/wheels
python3 -m venv "$venv"
tools pip install --quiet --disable-pip-version-check -r python/requirements.txt -r python/requirements-flower.txt
tools maturin build --quiet --locked --profile "$profile" -m python/Cargo.toml -o target/wheels
tools pip install --quiet --disable-pip-version-check --no-deps target/wheels/fedpress-*.whl
peers=codec/benches/peers
tools ruff check --quiet --config python/pyproject.toml python examples "$peers"
tools ruff format --quiet --check --config python/pyproject.toml python examples "$peers"
(cd "$peers" && "$OLDPWD/$venv/bin/mypy" --strict --python-version 3.11 --ignore-missing-imports ./*.py)
tools pytest -c python/pyproject.toml -o pythonpath="$PWD/$peers" "$peers/tests"
tools pytest -c python/pyproject.toml python/tests "${@:--m not slow}"
