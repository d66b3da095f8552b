# Two commands on a fresh machine: `make repro` and `make test`. Both set everything up first, in .venv.
PYTHON ?= python3.11
BIN := .venv/bin
# Two processes, since most tests wait for the processes that they start; a file's tests share what it has set up.
PYTEST := python -m pytest --numprocesses 2 --dist loadfile
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A virtual environment that happens to be active must not shadow ours.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.PHONY: setup repro retrain check test test-slow soak ui clean

setup: .venv/ready

# torch comes first and by its exact version: asked for loosely, an index may answer with another build.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m tools.plots_page .dvc/plots.html
	touch $@

repro: setup
	dvc repro
	rnnlm sync
	rnnlm table

# What CI calls on a push, a schedule or a webhook: docs/retraining.md.
retrain: setup
	rnnlm retrain

check: setup
	ruff format --check .
	ruff check .
	basedpyright

test: check
	$(PYTEST) -m "not slow"

test-slow: setup
	$(PYTEST) -m slow

# Kills and damaged files by the dozen and by the thousand: an hour.
soak: setup
	RNNLM_SOAK=1 python -m pytest -s tests/system/test_interruptions.py tests/system/test_hostile.py tests/system/test_limits.py \
		tests/system/test_outages.py tests/system/test_retraining.py tests/system/test_versions.py tests/system/test_serving.py

ui: setup
	rnnlm ui

clean:
	rm -rf .venv .rnnlm dvc_plots .dvc/plots.html
