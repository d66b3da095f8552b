"""Word types that vocabularies do not know."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.text.tokens import SCHEMA
from pipeline.text.types import unknown_types
from tests.conftest import vocabulary_of


def write(path: Path, **splits: list[list[str | None]]) -> None:
    rows = [(split, tokens) for split, sentences in splits.items() for tokens in sentences]
    columns = {"document": ["d"] * len(rows), "split": [row[0] for row in rows], "tokens": [row[1] for row in rows]}
    pq.write_table(pa.table(columns, schema=SCHEMA), path)


def test_types_of_all_splits_and_of_the_other_vocabulary_count_once(tmp_path: Path) -> None:
    path = tmp_path / "sentences.parquet"
    write(path, train=[["a", "b", "a"], ["c"]], valid=[["d", "a"]], test=[["e", "d"]])
    small = vocabulary_of({"a": 2}, None, 1)
    large = vocabulary_of({"a": 2, "b": 1, "c": 1, "elsewhere": 1}, None, 1)
    # a b c d e elsewhere
    assert unknown_types(path, [small, large], Bar()) == [5, 2]


def test_a_word_that_the_corpus_calls_unknown_is_one_type_more(tmp_path: Path) -> None:
    path = tmp_path / "sentences.parquet"
    write(path, train=[["a", None]], valid=[["a"]], test=[[None, "a", None]])
    assert unknown_types(path, [vocabulary_of({"a": 2}, None, 1)], Bar()) == [1]


def test_a_word_spelled_like_a_special_token_is_a_word(tmp_path: Path) -> None:
    path = tmp_path / "sentences.parquet"
    write(path, train=[["UNKNOWN_TOKEN", "SENTENCE_END"]], valid=[["a"]], test=[["a"]])
    assert unknown_types(path, [vocabulary_of({"a": 1}, None, 1)], Bar()) == [2]


def test_missing_tokens_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dvc repro tokenize"):
        unknown_types(tmp_path / "sentences.parquet", [], Bar())
