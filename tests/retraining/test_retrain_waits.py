"""A retraining that waits, for another one, a store or a remote, and one that is stopped or killed meanwhile."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from filelock import FileLock

from pipeline.retraining import retrain
from pipeline.retraining.outcome import Judgement, Retraining, write_reports
from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.settings import MLFLOW
from tests.conftest import PROJECT
from tests.projects import empty_database
from tests.retraining.conftest import STAGE, Repository, read, trigger


@pytest.mark.slow
def test_a_machine_that_vanishes_while_it_trains_leaves_in_the_remote_what_was_ready(
    ready: Repository, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    storage, encoded = tmp_path / "storage", "    cmd: mkdir -p data && echo ids > data/ids\n    outs: [data/ids]\n"
    with Path(".dvc/config").open("a") as config:
        config.write(f"    remote = storage\n['remote \"storage\"']\n    url = {storage}\n")
    Path("dvc.yaml").write_text(STAGE.replace("  train:\n", f"  encode:\n{encoded}  train:\n"))
    Path(".gitignore").write_text("/data/pins\n/data/ids\n")
    one_cell = yaml.safe_load(Path("params.yaml").read_text()) | {"cells": {"lstm": {"cell": "lstm"}}}
    Path("params.yaml").write_text(yaml.safe_dump(one_cell))
    ready.commit("a remote, and a stage before training")
    (tmp_path / "full").touch()
    with pytest.raises(InputError, match="no space"):
        retrain.retrain("retrained", tmp_path / "out")
    digest = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["encode"]["outs"][0]["md5"]
    assert (storage / "files/md5" / digest[:2] / digest[2:]).read_text() == "ids\n"

    # A remote that is away for a while costs no training.
    (tmp_path / "full").unlink()
    shutil.rmtree(storage)
    storage.write_text("a file where the folder was")
    trigger(ready, "epochs: 3", "epochs: 4")
    with pytest.raises(InputError):
        retrain.retrain("retrained", tmp_path / "out")
    told = capsys.readouterr().out
    assert "dvc push: not yet: " in told
    assert "1 stages ran" in told


SLOW = [pytest.param(step, marks=pytest.mark.slow) for step in ("git fetch", "dvc status", "git commit", "git push")]


@pytest.mark.parametrize("step", ["git merge", "dvc repro", "gate", *SLOW])
def test_a_signal_is_heeded_before_the_next_step(
    ready: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_reports(Retraining("retrained", judgement=Judgement("promoted")), tmp_path / "out", [])
    told: list[str] = []

    def tell(*words: str, **_: object) -> None:
        told.append(" ".join(words))
        if told[-1].startswith(f"{step}: "):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(retrain, "print", tell, raising=False)
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM; the next retraining continues from here$"):
        retrain.retrain("retrained", tmp_path / "out")
    last, back = told[-2:] if told[-1].startswith("branch: ") else (told[-1], "")
    assert last.startswith(f"{step}: ")
    assert bool(back) == (ready.git("branch", "--show-current") == "retrained")
    # What an earlier one has found is not this one's.
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()


# MLflow's own server, whose artifacts take as many seconds an answer as the file `pause` says.
SLOW_STORE = """
import time
from pathlib import Path
from werkzeug.serving import make_server
from mlflow.server import app
def slow(request, start):
    time.sleep(float(Path("pause").read_text()) if "mlflow-artifacts" in request["PATH_INFO"] else 0)
    return app(request, start)
server = make_server("127.0.0.1", 0, slow, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def slow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """MLflow's server, which the environment names, and the file that says how long its artifacts take."""
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_database())
    (folder / "pause").write_text("0")
    options = {"FILE_STORE": "sqlite:///mlflow.db", "SERVE_ARTIFACTS": "true"}
    options |= {"ARTIFACT_ROOT": "mlflow-artifacts:/", "ARTIFACT_DESTINATION": str(folder / "artifacts")}
    environment = os.environ | {f"_MLFLOW_SERVER_{name}": value for name, value in options.items()}
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_STORE], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{int(process.stdout.readline())}")
        yield folder / "pause"
        process.kill()


@pytest.mark.slow
def test_a_store_whose_artifacts_are_slow_is_waited_for_and_one_that_is_silent_named_with_the_limit(
    ready: Repository, tmp_path: Path, slow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*_: object) -> Judgement:
        with retrain.open_store() as store:
            run = store.client.create_run(store.experiment_id)
            store.client.log_text(run.info.run_id, "a patch", "provenance/patch")
            kept = store.read_file(run.info.run_id, "provenance/patch")
        return Judgement("promoted" if kept == b"a patch" else "kept")

    monkeypatch.setattr(retrain, "_judge", judge)
    monkeypatch.setenv("RNNLM_TRACKING", "")
    limit = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    monkeypatch.setenv(limit, "")
    monkeypatch.delenv(limit)
    monkeypatch.setitem(MLFLOW, limit, "1")  # of commands that somebody waits for
    slow_store.write_text("1.5")
    assert retrain.retrain("retrained", tmp_path / "out").judgement.verdict == "promoted"

    slow_store.write_text("1000")
    monkeypatch.setenv(limit, "1")
    with pytest.raises(InputError, match=rf"^MLflow failed \(.*mlflow-artifacts.*{limit} sets the limit\); is "):
        retrain.retrain("retrained", tmp_path / "out")
    assert read(tmp_path / "out")["verdict"] == "failed"
    with FileLock(retrain.LOCKS / "retrain.lock").acquire(timeout=0):
        pass


@pytest.mark.slow
def test_a_remote_of_dvc_that_falls_silent_is_given_up_with_the_limit_in_the_line(
    ready: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = "1" * 32  # of a result that only the remote has
    outs = [{"path": "data/models/lstm/history.csv", "md5": digest}]
    lock = {"schema": "2.0", "stages": {"train@lstm": {"cmd": "sh train.sh", "outs": outs}}}
    Path("dvc.yaml").write_text(STAGE.replace("history.csv: {cache: false}", "history.csv"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        with Path(".dvc/config").open("a") as config:
            config.write(f"    remote = x\n['remote \"x\"']\n    url = http://127.0.0.1:{silent.getsockname()[1]}/x\n")
        ready.commit("results elsewhere", dvc_lock=yaml.safe_dump(lock))
        asked = None
        for seconds in (4, 60):  # DVC takes a while to start on a busy machine
            monkeypatch.setenv("RNNLM_TRANSFER_SECONDS", str(seconds))
            told = rf"^dvc pull took longer than {seconds} seconds; is the remote up\? RNNLM_TRANSFER_SECONDS sets the "
            with pytest.raises(InputError, match=told):
                retrain.retrain("retrained", tmp_path / "out")
            with suppress(BlockingIOError):
                asked, _ = silent.accept()
                break
        assert asked
        asked.close()
    assert "dvc pull took longer" in read(tmp_path / "out")["reasons"][0]
    with FileLock(retrain.LOCKS / "retrain.lock").acquire(timeout=0):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(other, marks=pytest.mark.soak) for other in (signal.SIGKILL, signal.SIGINT, signal.SIGHUP)),
    ],
)
def test_a_stage_ends_with_its_retraining_and_the_next_goes_on(
    ready: Repository, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "rival").write_text("echo $$ > ../pid; sleep 1000")
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "retrain"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    killed = number == signal.SIGKILL
    assert process.wait() == (-number if killed else 128 + number)
    deadline = time.monotonic() + (60 if killed else 0)
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(int((tmp_path / "pid").read_text())).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert (f"{number.name}: ending\n" in process.communicate()[0]) is not killed
    (tmp_path / "rival").unlink()
    assert retrain.retrain("retrained", tmp_path / "out").judgement.verdict == "trained"


def test_who_waits_for_another_retraining_can_be_stopped(
    ready: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain.LOCKS.mkdir(parents=True)
    with FileLock(retrain.LOCKS / "retrain.lock"):
        monkeypatch.setattr(retrain, "print", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT), raising=False)
        with pytest.raises(StoppedError, match=r"^stopped by SIGINT; "):
            retrain.retrain("retrained", tmp_path)
