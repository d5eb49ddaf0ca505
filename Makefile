# Each target sets up all it needs; the second time nothing is left to set up.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
SHARED ?= ../shared
RUNS := $(filter-out %_columns, $(basename $(notdir $(wildcard configs/*.toml))))

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

# The rows of docs/results: needs the real logs in $(SHARED)/data.
results: setup datasets/toys datasets/grocery
	for run in $(RUNS); do test -f runs/$$run/report.json || { $(BIN)/corsar train configs/$$run.toml --out runs/$$run && $(BIN)/corsar evaluate runs/$$run; } || exit 1; done
	$(BIN)/corsar evaluate $(addprefix runs/, $(filter toys_%, $(RUNS)))
	$(BIN)/corsar evaluate $(addprefix runs/, $(filter grocery_%, $(RUNS)))

datasets/toys: | $(STAMP)
	$(BIN)/corsar prepare tables $(SHARED)/data/toys_search_feed/events.parquet --items $(SHARED)/data/toys_search_feed/items.parquet \
		--candidates $(SHARED)/data/toys_search_feed/candidates.parquet --config configs/toys_columns.toml --out $@

datasets/grocery: | $(STAMP)
	$(BIN)/corsar prepare tables $(SHARED)/data/amazon_grocery/train.csv --config configs/grocery_columns.toml --out $@
