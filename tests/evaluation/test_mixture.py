"""Weights of mixtures."""

import itertools

import numpy as np
import pytest

from pipeline.evaluation.mixture import mean_nats, mixed, mixture_weights


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_no_weights_on_a_fine_grid_cost_less(parts: int) -> None:
    chance = np.random.default_rng(parts)
    p_KN = list(chance.dirichlet(np.ones(20), size=(parts, 400)).max(axis=2) * chance.random((parts, 400)) ** 3)
    weights = mixture_weights(p_KN)
    assert sum(weights) == pytest.approx(1)
    grid = [(1 - sum(others), *others) for others in itertools.product(np.arange(0, 1.01, 0.02), repeat=parts - 1)]
    costs = [-np.log(sum(w * p_N for w, p_N in zip(ws, p_KN, strict=True))).mean() for ws in grid if ws[0] > 0]
    assert mean_nats(weights, p_KN) <= min(costs) + 1e-5
    assert mixed(weights, p_KN) == pytest.approx(sum(w * p_N for w, p_N in zip(weights, p_KN, strict=True)))


def test_the_first_part_keeps_a_share_and_a_part_that_gives_nothing_gets_next_to_none() -> None:
    useless, useful = np.full(50, 1e-9), np.full(50, 0.5)
    assert mixture_weights([useless, useful]) == [0.002, 0.998] or mixture_weights([useless, useful]) == [0.001, 0.999]
    first, *others = mixture_weights([useful, useless])
    assert (first, others) == (1.0, [0.0])
    assert mean_nats([1.0], [np.array([0.0, 0.5])]) == float("inf")
    assert mean_nats([1.0], [np.array([np.nan, 0.5])]) == float("inf")
