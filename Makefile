# The commands of the README. Each sets up .venv by itself, and skips that when it is up to date.
PYTHON ?= python3
BIN := .venv/bin

JOBS ?= 1
# Made anew where the checkout was moved, which its commands do not survive, or where its Python is another one by now.
$(shell test ! -e .venv/ok || { test "$$(cat .venv/ok)/.venv" -ef .venv && \
	$(BIN)/python -E -c 'from importlib.util import find_spec; exit(not find_spec("dvc"))'; } 2>/dev/null || rm -rf .venv)
# Many containers forbid compiled files; then every process compiles its libraries anew (all of them: 22 s, not 9).
export PYTHONDONTWRITEBYTECODE :=
# The modules of the checkout are found because it is the working directory.
unexport PYTHONSAFEPATH PYTHONHOME

.PHONY: repro test soak compare push pull audit help
help:
	@echo "make repro   run the pipeline (dvc repro), then open reports/index.html"
	@echo "make compare JOBS=2   run what is missing of the comparison, then open reports/compare/index.html"
	@echo "make push    send all outputs to the remote of DVC"
	@echo "make pull    fetch them"
	@echo "make test    linters, types, layers, and all tests but those that take minutes or a GPU"
	@echo "make audit   known holes in the pinned packages, and licences"
	@echo "make soak    what make test leaves out: hundreds of kills, thousands of broken inputs, another processor (hours)"

repro: .venv/ok
	PATH="$$PWD/$(BIN):$$PATH" dvc repro

compare: .venv/ok
	PATH="$$PWD/$(BIN):$$PATH" python -m stages.app compare --jobs $(JOBS)

push pull: .venv/ok
	PATH="$$PWD/$(BIN):$$PATH" python -m stages.app $@

test: .venv/ok
	PATH="$$PWD/$(BIN):$$PATH" sh tests/run.sh

soak: .venv/ok
	PATH="$$PATH:$$PWD/$(BIN)" uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-fuzz.txt \
		|| echo "requirements-fuzz.txt cannot be installed here: no inputs are made up by atheris"
	PATH="$$PATH:$$PWD/$(BIN)" uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-ray.txt \
		|| echo "requirements-ray.txt cannot be installed here: no cluster of Ray is tried"
	PATH="$$PWD/$(BIN):$$PATH" OMP_NUM_THREADS=1 python -m pytest -q -s -m "soak or slow"

audit: .venv/ok
	PATH="$$PATH:$$PWD/$(BIN)" $(BIN)/python -m stages.app audit

.venv/ok: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python %d.%d is too old: the project needs 3.11 or later; name one, as in: make PYTHON=python3.12 repro" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	PATH="$$PATH:$$PWD/$(BIN)" uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.txt
	pwd >$@
