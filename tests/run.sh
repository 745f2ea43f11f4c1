#!/bin/sh
# What `make test` runs: style, types, layers, then the whole test suite. Needs no network.
set -eu
cd "$(dirname "$0")/.."
ruff check .
ruff format --check .
mypy
lint-imports
# Two test processes on two cores: threads of their own would only hinder each other.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# In the order of the files, where those of few but long tests are not the last.
python -m pytest -q -n "${TEST_WORKERS:-2}" --dist loadfile --no-loadscope-reorder --durations=25 "$@"
