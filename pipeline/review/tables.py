"""Runs, their differences and the paired test, as tables and sentences in a terminal."""

from collections.abc import Sequence

from pipeline.review.comparison import ModelComparison
from pipeline.review.differences import Differences, Pair
from pipeline.review.listing import SHORT_ID, ListedRun, differing
from pipeline.runtime.terminal import show_table
from pipeline.tracking.store import COMMIT

NONE = "-"


def show_runs(runs: Sequence[ListedRun]) -> None:
    """The runs, one per row, with the parameters that differ between them."""
    keys = differing(runs)
    header = ["run", "name", "started", "status", "test perplexity", "95% interval", "validation", "code", "model"]
    header += ["version", "what differs"]
    show_table(header, [_run_cells(run, keys) for run in runs])


def show_differences(a: ListedRun, b: ListedRun, found: Differences) -> None:
    """The two runs, and one table each for code, data, parameters and metrics."""
    for letter, run in (("A", a), ("B", b)):
        print(f"{letter}: {run.run_id[:SHORT_ID]} ({run.name}), started {_when(run)}, version {_version(run)}")
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
    for remark in found.remarks:
        print(remark)


def show_comparison(compared: ModelComparison) -> None:
    """The outcome of the paired test, in sentences."""
    result = compared.result
    equal = "The two cannot be told apart." if result.ratio_low is not None else "Whether one is better cannot be told."
    verdict = f"{result.better} is better." if result.better else equal
    about = (
        "This compares these two models: their recipes with other seeds may come out the other way."
        if result.compares == "models"
        else f"This compares recipes, of {result.seeds_a} and {result.seeds_b} seeds; `--models` compares these two."
    )
    ends = "" if result.difference_low is None else f" ({result.difference_low:+.4f} to {result.difference_high:+.4f})"
    print(
        f"On the same {result.sentences:,} test sentences ({result.tokens:,} tokens), unknown words taken as "
        f"themselves (A does not know {compared.unknown_types_a:,} word types, B {compared.unknown_types_b:,}): "
        f"perplexity A {result.perplexity_a:.2f}, B {result.perplexity_b:.2f}.\n"
        f"B - A is {result.difference:+.4f}{ends} nats per token, perplexity B / A {result.ratio:.4f}, "
        f"{result.ratio_interval}.\n"
        f"{verdict} {about}",
        *compared.remarks,
        sep="\n",
    )


def _run_cells(run: ListedRun, keys: Sequence[str]) -> list[str]:
    ends = [_figure(run.metrics.get(f"test_interval/perplexity_{end}")) for end in ("low", "high")]
    return [
        run.run_id[:SHORT_ID],
        run.name,
        _when(run),
        run.status,
        _figure(run.metrics.get("test/perplexity")),
        NONE if NONE in ends else " to ".join(ends),
        _figure(run.metrics.get("valid/best_perplexity")),
        _code(run),
        run.tags.get("model_digest", NONE)[:SHORT_ID],
        _version(run),
        ", ".join(f"{key} {run.params[key]}" for key in keys if key in run.params),
    ]


def _interval(metrics: dict[str, Pair], key: str, run: int) -> str:
    """The interval of a test metric of run A (0) or B (1), in brackets; empty if there is none."""
    name = key.replace("test/", "test_interval/", 1)
    low, high = (metrics.get(f"{name}_{end}", (None, None))[run] for end in ("low", "high"))
    return "" if None in (low, high) else f" ({_figure(low)} to {_figure(high)})"


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
