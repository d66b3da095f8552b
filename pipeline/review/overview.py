"""All models of params.yaml side by side, for `rnnlm table`: of which corpus and commit, and what is out of date."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.evaluation.adapted_rows import adapted_rows, chosen_in_words, with_adapted
from pipeline.evaluation.params import JOINT
from pipeline.evaluation.recipes import SEED_COUNT
from pipeline.evaluation.results import (
    Row,
    about_intervals,
    about_seeds,
    baseline_rows,
    network_rows,
    seed_cells,
    table_cells,
)
from pipeline.evaluation.scores import SEED_FIGURES, SEED_PERPLEXITY, UNSEEN
from pipeline.params import Params, read_params
from pipeline.provenance.dvc import TEXT_STAGES, StageRecord, read_lock
from pipeline.provenance.verification import changed_since, commit_of_results
from pipeline.runtime.paths import EVALUATION, LOCK, MODELS, TIMINGS
from pipeline.tracking.pages import corpus_name
from pipeline.training.first_weights import first_weights_of
from pipeline.training.history import HISTORY_FILE

INTERVAL = "95% interval"
FIGURE_COLUMNS = ("model", "test perplexity", INTERVAL, "validation perplexity", "parameters", "training")
OUT_OF_DATE = "out of date"
# What programs get of metrics.json.
TOLD_FIGURES = (
    *("perplexity", "perplexity_low", "perplexity_high", UNSEEN, "perplexity_known"),
    *("accuracy_top1", "accuracy_top5", "parameters"),
)
TOLD_OF_SEEDS = (SEED_COUNT, *SEED_FIGURES, "seed_perplexity_mean_low", "seed_perplexity_mean_high")
NAMED_CHANGES = 4  # keys and files that a line names


@dataclass(frozen=True)
class Overview:
    """What `rnnlm table` shows: sentences, and tables as lists of rows, the header first."""

    about: list[str]  # sentences on whose figures these are
    models: list[list[str]]
    remarks: list[str] = field(default_factory=list)
    seeds: list[list[str]] = field(default_factory=list)  # empty where no network has several
    figures: list[dict[str, Any]] = field(default_factory=list)  # of all models, as numbers; None: there is none
    seed_figures: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same for programs: all figures, not rounded, whatever columns are shown."""
        return {"about": self.about, "models": self.figures, "seeds": self.seed_figures, "remarks": self.remarks}


def overview(params: Params, wide: bool) -> Overview:
    """The figures that lie here; without `wide`, a few columns of them.

    Raises:
        InputError: a file of results is damaged, or dvc.lock.
    """
    lacks = {name: _lack(name) for name in params.cells}
    done = [name for name, lack in lacks.items() if not lack]
    baselines = baseline_rows(EVALUATION) if (EVALUATION / "baselines" / "metrics.json").exists() else []
    models = [*baselines, *(network_rows(EVALUATION, MODELS, done, TIMINGS) if done else [])]
    if not models:
        remarks = ["`dvc repro` trains and evaluates them, as `make repro` does."]
        figures = [{"model": name, "state": lack} for name, lack in lacks.items()]
        return Overview([], [["model", "state"], *map(list, lacks.items())], remarks, figures=figures)
    locked = read_lock() if LOCK.exists() else {}
    changes = {stage: [f"{LOCK} lacks {stage}"] for name in (None, *done) for stage in _stages(name)}
    changes |= changed_since(locked, read_params())
    about_figures = about_intervals(models[0].metrics)
    header, *cells = table_cells(with_adapted(models), with_times=True)
    header = [INTERVAL if name == about_figures else name for name in header]
    lines = {model.model: row for model, row in zip(with_adapted(models), cells, strict=True)}
    states = dict(lacks)
    for name, line in lines.items():
        network = name.partition(JOINT)[0]
        outdated = any(changes[stage] for stage in _stages(network if network in done else None))
        line[0] = f"{name} ({OUT_OF_DATE})" if outdated else name
        states[name] = OUT_OF_DATE if outdated else "up to date"
    rows = [header, *(lines[row.model] for row in baselines)]
    by_name = {row.model: row for row in with_adapted(models)}
    named = [row.model for row in baselines]
    for name, lack in lacks.items():
        adapted = [one.model for one in (adapted_rows(by_name[name]) if name in done else [])]
        rows += [lines.get(name) or [name, lack, *["-"] * (len(header) - 2)], *(lines[one] for one in adapted)]
        named += [name, *adapted]
    kept = [index for index, name in enumerate(header) if wide or name in FIGURE_COLUMNS]
    changed = [what for name in (None, *done) for stage in _stages(name) for what in changes[stage]]
    return Overview(
        [f"{_corpus(locked)}, {commit_of_results()}", *_told(list(dict.fromkeys(changed)))],
        [[row[index] for index in kept] for row in rows],
        [
            *(f"Best on validation: {row.model}." for row in models if row.best),
            f"{about_figures}.",
            *_begun(params, done),
            about_seeds(models),
            *(f"{line}." for line in chosen_in_words(models)),
        ],
        seed_cells(with_adapted(models)),
        [{"model": name, "state": states[name], **_figures(by_name.get(name))} for name in named],
        [_seed_figures(row) for row in models if SEED_COUNT in row.metrics],
    )


def _figures(row: Row | None) -> dict[str, Any]:
    """What a model's line shows, as numbers; of no line, None each."""
    metrics = row.metrics if row else {}
    found = {key: metrics.get(key) for key in TOLD_FIGURES}
    found |= {key: getattr(row, key, None) for key in ("valid_perplexity", "epochs", "seconds")}
    finite = {key: value if value is not None and math.isfinite(value) else None for key, value in found.items()}
    return {"best": row is not None and row.best, "interval": about_intervals(metrics) if row else None, **finite}


def _seed_figures(row: Row) -> dict[str, Any]:
    each = {key.removeprefix(SEED_PERPLEXITY): value for key, value in row.metrics.items() if SEED_PERPLEXITY in key}
    return {"model": row.model, **{key: row.metrics.get(key) for key in TOLD_OF_SEEDS}, "each": each}


def _begun(params: Params, done: Sequence[str]) -> list[str]:
    """What to know of models whose training began with another's weights, which may have read their test sentences."""
    cells = [params.cell(name) for name in done]
    begun = [cell.name for cell in cells if first_weights_of(cell.model, context=cell.train.context)]
    told = "began with another model's weights; `rnnlm show NAME` counts the test sentences that this one had read"
    return [f"Training of {', '.join(begun)} {told}."] if begun else []


def _lack(name: str) -> str:
    """What keeps a cell from having a line of figures; empty where nothing does."""
    if not (MODELS / name / HISTORY_FILE).exists():
        return "not trained"
    return "" if (EVALUATION / name / "metrics.json").exists() else "not evaluated"


def _stages(name: str | None) -> list[str]:
    """What makes the figures of a network, or of the baselines."""
    return [*TEXT_STAGES, *([f"train@{name}", f"evaluate@{name}"] if name else ["baselines"])]


def _corpus(locked: Mapping[str, StageRecord]) -> str:
    download = locked["download"].params.get("download", {}) if "download" in locked else {}
    source, path = download.get("source"), download.get("path")
    return corpus_name(source, path) if isinstance(source, str) and isinstance(path, str) else "an unknown corpus"


def _told(changed: Sequence[str]) -> list[str]:
    """A sentence on what makes figures be out of date, and on what to do, where anything does."""
    more = f" and {len(changed) - NAMED_CHANGES} more" if len(changed) > NAMED_CHANGES else ""
    named = ", ".join(changed[:NAMED_CHANGES]) + more
    return [f"{OUT_OF_DATE}, as these changed: {named}; `dvc repro` runs what is needed"] if changed else []
