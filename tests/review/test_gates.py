"""What a model has to be whatever the champion is, and what a verdict rests on."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.evaluation.paired import PairedResult
from pipeline.params import load_params
from pipeline.provenance.dvc import StageRecord
from pipeline.review import gates as gate
from pipeline.review.comparison import ModelComparison
from pipeline.review.conditions import Gate, reasons
from pipeline.review.promotion import Verdict
from pipeline.runtime.errors import InputError
from pipeline.text.encoded import EncodedSplit
from pipeline.tracking.record import Provenance
from pipeline.tracking.store import Store
from tests.conftest import PROJECT

RETRAIN = load_params(PROJECT / "params.yaml").retrain
METRICS = {"perplexity": 12.0, "unknown_share": 0.05}


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

    def version(self, number: str) -> SimpleNamespace:
        return SimpleNamespace(version=number, tags={})

    def tag_version(self, number: str, **tags: str) -> None:
        self.tags += tags.values()


class Judged:
    """A champion and a challenger in a store, of which only what gates ask for is there."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, str]] = {"1": {}, "2": {}}
        self.moved: list[tuple[str, str]] = []

    def aliases(self) -> dict[str, str]:
        return {"champion": "1", "challenger": "9"}  # another clone's sync was faster

    def version(self, number: str) -> SimpleNamespace:
        return SimpleNamespace(version=number, tags=self.tags[number])

    def tag_version(self, number: str, **tags: str) -> None:
        self.tags[number] |= tags


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Judged:
    """The champion's test sentences were others, and nothing has them any more."""
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    monkeypatch.setattr(gate, "TOKENS", tmp_path / "sentences.parquet")
    gate.TOKENS.write_text("sentences")
    run = SimpleNamespace(info=SimpleNamespace(run_id="id"))
    monkeypatch.setattr(gate, "find", lambda *_: run)
    monkeypatch.setattr(gate, "carry_out", lambda *_: None)
    test = SimpleNamespace(result=None, remarks=())
    better = Gate("better", True, "It is better.")
    monkeypatch.setattr(
        gate, "decide", lambda _, version, *__: Verdict(version, "1", (better,), cast(ModelComparison, test))
    )
    record = StageRecord({}, {gate.TOKENS.as_posix(): "0" * 32}, {})
    monkeypatch.setattr(gate, "read_provenance", lambda *_: Provenance("c", {}, {"tokenize": record}))
    return Judged()


def test_what_a_person_rolls_back_while_it_is_judged_is_not_promoted(judged: Judged) -> None:
    verdict = judge(judged, waived=True)
    assert verdict.outcome == "promoted"
    judged.tags["2"]["rolled_back"] = "true"  # another retraining promoted it first
    with pytest.raises(InputError, match="v2 was rolled back while it was judged"):
        gate.settle(cast(Store, judged), verdict, load_params(PROJECT / "params.yaml"))
    assert "judged" not in judged.tags["2"]


def judge(store: Judged, waived: bool = False) -> Verdict:
    found = gate.Candidate("lstm", "digest", METRICS)
    return gate.judge(cast(Store, store), found, "2", 5000.0, load_params(PROJECT / "params.yaml"), waived)


def test_a_check_that_cannot_be_made_fails_and_is_made_once_it_can(
    judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(PROJECT / "params.yaml")
    verdict = judge(judged)
    assert (verdict.challenger, verdict.outcome) == ("2", "kept")
    (told,) = reasons(verdict.gates)
    assert told.startswith("It could not be tested on the test sentences of champion v1: the champion's test sentences")
    assert "`dvc push` them from a machine that has them" in told
    gate.settle(cast(Store, judged), verdict, params)
    assert gate.judged_before(cast(Store, judged), "2", params) is None

    # Whoever decides without says so, and that is on the record.
    waived = judge(judged, waived=True)
    assert waived.outcome == "promoted"
    assert "It passes all the same, as this run was told --without-old-sentences." in waived.reason
    # Unknown is not equal.
    monkeypatch.setattr(gate, "read_provenance", lambda *_: None)
    assert judge(judged).outcome == "kept"
    assert "MLflow does not say which they were" in judge(judged).reason


def test_a_check_that_is_made_and_fails_is_not_waived(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    result = PairedResult(9, 90, 8, 7.5, 7.67, 249_010.0, 10, 9, 11, 3e4, 1e4, 6e4, 0.95, 100)
    monkeypatch.setattr(gate, "restore", lambda *_: None)
    left_out, remarks = 0, ("A remark.",)
    monkeypatch.setattr(
        gate, "compare_models", lambda *_: SimpleNamespace(result=result, left_out=left_out, remarks=remarks)
    )
    assert judge(judged, waived=True).outcome == "kept"
    assert "249010.00" in judge(judged, waived=True).reason
    assert judge(judged).reason.endswith("it is worse. A remark.")
    # What cannot be told is not worse; too few documents tell nothing, so that check cannot be made.
    result = dataclasses.replace(result, ratio=1.1, difference_low=-0.1)
    assert judge(judged).outcome == "promoted"
    left_out, remarks = None, ("Whether one of them was trained on them cannot be told.",)
    assert judge(judged).outcome == "kept"
    assert (
        "champion v1: Whether one of them was trained on them cannot be told. `dvc push` them" in judge(judged).reason
    )
    left_out, remarks = 0, ()
    result = dataclasses.replace(result, ratio_low=None, difference_low=None, difference_high=None)
    assert judge(judged).outcome == "kept"
    assert "no interval, as 8 documents (effective number 7.5) say too little" in judge(judged).reason
    assert judge(judged, waived=True).outcome == "promoted"


def test_models_that_cannot_be_compared_stay_and_are_judged_again(
    judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise InputError("the files of v1 are missing")

    monkeypatch.setattr(gate, "decide", lost)
    verdict = judge(judged, waived=True)
    assert (verdict.outcome, verdict.challenger, verdict.champion) == ("kept", "2", "1")
    gate.settle(cast(Store, judged), verdict, load_params(PROJECT / "params.yaml"))
    assert judged.tags["2"] == {}


@pytest.mark.parametrize("lengths", [[3, 7], [9000, 1, 12_500, 4]])
def test_speed_is_the_median_over_twenty_thousand_tokens(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    test = EncodedSplit.of([[0, *[5] * (length - 1), 1] for length in lengths])
    scored, clock = [], iter([0.0, 2.0, 10.0, 10.5, 20.0, 60.0])  # runs of 2, half a and 40 seconds
    monkeypatch.setattr(gate, "load_split", lambda *_: test)
    monkeypatch.setattr(gate.Predictor, "load", lambda _: SimpleNamespace(vocabulary=()))
    monkeypatch.setattr(gate, "score_split", lambda _, split, __: scored.append(split))
    monkeypatch.setattr(gate.time, "perf_counter", lambda: next(clock))
    speed = gate.scoring_speed(Path("model"))
    (tokens,) = {split.tokens for split in scored}
    assert 20_000 <= tokens < 20_000 + max(lengths)
    assert speed == tokens / 2
    assert scored[0].lengths[: len(lengths)].tolist() == lengths[: len(scored[0])]


def test_the_way_around_a_check_is_closed_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("CI", "true")
    done = CliRunner().invoke(app, ["retrain", "--without-old-sentences"])
    assert str(done.exception).startswith("--without-old-sentences is a person's decision, and CI is set here")
