from pathlib import Path

import pytest

from pipeline.evaluation.results import Row, comparison_table, read_metrics, table_cells, verdict
from pipeline.runtime.errors import InputError


def row(model: str, perplexity: float, spread: float = 1.0) -> Row:
    low, high = perplexity - spread, perplexity + spread
    return Row(model, {"perplexity": perplexity, "perplexity_low": low, "perplexity_high": high})


def test_baselines_come_first_then_the_networks_as_params_names_them(make_run) -> None:
    folder = make_run({"wide": 4.0, "rnn": 4.1})
    rows = comparison_table(folder / "evaluation", folder / "models", ["wide", "rnn"])
    assert [row.model for row in rows] == ["unigram", "trigram", "5-gram", "wide", "rnn"]
    # The last in make_run is the best on validation, although `wide` is better on test.
    assert [row.model for row in rows if row.best] == ["rnn"]
    assert rows[3].metrics["perplexity"] < rows[4].metrics["perplexity"]
    assert [row.valid_perplexity for row in rows] == [None, None, None, 99.5, 89.5]
    assert [row.epochs for row in rows] == [None, None, None, 2, 2]
    assert all(row.seconds is None for row in rows)


def test_times_are_shown_where_they_are_known(make_run, tmp_path: Path) -> None:
    folder = make_run({"rnn": 4.1, "lstm": 4.0, "gru": 4.0})
    (tmp_path / "rnn.json").write_text('{"seconds": 1234.56, "tokens_per_second": 1000}')
    (tmp_path / "lstm.json").write_text("{")
    rows = comparison_table(folder / "evaluation", folder / "models", ["rnn", "lstm", "gru"], tmp_path)
    header, *lines = table_cells(rows, with_times=True)
    assert header[-1] == "training"
    assert [line[-1] for line in lines] == ["-", "-", "-", "1,235 s", "-", "-"]
    assert all(len(line) == len(header) for line in lines)


def test_the_table_as_text_has_no_time_unless_asked(make_run) -> None:
    folder = make_run({"rnn": 4.1})
    header, unigram, *_, rnn = table_cells(comparison_table(folder / "evaluation", folder / "models", ["rnn"]))
    assert "training" not in header
    assert unigram[0] == "unigram"
    assert unigram[-3:] == ["-", "-", "-"]
    assert rnn[0] == "rnn (best on validation)"
    assert rnn[-3:] == ["99.5", "2", "1,610,000"]


@pytest.mark.parametrize(
    ("perplexity", "said"),
    [
        (50.0, "net (perplexity 50.0) beats the trigram (72.1) and the 5-gram (65.8)."),
        (
            68.9,
            "net (perplexity 68.9) beats the trigram (72.1), but not the 5-gram (65.8): "
            "a network that does not beat counting is not worth training.",
        ),
        (
            80.0,
            "net (perplexity 80.0) does not beat the trigram (72.1) or the 5-gram (65.8): "
            "a network that does not beat counting is not worth training.",
        ),
        (64.0, "net (perplexity 64.0) beats the trigram (72.1) and the 5-gram (65.8, intervals overlap)."),
        (
            65.8,
            "net (perplexity 65.8) beats the trigram (72.1), but not the 5-gram (65.8, intervals overlap): "
            "a network that does not beat counting is not worth training.",
        ),
    ],
)
def test_the_verdict_says_what_was_beaten_and_what_was_not(perplexity: float, said: str) -> None:
    assert verdict(row("net", perplexity), [row("trigram", 72.1), row("5-gram", 65.8)]) == said


def test_missing_and_damaged_metrics_are_named_with_the_stage_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rnn/metrics\.json is missing.*dvc repro evaluate@rnn"):
        read_metrics(tmp_path / "rnn" / "metrics.json")
    with pytest.raises(InputError, match=r"baselines/metrics\.json is missing.*dvc repro baselines"):
        read_metrics(tmp_path / "baselines" / "metrics.json")
    for content in (b"", b"[1]", b"{", b"\xff"):
        (tmp_path / "metrics.json").write_bytes(content)
        with pytest.raises(InputError, match=r"metrics\.json holds no (metrics|UTF-8)"):
            read_metrics(tmp_path / "metrics.json")
