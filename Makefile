# From a clone to anything, in one command. Builds its own environment in .venv, once.

PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
NUMPY   ?= numpy

BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
# One file's tests stay on one worker: what they share (a wheel, a trained model) is made once.
PYTEST  := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile
TESTS   := --doctest-modules shiftwatch tests

.DEFAULT_GOAL := help
.PHONY: help demo test all core slow lint format setup browser site pages benchmarks papers clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(VENV)/.demo  ## train a small network, break it, watch it being caught
	$(BIN)/shiftwatch demo

test: lint browser  ## all checks but the slow tests
	$(PYTEST) -m "not slow" $(TESTS)

all: lint browser benchmarks  ## all checks, the slow tests (the papers' figures) and the benchmarks too
	$(PYTEST) $(TESTS)

core:  ## the core with NumPy alone, no framework: make core NUMPY=numpy==1.26.*
	$(PYTHON) -m venv --clear $(VENV)-core
	$(VENV)-core/bin/python -m pip install --disable-pip-version-check --quiet '$(NUMPY)' --editable . \
	    pytest pytest-xdist hypothesis scipy tomli build 'setuptools>=77'
	$(VENV)-core/bin/python -m pytest --core -m "not slow" --numprocesses $(WORKERS) --dist loadfile $(TESTS)

slow: $(VENV)/.dev browser  ## the slow tests alone
	$(PYTEST) -m slow tests

lint: $(VENV)/.dev  ## format, lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict shiftwatch

format: $(VENV)/.dev  ## put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(VENV)/.dev  ## the environment for development, and nothing else

browser:
	@.ci/browser

site: $(VENV)/.dev  ## the docs as a site, in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pages: $(VENV)/.dev  ## run the code of the docs' pages and write what it prints; draw the gallery of faults
	$(BIN)/python docs/gallery.py
	$(BIN)/python -m tests.pages $$(grep -lrE '^```(python|console)$$' docs --include=*.md)

benchmarks: $(VENV)/.dev browser  ## a short run of every benchmark; figures to keep take hours of a quiet machine
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/core.py --drains 10
	$(BIN)/python benchmarks/overhead.py --quick --no-peers --only small,cnn --steps 16 --seconds 1
	$(BIN)/python benchmarks/scaling.py --quick --steps 16
	$(BIN)/python benchmarks/budget.py --quick
	$(BIN)/python benchmarks/parts.py --warm 64 --steps 64 --results $(VENV)/parts.json
	$(BIN)/python benchmarks/gpu.py --quick --blocks 2 --compile off
	$(BIN)/python benchmarks/soak.py --steps 1000
	$(BIN)/python benchmarks/report.py --quick --repeats 3
	$(BIN)/python benchmarks/comparison.py --layers 20 --windows 500 --repeats 2 --results $(VENV)/comparison.json
	$(BIN)/python benchmarks/live.py --quick
	$(BIN)/python -m benchmarks.faults --quick --jobs $(WORKERS)
	$(BIN)/python -m benchmarks.faults.pairs --quick --jobs $(WORKERS)

papers: $(VENV)/.dev  ## draw the figures of docs/papers.md, check what they claim, fill in the page
	$(BIN)/python examples/papers/all.py
	$(BIN)/python benchmarks/tables.py

clean:  ## remove the environment and everything built
	rm -rf $(VENV) $(VENV)-core build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Stamps: an environment is made again only where what it is made from has changed.

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "shiftwatch needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) --version). Say which: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch comes first and pinned: whatever follows finds it there and fetches no other.
$(VENV)/.torch: constraints.txt | $(VENV)/.venv
	$(INSTALL) torch
	@touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	$(INSTALL) --editable '.[dev]'
	@touch $@
