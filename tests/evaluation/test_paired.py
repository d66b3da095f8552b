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
    nats_a, nats_b, tokens = np.array([1.0, 20.0] * 4), np.array([2.0, 10.0] * 4), np.array([1, 9] * 4)
    result = paired_bootstrap(nats_a, nats_b, tokens, np.arange(8) // 2, 200, 1, confidence=0.9)
    assert (result.sentences, result.tokens, result.documents, result.resamples) == (8, 40, 4, 200)
    assert result.perplexity_a == pytest.approx(math.exp(2.1))
    assert result.perplexity_b == pytest.approx(math.exp(1.2))
    assert result.difference == pytest.approx(-0.9)
    assert result.ratio == pytest.approx(math.exp(-0.9))
    assert result.effective_number == pytest.approx(4)
    # Every document is like every other; but four say nothing.
    assert (result.difference_low, result.ratio_high, result.better) == (None, None, None)
    assert result.ratio_interval.startswith("no interval, as 4 documents (effective number 4.0) say too little")
    twice_a, twice_b, twice = (np.tile(part, 2) for part in (nats_a, nats_b, tokens))
    alike = paired_bootstrap(twice_a, twice_b, twice, np.arange(16) // 2, 200, 1, 0.9)
    assert (alike.difference_low, alike.difference_high) == pytest.approx((-0.9, -0.9))
    assert alike.ratio_interval == "90% interval 0.4066 to 0.4066 over 8 documents (effective number 8.0)"
    assert alike.better == "B"
    # Sentences differ: drawn one by one they leave it open.
    apart = paired_bootstrap(nats_a, nats_b, tokens, None, 200, 1)
    assert (apart.documents, apart.effective_number) == (None, pytest.approx(1600 / 328))


def test_equal_seeds_give_equal_results_and_others_do_not() -> None:
    nats, tokens = scores(50)
    other = nats + np.random.default_rng(9).normal(0, 5, 50)
    first, again, third = (paired_bootstrap(nats, other, tokens, None, 200, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.difference == third.difference
    assert first.difference_low != third.difference_low


def test_a_small_gain_on_nearly_every_sentence_is_sure_though_sentences_differ_widely() -> None:
    nats, tokens = scores(400)
    better = nats - tokens * np.random.default_rng(3).normal(0.02, 0.05, 400)
    result = paired_bootstrap(nats, better, tokens, None, 500, 1)
    assert result.better == "B"
    assert result.difference_high is not None
    assert result.difference_high < 0
    # Alone, each is known far less well than the gain is large.
    spread = np.std(nats / tokens) / math.sqrt(400)
    assert spread > 3 * abs(result.difference)
    swapped = paired_bootstrap(better, nats, tokens, None, 500, 1)
    assert swapped.better == "A"
    assert swapped.difference == pytest.approx(-result.difference)


def test_a_model_is_not_better_than_itself() -> None:
    nats, tokens = scores(20)
    result = paired_bootstrap(nats, nats, tokens, None, 100, 1)
    assert (result.difference, result.difference_low, result.difference_high) == (0, 0, 0)
    assert result.better is None


def test_the_interval_is_that_of_the_normal_approximation_for_many_sentences() -> None:
    nats, tokens = scores(3000)
    other = nats + np.random.default_rng(4).normal(0.5, 4, 3000)
    result = paired_bootstrap(nats, other, tokens, None, 2000, 1)
    residuals = (other - nats) - result.difference * tokens
    error = math.sqrt((residuals**2).sum()) / tokens.sum()  # of a ratio of sums (the delta method)
    assert result.difference_low is not None
    assert result.difference_high is not None
    assert result.difference_high - result.difference == pytest.approx(1.96 * error, rel=0.1)
    assert result.difference - result.difference_low == pytest.approx(1.96 * error, rel=0.1)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_where_nothing_differs_but_chance_verdicts_are_as_rare_as_they_say_on_each_side(confidence: float) -> None:
    generator = np.random.default_rng(5)
    tokens, same = np.full(60, 10), np.full(60, 30.0)
    found = []
    for seed in range(400):
        result = paired_bootstrap(same, 30 + generator.normal(0, 5, 60), tokens, None, 100, seed, confidence)
        assert result.difference_low is not None
        assert result.difference_high is not None
        assert (result.better is None) == (result.difference_low <= 0 <= result.difference_high)
        found.append(result.better)
    a_side = (1 - confidence) / 2
    for better in ("A", "B"):
        assert a_side / 3 < found.count(better) / 400 < 2 * a_side


@pytest.mark.parametrize("nats", [[1.0, math.nan], [1.0, math.inf], [1.0, 1e9]])
def test_a_model_that_diverged_is_refused(nats: list[float]) -> None:
    good, tokens = np.array([1.0, 2.0]), np.array([1, 2])
    with pytest.raises(InputError, match="second model"):
        paired_bootstrap(good, np.array(nats), tokens, None, 100, 1)
    with pytest.raises(InputError, match="first model"):
        paired_bootstrap(np.array(nats), good, tokens, None, 100, 1)


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
    as_it_stands = paired_bootstrap(nats[0], nats[1], tokens, None, 200, 1)
    assert as_it_stands.better == "B"
    fair = paired_bootstrap(
        nats_over_types(nats[0], np.zeros(300, int), 0),
        nats_over_types(nats[1], unknown, types - known),
        tokens,
        None,
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
