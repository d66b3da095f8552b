# All that a fresh machine needs: `make repro` and `make test`. Both set up .venv first.
PYTHON ?= python3.11
BIN := .venv/bin
# Two processes, each with whole files, the longest first (tests/conftest.py has the order).
PYTEST := python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10
# Left out by `make test`; `make test ALL=1` leaves out what only `make soak` runs.
LEFT_OUT := $(if $(ALL),soak,slow or soak)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# An active virtual environment must not shadow ours.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.PHONY: setup repro retrain check test soak ui clean

setup: .venv/ready

# torch comes first and by its exact version: without one, an index may answer with another build.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m tools.plots_page .dvc/plots.html
	touch $@

# Without MLflow the results are there all the same.
repro: setup
	dvc repro
	-rnnlm sync
	rnnlm table

# What CI calls on a push, a schedule or a webhook: docs/retraining.md. LIMIT, such as 5h, ends it in good time, so that
# a job has some left to keep the checkpoint that the next one resumes from.
retrain: setup
	$(if $(LIMIT),timeout --foreground $(LIMIT)) rnnlm retrain

check: setup
	ruff format --check .
	ruff check .
	basedpyright

test: check
	$(PYTEST) -m "not ($(LEFT_OUT))"

# Kills and damaged files by the dozen and by the thousand: an hour. All tests of these files, marked or not.
SOAK_FILES := tests/text/test_tokenizer.py $(addprefix tests/system/test_,$(addsuffix .py,\
	faults hostile interruptions limits outages retraining serving signals versions workflows))
soak: setup
	RNNLM_SOAK=1 python -m pytest -s -m "" $(SOAK_FILES)

ui: setup
	rnnlm ui

clean:
	rm -rf .venv .rnnlm dvc_plots .dvc/plots.html
