"""Runs, their differences and the paired test as a person reads them in a terminal."""

from collections.abc import Sequence

from pipeline.review.comparison import ModelComparison
from pipeline.review.differences import Differences, Pair
from pipeline.review.listing import COMMIT, SHORT_ID, ListedRun, differing
from pipeline.runtime.terminal import show_table

NONE = "-"


def show_runs(runs: Sequence[ListedRun]) -> None:
    """The runs, a row each, with the parameters that differ between them."""
    keys = differing(runs)
    header = ["run", "name", "started", "status", "test perplexity", "95% interval", "validation", "code", "model"]
    header += ["version", "what differs"]
    show_table(header, [_run_cells(run, keys) for run in runs])


def show_differences(a: ListedRun, b: ListedRun, found: Differences) -> None:
    """Which runs they are, and a table each for code, data, parameters and metrics."""
    for letter, run in (("A", a), ("B", b)):
        print(f"{letter}: {run.run_id[:SHORT_ID]} ({run.name}), started {_when(run)}, version {_version(run)}")
    for title, pairs in (("code", found.code), ("data", found.data), ("parameters", found.parameters)):
        if pairs:
            rows = [(key, *(_value(value) for value in pair)) for key, pair in pairs.items()]
            show_table(["what differs", "A", "B"], rows, title)
        else:
            print(f"{title}: nothing differs")
    show_table(["", "A", "B"], [(key, *cells) for key, cells in _metric_rows(found.metrics)], "metrics")
    for remark in found.remarks:
        print(remark)


def show_comparison(compared: ModelComparison) -> None:
    """The outcome of the paired test, in sentences."""
    result = compared.result
    verdict = {"A": "A is better.", "B": "B is better.", None: "Which one is better cannot be said."}[result.better]
    less = "less" if result.difference <= 0 else "more"
    for line in (
        f"The same {result.sentences:,} test sentences ({result.tokens:,} tokens), unknown words taken as themselves "
        f"(A does not know {compared.unknown_types_a:,} word types, B {compared.unknown_types_b:,}): "
        f"perplexity A {result.perplexity_a:.2f}, B {result.perplexity_b:.2f}.",
        f"B spends {abs(result.difference):.4f} nats a token {less} than A (95% interval of B - A: "
        f"{result.difference_low:+.4f} to {result.difference_high:+.4f}), perplexity B / A is {result.ratio:.4f} "
        f"({result.ratio_low:.4f} to {result.ratio_high:.4f}).",
        f"Confidence that B is better: {result.confidence:.1%} ({result.resamples:,} resamples). {verdict}",
        *compared.remarks,
    ):
        print(line)


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


def _metric_rows(metrics: dict[str, Pair]) -> list[tuple[str, list[str]]]:
    """Each metric of both runs, with its interval where it has one."""
    rows = []
    for key, pair in metrics.items():
        prefix, _, name = key.partition("/")
        if prefix == "test_interval":
            continue
        cells = []
        for place, value in enumerate(pair):
            ends = [metrics.get(f"test_interval/{name}_{end}", (None, None))[place] for end in ("low", "high")]
            interval = f" ({_figure(ends[0])} to {_figure(ends[1])})" if prefix == "test" and None not in ends else ""
            cells.append(_figure(value) + interval)
        rows.append((key, cells))
    return rows


def _code(run: ListedRun) -> str:
    """The commit, with a + where files were changed since."""
    commit = run.tags.get(COMMIT)
    return NONE if commit is None else commit[:SHORT_ID] + ("+" if run.tags.get("git_dirty") == "true" else "")


def _version(run: ListedRun) -> str:
    return NONE if run.version is None else ", ".join((f"v{run.version}", *run.aliases))


def _when(run: ListedRun) -> str:
    return f"{run.start_time.astimezone():%Y-%m-%d %H:%M}"


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}"


def _value(value: str | None) -> str:
    return NONE if value is None else value
