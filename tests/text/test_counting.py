from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.text import tokens
from pipeline.text.counting import WordCounts, build_vocabulary, count_words, unknown_types
from tests.conftest import vocabulary_of

WORD = st.text("abcé\U0001f600", min_size=1, max_size=3)


@given(blocks=st.lists(st.dictionaries(WORD, st.integers(1, 9), max_size=12), max_size=8), limit=st.integers(0, 20))
def test_counts_are_exact_however_few_words_fit_into_memory(
    blocks: list[dict[str, int]], limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected: Counter[str] = Counter()
    counts = WordCounts(tmp_path_factory.mktemp("words"), words_in_memory=limit)
    for block in blocks:
        counts.add(block.keys(), block.values())
        expected.update(block)
    assert list(counts.by_word()) == sorted(expected.items())
    assert counts.tokens == expected.total()
    ranked = sorted(expected.items(), key=lambda item: (-item[1], item[0]))
    for number in (None, 1, 3, 1000):
        assert counts.most_frequent(number) == ranked[:number]


def test_words_beyond_the_limit_go_to_disk(tmp_path: Path) -> None:
    counts = WordCounts(tmp_path, words_in_memory=100)
    for number in range(1000):
        counts.add([f"{number:03d}", "the"], [1, 2])
    assert len(list(tmp_path.iterdir())) >= 9
    assert counts.most_frequent(2) == [("the", 2000), ("000", 1)]
    assert build_vocabulary(counts, 5).counts == (0, 0, 2000, 1, 999)


@pytest.mark.parametrize("workers", [1, 2])
def test_words_of_one_split(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "READ_SENTENCES", 10)
    sentences = [["the", None, f"{number % 7}"] for number in range(200)]
    splits = ["train"] * 150 + ["test"] * 50
    pq.write_table(pa.table([splits, splits, sentences], schema=tokens.TOKEN_SCHEMA), tmp_path / "tokens.parquet")
    counts = count_words(tmp_path / "tokens.parquet", "train", tmp_path, workers, Bar())
    assert (counts.sentences, counts.unknown, counts.tokens) == (150, 150, 300)
    assert dict(counts.by_word()) == {"the": 150} | {str(n): 150 // 7 + (n < 150 % 7) for n in range(7)}
    vocabulary = build_vocabulary(counts, 5)
    assert vocabulary.counts == (0, 150, 150, 22, 128 + 150)


def write(path: Path, **splits: list[list[str | None]]) -> None:
    rows = [(split, words) for split, sentences in splits.items() for words in sentences]
    columns = {"document": ["d"] * len(rows), "split": [row[0] for row in rows], "tokens": [row[1] for row in rows]}
    pq.write_table(pa.table(columns, schema=tokens.TOKEN_SCHEMA), path)


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
