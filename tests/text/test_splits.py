import hashlib
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.params import SplitShares
from pipeline.text.splits import split_of

IDS = [f"document {number}" for number in range(20_000)]


def shares(train: float, valid: float, test: float) -> SplitShares:
    return SplitShares(train=train, valid=valid, test=test)


DEFAULT = shares(92.0, 4.0, 4.0)


def place(document: str) -> Fraction:
    """Where the documented rule puts a document between 0 and 1."""
    return Fraction(int(hashlib.sha256(document.encode("utf-8", "surrogatepass")).hexdigest()[:16], 16), 2**64)


@given(st.text(), st.tuples(*[st.integers(1, 1000)] * 3))
def test_the_split_is_that_of_the_documented_rule(document: str, parts: tuple[int, int, int]) -> None:
    train, valid, test = parts
    position = place(document) * (train + valid + test)
    expected = "train" if position < train else "valid" if position < train + valid else "test"
    assert split_of(document, shares(float(train), float(valid), float(test))) == expected


def test_documents_stay_where_they_were() -> None:
    # Fixed for good: another rule would move the documents of every corpus that somebody has split already.
    found = [split_of(f"d{number}", shares(1.0, 1.0, 1.0)) for number in range(6)]
    assert found == ["train", "valid", "test", "test", "test", "train"]


@pytest.mark.parametrize("parts", [(92.0, 4.0, 4.0), (1.0, 1.0, 1.0), (0.5, 0.1, 0.4)])
def test_shares_hold_on_many_documents(parts: tuple[float, float, float]) -> None:
    counts: Counter[str] = Counter(split_of(document, shares(*parts)) for document in IDS)
    for split, part in zip(("train", "valid", "test"), parts, strict=True):
        assert counts[split] / len(IDS) == pytest.approx(part / sum(parts), abs=0.015)


@pytest.mark.parametrize("unit", [0.01, 7.0, 1e-6])
def test_the_unit_of_the_shares_does_not_matter(unit: float) -> None:
    scaled = shares(92.0 * unit, 4.0 * unit, 4.0 * unit)
    assert [split_of(document, scaled) for document in IDS] == [split_of(document, DEFAULT) for document in IDS]


def test_other_shares_move_only_documents_between_old_and_new_bounds() -> None:
    changed = shares(90.0, 5.0, 5.0)
    moved = {document for document in IDS if split_of(document, DEFAULT) != split_of(document, changed)}
    between = {document for document in IDS if 0.90 <= place(document) < 0.92 or 0.95 <= place(document) < 0.96}
    assert moved == between
    assert 0.01 * len(IDS) < len(moved) < 0.05 * len(IDS)


def test_a_name_that_is_not_unicode_has_a_split() -> None:
    assert split_of("\udcff.txt", DEFAULT) in ("train", "valid", "test")
