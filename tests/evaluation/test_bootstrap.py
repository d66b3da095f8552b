import numpy as np
import pytest

from pipeline.evaluation.bootstrap import interval, resampled_sums


def test_each_resample_sums_as_many_sentences_as_there_are_drawn_with_replacement() -> None:
    columns_KS = np.random.default_rng(0).normal(4, 2, (3, 40))
    sums_BK = resampled_sums(columns_KS, 50, seed=5)
    generator = np.random.default_rng(5)
    for row in sums_BK:
        drawn = generator.integers(0, 40, 40)
        assert row == pytest.approx(columns_KS[:, drawn].sum(axis=1), rel=1e-12)
    assert len(sums_BK) == 50


def test_columns_are_drawn_together_and_none_changes_what_another_gets() -> None:
    nats, tokens = np.random.default_rng(1).normal(4, 2, (2, 1000))
    both = resampled_sums(np.stack([nats, tokens]), 20, seed=1)
    assert (both[:, 0] == resampled_sums(nats[None], 20, seed=1)[:, 0]).all()
    assert (both[:, 1] != resampled_sums(tokens[None], 20, seed=2)[:, 0]).all()


def test_the_interval_leaves_two_and_a_half_percent_at_each_end() -> None:
    assert interval(np.arange(1001.0)[::-1]) == pytest.approx((25.0, 975.0))
