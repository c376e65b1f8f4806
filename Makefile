# Targets that set themselves up. None needs root; see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TESTDATA ?= $(or $(STRONGROOM_TESTDATA),../shared)
export STRONGROOM_TESTDATA := $(TESTDATA)

.PHONY: help demo test test-quick fuzz mutation lint format docs bench clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.demo: pyproject.toml constraints.txt
	@tools/setup $(PYTHON) $(VENV) demo
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@tools/setup $(PYTHON) $(VENV) dev
	@touch $@ $(VENV)/.demo

$(VENV)/.fuzz: $(VENV)/.dev
	@tools/setup $(PYTHON) $(VENV) fuzz
	@touch $@

$(VENV)/.mutation: $(VENV)/.dev
	@tools/setup $(PYTHON) $(VENV) mutation
	@touch $@

# An environment of its own: it must not be part of what a worker measures.
$(VENV)-docs/.docs: pyproject.toml constraints.txt
	@tools/setup $(PYTHON) $(VENV)-docs docs
	@touch $@

demo: $(VENV)/.demo ## seal real pictures to a service on this machine and read its answers
	@$(BIN)/python demo/run.py

# Built when it is installed, against Debian's tpm2-tss; without that its tests are skipped.
$(VENV)/.tpm: $(VENV)/.dev
	@tools/packages gcc libtss2-dev pkg-config
	@if pkg-config --exists tss2-esys 2>/dev/null; then tools/setup $(PYTHON) $(VENV) tpm && touch $@; fi

test: $(VENV)/.tpm ## all tests
	@tools/packages redis-server postgresql softhsm2 swtpm swtpm-tools tpm2-tools
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 -m "not alone"
	$(BIN)/python -m pytest -m alone

test-quick: $(VENV)/.dev ## tests that take no longer than a few seconds each
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 -m "not slow and not alone"

fuzz: $(VENV)/.fuzz ## every parser of bytes from outside for a minute, two at a time
	$(BIN)/python -m pytest -q -n 2 tests/fuzz/test_watch.py
	$(BIN)/python -m fuzz --seconds 60 --jobs 2

# Takes an hour or more, so it is not part of CI.
mutation: $(VENV)/.mutation ## change verifiers and release decision, and see whether a test notices
	$(BIN)/python -m pytest -q tests/tools/test_mutation.py
	$(BIN)/python tools/mutation.py

lint: $(VENV)/.dev ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)-docs/.docs ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

bench: $(VENV)/.dev ## compare sealed, plain and bare serving on this machine
	$(BIN)/python benchmarks/serving.py

clean: ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-docs site .demo .fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis
