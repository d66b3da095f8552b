"""What a model has to be whatever the champion is, and what a verdict rests on."""

import dataclasses
from pathlib import Path
from typing import cast

import pytest

from pipeline.params import load_params
from pipeline.review import gates as gate
from pipeline.review.promotion import Verdict
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

    def tag_version(self, number: str, **tags: str) -> None:
        self.tags += tags.values()
