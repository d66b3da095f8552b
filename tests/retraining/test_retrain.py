"""The steps of a retraining with git and DVC in earnest; tests/system/test_retraining.py adds models and MLflow."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.provenance import dvc
from pipeline.retraining import retrain
from pipeline.retraining.outcome import Judgement, Outcome, Retraining
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT
from tests.retraining.conftest import FILES, SCRIPT, Repository, read, trigger


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
