"""All models of a run beside each other: the rows that the report and the terminal show."""

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import InputError
from pipeline.training.history import best_cell, best_epoch, read_history

BASELINES = {"unigram": "unigram", "trigram": "trigram", "fivegram": "5-gram"}  # key in metrics.json: name in text


# What a comparison shows of every model.
FIGURES = ["perplexity", "perplexity_low", "perplexity_high", "perplexity_known", "accuracy_top1", "accuracy_top5"]
FIGURES += ["unknown_share", "tokens", "sentences"]


@dataclass(frozen=True)
class Row:
    """One model's line; what only networks have is None for the baselines."""

    model: str  # the name shown
    metrics: dict[str, float]  # the keys of metrics.json
    valid_perplexity: float | None = None  # of the epoch kept
    epochs: int | None = None  # trained, also past the one kept
    best: bool = False  # lowest validation perplexity
    seconds: float | None = None  # of training; None where nobody measured it


def comparison_table(
    evaluation_folder: Path, models_folder: Path, names: Sequence[str], timings_folder: Path | None = None
) -> list[Row]:
    """The baselines and then the networks, in the order of `names`.

    Args:
        evaluation_folder: holds NAME/metrics.json for every name, and baselines/metrics.json.
        models_folder: holds NAME/history.csv for every name.
        names: of the networks, at least one.
        timings_folder: may hold NAME.json with `{"seconds": ...}` for networks trained on this machine.

    Raises:
        InputError: a file is missing or damaged.
    """
    path = evaluation_folder / "baselines" / "metrics.json"
    baselines = read_metrics(path)
    rows = [Row(shown, _figures(baselines.get(name), path)) for name, shown in BASELINES.items()]
    best = best_cell(models_folder, names)
    for name in names:
        history = read_history(models_folder / name / "history.csv")
        path = evaluation_folder / name / "metrics.json"
        rows.append(
            Row(
                name,
                _figures(read_metrics(path), path),
                best_epoch(history).valid_perplexity,
                len(history),
                name == best,
                _seconds(timings_folder / f"{name}.json") if timings_folder else None,
            )
        )
    return rows


def table_cells(rows: Sequence[Row], with_times: bool = False) -> list[list[str]]:
    """The rows as text, the header first; a dash where a model has no such figure."""
    header = [
        "model",
        "test perplexity",
        "95% interval",
        "known words only",
        "top-1",
        "top-5",
        "validation perplexity",
        "epochs",
        "parameters",
    ]
    lines = [
        [
            f"{row.model} (best on validation)" if row.best else row.model,
            f"{row.metrics['perplexity']:.1f}",
            f"{row.metrics['perplexity_low']:.1f} to {row.metrics['perplexity_high']:.1f}",
            f"{row.metrics['perplexity_known']:.1f}",
            f"{row.metrics['accuracy_top1']:.1%}",
            f"{row.metrics['accuracy_top5']:.1%}",
            "-" if row.valid_perplexity is None else f"{row.valid_perplexity:.1f}",
            "-" if row.epochs is None else str(row.epochs),
            f"{row.metrics['parameters']:,}" if "parameters" in row.metrics else "-",
        ]
        for row in rows
    ]
    if with_times:
        header.append("training")
        for line, row in zip(lines, rows, strict=True):
            line.append("-" if row.seconds is None else f"{row.seconds:,.0f} s")
    return [header, *lines]


def verdict(row: Row, baselines: Sequence[Row]) -> str:
    """One sentence: which of the counting models the network beats, by their perplexity on the same test tokens."""
    beaten = [_against(row, other) for other in baselines if row.metrics["perplexity"] < other.metrics["perplexity"]]
    others = [_against(row, other) for other in baselines if row.metrics["perplexity"] >= other.metrics["perplexity"]]
    start = f"{row.model} (perplexity {row.metrics['perplexity']:.1f})"
    if not others:
        return f"{start} beats {' and '.join(beaten)}."
    worth = "a network that does not beat counting is not worth training"
    if not beaten:
        return f"{start} does not beat {' or '.join(others)}: {worth}."
    return f"{start} beats {' and '.join(beaten)}, but not {' or '.join(others)}: {worth}."


def read_metrics(path: Path) -> dict:
    """What a metrics.json holds.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        content = json.loads(read_result(path))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise damaged(path, "no metrics")
    return content


def read_table(path: Path, **columns: Callable[[str], object]) -> list[dict[str, Any]]:
    """The rows of a CSV file that the stage `evaluate` or `baselines` left.

    Args:
        path: the file.
        columns: each by its name, with what turns its text into a value.

    Raises:
        InputError: the file is missing, or a column or value is not as it should be.
    """
    try:
        rows = list(csv.DictReader(read_result(path).splitlines()))
        return [{name: convert(row[name]) for name, convert in columns.items()} for row in rows]
    except (csv.Error, ValueError, KeyError, TypeError, AttributeError):
        raise damaged(path, f"no table of {', '.join(columns)}") from None


def finite(text: str) -> float:
    """A number of a CSV file; ValueError for anything else."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def read_result(path: Path) -> str:
    """The text of a file that the stage `evaluate` or `baselines` left.

    Raises:
        InputError: the file is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} is missing; make it with `dvc repro {_stage(path)}`") from None
    except UnicodeDecodeError:
        raise damaged(path, "no UTF-8") from None


def damaged(path: Path, lack: str) -> InputError:
    """The error that says what a file of an evaluation does not hold, and how to make it again."""
    return InputError(f"{path} holds {lack}; delete it and run `dvc repro {_stage(path)}`")


def _figures(metrics: object, path: Path) -> dict[str, float]:
    """`metrics`, once it is sure that every figure that a comparison shows is there and a number."""
    if not isinstance(metrics, dict):
        raise damaged(path, "not the metrics of every model")
    for key in FIGURES:
        value = metrics.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise damaged(path, f"no number {key}")
    if not isinstance(metrics.get("parameters", 0), int):
        raise damaged(path, "no number parameters")
    return metrics


def _stage(path: Path) -> str:
    return "baselines" if path.parent.name == "baselines" else f"evaluate@{path.parent.name}"


def _against(row: Row, other: Row) -> str:
    """`the trigram (72.1)`, with a remark where the two intervals overlap."""
    low, high = (other.metrics[f"perplexity_{end}"] for end in ("low", "high"))
    overlap = low <= row.metrics["perplexity_high"] and row.metrics["perplexity_low"] <= high
    return f"the {other.model} ({other.metrics['perplexity']:.1f}{', intervals overlap' if overlap else ''})"


def _seconds(path: Path) -> float | None:
    """A training time is a courtesy: without the file, or with a broken one, there is none to show."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
