"""Another seed of a recipe never passes for the same model; the same one, computed elsewhere, does."""

from itertools import combinations

import numpy as np
import pytest

from pipeline.evaluation.agreement import FEWEST_SEEDS, Agreement, agreement, is_one_model

TOKENS = np.random.default_rng(0).integers(3, 60, 2000)
PAIRS = FEWEST_SEEDS * (FEWEST_SEEDS - 1) // 2


def scored(seed: int, spread: float = 1.0) -> np.ndarray:
    """Nats of sentences by a model: what all seeds have in common, and its own, `spread` a token."""
    common = np.random.default_rng(99).gamma(20, 0.2, len(TOKENS)) * TOKENS
    return common + np.random.default_rng(seed).normal(0, spread, len(TOKENS)) * TOKENS**0.5


def test_the_figures_are_those_of_sentences_a_token() -> None:
    found = agreement(np.array([2.0, 9.0, 8.0]), np.array([4.0, 6.0, 8.0]), np.array([2, 3, 2]))
    assert found.correlation == pytest.approx(np.corrcoef([1, 3, 4], [2, 2, 4])[0, 1])
    assert found.largest == pytest.approx(1)
    same = np.full(3, 2.0)
    assert agreement(same, same, np.full(3, 1)) == Agreement(1.0, 0.0)
    assert agreement(same, same * [1, 1, 2], np.full(3, 1)).correlation == 0


def test_another_seed_is_another_model() -> None:
    passed = 0
    for first in range(0, 400, 8):
        seeds = [scored(first + number) for number in range(FEWEST_SEEDS)]
        pairs = [agreement(*two, TOKENS) for two in combinations(seeds, 2)]
        passed += is_one_model(agreement(seeds[0], scored(first + FEWEST_SEEDS), TOKENS), pairs)
    assert passed <= 1


def test_the_same_model_computed_elsewhere_is_one_model() -> None:
    pairs = [agreement(*two, TOKENS) for two in combinations([scored(seed) for seed in range(FEWEST_SEEDS)], 2)]
    assert len(pairs) == PAIRS
    rounded = scored(0) + np.random.default_rng(7).normal(0, 0.3, len(TOKENS)) * TOKENS**0.5
    assert is_one_model(agreement(scored(0), rounded, TOKENS), pairs)
    rounded[5] += 10 * TOKENS[5]  # as far off in one sentence as no seed is
    assert not is_one_model(agreement(scored(0), rounded, TOKENS), pairs)
