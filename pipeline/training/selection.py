"""Which of the trained models is the best: decided on the validation split, never on the test split."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.runtime.errors import InputError


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs of a training run, one mapping from column to value each, in order.

    Raises:
        InputError: the file is missing, or holds anything but a table of numbers with the column `valid_perplexity`.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise InputError(f"{path} is missing; train the model with `dvc repro train@{path.parent.name}`") from None
    except (ValueError, TypeError, AttributeError):
        rows = []
    if not rows or any(math.isnan(row.get("valid_perplexity", math.nan)) for row in rows):
        raise InputError(f"{path} is no training history; delete it and run `dvc repro train@{path.parent.name}`")
    return rows


def best_epoch(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """The epoch of the lowest validation perplexity, the earliest of equals: the one whose weights were kept."""
    return min(history, key=lambda epoch: epoch["valid_perplexity"])


def best_cell(models_folder: Path, names: Sequence[str]) -> str:
    """The name whose model reached the lowest validation perplexity, the first of equals.

    Args:
        models_folder: holds NAME/history.csv for every name.
        names: at least one.

    Raises:
        InputError: a history is missing or damaged.
    """
    return min(
        names, key=lambda name: best_epoch(read_history(models_folder / name / "history.csv"))["valid_perplexity"]
    )
