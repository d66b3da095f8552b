"""One trial: a model trained as the stage `train` would from such an entry of `cells`, or given up as hopeless."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.model.folder import SavedModel, TextRules, save_model
from pipeline.model.language_model import LanguageModel
from pipeline.params import CellParams
from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.files import scratch_folder
from pipeline.runtime.hashes import sha256
from pipeline.runtime.paths import WEIGHTS_FILE
from pipeline.runtime.progress import duration
from pipeline.runtime.stage import OUT_OF_MEMORY, is_lack_of_memory
from pipeline.runtime.stopping import Stop
from pipeline.tracking.sweep_runs import TrialRun
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.first_weights import beginning
from pipeline.training.history import EpochRecord, best_epoch
from pipeline.training.params import TrainParams
from pipeline.training.trainer import Trainer
from pipeline.tuning.material import Material
from pipeline.tuning.trials import Trial, Trials

MOST_BEGINNINGS = 3  # of a trial that never gets as far as a checkpoint
UNFINISHED = "trials"  # in a sweep's folder: checkpoints of the trial under way


class TimeOver(Exception):  # noqa: N818 (nothing has failed)
    """The sweep has had its minutes; the trial under way is saved."""


class _Hopeless(Exception):  # noqa: N818
    """The trial is worse than half of the others were after as many epochs."""


class _Clock(Stop):
    """Also stops a trial when it has had the seconds that are `left` to the sweep."""

    def __init__(self, stop: Stop, checkpoints: Checkpoints, left: float, number: int) -> None:
        self._stop, self._checkpoints, self._left, self._number = stop, checkpoints, left, number

    def raise_if_asked(self, save: Callable[[], str]) -> None:
        def saved() -> str:
            save()
            return f"`rnnlm tune` goes on with trial {self._number}"

        self._stop.raise_if_asked(saved)
        if self._checkpoints.seconds >= self._left:
            save()
            raise TimeOver


class _Follower(TrialRun):
    """Tells MLflow and Optuna of each epoch."""

    trial: Trial
    epochs: int

    def epoch_ended(self, record: EpochRecord, seconds: float, tokens_per_second: float) -> None:
        super().epoch_ended(record, seconds, tokens_per_second)
        if self.trial.is_hopeless(record.epoch, record.valid_perplexity) and record.epoch < self.epochs:
            raise _Hopeless


def attempt(
    material: Material, trials: Trials, trial: Trial, folder: Path, parent: str | None, stop: Stop,
    left: float = math.inf, longest: float = math.inf,
) -> None:  # fmt: skip
    """Train a trial, or go on with it, and put on record how it ends.

    Args:
        material: what it is trained on.
        trials: where it is on record.
        trial: the one to train.
        folder: of the sweep.
        parent: the id of the sweep's run in MLflow, if it has one.
        stop: looked at after every step.
        left: seconds that it may take.
        longest: seconds that all its epochs may be expected to take; it is pruned at once where that is more.

    Raises:
        StoppedError: `stop` asked; the trial is saved.
        TimeOver: it has had the seconds that are left; likewise.
        InputError: no trial could be trained on this machine.
    """
    cell = material.cell(f"trial-{trial.number}", trial.entry)
    assert isinstance(cell.train, TrainParams)  # in numbers
    checkpoints = Checkpoints(UNFINISHED, str(trial.number), folder)
    run = _Follower(material.project, cell, len(material.vocabulary), checkpoints.folder, trial.number, parent)
    run.trial, run.epochs = trial, cell.train.epochs
    model, started = beginning(cell.model, material.vocabulary, cell.train)
    if started:
        print(f"{cell.name} {started}", file=sys.stderr)
    clock = _Clock(stop, checkpoints, left, trial.number)
    splits = material.train_split, material.valid_split
    trainer = Trainer(model, *splits, material.vocabulary.counts, cell.train, checkpoints, clock)
    trial.note(parameters=model.parameter_count())
    gave_up, history = "", None
    try:
        gave_up = _refused(trial, trainer, checkpoints, longest)
        if not gave_up:
            history = trainer.fit(run)
    except _Hopeless:
        pass
    except InputError as error:
        gave_up = str(error)  # it diverged
    except BaseException as error:
        run.failed(killed=isinstance(error, TimeOver | StoppedError) or not isinstance(error, Exception))
        if not (isinstance(error, Exception) and is_lack_of_memory(error)):
            raise
        gave_up = OUT_OF_MEMORY
    seconds = checkpoints.seconds
    known: dict[str, str] = {"note": gave_up} if gave_up else {}
    if history:
        known["weights"] = _weights(model, cell, material, folder)
    trial.note(seconds=seconds, **known)
    run.ended("FAILED" if gave_up else "FINISHED", seconds, trial="finished" if history else "pruned", **known)
    # Not before its run in MLflow has ended: a trial that is not over is looked after by the next `rnnlm tune`.
    if history:
        trials.finish(trial, best_epoch(history).valid_perplexity)
    else:
        trials.prune(trial)
    checkpoints.discard()


def _refused(trial: Trial, trainer: Trainer, checkpoints: Checkpoints, longest: float) -> str:
    """Why a trial is not worth beginning, or beginning again; empty where it is."""
    if any(checkpoints.folder.glob("*.safetensors")):
        return ""
    if trial.begin() > MOST_BEGINNINGS:
        return f"`rnnlm tune` was killed {MOST_BEGINNINGS} times before it could save anything; out of memory?"
    expected = trainer.expected_seconds()
    return f"it would take {duration(expected)}" if expected > longest and trial.cell is None else ""


def _weights(model: LanguageModel, cell: CellParams, material: Material, folder: Path) -> str:
    """SHA-256 of the file that the stage `train` writes."""
    text = TextRules.of(material.project.tokenize)
    with scratch_folder(folder / WEIGHTS_FILE) as scratch:
        save_model(SavedModel(model, material.vocabulary, text, cell.train.model_dump()), scratch)
        return sha256(scratch / WEIGHTS_FILE)
