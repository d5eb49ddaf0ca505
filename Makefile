# Each target sets up all it needs; the second time nothing is left to set up.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
SHARED ?= ../shared

.PHONY: setup demo test check golden bench bench-catalogue bench-autocorrelation bench-prepare bench-places bench-serve screenshots wheels results results-forecast results-curves results-mixers results-places results-first-stage

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
	$(BIN)/python tests/golden/check.py $(SHARED)/golden/autocorrelation.npz
	$(BIN)/python tests/golden/check.py $(SHARED)/golden/autoformer.npz
	$(BIN)/python tests/golden/check.py $(SHARED)/golden/automtn.npz

# A training step against the published formulation: about five minutes, and nothing else should run beside it.
bench: setup
	$(BIN)/python benchmarks/train_step.py --out benchmarks/results/train_step.md

# The same step on KuaiSAR's whole catalogue, its tables by rows and whole: three minutes, 12 GB of memory.
bench-catalogue: setup
	$(BIN)/python benchmarks/train_step.py --items 6890000 --case corrected --case dense --windows counted --out benchmarks/results/train_step_catalogue.md

# Auto-Correlation against its published form and attention: two minutes, and nothing else should run beside it.
bench-autocorrelation: setup
	$(BIN)/python benchmarks/autocorrelation.py --out benchmarks/results/autocorrelation.md

# Time and memory of `corsar prepare kuaisar` at three sizes of random logs and at the full one: seven minutes, 10 GB of disk.
bench-prepare: setup
	$(BIN)/python benchmarks/prepare.py --full

# AutoMTN on 100,000 places and a million check-ins, within 4 GiB: some ten minutes on two cores.
bench-places: setup
	$(BIN)/python benchmarks/places_scale.py --out benchmarks/results/places_scale.md

# The pictures of the page in docs/img, in Debian's chromium: some minutes.
screenshots: setup
	$(BIN)/python benchmarks/pictures_page.py

# The service under load, 673,415 items: ten minutes, and nothing else should run beside it. The artifact is kept in datasets/.
bench-serve: setup
	$(BIN)/python benchmarks/serve.py --world datasets/serve --out benchmarks/results/serve.md

# Builds the wheel and tries it in an empty environment of each Python that PATH or pyenv has: several gigabytes of torch.
wheels: setup
	$(BIN)/python benchmarks/wheels.py --out benchmarks/results/wheels.md

# The pages of docs/results: needs the real logs in ../shared/data, and takes hours; what is finished is not done again.
results: setup
	$(BIN)/python benchmarks/results.py toys
	$(BIN)/python benchmarks/results.py grocery

# Forecasts of ETTh1: some hours on one core; what is finished is not done again.
results-forecast: setup
	$(BIN)/python benchmarks/ett.py

# Classes and periods of the EROS stars: some hours on one core; what is finished is not done again.
results-curves: setup
	$(BIN)/python benchmarks/curves.py

# The next place in Calgary and Phoenix: three seeds take some hours on one core; what is finished is not done again.
results-places: setup
	$(BIN)/python benchmarks/places.py

# Attention, Auto-Correlation, a filter and nothing as the mixer of SASRec and UniSAR on 5,000 users of Toys: about an hour.
results-mixers: setup
	$(BIN)/python benchmarks/mixers.py

# How much of the model's own ranking the first stage keeps, on Toys: some minutes once `make results` has trained unisar_words.
results-first-stage: setup
	$(BIN)/python benchmarks/first_stage.py
