"""Which test sentences share an 8-gram with the training split, against the definition written out."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import tokens
from pipeline.text.overlap import N, shares_with_training
from tests.text.token_files import Rows, write_rows

Sentence = Sequence[str | None]


def shared(folder: Path, train: Sequence[Sentence], test: Sequence[Sentence]) -> list[bool]:
    splits = (("train", train), ("valid", [["word"]]), ("test", test))
    rows: Rows = [(split, list(sentence)) for split, sentences in splits for sentence in sentences]
    return shares_with_training(write_rows(folder / "tokens.parquet", rows)).tolist()


def grams(sentence: Sentence) -> set[tuple[str | None, ...]]:
    whole = [tuple(sentence[start : start + N]) for start in range(len(sentence) - N + 1)]
    return set(whole or [tuple(sentence)])


EIGHT = list("abcdefgh")


@pytest.mark.parametrize(
    ("train", "test", "seen"),
    [
        (["x", *EIGHT, "y"], ["u", "v", *EIGHT], True),
        (["x", *EIGHT[:7], "y"], ["u", "v", *EIGHT], False),
        (EIGHT, EIGHT, True),
        (EIGHT, EIGHT[::-1], False),
        # Shorter ones only whole: an end that is missing is no word like others.
        (EIGHT[:3], EIGHT[:3], True),
        (EIGHT, EIGHT[:7], False),
        (EIGHT[:3], EIGHT[:2], False),
        (EIGHT[:3], EIGHT[1:3], False),
        # No 8-gram runs from one sentence into the next.
        (EIGHT[:4], EIGHT, False),
        # Words that no vocabulary holds are words; only what the corpus itself marks as unknown is all the same.
        ([*EIGHT[:7], "rare"], [*EIGHT[:7], "other"], False),
        ([*EIGHT[:7], "rare"], [*EIGHT[:7], "rare"], True),
        ([*EIGHT[:7], None], [*EIGHT[:7], None], True),
        ([*EIGHT[:7], "rare"], [*EIGHT[:7], None], False),
        ([*EIGHT[:7], None], [*EIGHT[:7], "rare"], False),
    ],
)
def test_what_counts_as_an_8_gram(train: Sentence, test: Sentence, seen: bool, tmp_path: Path) -> None:
    assert shared(tmp_path, [train, EIGHT[4:]], [["nothing"], test]) == [False, seen]


SENTENCES = st.lists(st.lists(st.sampled_from(["a", "a", "b", None]), min_size=1, max_size=12), min_size=1, max_size=9)


@given(train=SENTENCES, test=SENTENCES, block=st.integers(1, 4))
def test_it_is_the_definition_whatever_block_a_sentence_comes_in(
    train: list[Sentence], test: list[Sentence], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    known = set().union(*map(grams, train))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "READ_SENTENCES", block)
        found = shared(tmp_path_factory.mktemp("shared"), train, test)
    assert found == [bool(grams(sentence) & known) for sentence in test]
