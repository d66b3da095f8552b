import numpy as np
import pytest

from pipeline.evaluation.bootstrap import (
    FEWEST_DEGREES,
    FEWEST_UNITS,
    NORMAL,
    Bootstrap,
    bootstrap,
    degrees_of_freedom,
    effective_number,
    tail,
    too_few,
)

ONES = np.ones(40, np.int64)


def test_each_resample_sums_as_many_sentences_as_there_are_where_there_are_no_documents() -> None:
    columns_KS = np.random.default_rng(0).normal(4, 2, (3, 40))
    drawn = bootstrap(columns_KS, ONES, None, 50, seed=5)
    generator = np.random.default_rng(5)
    for row in drawn.sums_BK:
        assert row == pytest.approx(columns_KS[:, generator.integers(0, 40, 40)].sum(axis=1), rel=1e-12)
    assert (len(drawn.sums_BK), drawn.documents, drawn.effective) == (50, None, 40)


def test_documents_are_drawn_whole_as_many_as_there_are() -> None:
    columns_KS = np.random.default_rng(0).normal(4, 2, (3, 40))
    document_S = np.random.default_rng(1).permutation(np.arange(40) % 7)  # a document's sentences may lie apart
    drawn = bootstrap(columns_KS, ONES, document_S, 50, seed=5)
    generator = np.random.default_rng(5)
    for row in drawn.sums_BK:
        sentences = np.concatenate([np.flatnonzero(document_S == one) for one in generator.integers(0, 7, 7)])
        assert row == pytest.approx(columns_KS[:, sentences].sum(axis=1), rel=1e-12)
    assert drawn.documents == 7


def test_columns_are_drawn_together_and_none_changes_what_another_gets() -> None:
    nats, tokens = np.random.default_rng(1).normal(4, 2, (2, 40))
    both = bootstrap(np.stack([nats, tokens]), ONES, None, 20, seed=1).sums_BK
    assert (both[:, 0] == bootstrap(nats[None], ONES, None, 20, seed=1).sums_BK[:, 0]).all()
    assert (both[:, 1] != bootstrap(tokens[None], ONES, None, 20, seed=2).sums_BK[:, 0]).all()


def test_the_effective_number_counts_equal_documents_once_and_a_long_one_alone() -> None:
    assert effective_number(np.array([5, 5, 5])) == pytest.approx(3)
    assert effective_number(np.array([1, 1, 1000])) == pytest.approx(1, abs=0.01)
    assert degrees_of_freedom(np.full(10, 5)) == pytest.approx(9)
    assert degrees_of_freedom(np.array([*[1] * 40, *[4] * 20])) == pytest.approx(200**2 / (40 + 20 * 64) - 1)
    assert degrees_of_freedom(np.array([1, 1, 1000])) == FEWEST_DEGREES
    # Of sentences of one token in two documents, three in one and one in the other.
    drawn = bootstrap(np.ones((1, 4)), np.ones(4, np.int64), np.array([0, 0, 0, 1]), 1, 1)
    assert drawn.effective == pytest.approx(16 / 10)


def test_the_interval_leaves_two_and_a_half_percent_at_each_end_of_many() -> None:
    drawn = Bootstrap(np.empty((0, 0)), None, 1e9, 9)
    assert drawn.interval(np.arange(1001.0)[::-1]) == pytest.approx((25.0, 975.0))
    assert drawn.interval(np.arange(1001.0), 0.5) == pytest.approx((250.0, 750.0))
    assert drawn.interval(np.arange(1001.0), 1.0) == (0, 1000)


@pytest.mark.parametrize(("units", "student"), [(6, 2.5706), (10, 2.2622), (31, 2.0423), (101, 1.9840)])
def test_few_documents_make_it_wider_by_student_and_by_what_the_bootstrap_lacks(units: int, student: float) -> None:
    assert -NORMAL.inv_cdf(tail(units, 0.95)) == pytest.approx(student * (units / (units - 1)) ** 0.5, rel=0.01)


def test_too_few_documents_give_no_interval_and_say_so() -> None:
    figures = np.arange(1001.0)
    assert Bootstrap(np.empty((0, 0)), 20, FEWEST_UNITS, 9).interval(figures) is not None
    assert Bootstrap(np.empty((0, 0)), 20, FEWEST_UNITS - 0.01, 9).interval(figures) is None
    assert (
        too_few(20, 4.99) == "no interval, as 20 documents (effective number 5.0) say too little: at least 5 are needed"
    )


def test_documents_cover_what_they_should_and_sentences_alone_do_not() -> None:
    """Documents of twenty sentences, half of whose spread is their document's. What leaves out 0 is a false verdict."""
    chance, documents, sentences, times = np.random.default_rng(3), 30, 20, 250
    document_S = np.repeat(np.arange(documents), sentences)
    tokens_S = np.full(documents * sentences, 10)
    held = {"documents": 0, "sentences": 0}
    for seed in range(times):
        nats = chance.normal(0, 1, documents)[document_S] + chance.normal(0, 1, len(document_S))
        for name, document in (("documents", document_S), ("sentences", None)):
            drawn = bootstrap(nats[None], tokens_S, document, 150, seed)
            ends = drawn.interval(drawn.sums_BK[:, 0])
            assert ends is not None
            held[name] += ends[0] <= 0 <= ends[1]
    assert 0.93 <= held["documents"] / times <= 0.97
    assert held["sentences"] / times < 0.7
