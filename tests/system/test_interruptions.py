"""Kills, as a user's machine or cluster deals them out, and what is there afterwards.

`make soak` does the same with many more kills.
"""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import SOAK
from tests.system.conftest import Clone, forget_models, make_clone, with_long_training

KILLS = 11 if SOAK else 1  # of each kind, over all stages
TRAINING = ("train@gru", "train@rnn")
TRAINING_KILLS = 24 if SOAK else 2  # within training alone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(plain: Clone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of data/ after a run that nobody disturbed."""
    clone = with_long_training(plain.copy(tmp_path_factory.mktemp("undisturbed")))
    forget_models(clone)
    clone.repro()
    return clone.digests()


@pytest.fixture(scope="module")
def trained(plain: Clone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same, where nothing has run after training."""
    clone = with_long_training(plain.copy(tmp_path_factory.mktemp("trained")))
    forget_models(clone)
    assert clone.repro(*TRAINING) == ["train@gru"]  # the other is in the run cache
    return clone.digests()


@contextmanager
def started(clone: Clone, *command: str) -> Iterator[subprocess.Popen]:
    environment = clone.environment | {"RNNLM_CHECKPOINT_SECONDS": "0.1"}
    with subprocess.Popen(
        command,
        cwd=clone.folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def stages_below(pid: int) -> list[psutil.Process]:
    try:
        return [process for process in psutil.Process(pid).children(recursive=True) if is_stage(process)]
    except psutil.NoSuchProcess:
        return []


def names_of(stages: list[psutil.Process]) -> set[str]:
    """Such as `train gru`; nothing of one that has gone."""
    names = set()
    for stage in stages:
        with suppress(psutil.NoSuchProcess):
            command = " ".join(stage.cmdline())
            names.update(re.findall(r"-m stages\.(.+)", command))
    return names


def is_stage(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("python") and any("stages." in part for part in process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def kill_stage(process: subprocess.Popen) -> None:
    for stage in stages_below(process.pid):
        stage.kill()


def kill_dvc(process: subprocess.Popen) -> None:
    process.kill()


def kill_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def all_gone(stages: list[psutil.Process]) -> None:
    """Stages whose dvc was killed end by themselves."""
    _, alive = psutil.wait_procs(stages, timeout=30)
    assert not alive


@pytest.mark.soak
@pytest.mark.parametrize("kill", [kill_stage, kill_dvc, kill_group])
def test_kills_at_random_moments_change_no_byte(
    kill: Callable[[subprocess.Popen], None], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    clone, chance = with_long_training(make_clone(tmp_path, tracking=False)), random.Random(kill.__name__)
    kills = finished = 0
    hit: set[str] = set()
    while kills < KILLS:
        with started(clone, "dvc", "repro") as process:
            deadline = time.monotonic() + chance.uniform(2.0, 12.0)
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
            stages = stages_below(process.pid)
            if process.poll() is None and (stages or kill is not kill_stage):
                hit |= names_of(stages)
                kill(process)
                kills += 1
            output, _ = process.communicate()
        all_gone(stages)
        assert "Traceback" not in output
        repair_rwlock(clone)
        if process.returncode == 0:
            # Nothing is left to kill: from the beginning, with nothing to fall back on.
            assert clone.digests() == undisturbed
            finished += 1
            for folder in ("data", ".dvc/cache", ".rnnlm"):
                shutil.rmtree(clone.folder / folder)
            (clone.folder / "dvc.lock").unlink()
    clone.forks = False  # that fresh processes do what forked ones do is seen here
    clone.repro()
    clone.forks = True
    assert clone.digests() == undisturbed
    assert clone.repro() == []
    assert leftovers(clone) == []
    print(f"{kill.__name__}: {kills} kills, in {', '.join(sorted(hit))}; {finished} runs ended meanwhile, all the same")


def repair_rwlock(clone: Clone) -> None:
    """What DVC's own message advises when the kill hit while it wrote this file of its own."""
    path = clone.folder / ".dvc/tmp/rwlock"
    if path.exists() and not path.read_text().strip():
        path.unlink()


def leftovers(clone: Clone) -> list[Path]:
    """Half-written files and folders of a stage's own."""
    return [path for path in (clone.folder / "data").rglob(".*") if path.name not in (".gitignore",)]


def test_kills_within_training_cost_only_what_came_after_the_last_checkpoint(
    trained: dict[str, str], encoded: Clone
) -> None:
    clone, chance = encoded, random.Random(7)
    resumed = kills = 0
    while kills < TRAINING_KILLS:
        saved = bool(list(clone.folder.glob(".rnnlm/checkpoints/gru/*/*.safetensors")))
        with started(clone, sys.executable, "-m", "stages.train", "gru") as process:
            assert says(process, "training on")
            time.sleep(chance.uniform(0.0, 1.5))
            if process.poll() is None:
                kill_group(process)
                kills += 1
            output, _ = process.communicate()
        assert "Traceback" not in output
        assert ("resuming from a checkpoint at step" in output) == saved
        resumed += saved
    clone.repro(*TRAINING)
    assert clone.digests() == trained
    print(f"{kills} kills within training, after which it went on from a checkpoint {resumed} times")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT] if SOAK else [signal.SIGTERM])
def test_asked_to_end_a_training_saves_and_says_how_to_go_on(number: signal.Signals, encoded: Clone) -> None:
    clone = encoded
    with started(clone, sys.executable, "-m", "stages.train", "gru") as process:
        wait_for_checkpoint(clone, "gru")
        process.send_signal(number)
        output, _ = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in output
    (step,) = re.findall(rf"^error: stopped by {number.name}; `dvc repro` resumes after step ([\d,]+)$", output, re.M)
    assert not (clone.folder / "data/models/gru/model.safetensors").exists()
    # Code that changes no byte keeps what is half trained.
    for room in ("review", "tracking", "retraining"):
        for path in (clone.folder / "pipeline" / room).glob("*.py"):
            path.write_text(path.read_text() + "\n\nANOTHER_CONSTANT = 1\n")
    cells = clone.folder / "pipeline/model/cells.py"
    cells.write_text("# The equations.\n" + cells.read_text())
    done = clone.done(sys.executable, "-m", "stages.train", "gru")
    assert done.returncode == 0, done.stderr
    assert f"resuming from a checkpoint at step {step}" in done.stdout + done.stderr
    assert not list((clone.folder / ".rnnlm/checkpoints/gru").iterdir())


def says(process: subprocess.Popen, text: str) -> bool:
    """Whether a line holds `text`; returns at the first that does, while the process goes on."""
    return any(text in line for line in process.stdout or ())


def wait_for_checkpoint(clone: Clone, cell: str) -> None:
    deadline = time.monotonic() + 60
    while not list(clone.folder.glob(f".rnnlm/checkpoints/{cell}/*/*.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stage_ends_with_its_dvc_and_the_next_one_goes_on(trained: dict[str, str], encoded: Clone) -> None:
    clone = encoded
    with started(clone, "dvc", "repro", "train@gru") as process:
        wait_for_checkpoint(clone, "gru")
        stages = stages_below(process.pid)
        process.kill()
        process.communicate()
    assert stages
    all_gone(stages)
    assert leftovers(clone) == []
    done = clone.done("dvc", "repro", *TRAINING)
    assert done.returncode == 0, done.stderr
    assert "resuming from a checkpoint at step" in done.stdout + done.stderr
    assert clone.digests() == trained


def test_one_stage_does_not_run_twice_at_once(encoded: Clone) -> None:
    clone = encoded
    with started(clone, sys.executable, "-m", "stages.train", "gru") as process:
        wait_for_checkpoint(clone, "gru")
        process.send_signal(signal.SIGSTOP)  # else it could be done before the other has begun
        script = (
            "import pipeline.runtime.stage as s; s.LOCK_SECONDS = 0.2\nfrom stages.train import *; run_stage(train)"
        )
        error = clone.fails(sys.executable, "-c", f"import sys; sys.argv = ['train', 'gru']; {script}")
        assert error.strip().splitlines()[-1].startswith("error: stage `train gru` is already running in this folder")
        assert process.poll() is None
        kill_group(process)
    # The lock went with its holder.
    with started(clone, sys.executable, "-m", "stages.train", "gru") as process:
        assert says(process, "training on")


@pytest.mark.soak
def test_two_cells_train_at_the_same_time(trained: dict[str, str], encoded: Clone) -> None:
    clone = encoded
    with (
        started(clone, "dvc", "repro", "train@gru") as one,
        started(clone, sys.executable, "-m", "stages.train", "rnn") as other,
    ):
        for process in (one, other):
            output, _ = process.communicate()
            assert process.returncode == 0, output
    found = clone.digests()
    for cell in ("gru", "rnn"):
        name = f"data/models/{cell}/model.safetensors"
        assert found[name] == trained[name]


@pytest.mark.soak
def test_a_killed_sweep_goes_on_and_the_pipeline_makes_its_winner_again(plain: Clone, tmp_path: Path) -> None:
    clone = plain.copy(tmp_path / "sweep", tracking=True)
    forget_models(clone)
    search = {"cell": ["gru"], "learning_rate": [0.02], "epochs": [20], "patience": [20]}
    clone.change(cells={"rnn": {"cell": "rnn"}}, train__learning_rate=0.00001, tune__search=search)
    with started(clone, "rnnlm", "tune") as process:
        deadline = time.monotonic() + 120
        while not list(clone.folder.glob(".rnnlm/sweeps/*/trials/1/*.safetensors")):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        kill_group(process)
    assert sorted(statuses(clone)) == ["FINISHED", "RUNNING", "RUNNING"]  # the cell's trial; this one, and the sweep
    done = clone.done("rnnlm", "tune", "--json")
    assert done.returncode == 0, done.stderr
    assert "resuming from a checkpoint at step" in done.stderr
    assert statuses(clone) == ["FINISHED"] * 3
    found = json.loads(done.stdout)
    assert [(trial["state"], trial["cell"]) for trial in found["trials"]] == [("finished", None), ("finished", "rnn")]
    assert clone.repro("train@tuned") == ["train@tuned"]
    assert clone.digests()["data/models/tuned/model.safetensors"] == found["trials"][0]["weights"]


def statuses(clone: Clone) -> list[str]:
    """Of all runs in MLflow."""
    with closing(sqlite3.connect(clone.folder / "mlflow.db")) as database:
        return [status for (status,) in database.execute("select status from runs")]
