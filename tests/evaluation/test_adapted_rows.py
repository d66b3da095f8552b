"""Rows of adapted models; how report and table show them is in their tests."""

from typing import Any

from pipeline.evaluation.adapted_rows import chosen_in_words, with_adapted
from pipeline.evaluation.results import Row


def test_each_adaptation_stands_below_its_model() -> None:
    adapted: dict[str, Any] = {"cache": {"cache_window": 500, "cache_theta": 0.5}, "temperature": {}}
    metrics: dict[str, Any] = {"adapted": adapted}
    rows = [Row("5-gram", {}), Row("lstm", metrics), Row("gru", {})]
    assert [row.model for row in with_adapted(rows)] == ["5-gram", "lstm", "lstm + cache", "lstm + temperature", "gru"]
    assert chosen_in_words(rows)[0] == "lstm + cache: window 500, theta 0.5"
