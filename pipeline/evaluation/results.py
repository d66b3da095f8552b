"""What the stages `evaluate` and `baselines` left: read, checked, and all models side by side as a table."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_type_hints

from pipeline.evaluation.scores import METRICS
from pipeline.runtime.errors import InputError
from pipeline.runtime.rows import read_rows
from pipeline.training.history import best_cell, best_epoch, read_history

BASELINES = {"unigram": "unigram", "trigram": "trigram", "fivegram": "5-gram"}  # key in metrics.json: name in text

Record = TypeVar("Record")


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

    `evaluation_folder` holds NAME/metrics.json for every name, of which there is one at least, and for the baselines,
    `models_folder` NAME/history.csv. `timings_folder` may hold NAME.json, `{"seconds": ...}`, of networks trained here.

    Raises:
        InputError: a file is missing or damaged.
    """
    path = evaluation_folder / "baselines" / "metrics.json"
    baselines = read_metrics(path)
    rows = [Row(shown, _complete(baselines.get(name), path)) for name, shown in BASELINES.items()]
    best = best_cell(models_folder, names)
    for name in names:
        history = read_history(models_folder / name / "history.csv")
        path = evaluation_folder / name / "metrics.json"
        valid_perplexity = best_epoch(history).valid_perplexity
        seconds = _seconds(timings_folder / f"{name}.json") if timings_folder else None
        metrics = _complete(read_metrics(path), path)
        rows.append(Row(name, metrics, valid_perplexity, len(history), name == best, seconds))
    return rows


def table_cells(rows: Sequence[Row], with_times: bool = False) -> list[list[str]]:
    """The rows as text, the header first; a dash where a model has no such figure."""
    columns = [_columns(row) for row in rows]
    header = [name for name in columns[0] if with_times or name != "training"]
    return [header, *([cells[name] for name in header] for cells in columns)]


def verdict(row: Row, baselines: Sequence[Row]) -> str:
    """One sentence: which of the counting models the network beats, by their perplexity on the same test tokens."""
    perplexity = row.metrics["perplexity"]
    beaten = [_against(row, other) for other in baselines if perplexity < other.metrics["perplexity"]]
    others = [_against(row, other) for other in baselines if perplexity >= other.metrics["perplexity"]]
    said = f"{row.model} (perplexity {perplexity:.1f})"
    if beaten:
        said += f" beats {' and '.join(beaten)}"
    if not others:
        return f"{said}."
    said += f"{', but not' if beaten else ' does not beat'} {' or '.join(others)}"
    return f"{said}: a network that does not beat counting is not worth training."


def read_metrics(path: Path) -> dict:
    """What a metrics.json holds.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    with _named(path, "no metrics"):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise damaged(path, "no metrics")
    return content


def read_table(path: Path, kind: type[Record]) -> list[Record]:
    """The rows of a CSV file that the stage `evaluate` or `baselines` left; `kind` as in `read_rows`.

    Raises:
        InputError: the file is missing or is not such a table.
    """
    with _named(path, f"no table of {', '.join(get_type_hints(kind))}"):
        return read_rows(path, kind)


def read_result(path: Path) -> str:
    """The text of a file that the stage `evaluate` or `baselines` left.

    Raises:
        InputError: the file is missing or not UTF-8.
    """
    with _named(path, "no UTF-8"):
        return path.read_text(encoding="utf-8")


def damaged(path: Path, lack: str) -> InputError:
    """The error that says what a file of an evaluation does not hold, and how to make it again."""
    return InputError(f"{path} holds {lack}; delete it and run `dvc repro {_stage(path)}`")


@contextmanager
def _named(path: Path, lack: str) -> Iterator[None]:
    """Name the file, and the stage that makes it, where it cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} is missing; make it with `dvc repro {_stage(path)}`") from None
    except (ValueError, RecursionError):
        raise damaged(path, lack) from None


def _columns(row: Row) -> dict[str, str]:
    metrics = row.metrics
    return {
        "model": f"{row.model} (best on validation)" if row.best else row.model,
        "test perplexity": f"{metrics['perplexity']:.1f}",
        "95% interval": f"{metrics['perplexity_low']:.1f} to {metrics['perplexity_high']:.1f}",
        "known words only": f"{metrics['perplexity_known']:.1f}",
        "top-1": f"{metrics['accuracy_top1']:.1%}",
        "top-5": f"{metrics['accuracy_top5']:.1%}",
        "validation perplexity": _or_dash(row.valid_perplexity, ".1f"),
        "epochs": _or_dash(row.epochs, "d"),
        "parameters": _or_dash(metrics.get("parameters"), ",d"),
        "training": _or_dash(row.seconds, ",.0f", " s"),
    }


def _or_dash(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _complete(metrics: object, path: Path) -> dict[str, float]:
    if not isinstance(metrics, dict):
        raise damaged(path, "not the metrics of every model")
    for key in METRICS:
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
    """Training times are optional: without the file, or with a broken one, there is none to show."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
