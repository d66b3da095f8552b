"""SIGTERM at random moments of `rnnlm retrain`: 500 in `make soak` (or RNNLM_SIGNALS), on stages that only pretend."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import PROJECT, SOAK
from tests.retraining.conftest import SCRIPT, STAGE, Repository
from tests.retraining.conftest import repository as repository  # a fixture

# Most retrainings pretend to run DVC too. MLflow is two files: the champion, and what was noted.
RUNNER = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from pipeline import cli
from pipeline.provenance import dvc
from pipeline.retraining import retrain
from pipeline.retraining.outcome import write_reports
from pipeline.review import gates
from pipeline.review.conditions import Gate
from pipeline.review.promotion import Verdict
from pipeline.runtime.stopping import run_child

CHAMPION = Path("../champion")

class Store:
    client = SimpleNamespace(
        get_registered_model=lambda _: SimpleNamespace(tags={}),
        set_registered_model_tag=lambda *_: None,
        update_model_version=lambda *_: None,
    )
    aliases = lambda self: {"champion": CHAMPION.read_text()}
    set_alias = lambda self, _, version: CHAMPION.write_text(version)
    version = lambda self, number: SimpleNamespace(version=number, description="", tags={})
    tag_version = lambda self, number, **tags: None

@contextmanager
def open_store():
    yield Store()

def verdict(*_):
    return Verdict("2", CHAMPION.read_text(), (Gate("better", True, "It is."),), None)

retrain.open_store, retrain.bring_up_to_date = open_store, lambda _: []
retrain.write_reports = lambda result, folder, _: write_reports(result, folder, [])
gates.candidate = lambda _: gates.Candidate("lstm", "digest", {"perplexity": 12.0, "unknown_share": 0.05})
gates.registered, gates.judged_before, gates.judge = lambda *_: "2", lambda *_: None, verdict
gates.scoring_speed, gates.champion_figures = lambda _: 5000.0, lambda *_: {}
gates._judged_by = lambda *_: "judged"

def quick(*_):
    run_child(["sh", "-c", "sleep 0.1 & sleep 0.1; wait"])
    return dvc.Ran((), ())

if sys.argv[1] == "quick":
    dvc.repro, dvc.has_remote, dvc.unsaved_outputs = quick, lambda: False, lambda: []
    dvc.out_of_date = lambda: {"code": ["x"]}
cli.app = lambda: retrain.retrain("retrained", Path(".rnnlm/retrain"))
cli.main()
"""
SIGNALS, EVERY_REAL = (int(os.environ.get("RNNLM_SIGNALS", 500)), 25) if SOAK else (40, 10)


@pytest.fixture
def pretended(repository: Repository) -> Repository:
    repository.add_pipeline(STAGE, SCRIPT, ignored="/data/pins\n/.rnnlm\n")
    return repository


def start(kind: str, mark: str) -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if value} | {
        "PYTHONPATH": str(PROJECT),
        "MARK": mark,
    }
    command = [sys.executable, "-c", RUNNER, kind]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def alive(mark: str) -> list[list[str]]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


@pytest.mark.soak
def test_after_a_signal_nothing_is_promoted_and_nothing_is_left(pretended: Repository) -> None:
    champion, verdict = pretended.folder.parent / "champion", Path(".rnnlm/retrain/retrain.json")
    champion.write_text("1")
    durations = {}
    for kind in ("quick", "real"):
        begun = time.monotonic()
        process = start(kind, "first")
        said = process.communicate()[0]
        assert process.returncode == 0, said
        durations[kind] = time.monotonic() - begun
        assert champion.read_text() == "2"
    chance, sent, promoted, slowest = random.Random(1), 0, 0, 0.0
    while sent < SIGNALS:
        kind = "quick" if (sent + 1) % EVERY_REAL else "real"
        champion.write_text("1")
        mark = uuid.uuid4().hex
        begun = time.monotonic()
        process = start(kind, mark)
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 1.1 * durations[kind]))
            durations[kind] = time.monotonic() - begun  # the machine may be busier or idler than it was
            process.communicate()
            continue
        process.terminate()
        begun = time.monotonic()
        said = process.communicate(timeout=60)[0]
        if process.returncode == 0 and "SIGTERM: ending" not in said:
            continue  # it had ended
        sent, slowest = sent + 1, max(slowest, time.monotonic() - begun)
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), said
        assert alive(mark) == []
        # What is said in what order is exact: the promotion is announced, then the flag looked at.
        announced = "promote: v2" in said.partition("SIGTERM: ending")[0]
        assert announced or champion.read_text() == "1", said
        if "lock: held" in said and champion.read_text() == "1":
            assert not verdict.exists(), said
        promoted += champion.read_text() == "2"
    print(f"{sent} signals, {promoted} after the promotion had begun; the slowest end took {slowest:.1f} s")
    process = start("real", "last")
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert champion.read_text() == "2"
