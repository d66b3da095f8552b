"""The steps of a retraining with git and DVC in earnest; tests/system/test_retraining.py adds models and MLflow."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import psutil
import pytest
import yaml
from filelock import FileLock
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.provenance import dvc
from pipeline.retraining import retrain
from pipeline.retraining.outcome import Judgement, Outcome, Retraining, write_reports
from pipeline.review import gates as gate
from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.settings import MLFLOW
from tests.conftest import PROJECT
from tests.projects import empty_database
from tests.retraining.conftest import FILES, Repository

METRICS = {"perplexity": 12.0, "unknown_share": 0.05}
STAGE = """
stages:
  pins:
    cmd: mkdir -p data/pins && echo "train/train.sh $(grep -v '^#' train.sh | md5sum | cut -c1-9)" > data/pins/train.txt
    deps: [train.sh]
    outs:
    - data/pins/train.txt: {persist: true}
  train:
    foreach: [lstm]
    do:
      cmd: sh train.sh
      deps: [warm_start.json, data/pins/train.txt]
      params: [train.epochs]
      outs:
      - data/models/lstm/history.csv: {cache: false}
"""
# What the stage does: files beside the checkout let somebody else push meanwhile, or make it fail.
SCRIPT = """
test ! -e ../rival || sh ../rival
test ! -e ../full || { echo "error: no space"; exit 1; }
echo tracking: $RNNLM_TRACKING
mkdir -p data/models/lstm
grep epochs: params.yaml > data/models/lstm/history.csv
"""


@pytest.fixture
def ready(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A project with one stage, in git and DVC, and MLflow switched off; only the model is not there."""
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    monkeypatch.setattr(gate, "candidate", lambda _: gate.Candidate("lstm", "digest", METRICS))
    monkeypatch.setattr(gate, "scoring_speed", lambda _: 5000.0)
    monkeypatch.setattr(retrain, "write_reports", lambda result, folder, _: write_reports(result, folder, []))
    repository.add_pipeline(STAGE, SCRIPT, ignored="/data/pins\n")
    return repository


def trigger(repository: Repository, before: str, after: str) -> None:
    """Commit a change of params.yaml on the default branch."""
    repository.git("checkout", "-q", "main")
    text = Path("params.yaml").read_text()
    assert before in text
    repository.commit(params=text.replace(before, after))


def read(folder: Path) -> dict:
    return json.loads((folder / "retrain.json").read_text())


@pytest.mark.slow
def test_without_mlflow_only_the_limits_are_held_and_results_are_pushed(
    ready: Repository, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    result = retrain.retrain("retrained", tmp_path / "out")
    assert (result.judgement.verdict, result.pushed) == ("trained", True)
    assert ready.git("show", "origin/retrained:data/models/lstm/history.csv").startswith("epochs: 3")
    assert "train@lstm" in ready.git("show", "origin/retrained:dvc.lock")
    told = capsys.readouterr().out
    back = "branch: this checkout is on retrained now; `git checkout main && dvc checkout` goes back"
    assert told.splitlines()[-1] == back
    assert "mlflow: skipped, as RNNLM_TRACKING is off" in told
    assert "out of date: everything: nothing has run here before" in told
    assert read(tmp_path / "out")["ran"] == ["train@lstm"]

    # What ran before comes from the cache or lies there, and a model beyond a limit is kept back.
    again = retrain.retrain("retrained", tmp_path / "out")
    assert (again.judgement.verdict, again.ran, again.after) == ("unchanged", (), result.after)
    assert "branch:" not in capsys.readouterr().out  # it was there before
    trigger(ready, "epochs: 3", "epochs: 4")
    trigger(ready, "slowest_scoring: 1000", "slowest_scoring: 6000")
    result = retrain.retrain("retrained", tmp_path / "out")
    assert (result.judgement.verdict, result.changes) == ("kept", {"parameters": ["train.epochs"]})
    assert result.judgement.reasons == ["It scores 5,000 tokens a second; at least 6,000 is needed."]


@pytest.mark.slow
def test_a_comment_in_the_code_is_not_a_reason_to_train_and_other_code_is_named(
    ready: Repository, tmp_path: Path
) -> None:
    def pushed_with(code: str) -> retrain.Retraining:
        ready.git("checkout", "-q", "main")
        Path("train.sh").write_text(code)
        ready.commit("other code")
        return retrain.retrain("retrained", tmp_path / "out")

    assert retrain.retrain("retrained", tmp_path / "out").judgement.verdict == "trained"
    result = pushed_with(f"{SCRIPT}# A comment.\n")
    assert (result.judgement.verdict, result.changes, result.ran) == ("unchanged", {}, ())
    result = pushed_with(f"{SCRIPT}echo more\n")
    assert (result.changes, result.ran) == ({"code": ["train/train.sh"]}, ("train@lstm",))


def test_on_a_ci_machine_a_database_that_vanishes_is_no_mlflow_for_the_stages_either(
    ready: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("RNNLM_TRACKING", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # as of a secret that nobody has set
    monkeypatch.setenv("CI", "true")
    assert retrain.retrain("retrained", tmp_path).judgement.verdict == "trained"
    told = capsys.readouterr().out
    assert "MLFLOW_TRACKING_URI names no server" in told
    assert "tracking: off" in told


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


def test_who_is_second_starts_once_more_from_what_the_first_left(ready: Repository, tmp_path: Path) -> None:
    other = ready.clone(tmp_path / "other")
    ready.git("checkout", "-q", "-b", "retrained", folder=other)
    (other / "theirs").write_text("theirs\n")
    ready.git("add", "-A", folder=other)
    ready.git("commit", "-q", "-m", "faster", folder=other)
    (tmp_path / "rival").write_text("rm ../rival; cd ../other && git push -q origin retrained")
    result = retrain.retrain("retrained", tmp_path / "out")
    assert not (tmp_path / "rival").exists()
    assert result.ran == ("train@lstm",)  # once, as the second attempt had its results
    theirs = ready.git("rev-parse", "retrained", folder=other)
    assert ready.git("merge-base", "--is-ancestor", theirs, "origin/retrained") == ""
    assert result.after == ready.git("rev-parse", "origin/retrained")


def test_a_failure_is_one_line_and_stands_in_the_reports(ready: Repository, tmp_path: Path) -> None:
    (tmp_path / "full").touch()
    with pytest.raises(InputError, match=r"^dvc repro failed: error: no space; "):
        retrain.retrain("retrained", tmp_path)
    assert read(tmp_path)["verdict"] == "failed"
    assert read(tmp_path)["changes"] == {dvc.FIRST: []}
    assert "error: no space" in read(tmp_path)["reasons"][0]
    assert "error: no space" in (tmp_path / "report.md").read_text()
    assert ready.git("branch", "-a", "--list", "origin/*").split() == ["remotes/origin/main"]


def test_a_conflict_in_a_file_whose_name_is_not_utf8_is_reported(ready: Repository, tmp_path: Path) -> None:
    corpus = Path(os.fsdecode(b"caf\xe9.csv"))
    for branch in ("retrained", "main"):
        ready.git("checkout", "-q", "-B", branch, "main")
        corpus.write_text(branch)
        ready.commit(f"text of {branch}")
    with pytest.raises(InputError, match=r"cannot be merged into retrained: both changed caf\\udce9\.csv; merge"):
        retrain.retrain("retrained", tmp_path)
    assert r"caf\udce9.csv" in read(tmp_path)["reasons"][0]
    assert r"caf\udce9.csv" in (tmp_path / "summary.md").read_text()


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
            store.log_files(run.info.run_id, "provenance", {"patch": b"a patch"})
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


def test_a_store_that_has_moved_is_said_before_anything_runs(
    ready: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    @contextmanager
    def moved() -> Iterator[None]:
        raise InputError("MLflow's database has moved; run `rnnlm relocate`")
        yield

    monkeypatch.setenv("RNNLM_TRACKING", "")
    monkeypatch.setattr(retrain, "open_store", moved)
    before = ready.git("rev-parse", "HEAD")
    with pytest.raises(InputError, match=r"run `rnnlm relocate`$"):
        retrain.retrain("retrained", tmp_path)
    assert capsys.readouterr().out == "lock: held\n"
    assert (ready.git("rev-parse", "HEAD"), ready.git("branch", "--list", "retrained")) == (before, "")
    assert read(tmp_path)["reasons"] == ["MLflow's database has moved; run `rnnlm relocate`."]


def test_without_any_remote_each_step_is_skipped_with_a_line(
    ready: Repository, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ready.git("remote", "remove", "origin")
    assert not retrain.retrain("retrained", tmp_path).pushed
    told = capsys.readouterr().out
    for step in ("git fetch", "git push", "dvc pull", "dvc push", "mlflow"):
        assert f"\n{step}: skipped, as " in told


@pytest.mark.slow
def test_training_runs_begin_with_the_champions_weights_where_that_is_asked_for(
    ready: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retrain, "open_store", nullcontext)
    monkeypatch.setattr(retrain, "champion_files", lambda *_: ("3", FILES))
    monkeypatch.setattr(retrain, "_judge", lambda *_: Judgement("unchanged"))
    monkeypatch.setenv("RNNLM_TRACKING", "")
    trigger(ready, "warm_start: false", "warm_start: true")
    result = retrain.retrain("retrained", tmp_path / "out")
    assert result.warm_start == "from the weights of champion v3, where the shapes agree"
    assert result.warm_start in (tmp_path / "out/report.md").read_text()
    assert json.loads(ready.git("show", "origin/retrained:warm_start.json")) == FILES

    # A champion since then is no reason to train, ...
    monkeypatch.setattr(retrain, "champion_files", lambda *_: ("4", {}))
    result = retrain.retrain("retrained", tmp_path / "out")
    assert (result.warm_start, result.ran) == (None, ())
    assert json.loads(Path("warm_start.json").read_text()) == FILES

    # ... who has none, or no MLflow, is told why, ...
    monkeypatch.setattr(retrain, "champion_files", lambda *_: no_champion())
    trigger(ready, "epochs: 3", "epochs: 4")
    result = retrain.retrain("retrained", tmp_path / "out")
    assert result.warm_start == "from random weights: there is no champion yet"
    assert ready.git("show", "origin/retrained:warm_start.json") == "{}"
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    trigger(ready, "epochs: 4", "epochs: 5")
    result = retrain.retrain("retrained", tmp_path / "out")
    assert result.warm_start == "from random weights, as RNNLM_TRACKING is off"

    # ... and who no longer asks for it is told nothing.
    trigger(ready, "warm_start: true", "warm_start: false")
    trigger(ready, "epochs: 5", "epochs: 6")
    result = retrain.retrain("retrained", tmp_path / "out")
    assert (result.warm_start, result.ran) == (None, ("train@lstm",))
    assert "began" not in (tmp_path / "out/report.md").read_text()


def no_champion() -> None:
    raise InputError("there is no champion yet")


@pytest.mark.parametrize(
    ("verdict", "arguments", "status"),
    [
        ("promoted", [], 0),
        ("kept", [], 0),
        ("unchanged", [], 0),
        ("promoted", ["--exit-code"], 0),
        ("trained", ["--exit-code"], 0),
        ("unchanged", ["--exit-code"], 10),
        ("kept", ["--exit-code"], 11),
    ],
)
def test_the_exit_status_says_the_verdict_only_where_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, verdict: Outcome, arguments: list[str], status: int
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(retrain, "retrain", lambda branch, *_: Retraining(branch, judgement=Judgement(verdict)))
    assert CliRunner().invoke(app, ["retrain", *arguments]).exit_code == status
