"""Test sentences that a model may have been trained on."""

from pathlib import Path

import pytest

from pipeline.runtime.progress import Bar
from pipeline.text.documents import Document
from pipeline.text.leaks import SAMPLED, seen_in_training, split_sample
from pipeline.text.tokens import read_tokens, write_tokens
from tests.text.test_tokens import SPLITTER, TEST, TEST_TOO, TOKENIZE, TOKENIZER, TRAIN, TRAIN_TOO, VALID
from tests.text.token_files import write_rows


def write(path: Path, *documents: tuple[str, str]) -> Path:
    write_tokens([Document(*document) for document in documents], SPLITTER, TOKENIZER, TOKENIZE, path, 1, Bar())
    return path


def test_a_renamed_document_and_an_edited_row_bring_training_sentences_into_the_test_split(tmp_path: Path) -> None:
    stay = [(TRAIN, "It stays."), (VALID, "A word."), (TEST, "It was always tested.")]
    moved, edited = "One moves. So does two.", "Three is here. Four is wrong."
    yesterday = write(tmp_path / "yesterday", *stay, (TRAIN_TOO, f"{moved} {edited}"))
    renamed = f"{moved} {edited.replace('wrong', 'right')}"  # the id of a row is a hash of its text
    today = write(tmp_path / "today", *stay, (TEST_TOO, renamed))
    seen = seen_in_training(today, [yesterday, today]).tolist()
    lines = [" ".join(tokens) for rows in read_tokens(today, "test") for tokens in rows.to_pylist()]
    assert dict(zip(lines, seen, strict=True)) == {
        "it was always tested .": False,
        "one moves .": True,
        "so does two .": True,
        "three is here .": True,
        "four is right .": False,
    }
    assert not seen_in_training(yesterday, [today, yesterday]).any()


def test_case_does_not_count_unknown_words_do_and_words_are_not_run_together(tmp_path: Path) -> None:
    test = [("test", tokens) for tokens in (["The", "cat"], ["the", None], ["ab", "c"])]
    tokens = write_rows(tmp_path / "tokens", [("train", ["other"]), *test])
    train = [("train", tokens) for tokens in (["the", "Cat"], ["the", None], ["a", "bc"])]
    assert seen_in_training(tokens, [write_rows(tmp_path / "other", train)]).tolist() == [True, True, False]
    assert seen_in_training(tokens, []).tolist() == [False] * 3


def test_a_split_is_the_same_by_its_sentences_alone(tmp_path: Path) -> None:
    rows = [("train", ["x"]), ("test", ["a", "b"]), ("test", ["c"])]
    one = split_sample(write_rows(tmp_path / "one", rows))
    assert split_sample(write_rows(tmp_path / "two", [("train", ["y"]), rows[2], rows[1]])) == one
    assert set(split_sample(write_rows(tmp_path / "three", rows[:2]))) < set(one)


def test_samples_share_what_their_splits_share(tmp_path: Path) -> None:
    def sample(first: int, last: int) -> list[str]:
        return split_sample(write_rows(tmp_path / "rows", [("test", [f"w{n}"]) for n in range(first, last)]))

    one, other, both = sample(0, 2000), sample(1000, 3000), sample(0, 3000)
    assert len(one) == len(other) == SAMPLED
    assert both == sorted({*one, *other})[:SAMPLED]
    assert len(set(one) & set(both)) / SAMPLED == pytest.approx(2 / 3, abs=0.1)
