"""What training tells the world: a record an epoch. Needs no torch, so whoever only reads or follows it starts fast."""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.runtime.files import atomic_path


@dataclass(frozen=True)
class EpochRecord:
    """One row of history.csv. Loss is in nats a predicted token, SENTENCE_END counted."""

    epoch: int  # from 1
    steps: int  # optimiser steps taken since the start
    learning_rate: float  # of the epoch's last step
    train_nats: float  # mean over the epoch as it went, by the loss trained on (sampled, with dropout, if so set)
    valid_nats: float  # after the epoch, always by the full softmax
    valid_perplexity: float  # exp(valid_nats)


class Listener(Protocol):
    """Who follows a training. Nothing it does changes a byte of the result."""

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None:
        """Training begins, or, if `resumed`, goes on where it broke off; `train_tokens` are predicted in each epoch."""

    def epoch_ended(self, record: EpochRecord, seconds: float, tokens_per_second: float) -> None:
        """An epoch is over; `seconds` and `tokens_per_second` are of its training steps, without the validation."""

    def finished(self, seconds: float) -> None:
        """All of it is over, and the files are written."""

    def failed(self, killed: bool) -> None:
        """It ended early: by an error or, if `killed`, because somebody stopped it."""


def best_record(history: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch with the lowest validation loss, the first of equals."""
    return min(history, key=lambda record: record.valid_nats)


def write_history(path: Path, history: Sequence[EpochRecord]) -> None:
    """Write history.csv: a header of `EpochRecord`'s fields, then an epoch a row; numbers read back exactly."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(EpochRecord))
        writer.writerows(dataclasses.astuple(record) for record in history)
