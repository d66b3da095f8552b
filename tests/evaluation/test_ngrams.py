import errno
import mmap
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation import ngrams
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.ngrams import Column, count_ngrams
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, START_ID

ARRAYS = ("keys_G", "suffix_G", "first_H", "own_G", "gamma_H", "bigram_G")


def split_of(sentences: Sequence[Sequence[int]]) -> EncodedSplit:
    return EncodedSplit.of([START_ID, *sentence, END_ID] for sentence in sentences)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(2, 5), max_size=7), min_size=1, max_size=12),
    st.integers(2, 5),
    st.integers(1, 9),
    st.sampled_from([1, 1024]),
    st.sampled_from([3, 64]),
)
def test_a_model_made_in_blocks_on_disk_is_the_same_to_the_last_bit(
    sentences: list[list[int]], order: int, block: int, samples: int, most_runs: int
) -> None:
    train = split_of(sentences)
    whole = KneserNey(train, 7, order)
    with (
        patch.object(ngrams, "BLOCK_TOKENS", block),
        patch.object(ngrams, "SAMPLED_KEYS", samples),
        patch.object(ngrams, "MOST_RUNS", most_runs),
    ):
        blocked = KneserNey(train, 7, order)
    for one, other in zip(whole._orders, blocked._orders, strict=True):
        for name in ARRAYS:
            array = getattr(other, name)
            assert array.tobytes() == getattr(one, name).tobytes(), name
            assert len(array) == 0 or len(train.ids) <= block or isinstance(array.base.base, mmap.mmap)
    for mine, others in zip(whole.score(train), blocked.score(train), strict=True):
        assert mine.tobytes() == others.tobytes()


def test_counts_are_those_of_a_dictionary_and_every_block_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "BLOCK_TOKENS", 100)
    chance = np.random.default_rng(0)
    train = split_of([(chance.zipf(1.5, chance.integers(9)) % 50 + 2).tolist() for _ in range(300)])
    told: list[int] = []
    grams = count_ngrams(train, 53, 3, told.append)
    texts = [train.ids[start:stop].tolist() for start, stop in zip(train.offsets, train.offsets[1:], strict=False)]
    expected = Counter(tuple(text[at - 3 : at]) for text in texts for at in range(3, len(text) + 1))
    assert sum(told) == 2 * len(train.ids)
    assert max(told) == 100
    pairs, triples = grams[1].keys.whole(), grams[2].keys.whole()
    words = [(*divmod(int(pairs[key // 53]), 53), int(key % 53)) for key in triples]
    assert dict(zip(words, grams[2].counts.whole().tolist(), strict=True)) == expected
    assert words == sorted(words)
    assert [divmod(int(pairs[suffix]), 53) for suffix in grams[2].suffix.whole()] == [triple[1:] for triple in words]


def test_keys_too_far_apart_to_be_packed_are_sorted_all_the_same() -> None:
    chance = np.random.default_rng(0)
    for highest in (9, 2**40, 2**62):
        keys = chance.integers(0, highest, 500)
        keys[::3] = keys[0]
        found, order = ngrams._sorted(keys)
        assert order.tolist() == np.argsort(keys, kind="stable").tolist()
        assert found.tolist() == sorted(keys.tolist())


def test_a_column_is_the_same_in_memory_and_in_a_file_that_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    columns = [Column(np.int32, on_disk) for on_disk in (False, True)]
    for column in columns:
        assert len(column.whole()) == len(column) == 0
        for part in (np.arange(3), np.empty(0), np.arange(9, 5, -1)):
            column.append(part)
        assert column.whole().tolist() == [0, 1, 2, 9, 8, 7, 6]
        assert column.read(2, 5).tolist() == [2, 9, 8]
        column.append(np.array([4]))
        assert (len(column), column.read(7, 8).tolist(), column.whole()[-1]) == (8, [4], 4)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    full = Mock(write=Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}'"):
        Column(np.int32, on_disk=True).append(np.arange(9))
