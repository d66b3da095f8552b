"""The steps around DVC and MLflow, which tests/system/test_retraining.py runs in earnest."""

import dataclasses
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.params import load_params
from pipeline.provenance import dvc
from pipeline.retraining import outcome as report
from pipeline.retraining import retrain
from pipeline.retraining.outcome import Commits, Judgement, Retraining, Work, write_reports
from pipeline.review import gates as gate
from pipeline.review.promotion import Gate, Verdict
from pipeline.runtime.errors import InputError
from pipeline.tracking.store import Store
from tests.conftest import PROJECT
from tests.retraining.conftest import FILES, Repository

RETRAIN = load_params(PROJECT / "params.yaml").retrain
METRICS = {"perplexity": 12.0, "perplexity_low": 11.0, "perplexity_high": 13.0, "unknown_share": 0.05}


@pytest.fixture
def ready(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A project in git, without DVC's remote, whose results change with its parameters, and MLflow switched off."""
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    monkeypatch.setattr(dvc, "has_remote", lambda: False)
    monkeypatch.setattr(dvc, "out_of_date", lambda: {"parameters": ["size"]})
    monkeypatch.setattr(retrain, "load_params", lambda: load_params(PROJECT / "params.yaml"))
    monkeypatch.setattr(gate, "candidate", lambda _: gate.Candidate("lstm", "digest", METRICS))
    monkeypatch.setattr(gate, "scoring_speed", lambda _: 5000.0)
    monkeypatch.setattr(retrain, "write_reports", lambda result, folder, _: write_reports(result, folder, []))
    runs_stage(monkeypatch, lambda: Path("dvc.lock").write_text(Path("params.yaml").read_text()))
    return repository


def runs_stage(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    def repro(pull: bool, environment: dict[str, str]) -> dvc.Ran:
        assert not pull
        work()
        return dvc.Ran(("train@lstm",), ("encode",))

    monkeypatch.setattr(dvc, "repro", repro)


def read(folder: Path) -> dict:
    return json.loads((folder / "retrain.json").read_text())


def test_without_mlflow_only_the_limits_are_held_and_results_are_pushed(
    ready: Repository, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    result = retrain.retrain("retrained", tmp_path / "out")
    assert (result.judgement.verdict, result.commits.pushed) == ("trained", True)
    assert ready.git("show", "origin/retrained:dvc.lock") == "size: 1"
    assert "mlflow: skipped, as RNNLM_TRACKING is off" in capsys.readouterr().out
    assert read(tmp_path / "out")["ran"] == ["train@lstm"]


def test_on_a_ci_machine_a_database_that_vanishes_is_no_mlflow(
    ready: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("RNNLM_TRACKING", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # as of a secret that nobody has set
    monkeypatch.setenv("CI", "true")
    assert retrain.retrain("retrained", tmp_path).judgement.verdict == "trained"
    assert "MLFLOW_TRACKING_URI names no server" in capsys.readouterr().out


def test_a_model_beyond_a_limit_is_kept_back(
    ready: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gate, "scoring_speed", lambda _: 3.0)
    result = retrain.retrain("retrained", tmp_path)
    assert result.judgement.verdict == "kept"
    assert result.judgement.reasons == ["It scores 3 tokens a second; at least 1,000 is needed."]


def test_who_is_second_starts_once_more_from_what_the_first_left(
    ready: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = ready.clone(tmp_path / "other")
    attempts = []

    def work() -> None:
        attempts.append(1)
        Path("dvc.lock").write_text("mine\n")
        if len(attempts) == 1:
            ready.git("checkout", "-q", "-b", "retrained", folder=other)
            (other / "dvc.lock").write_text("theirs\n")
            ready.git("add", "-A", folder=other)
            ready.git("commit", "-q", "-m", "faster", folder=other)
            ready.git("push", "-q", "origin", "retrained", folder=other)

    runs_stage(monkeypatch, work)
    result = retrain.retrain("retrained", tmp_path / "out")
    assert len(attempts) == 2
    assert result.work.ran == ("train@lstm", "train@lstm")
    theirs = ready.git("rev-parse", "retrained", folder=other)
    assert ready.git("merge-base", "--is-ancestor", theirs, "origin/retrained") == ""
    assert result.commits.after == ready.git("rev-parse", "origin/retrained")


def test_a_failure_is_one_line_and_stands_in_the_reports(
    ready: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> None:
        raise InputError("dvc repro failed: no space")

    runs_stage(monkeypatch, fail)
    with pytest.raises(InputError, match="no space"):
        retrain.retrain("retrained", tmp_path)
    assert read(tmp_path)["verdict"] == "failed"
    assert read(tmp_path)["reasons"] == ["dvc repro failed: no space."]
    assert "no space" in (tmp_path / "report.md").read_text()
    assert ready.git("branch", "-a", "--list", "origin/*").split() == ["remotes/origin/main"]


def test_without_any_remote_each_step_is_skipped_with_a_line(
    ready: Repository, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ready.git("remote", "remove", "origin")
    assert not retrain.retrain("retrained", tmp_path).commits.pushed
    told = capsys.readouterr().out
    for step in ("git fetch", "git push", "dvc pull", "dvc push", "mlflow"):
        assert f"\n{step}: skipped, as " in told


def with_warm_start(monkeypatch: pytest.MonkeyPatch, on: bool = True) -> None:
    params = load_params(PROJECT / "params.yaml")
    section = params.retrain.model_copy(update={"warm_start": on})
    monkeypatch.setattr(retrain, "load_params", lambda: dataclasses.replace(params, retrain=section))


@pytest.fixture
def with_champion(ready: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """MLflow has a champion; what becomes of the challenger is not looked at."""
    monkeypatch.setattr(retrain, "open_store", nullcontext)
    monkeypatch.setattr(retrain, "champion_files", lambda *_: ("3", FILES))
    monkeypatch.setattr(retrain, "_judge", lambda *_: Judgement("unchanged"))
    monkeypatch.setenv("RNNLM_TRACKING", "")
    return ready


def test_trainings_begin_with_the_champions_weights_where_that_is_asked_for(
    with_champion: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_warm_start(monkeypatch)
    seen = []
    runs_stage(monkeypatch, lambda: seen.append(json.loads(Path("warm_start.json").read_text())))
    result = retrain.retrain("retrained", tmp_path / "out")
    assert seen == [FILES]
    assert result.work.warm_start == "from the weights of champion v3, where the shapes agree"
    assert result.work.warm_start in (tmp_path / "out/report.md").read_text()
    assert json.loads(with_champion.git("show", "origin/retrained:warm_start.json")) == FILES

    # A champion since then is no reason to train, ...
    monkeypatch.setattr(retrain, "champion_files", lambda *_: ("4", {}))
    monkeypatch.setattr(dvc, "out_of_date", dict)
    assert retrain.retrain("retrained", tmp_path / "out").work.warm_start is None
    assert json.loads(Path("warm_start.json").read_text()) == FILES

    # ... and who no longer asks for it trains from random weights.
    with_warm_start(monkeypatch, False)
    monkeypatch.setattr(dvc, "out_of_date", lambda: {"parameters": ["size"]})
    result = retrain.retrain("retrained", tmp_path / "out")
    assert seen == [FILES, {}]
    assert "began" not in (tmp_path / "out/report.md").read_text()
    assert with_champion.git("show", "origin/retrained:warm_start.json") == "{}"


def test_without_a_champion_trainings_begin_with_random_weights_and_it_is_said_why(
    with_champion: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_warm_start(monkeypatch)

    def none(*_: object) -> None:
        raise InputError("there is no champion yet")

    monkeypatch.setattr(retrain, "champion_files", none)
    assert retrain.retrain("retrained", tmp_path).work.warm_start == "from random weights: there is no champion yet"
    assert Path("warm_start.json").read_text() == "{}\n"
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    monkeypatch.setattr(retrain, "champion_files", lambda *_: pytest.fail("there is no MLflow"))
    assert retrain.retrain("retrained", tmp_path).work.warm_start == "from random weights, as RNNLM_TRACKING is off"


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
    monkeypatch: pytest.MonkeyPatch, verdict: report.Outcome, arguments: list[str], status: int
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(retrain, "retrain", lambda branch, output: Retraining(branch, judgement=Judgement(verdict)))
    assert CliRunner().invoke(app, ["retrain", *arguments]).exit_code == status


@pytest.mark.parametrize(
    ("metrics", "speed", "failed"),
    [
        (METRICS, 5000.0, []),
        (METRICS | {"perplexity": 200.5}, 5000.0, ["perplexity"]),
        (METRICS | {"perplexity": float("nan")}, 5000.0, ["perplexity"]),
        (METRICS | {"perplexity": float("inf")}, 5000.0, ["perplexity"]),
        (METRICS | {"unknown_share": 0.11}, 999.0, ["unknown words", "speed"]),
        ({}, 5000.0, ["perplexity", "unknown words"]),
    ],
)
def test_limits(metrics: dict[str, float], speed: float, failed: list[str]) -> None:
    assert [item.name for item in gate.limits(metrics, speed, RETRAIN) if not item.passed] == failed


def test_how_a_training_begins_is_no_reason_to_judge_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    params, store = load_params(PROJECT / "params.yaml"), Recorded()
    monkeypatch.setattr(gate, "carry_out", lambda *_: None)
    monkeypatch.setattr(gate, "TOKENS", tmp_path / "sentences.parquet")
    gate.TOKENS.write_text("sentences")
    for changes in ({}, {"warm_start": True}, {"confidence": 0.9}):
        section = params.retrain.model_copy(update=changes)
        verdict = Verdict("2", "1", (), None)
        gate.settle(cast(Store, store), verdict, dataclasses.replace(params, retrain=section))
    first, warm, other = store.tags
    assert first == warm != other


class Recorded:
    """A store that keeps the values of the tags that versions get."""

    def __init__(self) -> None:
        self.tags: list[str] = []

    def tag_version(self, number: str, **tags: str) -> None:
        self.tags += tags.values()


COMPARED = {
    "sentences": 120,
    "tokens": 1100,
    "perplexity_a": 15.0,
    "perplexity_b": 12.0,
    "ratio": 0.8,
    "ratio_low": 0.75,
    "ratio_high": 0.85,
    "confidence": 0.999,
    "remarks": ["A remark."],
}


def judged(verdict: report.Outcome) -> Retraining:
    return Retraining(
        "retrained",
        Work({"data": ["corpus"]}, ("train@lstm",)),
        Commits("a" * 40, "b" * 40, "c" * 40, pushed=True),
        Judgement(
            verdict,
            ["Because."],
            champion_before="1",
            champion_after="2" if verdict == "promoted" else "1",
            challenger="2",
            cell="lstm",
            metrics={"challenger": METRICS | {"accuracy_top1": float("nan")}, "champion": {"perplexity": 15.0}},
            test=COMPARED,
            gates=(Gate("better", verdict == "promoted", "It | is."),),
        ),
    )


def test_the_report_has_the_verdict_why_what_changed_and_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        (tmp_path / name).write_text("earlier=1\n")
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gradient_flow.png").write_text("of an earlier one")
    write_reports(judged("promoted"), tmp_path / "out", [])
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("# Retraining: v2 promoted in place of v1\n\nBecause.\n")
    assert "| that of the challenger, divided | 1 | 0.800 (0.750 to 0.850) |" in text
    assert "| 15.00 | 12.00 (11.00 to 13.00) |" in text
    assert "| better | yes | It \\| is. |" in text
    assert "A remark." in text
    assert "Out of date: `data: corpus`" in text
    assert "triggered by `aaaaaaaa`; before it, `retrained` was at `bbbbbbbb`; now at `cccccccc`, pushed" in text
    assert not (tmp_path / "out" / "gradient_flow.png").exists()
    content = read(tmp_path / "out")
    assert (content["verdict"], content["champion_before"], content["champion_after"]) == ("promoted", "1", "2")
    assert content["metrics"]["challenger"]["accuracy_top1"] is None
    outputs = (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()
    assert outputs[:4] == ["earlier=1", "verdict=promoted", "headline=v2 promoted in place of v1", "champion=2"]
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text() == "earlier=1\n" + text


def test_a_champion_that_stays_is_named(tmp_path: Path) -> None:
    write_reports(judged("kept"), tmp_path, [])
    assert (
        (tmp_path / "report.md").read_text().startswith("# Retraining: not promoted, v1 stays champion\n\nBecause.\n")
    )
    assert "| better | **no** |" in (tmp_path / "report.md").read_text()
