import json
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.evaluation.results import about_intervals, comparison_table, read_metrics, table_cells
from pipeline.evaluation.scores import write_metrics
from pipeline.runtime.errors import InputError


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


def test_times_are_shown_where_those_of_these_weights_are_known(make_run, tmp_path: Path) -> None:
    folder = make_run({"rnn": 4.1, "lstm": 4.0, "gru": 4.0})
    timing = {"seconds": 1234.56, "tokens_per_second": 1000, "model.safetensors": sha256(b"weights").hexdigest()}
    for name, weights in (("rnn", b"weights"), ("gru", b"others")):
        (folder / "models" / name / "model.safetensors").write_bytes(weights)
        (tmp_path / f"{name}.json").write_text(json.dumps(timing))
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


def test_an_interval_of_an_earlier_version_is_marked_beside_new_ones(make_run) -> None:
    folder = make_run({"rnn": 4.1, "old": 4.0})
    path = folder / "evaluation" / "old" / "metrics.json"
    figures = read_metrics(path)
    write_metrics(path, {key: value for key, value in figures.items() if "documents" not in key})
    _, *lines = table_cells(comparison_table(folder / "evaluation", folder / "models", ["rnn", "old"]))
    assert [line[2].endswith(" (by sentence)") for line in lines] == [False] * 4 + [True]


def test_the_table_says_what_its_intervals_draw(make_run) -> None:
    folder = make_run({"rnn": 4.1})
    path = folder / "evaluation" / "rnn" / "metrics.json"
    rows = comparison_table(folder / "evaluation", folder / "models", ["rnn"])
    assert table_cells(rows)[0][2] == "95% interval over 12 documents (effective number 12.0)"
    metrics = read_metrics(path)
    # What an earlier version left.
    old = {key: value for key, value in metrics.items() if "documents" not in key}
    assert about_intervals(old) == "95% interval over sentences"
    # Sentences without documents, and too few documents.
    assert about_intervals(old | {"effective_sentences": 41.26}) == (
        "95% interval over sentences, as there are no documents (effective number 41.3)"
    )
    none = {key: value for key, value in metrics.items() if not key.endswith(("_low", "_high"))}
    write_metrics(path, none | {"documents": 3, "effective_documents": 2.5})
    (*_, cells) = table_cells(comparison_table(folder / "evaluation", folder / "models", ["rnn"]))
    assert cells[2] == "-"
    assert about_intervals(none | {"documents": 3, "effective_documents": 2.5}).startswith(
        "no interval, as 3 documents"
    )
    write_metrics(path, {key: value for key, value in metrics.items() if key != "accuracy_top5_high"})
    with pytest.raises(InputError, match="no number accuracy_top5_high"):
        comparison_table(folder / "evaluation", folder / "models", ["rnn"])


def test_missing_and_damaged_metrics_are_named_with_the_stage_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rnn/metrics\.json is missing.*dvc repro evaluate@rnn"):
        read_metrics(tmp_path / "rnn" / "metrics.json")
    with pytest.raises(InputError, match=r"baselines/metrics\.json is missing.*dvc repro baselines"):
        read_metrics(tmp_path / "baselines" / "metrics.json")
    for content in (b"", b"[1]", b"{", b"\xff"):
        (tmp_path / "metrics.json").write_bytes(content)
        with pytest.raises(InputError, match=r"metrics\.json holds no (metrics|UTF-8)"):
            read_metrics(tmp_path / "metrics.json")
