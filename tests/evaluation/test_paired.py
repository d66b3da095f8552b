"""The paired bootstrap, and what unknown words cost once vocabularies differ."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.evaluation.paired import nats_over_types, paired_bootstrap
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import pack
from pipeline.runtime.errors import InputError
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, SPECIALS, START_ID


def scores(sentences: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Nats of sentences of very different difficulty, and their tokens."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(2, 30, sentences)
    return tokens * generator.normal(4.5, 1.5, sentences).clip(min=0.5), tokens


def test_figures_are_per_token_of_all_sentences_together() -> None:
    result = paired_bootstrap(np.array([1.0, 20.0]), np.array([2.0, 10.0]), np.array([1, 9]), 100, 1)
    assert (result.sentences, result.tokens, result.resamples) == (2, 10, 100)
    assert result.perplexity_a == pytest.approx(math.exp(2.1))
    assert result.perplexity_b == pytest.approx(math.exp(1.2))
    assert result.difference == pytest.approx(-0.9)
    assert result.ratio == pytest.approx(math.exp(-0.9))
    # The first sentence alone, the second alone, or both: a token more by 1, less by 10/9, less by 0.9.
    assert result.difference_low == pytest.approx(-10 / 9)
    assert result.difference_high == pytest.approx(1.0)
    assert result.ratio_high == pytest.approx(math.e)
    # The first sentence is drawn twice in a quarter of the resamples.
    assert 0.6 < result.confidence < 0.9
    assert result.better is None


def test_equal_seeds_give_equal_results_and_others_do_not() -> None:
    nats, tokens = scores(50)
    other = nats + np.random.default_rng(9).normal(0, 5, 50)
    first, again, third = (paired_bootstrap(nats, other, tokens, 200, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.difference == third.difference
    assert first.difference_low != third.difference_low


def test_a_small_gain_on_nearly_every_sentence_is_sure_though_sentences_differ_widely() -> None:
    nats, tokens = scores(400)
    better = nats - tokens * np.random.default_rng(3).normal(0.02, 0.05, 400)
    result = paired_bootstrap(nats, better, tokens, 500, 1)
    assert result.confidence > 0.99
    assert result.better == "B"
    assert result.difference_high < 0
    # Alone, each is known far less well than the gain is large.
    spread = np.std(nats / tokens) / math.sqrt(400)
    assert spread > 3 * abs(result.difference)
    swapped = paired_bootstrap(better, nats, tokens, 500, 1)
    assert swapped.confidence < 0.01
    assert swapped.better == "A"
    assert swapped.difference == pytest.approx(-result.difference)


def test_a_model_is_not_better_than_itself() -> None:
    nats, tokens = scores(20)
    result = paired_bootstrap(nats, nats, tokens, 100, 1)
    assert (result.difference, result.difference_low, result.difference_high) == (0, 0, 0)
    assert result.confidence == 0
    assert result.better is None


def test_the_interval_is_that_of_the_normal_approximation_for_many_sentences() -> None:
    nats, tokens = scores(3000)
    other = nats + np.random.default_rng(4).normal(0.5, 4, 3000)
    result = paired_bootstrap(nats, other, tokens, 2000, 1)
    residuals = (other - nats) - result.difference * tokens
    error = math.sqrt((residuals**2).sum()) / tokens.sum()  # of a ratio of sums (the delta method)
    assert result.difference_high - result.difference == pytest.approx(1.96 * error, rel=0.1)
    assert result.difference - result.difference_low == pytest.approx(1.96 * error, rel=0.1)


def test_where_nothing_differs_but_chance_confidence_is_spread_evenly() -> None:
    generator = np.random.default_rng(5)
    tokens = np.full(60, 10)
    sure = [
        paired_bootstrap(np.zeros(60) + 30, 30 + generator.normal(0, 5, 60), tokens, 100, seed).confidence >= 0.95
        for seed in range(400)
    ]
    assert 0.02 < np.mean(sure) < 0.1


@pytest.mark.parametrize("nats", [[1.0, math.nan], [1.0, math.inf], [1.0, 1e9]])
def test_a_model_that_diverged_is_refused(nats: list[float]) -> None:
    good, tokens = np.array([1.0, 2.0]), np.array([1, 2])
    with pytest.raises(InputError, match="second model"):
        paired_bootstrap(good, np.array(nats), tokens, 100, 1)
    with pytest.raises(InputError, match="first model"):
        paired_bootstrap(np.array(nats), good, tokens, 100, 1)


def test_a_quarter_of_the_vocabulary_does_not_win() -> None:
    generator = np.random.default_rng(6)
    types, known = 100, 25
    sentences = [(generator.zipf(1.3, 12) - 1) % types for _ in range(300)]  # words by their rank
    counts = np.bincount(np.concatenate(sentences), minlength=types) + 1
    whole = counts / counts.sum()
    quarter = np.where(np.arange(types) < known, whole, whole[known:].sum())  # the rest is one word, UNKNOWN_TOKEN
    tokens = np.array([len(sentence) for sentence in sentences])
    nats = [np.array([-np.log(model[sentence]).sum() for sentence in sentences]) for model in (whole, quarter)]
    unknown = np.array([(sentence >= known).sum() for sentence in sentences])
    as_it_stands = paired_bootstrap(nats[0], nats[1], tokens, 200, 1)
    assert as_it_stands.better == "B"
    fair = paired_bootstrap(
        nats_over_types(nats[0], np.zeros(300, int), 0),
        nats_over_types(nats[1], unknown, types - known),
        tokens,
        200,
        1,
    )
    assert fair.better == "A"


@pytest.mark.parametrize("known", [1, 4, 11])
def test_a_model_of_any_vocabulary_is_a_distribution_over_the_common_words(
    make_model: Callable[..., LanguageModel], known: int
) -> None:
    common = 12
    model = make_model(seed=known, size=known + SPECIALS)
    unknown_id = known + SPECIALS - 1
    targets = [START_ID, END_ID, *range(2, 2 + known), *[unknown_id] * (common - known)]
    before = [START_ID, 2, unknown_id]
    batch = pack(EncodedSplit.of([[*before, target] for target in targets]), range(len(targets)))
    last = batch.batch_sizes[-1]  # the last step's targets stand last
    nats = model.score(batch).nats_N[-last:].double().numpy()
    unknown = (batch.y_N[-last:] == unknown_id).numpy()
    assert unknown.sum() == common - known
    assert np.exp(-nats_over_types(nats, unknown, common - known)).sum() == pytest.approx(1, abs=1e-5)
    assert np.exp(-nats).sum() != pytest.approx(1, abs=1e-2) or common - known == 1
