# Everything sets itself up: a virtual environment in this directory, and nothing outside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The example's own: the library's tests do without what it requires.
CALL_CENTER_VENV ?= .venv-call-center
# What the example stands on: the sources here, or a wheel.
LIBRARY ?= -e .
# Lowest versions that pyproject.toml allows, or the pins of the tools.
CONSTRAINTS ?= constraints.txt
PYTHONS := 3.10 3.11 3.12 3.13
FAULTS := tests/test_kill.py tests/test_outages.py tests/test_load.py
CLUSTER := tests/test_celery_kill.py
# How many tests run at a time, in processes of their own: 0 is one by one, as a debugger wants it.
AT_ONCE ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test test-faults test-cluster test-call-center test-all test-oldest contract lint format bench bench-receive \
  bench-serve bench-scale bench-drain bench-growth soak wheel clean

help:  ## Say what there is; begin with make demo. PYTHON=python3.12 takes another Python
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(CALL_CENTER_VENV)/.installed  ## Rehearse calls into examples/call_center; ONCE=1 stops after them
	@$(CALL_CENTER_VENV)/bin/python examples/call_center/demo.py $(if $(ONCE),--once)

test: $(VENV)/.developing  ## Run the tests but for test-faults, in five minutes; ARGS goes to pytest, AT_ONCE=0 debugs
	$(BIN)/pytest -n $(AT_ONCE) --maxprocesses 4 --dist worksteal $(FAULTS:%=--ignore=%) \
	  $(CLUSTER:%=--ignore=%) $(ARGS)

test-faults: $(VENV)/.developing  ## Kill servers, stop databases, fill disks, load; soak is the longer form
	$(BIN)/pytest $(FAULTS) $(ARGS)

test-cluster: $(VENV)/.developing  ## Kill Celery's workers and restart its brokers, for six minutes
	$(BIN)/pytest $(CLUSTER) $(ARGS)

test-call-center: $(CALL_CENTER_VENV)/.developing  ## Test examples/call_center, in a browser as well
	cd examples/call_center && $(CURDIR)/$(CALL_CENTER_VENV)/bin/pytest $(ARGS)

test-all:  ## Run the tests on every Python from 3.10 to 3.13 that is here
	@found=; for version in $(PYTHONS); do \
	  for python in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python; do \
	    "$$python" -c '' 2>/dev/null || continue; \
	    echo "== Python $$version"; \
	    $(MAKE) --no-print-directory test PYTHON="$$python" VENV=.venv-$$version || exit 1; \
	    found=1; break; \
	  done; \
	done; \
	test -n "$$found" || { echo "No Python from 3.10 to 3.13 found"; exit 1; }

test-oldest:  ## Run the tests with the oldest dependencies that are allowed
	$(MAKE) --no-print-directory test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

contract: $(VENV)/.developing  ## Compare the models with the newest retell-sdk
	$(PYTHON) -m venv .venv-contract
	.venv-contract/bin/pip install --quiet --upgrade pip retell-sdk pytest hypothesis -e .
	.venv-contract/bin/pytest tests/test_contract.py

lint: $(VENV)/.developing  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes retell_flask --ignoreexternal

format: $(VENV)/.developing  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-receive bench-serve  ## Measure what a request costs, in the process and under gunicorn

bench-receive: $(VENV)/.developing  ## The first half of bench; ARGS goes to it, such as --help
	@$(BIN)/python benchmarks/receive.py $(ARGS)

bench-serve: $(VENV)/.developing  ## The second half of bench; ARGS goes to it
	@$(BIN)/python benchmarks/serve.py $(ARGS)

bench-scale: $(VENV)/.developing  ## Measure with 100,000 done entries, and pruning (ARGS=--plans); then these two:
	@$(BIN)/python benchmarks/scale.py $(ARGS)
	@$(MAKE) --no-print-directory bench-drain bench-growth ARGS=

bench-drain: $(VENV)/.developing  ## How fast a backlog is delivered, and what limits it; ARGS goes to it
	@$(BIN)/python benchmarks/drain.py $(ARGS)

bench-growth: $(VENV)/.developing  ## Rows and bytes of a call, of 3 events, 10 and 100; ARGS goes to it
	@$(BIN)/python benchmarks/growth.py $(ARGS)

soak: $(VENV)/.developing  ## Kill servers at their work for ten minutes; ARGS: --help lists them
	@$(BIN)/python tests/soak.py $(ARGS)

wheel: $(VENV)/.installed  ## Build the wheel into dist/
	rm -rf dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## Remove what was set up and built
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.python $(CALL_CENTER_VENV)/.python:
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON) here"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is older than 3.10: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(@D), once"
	@$(PYTHON) -m venv $(@D) || \
	  { echo "This Python cannot make virtual environments. On Debian: apt install python3-venv"; exit 1; }
	@$(@D)/bin/pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml
	@$(BIN)/pip install --quiet -e .
	@touch $@

$(VENV)/.developing: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	@echo "Installing the tools for tests and checks, once"
	@$(BIN)/pip install --quiet -e . --group dev -c $(CONSTRAINTS)
	@touch $@ $(VENV)/.installed

$(CALL_CENTER_VENV)/.installed: $(CALL_CENTER_VENV)/.python pyproject.toml examples/call_center/requirements.txt
	@$(CALL_CENTER_VENV)/bin/pip install --quiet $(LIBRARY) -r examples/call_center/requirements.txt
	@touch $@

$(CALL_CENTER_VENV)/.developing: $(CALL_CENTER_VENV)/.installed examples/call_center/requirements-test.txt
	@echo "Installing what the tests of the example need, once"
	@$(CALL_CENTER_VENV)/bin/pip install --quiet -r examples/call_center/requirements-test.txt
	@touch $@
