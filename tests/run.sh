#!/bin/sh
# What `make test` runs: style, types, layers, then the whole test suite. Needs no network.
set -eu
cd "$(dirname "$0")/.."
ruff check .
ruff format --check .
mypy
lint-imports
python -m pytest -q -n "${TEST_WORKERS:-2}" --dist loadfile "$@"
