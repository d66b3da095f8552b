"""Judgements on one test split: counted once, by all clones, and dearer each time."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.review.judgements import needed, note_turn, turn_of
from pipeline.tracking.store import Store
from tests.text.token_files import write_rows


class Shared:
    """A store that several clones use, of which only the tags of the registered model are there."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {"former_champions": "1"}
        self.client = self

    def get_registered_model(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(tags=dict(self.tags))

    def set_registered_model_tag(self, _: str, key: str, value: str) -> None:
        self.tags[key] = value


def test_each_judgement_on_a_split_counts_once_and_in_every_clone(tmp_path: Path) -> None:
    store = cast(Store, Shared())
    tokens = write_rows(tmp_path / "tokens", [("test", ["a"]), ("test", ["b"])])
    first = turn_of(store, tokens, "1", None, 0.95)
    assert (first.number, first.confidence) == (1, pytest.approx(0.95))
    for _ in range(2):
        note_turn(store, first)
        assert turn_of(store, tokens, "1", None, 0.95) == first
    # Against another champion it is another judgement.
    assert turn_of(store, tokens, "1", "0", 0.95).number == 2
    # Two clones at once: neither is lost.
    turns = [turn_of(store, tokens, version, "1", 0.95) for version in ("2", "3")]
    for turn in turns:
        note_turn(store, turn)
    after = turn_of(store, tokens, "4", "1", 0.95)
    assert [turn.number for turn in (*turns, after)] == [2, 2, 4]
    assert str(after) == "judgement 4 on this test split, 99.5% needed"
    # Renamed documents are the same sentences; others begin anew.
    assert turn_of(store, write_rows(tmp_path / "same", [("test", ["b"]), ("test", ["a"])]), "4", "1", 0.95) == after
    assert turn_of(store, write_rows(tmp_path / "other", [("test", ["b"])]), "4", "1", 0.95).number == 1


@pytest.mark.parametrize("confidence", [0.5, 0.95, 1.0])
def test_all_judgements_together_leave_to_chance_what_two_sides_of_the_first_do(confidence: float) -> None:
    shares = [(1 - needed(confidence, number)) / 2 for number in range(1, 10_000)]
    assert shares[0] == pytest.approx((1 - confidence) / 2)
    assert sum(shares) == pytest.approx(1 - confidence, abs=1e-4)
    assert shares == sorted(shares, reverse=True)
