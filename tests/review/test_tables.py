"""What a person reads in a terminal about runs, their differences and the paired test."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.evaluation.paired import PairedResult
from pipeline.review.comparison import ModelComparison
from pipeline.review.differences import Differences
from pipeline.review.listing import ListedRun
from pipeline.review.tables import show_comparison, show_differences, show_run, show_runs
from pipeline.tracking.store import COMMIT

STARTED = datetime(2026, 1, 2, 12, tzinfo=UTC)
WHEN = f"{STARTED.astimezone():%Y-%m-%d %H:%M}"
METRICS: dict[str, float | None] = {
    "test/perplexity": 5.0,
    "test_interval/perplexity_low": 4.0,
    "test_interval/perplexity_high": 6.0,
    "test_interval/effective_documents": 9.0,
    "valid/best_perplexity": 5.54321,
}
TAGS = {COMMIT: "0123456789abcdef", "git_dirty": "true", "model_digest": "fedcba9876543210"}
TRAINED = ListedRun(
    "a1" * 16, "lstm, 4 units", "FINISHED", STARTED, {"seed": "1", "epochs": "2"}, METRICS, TAGS, "3", ("champion",)
)
FAILED = ListedRun("b2" * 16, "[red]mine[/red]", "FAILED", STARTED, {"seed": "2", "epochs": "2"}, {}, {}, None, ())
RESULT = PairedResult(200, 1800, 40, 36.5, 12.5, 10.0, -0.2231, -0.25, -0.2, 0.8, 0.7788, 0.8187, 0.95, 1000)
WITHHELD = {"difference_low": None, "difference_high": None, "ratio_low": None, "ratio_high": None}


def rows(text: str) -> list[list[str]]:
    """The cells of each row of a table, its header included."""
    lines = [line.strip("│┃") for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")] for line in lines]


def test_a_run_is_a_row_and_what_it_lacks_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    show_runs([TRAINED, FAILED], wide=True)
    header, trained, failed = rows(capsys.readouterr().out)
    assert header[:4] == ["run", "name", "started", "status"]
    assert len(header) == len(trained) == len(failed)
    assert trained[:4] == ["a1a1a1a1", "lstm, 4 units", WHEN, "FINISHED"]
    assert trained[4:] == ["5", "4 to 6", "5.543", "01234567+", "fedcba98", "v3, champion", "seed 1"]
    # Its name is not markup, whatever brackets are in it.
    assert failed[:4] == ["b2b2b2b2", "[red]mine[/red]", WHEN, "FAILED"]
    assert failed[4:] == ["-", "-", "-", "-", "-", "-", "seed 2"]


def test_runs_fit_80_columns_without_a_broken_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    named = dataclasses.replace(TRAINED, name="lstm, 100 units, 3 epochs, installed-docs, seed 1")
    show_runs([named, FAILED, named], wide=False)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) < 15
    header, *lines = rows(shown)
    assert [header[0], *header[1:3], header[4]] == ["run", "name", "started", "version"]
    assert named.name in " ".join(line[1] for line in lines)
    words = {word for line in lines for cell in line for word in cell.split()}
    assert {"installed-docs,", "v3,", "champion", WHEN.split()[0], "failed", "a1a1a1a1"} <= words


def test_without_runs_it_says_how_to_make_some(capsys: pytest.CaptureFixture[str]) -> None:
    show_runs([], wide=False)
    assert capsys.readouterr().out == "there are no runs yet; `dvc repro` makes them\n"


def test_intervals_of_an_earlier_version_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    old = {key: value for key, value in METRICS.items() if "effective" not in key}
    show_runs([dataclasses.replace(TRAINED, metrics=old), TRAINED], wide=True)
    _, one, other = rows(capsys.readouterr().out)
    assert (one[5], other[5]) == ("4 to 6 (by sentence)", "4 to 6")
    show_run(dataclasses.replace(TRAINED, metrics=old))
    assert "5 (4 to 6 (by sentence))" in capsys.readouterr().out
    of_both = {key: (old.get(key), value) for key, value in METRICS.items()}
    show_differences(TRAINED, TRAINED, Differences({}, {}, {}, of_both, ()))
    assert ["test/perplexity", "5 (4 to 6 (by sentence))", "5 (4 to 6)"] in rows(capsys.readouterr().out)


def test_an_unchanged_commit_has_no_plus(capsys: pytest.CaptureFixture[str]) -> None:
    show_runs([dataclasses.replace(TRAINED, tags=TAGS | {"git_dirty": "false"})], wide=True)
    assert "01234567" in rows(capsys.readouterr().out)[1]


def test_differences_are_a_table_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {key: (value, None) for key, value in METRICS.items()}
    found = Differences({"a.py": ("1", None)}, {}, {"seed": ("1", "2")}, metrics, ("A remark.",))
    show_differences(TRAINED, FAILED, found)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == f"A: a1a1a1a1 (lstm, 4 units), started {WHEN}, version v3, champion"
    assert lines[1] == f"B: b2b2b2b2 ([red]mine[/red]), started {WHEN}, version -"
    assert "data: no difference" in lines
    assert lines[-1] == "A remark."
    assert [line.strip() for line in lines if line.strip() in ("code", "data", "parameters", "metrics")] == [
        "code",
        "parameters",
        "metrics",
    ]
    assert rows(shown) == [
        ["what differs", "A", "B"],
        ["a.py", "1", "-"],
        ["what differs", "A", "B"],
        ["seed", "1", "2"],
        ["", "A", "B"],
        ["test/perplexity", "5 (4 to 6)", "-"],
        ["valid/best_perplexity", "5.543", "-"],
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "B - A is -0.2231 (-0.2500 to -0.2000) nats per token"),
        ({}, "B / A 0.8000, 95% interval 0.7788 to 0.8187 over 40 documents (effective number 36.5).\nB is better."),
        ({"documents": None}, "over sentences, as there are no documents (effective number 36.5)."),
        ({}, "perplexity A 12.50, B 10.00"),
        ({}, "200 test sentences (1,800 tokens)"),
        ({}, "A does not know 0 word types, B 1,030"),
        ({}, "This compares these two models: their recipes with other seeds may come out the other way.\nA remark.\n"),
        (
            {"seeds_a": 4, "seeds_b": 5},
            "0.7788 to 0.8187 over 4 and 5 seeds and 40 documents (effective ",
        ),
        (
            {"seeds_a": 4, "seeds_b": 5},
            "B is better. This compares recipes, of 4 and 5 seeds; `--models` ",
        ),
        (
            {"seeds_a": 2, "seeds_b": 2, **WITHHELD},
            "no interval, as 2 and 2 seeds say too little.\nWhether one is better cannot",
        ),
        ({"difference_low": 0.1, "difference_high": 0.2}, "A is better."),
        ({"difference_high": 0.01}, "The two cannot be told apart."),
        (WITHHELD, "no interval, as 40 documents (effective number 36.5) say too little"),
        (WITHHELD, "B - A is -0.2231 nats per token"),
        (WITHHELD, "Whether one is better cannot be told."),
    ],
)
def test_the_paired_test_in_sentences(changes: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_comparison(ModelComparison(dataclasses.replace(RESULT, **changes), 0, 1030, 0, ("A remark.",)))
    assert told in capsys.readouterr().out
