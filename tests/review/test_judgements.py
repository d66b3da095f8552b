"""Judgements on test sentences: counted once, by all clones, and dearer each time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.evaluation.params import EvaluateParams
from pipeline.review.judgements import Turn, needed, note_turn, turn_of
from pipeline.tracking.store import Store
from tests.text.token_files import write_rows

EVALUATE: dict[str, Any] = {
    "seed": 1,
    "bootstrap_samples": 1000,
    "generated_sentences": 1,
    "temperature": 1.0,
    "top_k": None,
    "max_length": 1,
    "adaptation": [],
}


class Shared:
    """A store that several clones use, of which only the tags of the registered model are there."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {"former_champions": "1"}
        self.client = self

    def get_registered_model(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(tags=dict(self.tags))

    def set_registered_model_tag(self, _: str, key: str, value: str) -> None:
        self.tags[key] = value


def turn(store: Shared, tokens: Path, challenger: str, champion: str | None = "1", **options: int) -> Turn:
    drawn = EvaluateParams.model_validate(EVALUATE | options)
    return turn_of(cast(Store, store), tokens, challenger, champion, 0.95, drawn)


def note(store: Shared, turn: Turn) -> Turn:
    note_turn(cast(Store, store), turn)
    return turn


def sentences(path: Path, first: int, last: int) -> Path:
    return write_rows(path, [("test", [f"w{number}"]) for number in range(first, last)])


def test_each_judgement_on_a_split_counts_once_and_in_every_clone(tmp_path: Path) -> None:
    store = Shared()
    tokens = write_rows(tmp_path / "tokens", [("test", ["a"]), ("test", ["b"])])
    first = turn(store, tokens, "1", None)
    assert (first.number, first.confidence) == (1, pytest.approx(0.95))
    for _ in range(2):
        note(store, first)
        assert turn(store, tokens, "1", None) == first
    # Against another champion it is another judgement, and so it is drawn with another seed: luck may be another.
    assert turn(store, tokens, "1", "0").number == 2
    assert turn(store, tokens, "1", None, seed=2).number == 2
    assert turn(store, tokens, "1", None, bootstrap_samples=999).number == 2
    # Two clones at once: neither is lost.
    turns = [turn(store, tokens, version) for version in ("2", "3")]
    for each in turns:
        note(store, each)
    after = turn(store, tokens, "4")
    assert [each.number for each in (*turns, after)] == [2, 2, 4]
    assert str(after) == "judgement 4 on this test split, 99.5% needed"
    # Renamed documents are the same sentences; others begin anew.
    assert turn(store, write_rows(tmp_path / "same", [("test", ["b"]), ("test", ["a"])]), "4") == after
    assert turn(store, write_rows(tmp_path / "other", [("test", ["c"])]), "4").number == 1


@pytest.mark.parametrize("size", [100, 3000])  # one that a sample holds whole, and one that it does not
def test_sentences_take_their_count_along_into_a_split_that_has_new_ones(tmp_path: Path, size: int) -> None:
    store, tokens = Shared(), sentences(tmp_path / "tokens", 0, size)
    for version in range(6):
        note(store, turn(store, tokens, str(version)))
    with_one_more = sentences(tmp_path / "more", 0, size + 1)
    assert turn(store, with_one_more, "6").number == 7
    assert turn(store, sentences(tmp_path / "part", 0, size // 2), "6").number == 7
    # Three in four are new: 4 / (3 + 1 / 7). All are new.
    assert turn(store, sentences(tmp_path / "quarter", 3 * size // 4, 7 * size // 4), "6").number == 2
    assert turn(store, sentences(tmp_path / "new", size, 2 * size), "6").number == 1


def test_a_corpus_that_changes_every_night_neither_pays_for_ever_nor_begins_anew(tmp_path: Path) -> None:
    store, size, new, numbers = Shared(), 40, 4, []
    nights = range(30)
    for night in nights:
        tokens = sentences(tmp_path / "tokens", new * night, new * night + size)  # what is old goes
        numbers.append(note(store, turn(store, tokens, str(night))).number)
    assert numbers[:5] == [1, 2, 3, 3, 4]  # of 10 / (9 / 2 + 1) = 1.8, 10 / (8 / 3 + 1 / 2 + 1) = 2.4 and so on
    assert set(numbers[9:]) == {4}  # of 10 / (1 + 1 / 2 + ... + 1 / 10) = 3.4
    # All that luck may promote, for each `size` different sentences.
    spent = sum((1 - needed(0.95, number)) / 2 for number in numbers)
    assert spent < 0.05 * (size + new * nights[-1]) / size


@pytest.mark.parametrize("confidence", [0.5, 0.95, 1.0])
def test_all_judgements_together_leave_to_chance_what_two_sides_of_the_first_do(confidence: float) -> None:
    shares = [(1 - needed(confidence, number)) / 2 for number in range(1, 10_000)]
    assert shares[0] == pytest.approx((1 - confidence) / 2)
    assert sum(shares) == pytest.approx(1 - confidence, abs=1e-4)
    assert shares == sorted(shares, reverse=True)
