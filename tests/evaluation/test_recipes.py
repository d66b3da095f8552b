"""Two recipes by a model of each: the luck of training beside that of the text."""

import math

import numpy as np
import pytest

from pipeline.evaluation.bootstrap import NORMAL, student
from pipeline.evaluation.paired import paired_bootstrap
from pipeline.evaluation.recipes import (
    NO_SPREAD,
    SeedSpread,
    as_percentage,
    paired_recipes,
    recipe_interval,
    recipe_test,
    seed_spread,
    usual_sd,
)

DOCUMENTS, SENTENCES = 60, 20  # in each document, of 10 tokens
SEED_SD, DOCUMENT_SD = 0.009, 0.03
Z = NORMAL.inv_cdf(0.975)  # of 95%


def models(chance: np.random.Generator, gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nats of A and of B, whose recipe is better by `gain` nats a token, tokens and documents of each sentence."""
    document = np.repeat(np.arange(DOCUMENTS), SENTENCES)
    tokens = np.full(len(document), 10)
    seeds = chance.normal(0, SEED_SD, 2)
    a, b = chance.normal(0, DOCUMENT_SD, (2, DOCUMENTS)) + seeds[:, None]
    return tokens * (4.3 + a[document]), tokens * (4.3 - gain + b[document]), tokens, document


def test_the_variance_over_seeds_is_added_to_that_over_documents() -> None:
    chance = np.random.default_rng(1)
    result = paired_bootstrap(*models(chance, 0.02), 2000, 1)
    assert result.standard_error is not None
    # Of a mean of 60 equal documents.
    assert result.standard_error == pytest.approx(DOCUMENT_SD * math.sqrt(2 / DOCUMENTS), rel=0.2)
    alone = recipe_test(result, NO_SPREAD, NO_SPREAD, 0.95)
    assert alone is not None
    assert (alone.low, alone.high) == pytest.approx((result.difference_low, result.difference_high), abs=1e-3)
    stated = recipe_test(result, SeedSpread(0.03), SeedSpread(0.04), 0.95)
    assert stated is not None
    free = (se2 := result.standard_error**2) and (se2 + 0.05**2) ** 2 / (se2**2 / 59)
    assert stated.high - stated.difference == pytest.approx(student(Z, free) * math.hypot(se2**0.5, 0.05))
    assert (alone.better, stated.better) == ("B", None)
    # What was measured over few seeds is less sure: Welch's degrees of freedom.
    measured = recipe_test(result, SeedSpread(0.03, 4), SeedSpread(0.04, 6), 0.95)
    assert measured is not None
    free = (se2 + 0.05**2) ** 2 / (se2**2 / 59 + 0.03**4 / 3 + 0.04**4 / 5)
    assert measured.high - measured.difference == pytest.approx(student(Z, free) * math.hypot(se2**0.5, 0.05))
    assert measured.high > stated.high
    assert math.isfinite(getattr(recipe_test(result, NO_SPREAD, NO_SPREAD, 1.0), "high", math.inf))
    # Models that are one.
    nats, _, tokens, document = models(chance, 0)
    same = recipe_test(paired_bootstrap(nats, nats, tokens, document, 100, 1), NO_SPREAD, NO_SPREAD, 0.95)
    assert same is not None
    assert (same.low, same.high, same.better) == (0, 0, None)
    few = paired_bootstrap(nats[:60], nats[:60], tokens[:60], document[:60], 100, 1)
    assert recipe_test(few, NO_SPREAD, NO_SPREAD, 0.95) is None


def test_seeds_count_where_there_are_enough_and_too_few_may_only_add() -> None:
    assert seed_spread({}, 0.008) == SeedSpread(0.008)
    assert [usual_sd(tokens) for tokens in (8_000, 24_373, 82_600, 1_496_770)] == [0.037, 0.026, 0.013, 0.009]
    assert seed_spread({"seeds": 5, "seed_nats_sd": 0.003}, 0.008) == SeedSpread(0.003, 5)
    assert seed_spread({"seeds": 2.0, "seed_nats_sd": 0.0001}, 0.008) == SeedSpread(0.008)
    assert seed_spread({"seeds": 2.0, "seed_nats_sd": 0.02}, 0.008) == SeedSpread(0.02)


def test_a_confidence_is_shown_with_two_digits_of_what_it_leaves_to_chance() -> None:
    shown = [as_percentage(confidence) for confidence in (0.5, 0.95, 1 - 0.1 / 6, 1 - 0.1 / 56, 0.9999901, 1)]
    assert shown == ["50%", "95%", "98.3%", "99.82%", "99.99901%", "100%"]


def test_luck_promotes_5_in_100_at_most_and_four_percent_80_at_least() -> None:
    """Models of one recipe, and of one that is 4% better, at their first judgement; without seeds, luck promotes."""
    chance, spread = np.random.default_rng(7), SeedSpread(SEED_SD)
    promoted = {(gain, with_seeds): 0 for gain in (0.0, -math.log(0.96)) for with_seeds in (True, False)}
    for _ in range(200):
        for gain in (0.0, -math.log(0.96)):
            result = paired_bootstrap(*models(chance, gain), 200, 1)
            for seeds in (spread, NO_SPREAD):
                found = recipe_test(result, seeds, seeds, 0.95)
                promoted[gain, seeds is spread] += found is not None and found.better == "B"
    assert promoted[0.0, True] <= 10 < promoted[0.0, False]
    assert promoted[-math.log(0.96), True] >= 160


def models_of(recipe: np.random.Generator, seeds: int, spread: float, sentences: int = 120, gain: float = 0.0):
    """Nats (seeds, sentences) of a recipe whose seeds differ by `spread` nats a token; ten tokens a sentence."""
    hard_S = np.random.default_rng(99).normal(40, 10, sentences)  # the same for all
    of_seeds_K = recipe.normal(-gain, spread, seeds)
    return hard_S + 10 * of_seeds_K[:, None] + recipe.normal(0, 1, (seeds, sentences))


@pytest.mark.parametrize("seeds", [3, 4, 5])
def test_equal_recipes_differ_as_rarely_as_the_interval_says_where_seeds_vary_more_than_documents(seeds: int) -> None:
    """In 5% of cases; the first models alone are told apart in most of them, of which nobody is to learn that."""
    tokens, document = np.full(120, 10), np.arange(120) // 3
    chance, cases = np.random.default_rng(seeds), 200
    recipes = models = 0
    for _ in range(cases):
        a, b = models_of(chance, seeds, 0.05), models_of(chance, seeds, 0.05)
        recipes += paired_recipes(a, b, tokens, document, 100, 1).better is not None
        models += paired_bootstrap(a[0], b[0], tokens, document, 100, 1).better is not None
    assert recipes <= 16
    assert models > 120


def test_recipes_that_differ_by_more_than_their_seeds_are_told_apart() -> None:
    tokens, document, chance = np.full(120, 10), np.arange(120) // 3, np.random.default_rng(1)
    found = paired_recipes(models_of(chance, 4, 0.01), models_of(chance, 5, 0.01, gain=0.05), tokens, document, 200, 1)
    assert (found.better, found.compares, found.seeds_a, found.seeds_b) == ("B", "recipes", 4, 5)
    assert found.difference_low is not None
    assert found.difference_high is not None
    assert found.difference_low < found.difference < found.difference_high < 0
    assert "over 4 and 5 seeds and 40 documents" in found.ratio_interval


@pytest.mark.parametrize("spread", [0.05, 1e-6])
def test_two_seeds_each_say_too_little_even_where_they_came_close(spread: float) -> None:
    tokens, document, chance = np.full(120, 10), np.arange(120) // 3, np.random.default_rng(1)
    a, b = models_of(chance, 2, spread), models_of(chance, 2, spread, gain=0.05)
    found = paired_recipes(a, b, tokens, document, 100, 1)
    assert found.better is None
    assert found.ratio_interval == "no interval, as 2 and 2 seeds say too little"
    assert recipe_interval(a, tokens, document, 100, 1) is None
