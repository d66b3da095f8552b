"""A whole sweep over a tiny text: today's best first, the winner made again, nothing twice."""

import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.hashes import sha256
from pipeline.training.trainer import Trainer
from pipeline.tuning import sweep
from pipeline.tuning.sweep import Sweep, ranked
from pipeline.tuning.trials import TrialRecord
from stages import train as stage
from tests.projects import Project
from tests.tuning.conftest import change

FEW = {"cell": ["gru"], "hidden_size": [6], "learning_rate": [0.01, 0.1]}  # two recipes


def few(search: dict[str, Any]) -> None:
    change(lambda params: params.update(tune={"search": search}))


def test_the_winner_is_an_entry_of_cells_of_which_the_pipeline_makes_the_same_bytes(
    prepared: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few(FEW)
    whole = Sweep()
    whole.require_free("tuned")
    whole.run(60)
    assert "nothing new is left to try" in capsys.readouterr().err
    records = whole.records()
    assert [record.cell for record in records] == ["lstm", None, None]
    winner = ranked(records)[0]
    assert winner.entry["learning_rate"] == 0.1
    assert whole.write("tuned") == (
        f"params.yaml has trial {winner.trial} as tuned now; `dvc repro` trains it again, to the same bytes"
    )
    assert load_params().cell("tuned").model.hidden_size == 6
    monkeypatch.setattr(sys, "argv", ["train", "tuned"])
    stage.train()
    assert sha256(Path("data/models/tuned/model.safetensors")) == winner.weights
    assert winner.weights not in {record.weights for record in records if record is not winner}
    # The same command again finds that all is done.
    again = Sweep()
    again.require_free("tuned")
    again.run(60)
    assert again.records() == records
    assert again.write("tuned") == f"params.yaml has trial {winner.trial} as tuned already"
    with pytest.raises(InputError, match="has a cell lstm that is not this sweep's"):
        again.write("lstm")


def test_todays_best_is_not_written_again_where_nothing_is_better(prepared: Project) -> None:
    few({"cell": ["gru"], "hidden_size": [1], "learning_rate": [0.00001]})
    before = Path("params.yaml").read_text()
    whole = Sweep()
    with pytest.raises(InputError, match="there is no sweep over this data with these parameters"):
        whole.records()
    whole.run(60)
    assert whole.write("tuned") == "no trial was better than lstm, which params.yaml has; nothing was written"
    assert Path("params.yaml").read_text() == before


def test_minutes_count_over_all_calls(prepared: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    few(FEW)
    asked: list[float] = []

    def attempt(_: object, trials: Any, trial: Any, *rest: Any) -> None:
        asked.extend(rest[-2:])
        trial.is_hopeless(1, 9.0 - trial.number)
        trial.note(seconds=50.0)
        trials.finish(trial, 9.0 - trial.number)

    monkeypatch.setattr(sweep, "attempt", attempt)
    Sweep().run(1.0)
    assert asked == [60.0, 15.0, 10.0, 15.0]  # seconds left, and those that a trial may be expected to take
    Sweep().run(1.0)
    assert len(asked) == 4
    Sweep().run(2.0)
    assert asked[4:] == [20.0, 30.0]


def test_a_trial_that_is_out_of_time_goes_on_when_there_is_more(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    few(FEW)
    Sweep().run(1e-6)
    assert "minutes are over; with more, `rnnlm tune` goes on with trial 0" in capsys.readouterr().err
    assert [record.state for record in Sweep().records()] == ["unfinished"]
    with pytest.raises(InputError, match="no trial has finished yet"):
        Sweep().write("tuned")
    Sweep().run(60)
    assert [record.state for record in Sweep().records()] == ["finished"] * 3


def test_a_draw_that_does_not_fit_is_left_out_and_said(prepared: Project, capsys: pytest.CaptureFixture[str]) -> None:
    few({"dropped_words": [0.5]})
    Sweep().run(60)
    told = capsys.readouterr().err
    assert told.count("left out") == 0  # there is no embedding that it could drop words from
    few({"lower_sizes": [[3]]})
    Sweep().run(60)
    # There is one layer.
    assert "left out: params.yaml: cells.entry: lower_sizes has the units" in capsys.readouterr().err


def test_two_sweeps_do_not_run_at_once(prepared: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    few(FEW)

    def fit(*_: object) -> None:
        with pytest.raises(InputError, match="another `rnnlm tune` is at work in this folder"):
            Sweep().run(1)
        raise MemoryError

    monkeypatch.setattr(Trainer, "fit", fit)
    Sweep().run(60)
    assert [record.note.partition(";")[0] for record in Sweep().records()] == ["out of memory"] * 3


def test_trials_are_ranked_by_perplexity_and_those_given_up_come_last() -> None:
    def record(number: int, state: Any, perplexity: float | None, epochs: int) -> TrialRecord:
        return TrialRecord(number, state, perplexity, epochs, 1.0, 1, None, None, "", {})

    records = [record(0, "pruned", 3.0, 1), record(1, "finished", 5.0, 2), record(2, "finished", 4.0, 3)]
    records += [record(3, "pruned", 9.0, 2), record(4, "pruned", None, 0)]
    records += [record(5, "finished", 4.5, 1), record(6, "finished", 6.0, 9)]  # `patience` ends some early
    assert [found.trial for found in ranked(records)] == [2, 5, 1, 6, 3, 0, 4]
