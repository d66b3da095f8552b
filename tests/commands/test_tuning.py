"""The command that searches; what a sweep does is tested in tests/tuning/."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.tuning import sweep
from tests.commands.conftest import rnnlm
from tests.projects import Project, project  # noqa: F401 (a fixture, not that of this package)
from tests.tuning.conftest import prepared  # noqa: F401 (a fixture)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials take a minute and train nothing."""

    def attempt(_: object, trials: Any, trial: Any, *rest: object) -> None:
        trial.is_hopeless(1, 9.0 - trial.number)
        trial.note(seconds=60.0, weights="abc", parameters=5)
        trials.finish(trial, 9.0 - trial.number)

    monkeypatch.setattr(sweep, "attempt", attempt)


@pytest.mark.usefixtures("quick")
def test_it_prints_the_best_trials_and_writes_the_winner(prepared: Project) -> None:  # noqa: F811
    folder = prepared.folder
    assert "there is no sweep over this data" in rnnlm(folder, "tune", "--minutes", "0", status=1)
    told = rnnlm(folder, "tune", "--minutes", "3")
    assert [line.split("│")[1].strip() for line in told.splitlines() if line.startswith("│")] == ["2", "1", "0"]
    assert "3 trials in 3.0 min, 3 of them finished; judged by validation alone, the test split was not read" in told
    assert "params.yaml has trial 2 as tuned now; `dvc repro` trains it again, to the same bytes" in told
    before = Path(folder, "params.yaml").read_text()
    assert "  tuned: # by `rnnlm tune`: validation perplexity 7.00, weights abc" in before
    shown = json.loads(rnnlm(folder, "tune", "--minutes", "0", "--json"))
    assert Path(folder, "params.yaml").read_text() == before
    assert [trial["trial"] for trial in shown["trials"]] == [2, 1, 0]
    assert shown["trials"][0] | {"entry": None} == {
        "trial": 2,
        "state": "finished",
        "valid_perplexity": 7.0,
        "epochs": 1,
        "seconds": 60.0,
        "parameters": 5,
        "weights": "abc",
        "cell": None,
        "note": "",
        "entry": None,
    }
    assert shown["done"] == ""
    told = rnnlm(folder, "tune", "--minutes", "0", "--write", "best")
    assert "params.yaml has trial 2 as best now" in told
    assert "has a cell lstm that is not this sweep's" in rnnlm(folder, "tune", "--write", "lstm", status=1)
