# Each target sets up all it needs; the second time nothing is left to set up.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
SHARED ?= ../shared

.PHONY: setup demo test check golden results

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(None if sys.version_info >= (3, 11) else f"corsar needs Python 3.11 or newer and this is {v}; name another with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/corsar demo

test: check
	$(BIN)/pytest -q -n 2

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

golden: setup
	$(BIN)/python tests/golden/check.py $(SHARED)/golden/unisar.npz

# The pages of docs/results: needs the real logs in ../shared/data, and takes hours; what is finished is not done again.
results: setup
	$(BIN)/python benchmarks/results.py toys
	$(BIN)/python benchmarks/results.py grocery
