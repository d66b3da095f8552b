"""One trial: trained in full, given up, interrupted."""

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.runtime.errors import StoppedError
from pipeline.runtime.stage import OUT_OF_MEMORY
from pipeline.runtime.stopping import Stop
from pipeline.tracking.sweep_runs import TrialRun
from pipeline.training.trainer import Trainer
from pipeline.tuning.attempt import MOST_BEGINNINGS, TimeOver, attempt
from pipeline.tuning.material import Material
from pipeline.tuning.trials import Trial, TrialRecord, Trials
from tests.projects import Project

FOLDER = Path(".rnnlm/sweeps/one")
ENTRY = {"cell": "gru", "learning_rate": 0.05, "epochs": 3}


class Bench:
    """A sweep's parts, and a way to train its next trial."""

    def __init__(self, **entry: Any) -> None:
        self.material = Material()
        self.trials = Trials(FOLDER, self.material.space, seed=1)
        self.entry = {**ENTRY, **entry}

    def next(self) -> Trial:
        trial = self.trials.next(lambda _: self.entry)
        assert trial is not None
        return trial

    def attempt(self, stop: Stop | None = None, **limits: float) -> TrialRecord:
        attempt(self.material, self.trials, self.next(), FOLDER, None, stop or Stop(), **limits)
        return self.trials.records()[-1]


def test_a_trial_that_was_interrupted_ends_in_the_same_bytes(
    prepared: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs: list[float] = []
    ends: list[tuple[str, float, dict[str, str]]] = []
    with monkeypatch.context() as patch:
        patch.setattr(TrialRun, "epoch_ended", lambda _, record, seconds, speed: epochs.append(seconds))
        patch.setattr(TrialRun, "ended", lambda _, status, seconds, **tags: ends.append((status, seconds, tags)))
        whole = Bench().attempt()
    assert (whole.trial, whole.state, whole.epochs) == (0, "finished", 3)
    # Its record says what MLflow is told.
    assert ends == [("FINISHED", whole.seconds, {"trial": "finished", "weights": whole.weights})]
    assert len(epochs) == 3
    assert sum(epochs) < whole.seconds  # which has validation too
    assert whole.parameters
    step, calls, stop = Trainer._step, [], Stop()
    monkeypatch.setattr(Trainer, "_step", lambda self, *args: calls.append(args) or step(self, *args))

    class Stops(Stop):
        """As if a signal came at the fifth step."""

        @property
        def signal(self) -> int | None:  # pyrefly: ignore[bad-override]
            return 15 if len(calls) >= 5 else None

    with pytest.raises(StoppedError, match="stopped by SIGTERM; `rnnlm tune` goes on with trial 1"):
        Bench().attempt(Stops())
    with pytest.raises(TimeOver):
        Bench().attempt(left=0.0)
    assert Bench().trials.records()[-1].state == "unfinished"
    again = Bench().attempt(stop)
    assert "resuming from a checkpoint at step" in capsys.readouterr().err
    assert (again.trial, again.weights, again.valid_perplexity) == (1, whole.weights, whole.valid_perplexity)
    assert list(FOLDER.glob("trials/*")) == []


@pytest.mark.parametrize(
    ("error", "note"), [(None, "training diverged: loss is "), (MemoryError(), OUT_OF_MEMORY)], ids=["rate", "memory"]
)
def test_what_cannot_be_trained_is_given_up_and_the_sweep_goes_on(
    error: Exception | None, note: str, prepared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    if error is None:
        monkeypatch.setattr(Trainer, "_step", lambda self, *_: self._require_finite(math.nan, "loss", "in a step"))
    else:
        monkeypatch.setattr(Trainer, "fit", lambda *_: (_ for _ in ()).throw(error))
    record = Bench().attempt()
    assert (record.state, record.weights) == ("pruned", None)
    assert record.note.startswith(note)


def test_what_would_take_too_long_is_not_begun_but_the_recipe_of_a_cell_is(
    prepared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "expected_seconds", lambda _: 600.0)
    record = Bench().attempt(longest=599.0)
    assert (record.state, record.epochs, record.note) == ("pruned", 0, "it would take 10 min")
    bench = Bench()
    bench.trials.enqueue("lstm", {"cell": "lstm"}, {})
    assert bench.attempt(longest=599.0).state == "finished"


def test_a_trial_that_kills_the_process_again_and_again_is_left_alone(
    prepared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    monkeypatch.setattr(Trainer, "fit", lambda *_: (_ for _ in ()).throw(Killed))
    for _ in range(MOST_BEGINNINGS):
        with pytest.raises(Killed):
            Bench().attempt()
    record = Bench().attempt()
    assert (record.trial, record.state) == (0, "pruned")
    assert record.note.startswith("`rnnlm tune` was killed 3 times")
