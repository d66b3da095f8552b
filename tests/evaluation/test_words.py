import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.evaluation import words
from pipeline.evaluation.words import Words, looked_at, part_of, read_words, same_words, showable, write_words
from pipeline.runtime.errors import InputError


@pytest.fixture
def found() -> Words:
    sentence = np.array([0, 0, 3], np.int32)
    return Words(
        sentence,
        np.array([5, 1, 1], np.int32),
        np.array([1.5, 2.5, 0.5], np.float32),
        np.arange(15, dtype=np.int32).reshape(3, 5),
        np.linspace(0, 1, 15, dtype=np.float32).reshape(3, 5),
        np.array([1, 2, 3], np.int8),
    )


def test_what_is_written_is_read(found: Words, tmp_path) -> None:
    write_words(tmp_path / "words.parquet", found)
    again = read_words(tmp_path / "words.parquet")
    for name, values in vars(found).items():
        assert np.array_equal(values, getattr(again, name)), name
        assert values.dtype == getattr(again, name).dtype
    assert [found.rows(sentence) for sentence in (0, 1, 3)] == [slice(0, 2), slice(2, 2), slice(2, 3)]


def test_which_sentences_are_looked_at_depends_on_their_lengths_alone(monkeypatch) -> None:
    monkeypatch.setattr(words, "MOST_SENTENCES", 5)
    monkeypatch.setattr(words, "MOST_SHOWABLE", 2)
    assert looked_at(np.full(4, 9)).tolist() == [0, 1, 2, 3]
    assert looked_at(np.full(10, 9)).tolist() == [0, 2, 4, 6, 8]
    assert showable(np.array([9, 9, 2, 9, 9, 9, 41, 9, 9, 9])).tolist() == [0, 4]
    assert showable(np.array([1, 90])).tolist() == []


def test_a_part_of_a_split_has_the_ids_of_its_sentences(encode) -> None:
    part = part_of(encode([[5, 6], [7], [8, 9, 10]]), np.array([0, 2]))
    assert part.ids.tolist() == [0, 5, 6, 1, 0, 8, 9, 10, 1]
    assert part.offsets.tolist() == [0, 4, 9]


def test_damage_is_one_clear_line(found: Words, tmp_path) -> None:
    path = tmp_path / "lstm" / "words.parquet"
    with pytest.raises(InputError, match=r"lstm/words\.parquet is missing; make it with `dvc repro evaluate@lstm`"):
        read_words(path)
    write_words(path, found)
    table = pq.read_table(path)
    nan = np.array([0.5, np.nan, 1], np.float32)
    for broken in (table.drop_columns("target"), table.set_column(2, "nats", [nan]), table.slice(0, 0)):
        pq.write_table(broken, path)
        with pytest.raises(InputError, match="holds no words of sentences"):
            read_words(path)
    path.write_bytes(b"no Parquet")
    with pytest.raises(InputError, match="holds no words of sentences"):
        read_words(path)
    other = Words(**vars(found) | {"target": found.target + 1})
    with pytest.raises(InputError, match=re.escape(f"{path} holds other words than those of another model")):
        same_words(found, other, path)
