import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.bootstrap import FEWEST_UNITS, tail
from pipeline.evaluation.scores import (
    Band,
    ScoreSums,
    SentenceScores,
    summarise,
    write_bands,
    write_metrics,
    write_sentences,
)
from pipeline.runtime.errors import InputError

SUMS = ("tokens", "nats", "top1", "top5", "unknown", "nats_unknown")
NONE_SEEN = np.zeros(2, bool)
KEYS = {"perplexity", "nats_per_token", "accuracy_top1", "accuracy_top5", "unknown_share", "perplexity_known"}


def sums_of(targets: list[list[int]], nats: list[list[float]], ranks: list[list[int]], vocabulary_size: int):
    sums = ScoreSums(len(targets), vocabulary_size)
    sentence_N = np.repeat(np.arange(len(targets)), [len(sentence) for sentence in targets])
    sums.add(sentence_N, np.concatenate(targets), np.concatenate(nats), np.concatenate(ranks))
    return sums


def random_scores(sentences: int, seed: int = 0) -> SentenceScores:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(2, 30, sentences)
    unknown = generator.binomial(tokens - 1, 0.1)
    return SentenceScores(
        tokens,
        tokens * generator.gamma(8, 0.5, sentences),
        generator.binomial(tokens, 0.2),
        generator.binomial(tokens, 0.4),
        unknown,
        unknown * 3.0,
    )


def test_figures_by_hand() -> None:
    # Vocabulary START 0, END 1, words 2 to 4, UNKNOWN 5. Two sentences: `2 UNKNOWN END` and `3 END`.
    sums = sums_of([[2, 5, 1], [3, 1]], [[1.0, 4.0, 0.5], [2.0, 0.5]], [[0, 7, 1], [5, 4]], 6)
    figures = summarise(sums.sentences, None, NONE_SEEN, 100, seed=1)
    assert figures["nats_per_token"] == pytest.approx(8 / 5)
    assert figures["perplexity"] == pytest.approx(np.exp(8 / 5), abs=1e-6)
    assert figures["perplexity_known"] == pytest.approx(np.exp(4 / 4), abs=1e-6)
    assert figures["accuracy_top1"] == pytest.approx(1 / 5)
    assert figures["accuracy_top5"] == pytest.approx(3 / 5)
    assert figures["unknown_share"] == pytest.approx(1 / 5)
    assert (figures["tokens"], figures["sentences"]) == (5, 2)
    assert figures["effective_sentences"] == pytest.approx(25 / 13, abs=1e-6)
    # Two sentences say too little for an interval.
    counts = {"tokens", "sentences", "effective_sentences", "sentences_unseen", "tokens_unseen"}
    assert set(figures) == {*counts, *KEYS, "perplexity_unseen"}


def test_a_model_that_guesses_has_the_perplexity_of_its_vocabulary_and_no_doubt_about_it() -> None:
    sums = sums_of([[2, 3, 1]] * 50, [[np.log(8000)] * 3] * 50, [[4000] * 3] * 50, 8000)
    figures = summarise(sums.sentences, None, np.zeros(50, bool), 100, seed=1)
    assert figures["perplexity"] == figures["perplexity_low"] == figures["perplexity_high"] == pytest.approx(8000)


@given(st.integers(1, 400), st.integers(1, 7), st.randoms(use_true_random=False))
def test_sums_do_not_depend_on_how_targets_are_batched(targets: int, batches: int, random) -> None:
    generator = np.random.default_rng(random.randrange(2**32))
    columns = (
        generator.integers(0, 9, targets),
        generator.integers(1, 30, targets),
        generator.exponential(4, targets),
        generator.integers(0, 12, targets),
    )
    whole, parts = ScoreSums(9, 30), ScoreSums(9, 30)
    whole.add(*columns)
    for rows in np.array_split(generator.permutation(targets), batches):
        parts.add(*(column[rows] for column in columns))
    for name in SUMS:
        np.testing.assert_allclose(getattr(whole.sentences, name), getattr(parts.sentences, name))
        assert getattr(parts.sentences, name).dtype == (np.float64 if "nats" in name else np.int64)
    assert [band[:3] for band in whole.bands("rnn")] == [band[:3] for band in parts.bands("rnn")]


def test_intervals_are_those_of_a_bootstrap_written_out() -> None:
    scores = random_scores(40)
    figures = summarise(scores, None, np.zeros(40, bool), 200, seed=5)
    generator = np.random.default_rng(5)
    resampled = []
    for _ in range(200):
        drawn = generator.integers(0, 40, 40)
        known = scores.tokens[drawn].sum() - scores.unknown[drawn].sum()
        resampled.append(np.exp((scores.nats[drawn].sum() - scores.nats_unknown[drawn].sum()) / known))
    weight = scores.tokens.sum() ** 2 / (scores.tokens**2).sum()
    outside = 100 * tail(weight, 0.95)
    low, high = np.percentile(resampled, [outside, 100 - outside])
    assert figures["perplexity_known_low"] == pytest.approx(low, abs=1e-6)
    assert figures["perplexity_known_high"] == pytest.approx(high, abs=1e-6)


def test_interval_of_a_mean_is_as_wide_as_the_normal_distribution_says() -> None:
    sentences = 4000
    nats = np.random.default_rng(0).normal(5, 1, sentences)
    ones, zeros = np.ones(sentences, np.int64), np.zeros(sentences, np.int64)
    figures = summarise(
        SentenceScores(ones, nats, zeros, zeros, zeros, np.zeros(sentences)), None, zeros > 0, 2000, seed=1
    )
    width = figures["nats_per_token_high"] - figures["nats_per_token_low"]
    assert width == pytest.approx(2 * 1.96 / np.sqrt(sentences), rel=0.1)


def test_equal_seeds_give_equal_intervals_and_others_give_others() -> None:
    scores, seen = random_scores(60), np.arange(60) % 2 == 0
    assert summarise(scores, None, seen, 100, seed=1) == summarise(scores, None, seen, 100, seed=1)
    assert summarise(scores, None, seen, 100, seed=1) != summarise(scores, None, seen, 100, seed=2)


def test_the_perplexity_of_what_is_unseen_is_that_of_these_sentences_alone_with_their_documents() -> None:
    scores, document = random_scores(80), np.arange(80, dtype=np.int32) // 4
    seen = (document % 3 == 0) | (np.arange(80) % 4 == 1)  # some documents whole, of the others a sentence
    figures = summarise(scores, document, seen, 200, seed=5)
    rest = SentenceScores(*(getattr(scores, name)[~seen] for name in SUMS))
    alone = summarise(rest, np.unique(document[~seen], return_inverse=True)[1], seen[~seen], 200, seed=5)
    assert figures["perplexity_unseen"] == alone["perplexity"] != figures["perplexity"]
    assert [figures[f"perplexity_unseen_{end}"] for end in ("low", "high")] == [
        alone[f"perplexity_{end}"] for end in ("low", "high")
    ]
    assert (figures["sentences_unseen"], figures["tokens_unseen"]) == (alone["sentences"], alone["tokens"])
    assert alone["documents"] == 13
    # The others do not depend on it.
    assert {key: value for key, value in figures.items() if "unseen" not in key} == {
        key: value for key, value in summarise(scores, document, ~seen, 200, seed=5).items() if "unseen" not in key
    }


def test_where_all_is_seen_there_is_no_such_perplexity_and_where_little_is_left_no_interval() -> None:
    scores, seen = random_scores(40), np.ones(40, bool)
    figures = summarise(scores, None, seen, 100, seed=5)
    assert (figures["sentences_unseen"], figures["tokens_unseen"]) == (0, 0)
    assert "perplexity_unseen" not in figures
    seen[:3] = False
    figures = summarise(scores, None, seen, 100, seed=5)
    assert figures["sentences_unseen"] == 3
    assert "perplexity_unseen" in figures
    assert "perplexity_unseen_low" not in figures
    assert "perplexity_low" in figures


def test_documents_are_drawn_counted_and_written_beside_the_scores(tmp_path: Path) -> None:
    scores, document = random_scores(40), np.arange(40, dtype=np.int32) // 2
    figures = summarise(scores, document, np.zeros(40, bool), 200, seed=5)
    tokens = scores.tokens.reshape(20, 2).sum(axis=1)
    assert figures["documents"] == 20
    assert figures["effective_documents"] == pytest.approx(tokens.sum() ** 2 / (tokens**2).sum(), abs=1e-6)
    assert "effective_sentences" not in figures
    generator = np.random.default_rng(5)
    nats = scores.nats.reshape(20, 2).sum(axis=1)
    resampled = [
        nats[drawn].sum() / tokens[drawn].sum() for drawn in (generator.integers(0, 20, 20) for _ in range(200))
    ]
    outside = 100 * tail(figures["effective_documents"], 0.95)
    ends = np.percentile(resampled, [outside, 100 - outside])
    assert [figures["nats_per_token_low"], figures["nats_per_token_high"]] == pytest.approx(ends.tolist(), abs=1e-6)
    sums = ScoreSums(40, 8)
    sums.add(np.arange(40), np.ones(40, np.int64), np.ones(40), np.zeros(40))
    write_sentences(tmp_path / "scores.parquet", sums, document)
    assert pq.read_table(tmp_path / "scores.parquet")["document"].to_pylist() == document.tolist()


@given(st.integers(1, 60), st.integers(0, 2**31 - 1))
def test_every_figure_lies_between_finite_ends_that_are_in_order_or_has_none(sentences: int, seed: int) -> None:
    figures = summarise(random_scores(sentences, seed), None, np.zeros(sentences, bool), 100, seed)
    enough = figures["effective_sentences"] >= FEWEST_UNITS
    for key in KEYS:
        assert (f"{key}_low" in figures) == (f"{key}_high" in figures) == enough
        if not enough:
            continue
        assert np.isfinite([figures[key], figures[f"{key}_low"], figures[f"{key}_high"]]).all()
        assert figures[f"{key}_low"] <= figures[f"{key}_high"]


def test_bands_end_at_ranks_10_100_and_1000() -> None:
    # id 2 is the most frequent word, rank 1.
    ids = [2, 11, 12, 101, 102, 1001, 1002, 7998, 1, 7999]
    sums = sums_of([ids], [[float(n) for n in range(1, 11)]], [[0] * 10], 8000)
    assert [(band.band, band.tokens) for band in sums.bands("rnn")] == [
        ("1-10", 2),
        ("11-100", 2),
        ("101-1000", 2),
        ("1001-7997", 2),
        ("SENTENCE_END", 1),
        ("UNKNOWN_TOKEN", 1),
    ]
    assert [band.perplexity for band in sums.bands("rnn")] == pytest.approx(
        np.exp([1.5, 3.5, 5.5, 7.5, 9, 10]).tolist(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("size", "names"), [(4, ["1-1"]), (13, ["1-10"]), (14, ["1-10", "11-11"]), (103, ["1-10", "11-100"])]
)
def test_bands_of_small_vocabularies_end_with_the_words(size: int, names: list[str]) -> None:
    ids = list(range(1, size))
    bands = sums_of([ids], [[1.0] * len(ids)], [[0] * len(ids)], size).bands("rnn")
    assert [band.band for band in bands] == [*names, "SENTENCE_END", "UNKNOWN_TOKEN"]
    assert sum(band.tokens for band in bands) == size - 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_a_diverged_model_is_one_clear_line(bad: float) -> None:
    with pytest.raises(InputError, match=r"diverged.*learning_rate"):
        summarise(sums_of([[2, 1]], [[bad, 1.0]], [[0, 0]], 8).sentences, None, NONE_SEEN, 100, seed=1)


def test_a_split_without_sentences_is_one_clear_line() -> None:
    with pytest.raises(InputError, match=r"no sentence.*tokenize\.splits"):
        summarise(ScoreSums(0, 8).sentences, None, NONE_SEEN, 100, seed=1)


def test_metrics_are_sorted_json(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.json", {"perplexity": 58.25, "accuracy_top1": 0.5})
    text = (tmp_path / "metrics.json").read_text()
    assert list(json.loads(text)) == ["accuracy_top1", "perplexity"]
    assert text.endswith("}\n")


def test_bands_csv_names_the_model_in_every_row(tmp_path: Path) -> None:
    write_bands(tmp_path / "bands.csv", [Band("trigram", "1-10", 3, 2.5), Band("fivegram", "1-10", 3, 2.25)])
    assert (tmp_path / "bands.csv").read_bytes() == (
        b"model,band,tokens,perplexity\ntrigram,1-10,3,2.5\nfivegram,1-10,3,2.25\n"
    )


def test_sums_of_sentences_are_written_in_the_order_of_the_split_and_alike(tmp_path: Path) -> None:
    sums = sums_of(
        [[2, 3, 1], [12, 1], [13, 1]], [[1.0, 2.0, 0.5], [3.0, 0.25], [4.0, 0.5]], [[0] * 3, [7, 1], [0, 0]], 14
    )
    for name in ("a.parquet", "b.parquet"):
        write_sentences(tmp_path / name, sums, None)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert pq.read_table(tmp_path / "a.parquet").to_pydict() == {
        "tokens": [3, 2, 2],
        "nats": [3.5, 3.25, 4.5],
        "top1": [3, 0, 2],
        "top5": [3, 1, 2],
        "unknown": [0, 0, 1],
        "nats_unknown": [0, 0, 4],
        "tokens 1-10": [2, 0, 0],
        "nats 1-10": [3, 0, 0],
        "tokens 11-11": [0, 1, 0],
        "nats 11-11": [0, 3, 0],
        "tokens SENTENCE_END": [1, 1, 1],
        "nats SENTENCE_END": [0.5, 0.25, 0.5],
        "tokens UNKNOWN_TOKEN": [0, 0, 1],
        "nats UNKNOWN_TOKEN": [0, 0, 4],
    }
