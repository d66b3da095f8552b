"""All models of params.yaml side by side, for `rnnlm table`: of which corpus and commit, and what is out of date."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.evaluation.results import (
    about_intervals,
    about_seeds,
    baseline_rows,
    network_rows,
    seed_cells,
    table_cells,
)
from pipeline.params import Params, read_params
from pipeline.provenance.dvc import StageRecord, read_lock
from pipeline.provenance.verification import changed_since, commit_of_results
from pipeline.runtime.paths import EVALUATION, LOCK, MODELS, TIMINGS
from pipeline.tracking.pages import corpus_name
from pipeline.training.first_weights import first_weights_of
from pipeline.training.history import HISTORY_FILE

TEXT_STAGES = ("download", "tokenize", "vocabulary", "encode")
INTERVAL = "95% interval"
FIGURE_COLUMNS = ("model", "test perplexity", INTERVAL, "validation perplexity", "parameters", "training")
OUT_OF_DATE = "out of date"
NAMED_CHANGES = 4  # keys and files that a line names


@dataclass(frozen=True)
class Overview:
    """What `rnnlm table` shows: sentences, and tables as lists of rows, the header first."""

    about: list[str]  # sentences on whose figures these are
    models: list[list[str]]
    remarks: list[str] = field(default_factory=list)
    seeds: list[list[str]] = field(default_factory=list)  # empty where no network has several


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
        return Overview([], [["model", "state"], *map(list, lacks.items())], remarks)
    locked = read_lock() if LOCK.exists() else {}
    changes = {stage: [f"{LOCK} lacks {stage}"] for name in (None, *done) for stage in _stages(name)}
    changes |= changed_since(locked, read_params())
    about_figures = about_intervals(models[0].metrics)
    header, *cells = table_cells(models, with_times=True)
    header = [INTERVAL if name == about_figures else name for name in header]
    lines = {model.model: row for model, row in zip(models, cells, strict=True)}
    for name, line in lines.items():
        outdated = any(changes[stage] for stage in _stages(name if name in done else None))
        line[0] = f"{name} ({OUT_OF_DATE})" if outdated else name
    rows = [header, *(lines[row.model] for row in baselines)]
    rows += [lines.get(name) or [name, lack, *["-"] * (len(header) - 2)] for name, lack in lacks.items()]
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
        ],
        seed_cells(models),
    )


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
