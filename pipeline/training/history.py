"""What a training run tells the world: one record per epoch. It needs no torch, so its readers start fast."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline.runtime.errors import InputError
from pipeline.runtime.rows import read_rows, write_rows

HISTORY_FILE = "history.csv"  # in a model's folder
FEW_STEPS = 200  # below, no network has learned much, whatever the text
STILL_IMPROVING = 0.01  # of the perplexity by the last epoch: more than seeds differ by


@dataclass(frozen=True)
class EpochRecord:
    """One row of history.csv. Loss is in nats a predicted token, SENTENCE_END counted."""

    epoch: int  # from 1
    steps: int  # optimiser steps taken since the start
    learning_rate: float  # of the epoch's last step
    train_nats: float  # mean over the epoch as it went, by the loss trained on (sampled, with dropout, if so set)
    valid_nats: float  # after the epoch, always by the full softmax
    valid_perplexity: float  # exp(valid_nats)


class SeedRecord(NamedTuple):
    """One row of data/models/NAME/seeds/seeds.csv."""

    seed: int
    epoch: int  # whose weights are kept
    valid_perplexity: float


class Listener(Protocol):
    """Whoever follows a training run. Nothing it does changes a byte of the result."""

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None:
        """The run begins or, if `resumed`, continues where it broke off; each epoch predicts `train_tokens`."""

    def epoch_ended(self, record: EpochRecord, seconds: float, tokens_per_second: float) -> None:
        """An epoch is over; `seconds` and `tokens_per_second` are of its training steps, without the validation."""

    def finished(self, seconds: float) -> None:
        """The run is over and its files are written."""

    def failed(self, killed: bool) -> None:
        """The run ended early: by an error or, if `killed`, because somebody stopped it."""


def best_epoch(history: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch with the lowest validation loss, the first of equals: the one whose weights are kept."""
    return min(history, key=lambda record: record.valid_nats)


def remark(history: Sequence[EpochRecord]) -> str | None:
    """What says that more training would have helped, in a sentence; None where nothing does."""
    last, found = history[-1], []
    if last.steps < FEW_STEPS:
        found.append(f"training took only {last.steps:,} step{'' if last.steps == 1 else 's'}")
    if len(history) > 1 and best_epoch(history) is last:
        gain = 1 - last.valid_perplexity / history[-2].valid_perplexity
        if gain > STILL_IMPROVING:
            found.append(f"the last of {len(history)} epochs still lowered the validation perplexity by {gain:.1%}")
    return f"{' and '.join(found)}, so more epochs may help" if found else None


def best_cell(models_folder: Path, names: Sequence[str]) -> str:
    """The name of the best model, the first of equals: decided on the validation split, never on the test split.

    `models_folder` holds NAME/history.csv for every name, of which there is one at least.

    Raises:
        InputError: a history is missing or damaged.
    """
    return min(names, key=lambda name: best_epoch(read_history(models_folder / name / HISTORY_FILE)).valid_nats)


def write_seeds(path: Path, histories: Mapping[int, Sequence[EpochRecord]]) -> None:
    """Write seeds.csv: a row for each seed, of which `histories` has that of its training run."""
    best = {seed: best_epoch(history) for seed, history in histories.items()}
    rows = (SeedRecord(seed, record.epoch, record.valid_perplexity) for seed, record in best.items())
    write_rows(path, SeedRecord._fields, rows)


def write_history(path: Path, history: Sequence[EpochRecord]) -> None:
    """Write history.csv: a header of `EpochRecord`'s fields, then a row per epoch; numbers read back exactly."""
    columns = [field.name for field in dataclasses.fields(EpochRecord)]
    write_rows(path, columns, map(dataclasses.astuple, history))


def write_curves(path: Path, histories: Mapping[str, Sequence[EpochRecord]]) -> None:
    """Write the histories of several cells as one table, whose first column `cell` has their names."""
    columns = ["cell", *(field.name for field in dataclasses.fields(EpochRecord))]
    rows = ([name, *dataclasses.astuple(record)] for name, history in histories.items() for record in history)
    write_rows(path, columns, rows)


def read_history(path: Path) -> list[EpochRecord]:
    """The epochs of a training run, in order.

    Raises:
        InputError: the file is missing, or is not what `write_history` writes.
    """
    again = f"`dvc repro train@{path.parent.name}`"
    try:
        history = read_rows(path, EpochRecord)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; train the model with {again}") from None
    except ValueError:
        history = []
    if not history or any(math.isnan(value) for record in history for value in dataclasses.astuple(record)):
        raise InputError(f"{path} is not a training history; delete it and run {again}")
    return history
