# All that a fresh machine needs: `make repro` and `make test`. Both set up .venv first.
PYTHON ?= python3.11
BIN := .venv/bin
# Four processes, as tests wait for disks and for their children: three kept two cores busy for 73% of the time. Each has
# whole files, the longest first (tests/conftest.py has the order).
PYTEST := python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder --durations 10
# Left out by `make test`; `make test ALL=1` leaves out what only `make soak` runs.
LEFT_OUT := $(if $(ALL),soak,slow or soak)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# An active virtual environment must not shadow ours.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.PHONY: help setup lock repro headline docs site retrain check style types test soak ui clean

help:
	@echo 'make repro    set up, run what is out of date of the pipeline, and show the figures of all models'
	@echo 'make headline train every cell with five seeds beside that, and write the record to recipes/default/'
	@echo 'make docs     measure what the tutorial says on the trained models, and write docs/tutorial.md in both languages'
	@echo 'make site     docs/ as a site in build/site, with the API; a dead link is an error'
	@echo 'make test     set up, then check types, style and what the code does (ALL=1: slow tests, too)'
	@echo 'make ui       open MLflow'
	@echo 'make retrain  what CI runs: train on what changed, and promote the model if it is better'
	@echo 'make setup    only make .venv (PYTHON=python3.11 is what makes it)'
	@echo 'make lock     after a change of dependencies: write requirements/ anew'
	@echo 'make soak     the tests that take hours'
	@echo 'make clean    remove .venv and what is not a result'

setup: .venv/ready

# A file that is not in the lock is refused. What builds comes first, since a source package would fetch its own, unpinned.
# torch is fetched by version and then held against the lock: pip prefers files whose hash an index names, which would pass
# over a CPU build in a folder. Builds for CUDA name their libraries, gigabytes that others do without. The project itself
# has no hash.
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_INSTALL := $(PIP) install --no-deps --no-build-isolation
PINNED := --constraint constraints.txt
# A line for every 25 packages instead of several for each; errors are on standard error, whole.
briefly = { $(1) || touch .venv/refused; } | { n=0; while read -r verb rest; do case $$verb in \
	Collecting|Processing) n=$$((n + 1)); test $$((n % 25)) -ne 0 || echo "  $$n packages found" ;; \
	Installing) echo "  installing $$n packages" ;; esac; done; }; ! rm .venv/refused 2> /dev/null
locked = echo 'requirements/$(1).txt'; \
	$(call briefly,$(PIP_INSTALL) --require-hashes $(PINNED) --requirement requirements/$(1).txt $(2)) || \
	{ echo 'error: pip refused; if you changed constraints.txt, run `make lock` first' >&2; false; }
.venv/ready: pyproject.toml constraints.txt $(wildcard requirements/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo 'error: $(PYTHON) is not Python 3.11, 3.12 or 3.13, which the locked packages are for; install 3.11, or say where it is: make PYTHON=/path/to/python3.11' >&2; false; }
	$(PYTHON) -m venv --clear .venv
	@$(call locked,build)
	@$(call briefly,$(PIP) download --no-deps --only-binary :all: --dest .venv/torch "$$(grep -o '^torch==[^ ]*' requirements/torch.txt)")
	@$(call locked,torch,--no-index --find-links .venv/torch)
	rm -r .venv/torch
	@$(call locked,packages)
	@if $(BIN)/python -m pip show torch | grep '^Requires:.*nvidia-' > /dev/null; then $(call locked,cuda); fi
	@$(call briefly,$(PIP_INSTALL) --editable .)
	$(BIN)/python -m pip check
	$(BIN)/python -m tools.plots_page .dvc/plots.html
	touch $@

# After a change of constraints.txt or of a dependency in pyproject.toml. A .venv that is out of date will do.
lock:
	test -x $(BIN)/uv || $(MAKE) setup PINNED=
	python -m tools.lock

# Without MLflow the results are there all the same.
repro: setup
	dvc repro
	-rnnlm sync
	rnnlm table
	@echo 'The whole report: data/report/index.html, a page for a browser; data/report/report.md, as text'
	@echo 'Next: rnnlm generate --count 5; make ui; dvc exp run -S model.hidden_size=200; your own text (README.md)'

# The figures of README: every cell with several seeds, in a worktree of the last commit; the record goes to
# recipes/default/. Half an hour on 2 cores.
SEEDS ?= 5
headline: setup
	python -m tools.headline --seeds $(SEEDS)

docs: setup
	python -m tools.tutorial

# The variable: no advertisement of another program.
site: setup
	NO_MKDOCS_2_WARNING=1 mkdocs build
	@echo 'Open build/site/index.html; for the search: python -m http.server --directory build/site'

# What CI calls on a push, a schedule or a webhook: docs/retraining.md. LIMIT, such as 5h, ends it in good time, so that
# a job has some left to keep the checkpoint that the next one resumes from.
retrain: setup
	$(if $(LIMIT),timeout --foreground $(LIMIT)) rnnlm retrain

check: style types

style: setup
	ruff format --check .
	ruff check .

types: setup
	@told=$$(pyrefly check 2>&1) || { echo "$$told"; false; }

test: check
	$(PYTEST) -m "not ($(LEFT_OUT))"

# Kills and damaged files by the dozen and by the thousand: an hour, after `make repro`, as README shows what that gives.
# All tests of these files, marked or not.
SOAK_FILES := $(addprefix tests/,test_docs.py text/test_tokenizer.py text/sources/test_corpus.py tools/test_lock.py tools/test_tutorial.py retraining/test_retrain_waits.py) $(addprefix tests/system/test_,$(addsuffix .py,\
	faults headline hostile interruptions limits outages recipe retraining same_bytes serving signals tutorial versions workflows))
soak: repro
	RNNLM_SOAK=1 python -m pytest -s -m "" $(SOAK_FILES)

ui: setup
	rnnlm ui

clean:
	rm -rf .venv .rnnlm dvc_plots .dvc/plots.html
