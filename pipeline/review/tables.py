"""Runs, their differences and the paired test, as tables and sentences in a terminal."""

from collections.abc import Mapping, Sequence

from pipeline.evaluation.results import BY_SENTENCE
from pipeline.evaluation.scores import EFFECTIVE_DOCUMENTS, EFFECTIVE_SENTENCES, UNSEEN
from pipeline.review.comparison import ModelComparison
from pipeline.review.differences import Differences
from pipeline.review.listing import SHORT_ID, ListedRun, differing
from pipeline.runtime.terminal import show_table, show_text
from pipeline.tracking.store import COMMIT

NONE = "-"
FIGURE = "test perplexity"
RUN_COLUMNS = ("run", "name", "started", FIGURE, "version")  # columns, unless a person wants all


def show_runs(runs: Sequence[ListedRun], wide: bool) -> None:
    """The runs, one per row; where it may be `wide`, with the parameters that differ between them."""
    if not runs:
        print("there are no runs yet; `dvc repro` makes them")
        return
    keys = differing(runs)
    cells = [_cells(run, keys) for run in runs]
    if not wide:
        for run, row in zip(runs, cells, strict=True):
            row["started"] = _when(run).partition(" ")[0]
            if run.status != "FINISHED":
                row[FIGURE] = run.status.lower()
        cells = [{name: row[name] for name in RUN_COLUMNS} for row in cells]
    show_table(list(cells[0]), [list(row.values()) for row in cells])


def show_run(run: ListedRun) -> None:
    """All that MLflow has of a run."""
    show_text(*(f"{name}: {told}" for name, told in (_cells(run) | {"run": run.run_id}).items()))
    pairs = {key: (value,) for key, value in run.metrics.items()}
    figures = {key: _figure(value) + _interval(pairs, key, 0) for key, (value,) in pairs.items()}
    shown = {key: value for key, value in figures.items() if not key.startswith("test_interval/")}
    for title, values in (("figures", shown), ("parameters", run.params)):
        if values:
            show_table([title, ""], list(values.items()))
    show_text(*(f"{key}: {value}" for key, value in run.tags.items()))


def show_differences(a: ListedRun, b: ListedRun, found: Differences) -> None:
    """The two runs, and one table each for code, data, parameters and metrics."""
    for letter, run in (("A", a), ("B", b)):
        show_text(f"{letter}: {run.run_id[:SHORT_ID]} ({run.name}), started {_when(run)}, version {_version(run)}")
    for title, pairs in (("code", found.code), ("data", found.data), ("parameters", found.parameters)):
        if pairs:
            rows = [(key, *(NONE if value is None else value for value in pair)) for key, pair in pairs.items()]
            show_table(["what differs", "A", "B"], rows, title)
        else:
            print(f"{title}: no difference")
    rows = [
        (key, *(_figure(value) + _interval(found.metrics, key, run) for run, value in enumerate(pair)))
        for key, pair in found.metrics.items()
        if not key.startswith("test_interval/")
    ]
    show_table(["", "A", "B"], rows, "metrics")
    if found.remarks:
        show_text(*found.remarks)


def show_comparison(compared: ModelComparison) -> None:
    """The outcome of the paired test, in sentences."""
    verdict, *figures = comparison_sentences(compared)
    show_text(*figures, verdict, *compared.remarks)


def comparison_sentences(compared: ModelComparison) -> list[str]:
    """The outcome of the paired test, and what is worth knowing of it: first which is better, then the figures."""
    result = compared.result
    equal = "The two cannot be told apart." if result.ratio_low is not None else "Whether one is better cannot be told."
    verdict = f"{result.better} is better." if result.better else equal
    about = (
        "This compares these two models: their recipes with other seeds may come out the other way."
        if result.compares == "models"
        else f"This compares recipes, of {result.seeds_a} and {result.seeds_b} seeds; `--models` compares these two."
    )
    ends = "" if result.difference_low is None else f" ({result.difference_low:+.4f} to {result.difference_high:+.4f})"
    return [
        f"{verdict} {about}",
        f"On the same {result.sentences:,} test sentences ({result.tokens:,} tokens), unknown words taken as "
        f"themselves (A does not know {compared.unknown_types_a:,} word types, B {compared.unknown_types_b:,}): "
        f"perplexity A {result.perplexity_a:.2f}, B {result.perplexity_b:.2f}.",
        f"B - A is {result.difference:+.4f}{ends} nats per token, perplexity B / A {result.ratio:.4f}, "
        f"{result.ratio_interval}.",
    ]


def _cells(run: ListedRun, keys: Sequence[str] = ()) -> dict[str, str]:
    """A run's cells, by the names of their columns; the last has the parameters `keys`."""
    ends = [_figure(run.metrics.get(f"test_interval/perplexity_{end}")) for end in ("low", "high")]
    differs = {"what differs": ", ".join(f"{key} {run.params[key]}" for key in keys if key in run.params)}
    return {
        "run": run.run_id[:SHORT_ID],
        "name": run.name,
        "started": _when(run),
        "status": run.status,
        FIGURE: _figure(run.metrics.get("test/perplexity")),
        "95% interval": NONE if NONE in ends else " to ".join(ends) + _of_sentences(run.metrics),
        "validation": _figure(run.metrics.get("valid/best_perplexity")),
        "code": _code(run),
        "model": run.tags.get("model_digest", NONE)[:SHORT_ID],
        "version": _version(run),
        **(differs if keys else {}),
    }


def _interval(metrics: Mapping[str, tuple[float | None, ...]], key: str, run: int) -> str:
    """The interval of a test metric of run A (0) or B (1), in brackets; empty if there is none."""
    ends = (metrics.get(f"{key.replace('test/', 'test_interval/', 1)}_{end}") for end in ("low", "high"))
    low, high = (None if end is None else end[run] for end in ends)
    of_run = {name: values[run] for name, values in metrics.items() if values[run] is not None}
    return "" if None in (low, high) else f" ({_figure(low)} to {_figure(high)}{_of_sentences(of_run)})"


def _of_sentences(metrics: Mapping[str, float | None]) -> str:
    """What marks the intervals of a run of an earlier version, which drew sentences, beside those that drew documents.

    Runs of a while between the two say no effective number, but have a perplexity over unseen sentences.
    """
    drew = {f"test_interval/{key}" for key in (EFFECTIVE_DOCUMENTS, EFFECTIVE_SENTENCES)} | {f"test/{UNSEEN}"}
    return "" if drew & metrics.keys() else BY_SENTENCE


def _code(run: ListedRun) -> str:
    """The commit, with a + if files were changed since."""
    commit = run.tags.get(COMMIT)
    return NONE if commit is None else commit[:SHORT_ID] + ("+" if run.tags.get("git_dirty") == "true" else "")


def _version(run: ListedRun) -> str:
    return NONE if run.version is None else ", ".join((f"v{run.version}", *run.aliases))


def _when(run: ListedRun) -> str:
    return f"{run.start_time.astimezone():%Y-%m-%d %H:%M}"


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}"
